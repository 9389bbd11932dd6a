//! Scores.

use super::{each, json, report, text_of};
use crate::binary::stockpot;
use crate::runs::finished;
use crate::texts::documents;
use serde_json::Value;
use std::fs;
use stockpot::engine::checkpoint::{Reader, StorageDType, write_model};
use stockpot::engine::data::{Split, SplitRule, Tokenizer};

#[test]
fn every_token_is_scored_once() {
    let dir = finished();
    let hash = text_of(&report(&dir)["hashes"]["tokenizer"]).to_string();
    let tokenizer =
        Tokenizer::load(&dir.path().join(format!("out/tokenizers/{hash}.json")), None).expect("a tokenizer");
    let rule = SplitRule::new(None, 0.0, 0.2).expect("shares");
    let held_out = |name: &str, topic: u64| {
        documents(name, topic, 40).into_iter().filter(|(id, _)| rule.split(id) == Split::Test).collect::<Vec<_>>()
    };
    let texts = [
        ("law", held_out("law", 2)),
        ("music", held_out("music", 3)),
        ("physics", held_out("physics", 4)),
        ("letters", documents("letters", 9, 12)),
    ];
    let report = report(&dir);
    for (name, documents) in texts {
        let tokens: usize = documents.iter().map(|(_, text)| tokenizer.encode(text).expect("tokens").len()).sum();
        let bytes: usize = documents.iter().map(|(_, text)| text.len()).sum();
        let domain = each(&report["domains"]).find(|d| d["name"] == name).expect("the domain");
        assert_eq!(domain["documents"], documents.len());
        assert_eq!((&domain["tokens"], &domain["bytes"]), (&Value::from(tokens), &Value::from(bytes)), "{name}");
        for mixture in each(&report["mixtures"]) {
            assert_eq!(mixture["scores"]["seq"][name]["tokens"], tokens, "{name}");
        }
    }
    for score in fs::read_dir(dir.path().join("out/scores")).expect("scores") {
        let score = json(&score.expect("an entry").path());
        let known = each(&report["domains"]).any(|d| d["tokens"] == score["tokens"] && d["bytes"] == score["bytes"]);
        assert!(known, "{score}");
    }

    // A model of zeros gives every token the same probability: ln 300 nats for each token scored.
    let seed = dir.path().join(format!("out/models/{}", text_of(&report["hashes"]["seed"])));
    let reader = Reader::open(&seed).expect("the seed");
    let (flat, zeros) = (dir.path().join("flat"), vec![0.0; reader.table().len]);
    fs::create_dir(&flat).expect("a directory");
    write_model(&flat, reader.config(), &zeros, StorageDType::F32, Some(&seed.join("tokenizer.json")))
        .expect("a model");
    let scores =
        stockpot(dir.path(), &["eval", "flat", "--data", "x=letters.jsonl", "--json", "--device", "cpu"]).json();
    let (nats, tokens) = (&scores["domains"][0]["nats"], &scores["domains"][0]["tokens"]);
    let expected = tokens.as_f64().expect("tokens") * 300f64.ln();
    assert!((nats.as_f64().expect("nats") - expected).abs() < 1e-6 * expected, "{nats} for {tokens} tokens");
}

#[test]
fn merged_and_ind_equal_the_results_of_merge_and_eval() {
    let dir = finished();
    let report = report(&dir);
    let module = |name: &str| format!("out/models/{}", text_of(&report["hashes"][format!("module {name}")]));
    let (law, music) = (module("law"), module("music"));
    let eval = |args: &[&str]| {
        let args = [&["eval"], args, &["--device", "cpu", "--json", "--data", "letters=letters.jsonl"]].concat();
        stockpot(dir.path(), &args).json()["domains"][0].clone()
    };
    stockpot(dir.path(), &["merge", "--out", "average", &law, &music]).done();
    let on_disk = eval(&["average"]);
    let in_memory = eval(&["--merge", &format!("{law}=0.5,{music}=0.5")]);
    let mixture = each(&report["mixtures"]).find(|m| m["id"] == "law+music").expect("the pair");
    let merged = &mixture["scores"]["merged"]["letters"];
    for field in ["nats", "tokens", "bytes", "perplexity", "bits_per_byte"] {
        assert_eq!(merged[field], on_disk[field], "{field}");
        assert_eq!(merged[field], in_memory[field], "{field}");
    }
    let seq = eval(&[&format!("out/models/{}", text_of(&report["hashes"]["seq law+music"]))]);
    assert_eq!(mixture["scores"]["seq"]["letters"]["nats"], seq["nats"]);

    let own = |module: &str| eval(&[module])["perplexity"].as_f64().expect("a perplexity");
    let ind = mixture["scores"]["ind"]["letters"]["perplexity"].as_f64().expect("a perplexity");
    assert!((ind - (own(&law) + own(&music)) / 2.0).abs() < 1e-12 * ind);
    assert_ne!(merged["nats"], seq["nats"]);
}
