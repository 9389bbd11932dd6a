//! A whole study, as users run it, on text of 46 words a topic: what its report says, that it ends in the same files
//! however often it is killed and on however many threads it runs, and that a change remakes what depends on it and
//! nothing else.

mod mixtures;

use crate::common::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};
use stockpot::engine::checkpoint::{Reader, StorageDType, write_model};
use stockpot::engine::data::{Split, SplitRule, Tokenizer};
use tempfile::TempDir;

const RUN: [&str; 6] = ["run", "study.toml", "--device", "cpu", "--out", "out"];

fn fresh() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    write_study(dir.path());
    dir
}

fn finished() -> TempDir {
    let dir = fresh();
    stockpot(dir.path(), &RUN).done();
    dir
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON")
}

fn report(dir: &TempDir) -> Value {
    json(&dir.path().join("out/report.json"))
}

/// Of a file or directory: whether it is the same one as before, untouched.
fn identity(path: &Path) -> (u64, i64, i64) {
    let m = fs::metadata(path).expect("metadata");
    (m.ino(), m.mtime(), m.mtime_nsec())
}

/// Every checkpoint and score, with its identity.
fn made(dir: &TempDir) -> BTreeMap<String, (u64, i64, i64)> {
    let entries = ["models", "scores"].into_iter().flat_map(|kind| {
        let of_kind = fs::read_dir(dir.path().join("out").join(kind)).expect("a directory");
        of_kind.map(move |e| (kind, e.expect("an entry").path()))
    });
    entries
        .map(|(kind, path)| (format!("{kind}/{}", path.file_name().unwrap_or_default().display()), identity(&path)))
        .collect()
}

fn models(made: &BTreeMap<String, (u64, i64, i64)>) -> BTreeSet<String> {
    made.keys().filter_map(|name| name.strip_prefix("models/")).map(String::from).collect()
}

#[test]
fn a_study_ends_in_its_report() {
    let dir = fresh();
    let said = stockpot(dir.path(), &RUN).done();
    assert!(said.stdout.contains("Stockpot report: small"), "{}", said.stdout);
    assert!(said.stderr.contains("report: out/report.html"), "{}", said.stderr);
    let html = fs::read_to_string(dir.path().join("out/report.html")).expect("report.html");
    assert!(html.starts_with("<!") && html.contains("law+music") && html.contains("</html>"));

    let report = report(&dir);
    assert_eq!(report["study"], "small");
    let domains: Vec<(&str, &str)> =
        rows(&report["domains"]).map(|d| (text_of(&d["name"]), text_of(&d["kind"]))).collect();
    assert_eq!(domains, [("law", "id"), ("music", "id"), ("physics", "id"), ("letters", "ood")]);
    for domain in rows(&report["domains"]) {
        assert!(["documents", "tokens", "bytes"].iter().all(|field| domain[field].as_u64() > Some(0)), "{domain}");
    }
    let mixtures: Vec<&str> = rows(&report["mixtures"]).map(|m| text_of(&m["id"])).collect();
    assert_eq!(mixtures, ["law+music", "law+physics", "music+physics"]);
    for mixture in rows(&report["mixtures"]) {
        assert_eq!(mixture["group"], "pairs");
        let members = mixture["members"].as_object().expect("members");
        assert!(members.len() == 2 && members.values().all(|w| w == 0.5), "{mixture}");
        for model in ["seq", "merged", "ind"] {
            for domain in ["law", "music", "physics", "letters", "id", "ood"] {
                let perplexity = mixture["scores"][model][domain]["perplexity"].as_f64();
                // Below a uniform guess at 300 tokens, above certainty.
                assert!(perplexity.is_some_and(|p| p > 1.0 && p < 300.0), "{model} {domain}: {perplexity:?}");
            }
        }
        for (model, domain) in [("seq", "law"), ("merged", "letters")] {
            let score = &mixture["scores"][model][domain];
            let (nats, tokens) = (score["nats"].as_f64().expect("nats"), score["tokens"].as_f64().expect("tokens"));
            assert!(((nats / tokens).exp() - score["perplexity"].as_f64().expect("perplexity")).abs() < 1e-9);
        }
        let id = ["law", "music", "physics"].map(|d| mixture["scores"]["seq"][d]["perplexity"].as_f64().unwrap_or(0.0));
        let mean = mixture["scores"]["seq"]["id"]["perplexity"].as_f64().expect("the average of id");
        assert!((id.iter().sum::<f64>() / 3.0 - mean).abs() < 1e-9 * mean);
    }
    for (proxy, domain) in [("merged", "ood"), ("merged", "id"), ("ind", "ood"), ("ind", "law")] {
        let row = rows(&report["correlations"])
            .find(|c| (text_of(&c["proxy"]), text_of(&c["domain"]), text_of(&c["group"])) == (proxy, domain, "pairs"));
        let row = row.unwrap_or_else(|| panic!("no row for {proxy} on {domain}"));
        assert_eq!(row["n"], 3);
        assert!(row["pearson"].as_f64().is_some_and(|r| (-1.0..=1.0).contains(&r)), "{row}");
        for field in ["pearson_low", "pearson_high", "spearman", "kendall", "regret_at_1", "decision_accuracy"] {
            assert!(row.get(field).is_some(), "no `{field}` in {row}");
        }
    }
    let cost = |way: &str| report["cost"][way].as_f64().expect("a cost");
    assert!(cost("modular_flops") > 0.0 && cost("naive_flops") > cost("modular_flops"));

    let csv = fs::read_to_string(dir.path().join("out/scores.csv")).expect("scores.csv");
    for id in mixtures {
        assert!(csv.lines().any(|line| line.contains(id)), "{csv}");
    }
}

