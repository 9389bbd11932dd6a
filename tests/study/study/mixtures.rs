//! Mixtures: base units, repeats and groups.

use super::{eval_merge, mixture, model, rows, run, set, study, trainer};
use crate::binary::stockpot;
use crate::runs::RUN;
use crate::studies::{PARTITIONS, study_toml};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// `law` has three base units, the other partitions one.
fn uneven(settings: String) -> String {
    settings.replace("files = [\"law.jsonl\"]\n", "files = [\"law.jsonl\"]\nunits = 3\n")
}

#[test]
fn base_units_make_macro_and_micro_merges_and_up_sampled_mixtures() {
    let dir = study(uneven);
    let report = run(&dir);
    let tokens_of = |name: &str| trainer(&dir, &model(&report, name))["tokens"].as_u64().expect("tokens");
    let unit = tokens_of("module music");
    assert_eq!(tokens_of("module law"), 3 * unit);
    for i in 1..=3 {
        assert_eq!(tokens_of(&format!("module law unit {i} of 3")), unit);
    }
    // Three copies of music and the three units of law.
    assert_eq!(tokens_of("seq law+music"), 6 * unit);
    assert_eq!(tokens_of("seq music+physics"), 2 * unit);
    let mixed = mixture(&report, "law+music");
    assert_eq!(mixed["tokens"].as_u64(), Some(6 * unit));
    assert_eq!(mixed["members"]["law"], 0.5);
    let nats = |proxy: &str| mixed["scores"][proxy]["letters"]["nats"].as_f64().expect("nats");
    let at = |name: &str, weight: f64| (model(&report, name), weight);
    let units = |weight: f64| (1..=3).map(move |i| (format!("module law unit {i} of 3"), weight));
    assert_eq!(nats("merged"), eval_merge(&dir, &[at("module law", 0.5), at("module music", 0.5)], &[]));
    let sum = |law: f64, music: f64| -> Vec<(String, f64)> {
        units(law).chain([("module music".to_string(), music)]).map(|(name, weight)| at(&name, weight)).collect()
    };
    assert_eq!(nats("micro"), eval_merge(&dir, &sum(0.25, 0.25), &[]));
    assert_eq!(nats("macro_of_merges"), eval_merge(&dir, &sum(0.5 / 3.0, 0.5), &[]));
    // `--partition` makes the same merges of these modules.
    let law = (1..=3).map(|i| model(&report, &format!("module law unit {i} of 3"))).collect::<Vec<_>>().join(",");
    let partitions = [format!("law={law}"), format!("music={}", model(&report, "module music"))];
    for (proxy, weights) in [("macro_of_merges", "0.5,0.5"), ("micro", "units")] {
        let data = ["--data", "letters=letters.jsonl", "--json", "--device", "cpu"];
        let merge = ["eval", "--partition", &partitions[0], "--partition", &partitions[1], "--weights", weights];
        let said = stockpot(dir.path(), &[&merge[..], &data].concat()).json();
        assert_eq!(Some(nats(proxy)), said["domains"][0]["nats"].as_f64(), "{proxy}");
    }
    set(dir.path(), study_toml(&PARTITIONS).replace("[\"law.jsonl\"]\n", "[\"law.jsonl\"]\nunits = 30\n"));
    stockpot(dir.path(), &RUN).fails(1, &["`law` is too small for 30 base units", "3000 windows of 16 tokens"]);
    let different: BTreeSet<u64> = ["merged", "micro", "macro_of_merges", "seq"].map(|p| nats(p).to_bits()).into();
    assert_eq!(different.len(), 4, "four different models");
    // If all members have one unit, these equal MERGED and are not listed.
    assert!(mixture(&report, "music+physics")["scores"].get("micro").is_none());
}