fn rows(list: &Value) -> std::slice::Iter<'_, Value> {
    list.as_array().expect("a list").iter()
}

fn text_of(value: &Value) -> &str {
    value.as_str().expect("a string")
}

#[test]
fn a_study_killed_at_random_moments_ends_in_the_same_files() {
    let (reference, killed) = (fresh(), fresh());
    let (_, takes) = timed(|| stockpot(reference.path(), &RUN).done());
    let expected = tree(&reference.path().join("out"));
    let (mut met, mut seen) = (0, BTreeSet::new());
    for seed in 21.. {
        let _ = fs::remove_dir_all(killed.path().join("out"));
        met += kill_often(killed.path(), &RUN, takes.mul_f64(0.6), seed, || {
            let out = killed.path().join("out");
            if out.exists() {
                seen.extend(tree(&out).keys().map(|name| stage_of(name)));
            }
        });
        stockpot(killed.path(), &RUN).done();
        assert_same_tree(&tree(&killed.path().join("out")), &expected);
        // The kills are to be spread over the study.
        if met >= 8 && ["shards", "models", "scores"].iter().all(|stage| seen.contains(&format!("{stage}/"))) {
            break;
        }
        assert!(seed < 40, "only {met} kills met the study at work, with {seen:?}");
    }
}

/// A directory in which something lies, or the file's name.
fn stage_of(name: &str) -> String {
    match name.split_once('/') {
        Some((directory, inside)) if !inside.is_empty() => format!("{directory}/"),
        _ => name.to_string(),
    }
}

/// Each kind of thing that a kill can leave, put there by hand, since a moment to leave it is hard to meet.
#[test]
fn what_a_killed_run_left_is_cleaned_up_and_a_running_one_is_not_touched() {
    let dir = finished();
    let out = dir.path().join("out");
    let expected = tree(&out);
    let model = fs::read_dir(out.join("models")).expect("models").next().expect("a model").expect("an entry").path();
    let leave = |path: std::path::PathBuf| {
        fs::create_dir_all(&path).expect("a directory");
        fs::write(path.join("part"), "part").expect("a file");
    };
    leave(out.join("shards/writing.99"));
    leave(out.join("shards/writing.99.99.tmp"));
    leave(out.join("models/0123456789abcdef.99.tmp"));
    // Killed between the finished model and the removal of its partial checkpoint, and between two renames.
    leave(model.with_extension("partial"));
    leave(model.with_extension("partial.old"));
    leave(model.with_extension("partial.99.tmp"));
    for file in ["report.json.99.tmp", "data/x.json.99.tmp", "scores/x.json.99.tmp", "tokenizers/x.json.99.tmp"] {
        fs::write(out.join(file), "part").expect("a file");
    }
    stockpot(dir.path(), &RUN).done();
    assert_same_tree(&tree(&out), &expected);
    // The partial checkpoint of a training of other settings is work that the user may go back to.
    leave(out.join("models/0123456789abcdef.partial"));
    fs::write(out.join("notes.tmp"), "mine").expect("a file");
    stockpot(dir.path(), &RUN).done();
    assert!(out.join("models/0123456789abcdef.partial/part").exists() && out.join("notes.tmp").exists());
}

#[test]
fn threads_do_not_change_a_bit() {
    let dirs = ["1", "2", "7"].map(|threads| {
        let dir = fresh();
        stockpot(dir.path(), &[&RUN[..], &["--threads", threads]].concat()).done();
        tree(&dir.path().join("out"))
    });
    assert_same_tree(&dirs[0], &dirs[1]);
    assert_same_tree(&dirs[0], &dirs[2]);
}

#[test]
fn a_changed_partition_retrains_its_module_and_the_runs_that_contain_it() {
    let dir = finished();
    let (before, hashes) = (made(&dir), report(&dir)["hashes"].clone());
    // One more training document of physics; its held-out documents stay as they are.
    let rule = SplitRule::new(None, 0.0, 0.2).expect("shares");
    let mut texts = documents("physics", 4, 40);
    let new = (1000..).map(|i| format!("physics-{i}")).find(|id| rule.split(id) == Split::Train).expect("an id");
    texts.push((new, text(4, 1000, 50)));
    write_jsonl(&dir.path().join("physics.jsonl"), &texts);
    stockpot(dir.path(), &RUN).done();

    let (after, now) = (made(&dir), report(&dir)["hashes"].clone());
    let changed: BTreeSet<&str> =
        now.as_object().expect("hashes").keys().filter(|k| now[*k] != hashes[*k]).map(|k| k.as_str()).collect();
    assert_eq!(changed, BTreeSet::from(["data", "module physics", "seq law+physics", "seq music+physics"]));
    for (name, identity) in &before {
        assert_eq!(after.get(name), Some(identity), "{name} was made again");
    }
    let new: BTreeSet<String> = models(&after).difference(&models(&before)).cloned().collect();
    let expected =
        ["module physics", "seq law+physics", "seq music+physics"].map(|name| text_of(&now[name]).to_string());
    assert_eq!(new, BTreeSet::from(expected));
    // 3 models and the 2 merges with physics, on 4 domains.
    assert_eq!(after.len() - before.len(), 3 + 5 * 4);

    // The text of before is all there: nothing is made.
    write_jsonl(&dir.path().join("physics.jsonl"), &documents("physics", 4, 40));
    stockpot(dir.path(), &RUN).done();
    assert_eq!(made(&dir), after);
    assert_eq!(report(&dir)["hashes"], hashes);
}

#[test]
fn a_finished_study_does_nothing_again() {
    let dir = finished();
    let (before, files) = (made(&dir), tree(&dir.path().join("out")));
    let said = stockpot(dir.path(), &RUN).done();
    assert_eq!(made(&dir), before);
    assert_same_tree(&tree(&dir.path().join("out")), &files);
    for word in ["steps", "scoring", "tokens: documents read"] {
        assert!(!said.stderr.contains(word), "it worked again:\n{}", said.stderr);
    }
}

#[test]
fn the_order_of_partitions_and_their_names_retrain_nothing() {
    let dir = finished();
    let before = made(&dir);
    fs::write(dir.path().join("study.toml"), study_toml(&["physics", "law", "music"])).expect("settings");
    stockpot(dir.path(), &RUN).done();
    assert_eq!(made(&dir), before);
    let domains: Vec<String> = rows(&report(&dir)["domains"]).map(|d| text_of(&d["name"]).to_string()).collect();
    assert_eq!(domains, ["physics", "law", "music", "letters"]);

    let renamed = study_toml(&PARTITIONS).replace("name = \"law\"", "name = \"jura\"");
    fs::write(dir.path().join("study.toml"), renamed).expect("settings");
    stockpot(dir.path(), &RUN).done();
    assert_eq!(models(&made(&dir)), models(&before));
}