#[test]
fn without_upsampling_weights_are_proportional_to_units() {
    let dir = study(|s| uneven(s).replace("[mixtures]\n", "[mixtures]\nupsample = false\n"));
    let report = run(&dir);
    let mixed = mixture(&report, "0.75 law+0.25 music");
    assert_eq!((mixed["members"]["law"].as_f64(), mixed["members"]["music"].as_f64()), (Some(0.75), Some(0.25)));
    let tokens = |name: &str| trainer(&dir, &model(&report, name))["tokens"].as_u64().expect("tokens");
    assert_eq!(tokens("seq 0.75 law+0.25 music"), 4 * tokens("module music"));
}

/// SEQ on a single partition of one unit is its module: the same windows, so the same training.
#[test]
fn base_units_are_disjoint_slices_of_what_the_whole_sees() {
    let dir = study(|s| s + "\n[[mixture]]\nmembers = { music = 1.0 }\n");
    let report = run(&dir);
    assert_eq!(report["hashes"]["seq music"], report["hashes"]["module music"]);
    let parted = study(uneven);
    let report = run(&parted);
    let keys: BTreeSet<&str> =
        (1..=3).map(|i| report["hashes"][format!("module law unit {i} of 3")].as_str().expect("a key")).collect();
    assert_eq!(keys.len(), 3);
}

#[test]
fn repeats_train_the_same_mixture_on_different_windows() {
    let dir = study(|s| s.replace("[mixtures]\n", "[mixtures]\nrepeats = 3\nrepeated = 2\n"));
    let report = run(&dir);
    let repeated: Vec<&Value> = rows(&report["mixtures"]).iter().filter(|m| m.get("repeats").is_some()).collect();
    assert_eq!(repeated.len(), 2);
    for mixture in repeated {
        let repeats = rows(&mixture["repeats"]);
        assert_eq!(repeats.len(), 2);
        for proxy in ["seq", "merged", "ind"] {
            let perplexity = |scores: &Value| scores[proxy]["letters"]["perplexity"].as_f64().expect("a perplexity");
            let all = [perplexity(&mixture["scores"]), perplexity(&repeats[0]), perplexity(&repeats[1])];
            let different: BTreeSet<u64> = all.iter().map(|p| p.to_bits()).collect();
            assert_eq!(different.len(), 3, "{proxy}: {all:?}");
            // Different windows in a different order, but the same mixture.
            assert!(all.iter().all(|p| (p / all[0] - 1.0).abs() < 0.2), "{proxy}: {all:?}");
        }
    }
    assert!(rows(&report["noise"]).iter().any(|n| n["domain"] == "letters" && n["repeats"] == 3 && n["n"] == 2));
}

#[test]
fn across_sources_is_a_group_of_its_own() {
    let dir = study(|s| {
        let s = s.replace("pairs = \"all\"", "pairs = \"all\"\nacross_sources = \"all\"");
        let s = s.replace("files = [\"law.jsonl\"]\n", "files = [\"law.jsonl\"]\nsource = \"a\"\nfield = \"f\"\n");
        let s = s.replace("files = [\"music.jsonl\"]\n", "files = [\"music.jsonl\"]\nsource = \"b\"\nfield = \"f\"\n");
        s.replace("files = [\"physics.jsonl\"]\n", "files = [\"physics.jsonl\"]\nsource = \"b\"\nfield = \"g\"\n")
    });
    let report = run(&dir);
    let groups: BTreeMap<&str, &str> = rows(&report["mixtures"])
        .iter()
        .map(|m| (m["id"].as_str().expect("an id"), m["group"].as_str().expect("a group")))
        .collect();
    let across = "across_sources";
    assert_eq!(groups, [("law+music", across), ("law+physics", across), ("music+physics", "pairs")].into());
    let scores = &mixture(&report, "law+music")["scores"]["seq"];
    let perplexity = |domain: &str| scores[domain]["perplexity"].as_f64().expect("a perplexity");
    let mean = (perplexity("law") + perplexity("music")) / 2.0;
    assert!((perplexity("field:f") - mean).abs() < 1e-9 * mean);
}