/// Equal text under two names makes trainings of one key, which must not be made by two workers at once.
#[test]
fn two_partitions_of_the_same_text_are_trained_once() {
    let dir = fresh();
    fs::copy(dir.path().join("law.jsonl"), dir.path().join("ius.jsonl")).expect("a copy");
    fs::write(dir.path().join("study.toml"), study_toml(&["law", "ius", "music", "physics"])).expect("settings");
    stockpot(dir.path(), &[&RUN[..], &["--threads", "6"]].concat()).done();
    let report = report(&dir);
    assert_eq!(report["hashes"]["module law"], report["hashes"]["module ius"]);
    // Seed, 3 modules, and SEQ of law+ius, law+music, law+physics, music+physics.
    assert_eq!(models(&made(&dir)).len(), 8);
    let score = |id: &str| {
        let mixture = rows(&report["mixtures"]).find(|m| m["id"] == id).unwrap_or_else(|| panic!("no {id}"));
        mixture["scores"]["seq"]["letters"]["nats"].clone()
    };
    assert_eq!(score("law+music"), score("ius+music"));
}

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
        let domain = rows(&report["domains"]).find(|d| d["name"] == name).expect("the domain");
        assert_eq!(domain["documents"], documents.len());
        assert_eq!((&domain["tokens"], &domain["bytes"]), (&Value::from(tokens), &Value::from(bytes)), "{name}");
        for mixture in rows(&report["mixtures"]) {
            assert_eq!(mixture["scores"]["seq"][name]["tokens"], tokens, "{name}");
        }
    }
    for score in fs::read_dir(dir.path().join("out/scores")).expect("scores") {
        let score = json(&score.expect("an entry").path());
        let known = rows(&report["domains"]).any(|d| d["tokens"] == score["tokens"] && d["bytes"] == score["bytes"]);
        assert!(known, "{score}");
    }

    // A model of zeros finds every token as likely as any other: ln 300 nats for each token that is scored.
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
fn merged_and_ind_are_what_the_other_commands_say() {
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
    let mixture = rows(&report["mixtures"]).find(|m| m["id"] == "law+music").expect("the pair");
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

#[test]
fn plan_status_and_report_follow_the_study() {
    let dir = fresh();
    let ask = |command: &str| stockpot(dir.path(), &[command, "study.toml", "--json", "--out", "out"]);
    let plan = ask("plan").json();
    assert_eq!((&plan["partitions"], &plan["domains"], &plan["vocabulary"]), (&3.into(), &4.into(), &300.into()));
    // 60 steps of 4 windows of 16 tokens; 25 for each of 3 modules; 50 for each of 3 pairs.
    let work = |stage: &str| (plan[stage]["models"].as_u64(), plan[stage]["tokens"].as_u64());
    assert_eq!(work("seed"), (Some(1), Some(60 * 64)));
    assert_eq!(work("modules"), (Some(3), Some(3 * 25 * 64)));
    assert_eq!(work("seq"), (Some(3), Some(3 * 50 * 64)));
    assert!(!dir.path().join("out").exists(), "a plan makes nothing");

    let before = ask("status").json();
    assert_eq!((&before["tokens"], &before["report"]), (&false.into(), &false.into()));
    ask("report").fails(1, &["out: the study has no report yet", "stockpot run"]);

    stockpot(dir.path(), &[&RUN[..], &["--until", "modules"]].concat()).done();
    let between = ask("status").json();
    let state = |status: &Value, role: &str| {
        let of_role = rows(&status["trainings"]).filter(|t| text_of(&t["name"]).starts_with(role));
        of_role.map(|t| text_of(&t["state"]).to_string()).collect::<Vec<_>>()
    };
    assert_eq!((&between["tokens"], &between["report"]), (&true.into(), &false.into()));
    assert_eq!(state(&between, "seed"), ["done"]);
    assert_eq!(state(&between, "module "), ["done"; 3]);
    assert_eq!(state(&between, "seq "), ["missing"; 3]);
    // Seed, 3 modules, 3 SEQ runs and 3 merges on 4 domains.
    assert_eq!((&between["scores"], &between["scores_done"]), (&40.into(), &0.into()));
    ask("report").fails(1, &["the study has no report yet", "is not scored on every domain"]);

    let ran = stockpot(dir.path(), &[&RUN[..], &["--json"]].concat()).json();
    let after = ask("status").json();
    assert_eq!(state(&after, "seq "), ["done"; 3]);
    assert_eq!((&after["scores_done"], &after["report"]), (&40.into(), &true.into()));
    assert_eq!(ran, report(&dir));
    fs::remove_file(dir.path().join("out/report.json")).expect("removed");
    assert_eq!(ask("report").json(), ran);
    assert_eq!(report(&dir), ran);
    for command in ["plan", "status", "report"] {
        let text = stockpot(dir.path(), &[command, "study.toml", "--out", "out"]).done().stdout;
        assert!(text.contains("small") && text.lines().count() > 3, "{text}");
    }

    // With other text, what lies there is no longer the study's report.
    write_jsonl(&dir.path().join("law.jsonl"), &documents("law", 2, 50));
    assert_eq!(ask("status").json()["report"], false);
}

#[test]
fn a_partial_training_shows_in_the_status() {
    let dir = fresh();
    let settings = fs::read_to_string(dir.path().join("study.toml")).expect("settings");
    fs::write(dir.path().join("study.toml"), settings.replace("steps = 60", "steps = 100000")).expect("settings");
    let mut run = command(dir.path(), &RUN).stderr(std::process::Stdio::null()).spawn().expect("the binary starts");
    let status = || stockpot(dir.path(), &["status", "study.toml", "--json", "--out", "out"]).json();
    // While it runs, status is asked again and again: it must never stumble over files that are being replaced.
    let mut seed = Value::Null;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        seed = status()["trainings"].get(0).cloned().unwrap_or_default();
        if seed["steps_done"].as_u64() > Some(30) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // A second run is refused, and the first goes on.
    let second = stockpot(dir.path(), &RUN);
    let (holder, alive) = (run.id(), run.try_wait().expect("a child can be asked").is_none());
    run.kill().expect("killed");
    run.wait().expect("waited for");
    second
        .fails(1, &["out: another run works in this directory", &format!("process {holder}"), "choose another --out"]);
    assert!(alive, "the first run ended");
    assert_eq!((text_of(&seed["name"]), text_of(&seed["state"])), ("seed", "partial"));
    assert_eq!(seed["steps_done"].as_u64().map(|n| n % 10), Some(0));
    assert_eq!(seed["steps"], 100_000);
}

#[test]
fn a_study_can_start_from_a_checkpoint() {
    let dir = finished();
    let first = report(&dir);
    let seed = format!("out/models/{}", text_of(&first["hashes"]["seed"]));
    let settings = fs::read_to_string(dir.path().join("study.toml")).expect("settings");
    let part = |from: &str, to: &str| {
        let start = settings.find(from).expect("a table");
        settings[start..].find(to).map_or(&settings[start..], |end| &settings[start..start + end]).to_string()
    };
    let given = format!(
        "name = \"given\"\n{}[seed]\ncheckpoint = \"{seed}\"\n\n{}",
        part("[data]", "[seed]"),
        part("[module.training]", "nothing")
    );
    fs::write(dir.path().join("given.toml"), given).expect("settings");
    stockpot(dir.path(), &["plan", "given.toml", "--json"]).json();
    stockpot(dir.path(), &["run", "given.toml", "--device", "cpu", "--out", "given"]).done();
    let second = json(&dir.path().join("given/report.json"));
    // The same seed and the same text: the same models, whatever their names are made of.
    assert_eq!(second["mixtures"], first["mixtures"]);
}
