//! The experiments beyond pairs and triples, on text of 46 words a topic: base units, repeats, a larger model, scaled and
//! sampled merges, segments, partitions by years, and what a changed study uses again. Numbers are held against what
//! the other commands say of the same checkpoints.

use crate::common::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const RUN: [&str; 6] = ["run", "study.toml", "--device", "cpu", "--out", "out"];

/// The study of [`write_study`] with changes to its settings.
fn study(change: impl FnOnce(String) -> String) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    write_study(dir.path());
    // Enough for three base units.
    write_jsonl(&dir.path().join("law.jsonl"), &documents("law", 2, 120));
    set(dir.path(), change(study_toml(&PARTITIONS)));
    dir
}

fn set(dir: &Path, settings: String) {
    fs::write(dir.join("study.toml"), settings).expect("a file that can be written");
}

fn run(dir: &TempDir) -> Value {
    stockpot(dir.path(), &RUN).done();
    report(dir)
}

fn report(dir: &TempDir) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.path().join("out/report.json")).expect("a report")).expect("JSON")
}

fn rows(list: &Value) -> &Vec<Value> {
    list.as_array().expect("a list")
}

fn mixture<'a>(report: &'a Value, id: &str) -> &'a Value {
    rows(&report["mixtures"]).iter().find(|m| m["id"] == id).unwrap_or_else(|| panic!("no mixture {id}"))
}

/// The directory of a model, from the hashes of the report.
fn model(report: &Value, name: &str) -> String {
    let key = report["hashes"][name].as_str().unwrap_or_else(|| panic!("no hash of {name}"));
    format!("out/models/{key}")
}

/// The nats of a merge on `letters`, by `eval --merge`.
fn eval_merge(dir: &TempDir, terms: &[(String, f64)], options: &[&str]) -> f64 {
    let terms: Vec<String> = terms.iter().map(|(path, weight)| format!("{path}={weight}")).collect();
    let merge = terms.join(",");
    let args = ["eval", "--merge", &merge, "--data", "letters=letters.jsonl", "--json", "--device", "cpu"];
    let said = stockpot(dir.path(), &[&args[..], options].concat()).json();
    said["domains"][0]["nats"].as_f64().expect("nats")
}

fn trainer(dir: &TempDir, model: &str) -> Value {
    let text = fs::read_to_string(dir.path().join(model).join("trainer.json")).expect("trainer.json");
    serde_json::from_str(&text).expect("JSON")
}

/// `law` has three base units, the others one.
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
    // Three copies of music beside the three units of law.
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
    set(dir.path(), study_toml(&PARTITIONS).replace("[\"law.jsonl\"]\n", "[\"law.jsonl\"]\nunits = 30\n"));
    stockpot(dir.path(), &RUN).fails(1, &["`law` is too small for 30 base units", "3000 windows of 16 tokens"]);
    let different: BTreeSet<u64> = ["merged", "micro", "macro_of_merges", "seq"].map(|p| nats(p).to_bits()).into();
    assert_eq!(different.len(), 4, "four different models");
    // Where all members are of one unit, these are MERGED and are not listed.
    assert!(mixture(&report, "music+physics")["scores"].get("micro").is_none());
}

#[test]
fn without_up_sampling_members_weigh_their_units() {
    let dir = study(|s| uneven(s).replace("[mixtures]\n", "[mixtures]\nupsample = false\n"));
    let report = run(&dir);
    let mixed = mixture(&report, "0.75 law+0.25 music");
    assert_eq!((mixed["members"]["law"].as_f64(), mixed["members"]["music"].as_f64()), (Some(0.75), Some(0.25)));
    let tokens = |name: &str| trainer(&dir, &model(&report, name))["tokens"].as_u64().expect("tokens");
    assert_eq!(tokens("seq 0.75 law+0.25 music"), 4 * tokens("module music"));
}

/// SEQ on one partition alone, of one unit, is the module: the very windows, so the very training.
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
fn repeats_are_other_trainings_of_the_same_mixture() {
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
            // Other data in another order, not another mixture.
            assert!(all.iter().all(|p| (p / all[0] - 1.0).abs() < 0.2), "{proxy}: {all:?}");
        }
    }
    assert!(rows(&report["noise"]).iter().any(|n| n["domain"] == "letters" && n["repeats"] == 3 && n["n"] == 2));
}

const TARGET: &str = "\n[target]\nmixtures = 2\nmodules = true\n\n[target.model]\npreset = \"tiny\"\nwidth = 32\n\
    layers = 1\nheads = 2\nfeed_forward = 48\ncontext = 16\n\n[target.seed.training]\nsteps = 40\nbatch = 4\n\
    learning_rate = 3e-3\n\n[target.module.training]\nsteps = 20\nbatch = 4\nlearning_rate = 3e-4\n";

#[test]
fn a_larger_model_is_predicted_by_the_small_pool() {
    let plain = study(|s| s);
    let before = run(&plain);
    let dir = study(|s| s + TARGET);
    let report = run(&dir);
    // The small model's results are what they are without it.
    assert_eq!(before["mixtures"][0]["scores"], report["mixtures"][0]["scores"]);
    let with_target = rows(&report["mixtures"]).iter().filter(|m| m.get("target").is_some());
    assert_eq!(with_target.count(), 2);
    let seq = rows(&report["mixtures"]).iter().find(|m| m.get("target").is_some()).expect("a mixture of the target");
    let id = seq["id"].as_str().expect("an id");
    let target = model(&report, &format!("target seq {id}"));
    let said = stockpot(dir.path(), &["eval", &target, "--data", "letters=letters.jsonl", "--json", "--device", "cpu"]);
    assert_eq!(said.json()["domains"][0]["nats"], seq["target"]["seq"]["letters"]["nats"]);
    for proxy in ["merged", "ind"] {
        assert!(seq["target"][proxy]["letters"]["perplexity"].as_f64().is_some());
    }
    assert!(report["cross_scale"]["target_parameters"].as_u64() > report["cross_scale"]["parameters"].as_u64());
    let proxies: BTreeSet<&str> =
        rows(&report["cross_scale"]["correlations"]).iter().map(|c| c["proxy"].as_str().expect("a proxy")).collect();
    assert_eq!(proxies, BTreeSet::from(["merged", "ind", "seq", "target_merged", "target_ind"]));
}

#[test]
fn scaled_and_sampled_merges_and_segments_are_what_eval_says() {
    let probes =
        "\n[proxies]\nlambdas = [0.5, 1.0, 1.5]\nlambda = 1.5\nlaws = 12\n\n[connectivity]\npairs = 1\npoints = 5\n";
    let dir = study(|s| s + probes);
    let report = run(&dir);
    let at = |name: &str, weight: f64| (model(&report, name), weight);
    let mixed = mixture(&report, "law+music");
    let (seed, modules) = (model(&report, "seed"), [at("module law", 0.5), at("module music", 0.5)]);
    let scaled = eval_merge(&dir, &modules, &["--seed", &seed, "--lambda", "1.5"]);
    assert_eq!(mixed["scores"]["scaled"]["letters"]["nats"], scaled);
    let csv = fs::read_to_string(dir.path().join("out/scores.csv")).expect("scores.csv");
    assert!(csv.lines().any(|l| l.starts_with("law+music,pairs,scaled@0.5,letters,")), "{csv}");

    assert_eq!(rows(&report["samples"]).len(), 12);
    let sample = &report["samples"][3];
    let members = sample["members"].as_object().expect("members");
    let terms: Vec<(String, f64)> =
        members.iter().map(|(name, w)| at(&format!("module {name}"), w.as_f64().expect("a weight"))).collect();
    assert_eq!(sample["scores"]["letters"]["nats"], eval_merge(&dir, &terms, &[]));
    assert_eq!(rows(&report["laws"]).len(), 2 * 4, "two laws for each of four domains");

    // One pair of modules, and both from the seed.
    let segments = rows(&report["segments"]);
    assert_eq!(segments.len(), 3);
    let between = &segments[0];
    let (from, to) = (between["from"].as_str().expect("a name"), between["to"].as_str().expect("a name"));
    let points = rows(&between["points"]);
    let places: Vec<f64> = points.iter().map(|p| p["at"].as_f64().expect("a place")).collect();
    assert_eq!(places, [0.0, 0.25, 0.5, 0.75, 1.0]);
    let terms = [at(&format!("module {from}"), 0.75), at(&format!("module {to}"), 0.25)];
    assert_eq!(points[1]["scores"]["letters"]["nats"], eval_merge(&dir, &terms, &[]));
    let end = eval_merge(&dir, &[at(&format!("module {to}"), 1.0)], &[]);
    assert_eq!(points[4]["scores"]["letters"]["nats"], end);
    assert!(between["barriers"]["letters"]["height"].as_f64().is_some());
    assert!(segments[1..].iter().all(|s| s["from"] == "seed"));
}

/// Writes `history.jsonl`: documents of a topic for each year, and some without.
fn write_years(dir: &Path) {
    let mut lines = String::new();
    for (i, (id, text)) in documents("history", 7, 120).into_iter().enumerate() {
        let metadata = match i % 5 {
            0 => serde_json::json!({}),
            _ => serde_json::json!({"year": 1900 + i, "kind": if i % 2 == 0 { "letter" } else { "speech" }}),
        };
        lines += &(serde_json::json!({"id": id, "text": text, "metadata": metadata}).to_string() + "\n");
    }
    fs::write(dir.join("history.jsonl"), lines).expect("a file that can be written");
}

#[test]
fn partitions_by_years_and_metadata_take_their_documents_and_say_what_they_left() {
    let parts = "\n[[partition]]\nname = \"early\"\nfiles = [\"history.jsonl\"]\nyears = [1900, 1959]\n\
                 \n[[partition]]\nname = \"speeches\"\nfiles = [\"history.jsonl\"]\nyears = [1960, 2100]\n\
                 where = { kind = \"speech\" }\n";
    let dir = study(|s| s + parts);
    write_years(dir.path());
    let said = stockpot(dir.path(), &RUN).done();
    assert!(said.stderr.contains("early: 48 of its files' 120 documents, 24 have no year"), "{}", said.stderr);
    assert!(said.stderr.contains("speeches: 24 of its files' 120 documents, 24 have no year"), "{}", said.stderr);
    let report = report(&dir);
    let documents = |name: &str| {
        let row = rows(&report["partitions"]).iter().find(|p| p["name"] == name).expect("a partition");
        row["train"]["documents"].as_u64().unwrap_or(0) + row["test"]["documents"].as_u64().unwrap_or(0)
    };
    assert!(documents("early") <= 48 && documents("early") > 40 && documents("speeches") <= 24);
    // Another boundary is another partition, and the rest stays.
    let nobody = parts.replace("[1900, 1959]", "[1700, 1750]");
    set(dir.path(), study_toml(&PARTITIONS) + &nobody);
    stockpot(dir.path(), &RUN).fails(1, &["`early` takes none of its files' 120 documents", "24 without a year"]);
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

#[test]
fn a_new_partition_trains_its_module_and_the_report_says_what_was_used_again() {
    let dir = study(|_| study_toml(&["law", "music"]));
    let first = run(&dir);
    assert!(first.get("reuse").is_none());
    let before: BTreeSet<String> = tree(&dir.path().join("out/models")).keys().cloned().collect();
    set(dir.path(), study_toml(&PARTITIONS));
    let second = run(&dir);
    let names = |list: &Value| -> BTreeSet<String> {
        rows(list).iter().map(|n| n.as_str().expect("a name").to_string()).collect()
    };
    let reused = ["seed", "module law", "module music", "seq law+music"].map(String::from);
    assert_eq!(names(&second["reuse"]["reused"]), reused.into());
    let made = ["module physics", "seq law+physics", "seq music+physics"].map(String::from);
    assert_eq!(names(&second["reuse"]["trained"]), made.into());
    assert!(second["reuse"]["reused_flops"].as_f64() > Some(0.0));
    let after: BTreeSet<String> = tree(&dir.path().join("out/models")).keys().cloned().collect();
    assert!(before.is_subset(&after));
    // Run again, it says the same; and so does a run that was stopped in between.
    stockpot(dir.path(), &RUN).done();
    assert_eq!(report(&dir), second);
    let html = fs::read_to_string(dir.path().join("out/report.html")).expect("report.html");
    assert!(html.contains("4 were there from earlier runs"), "the page says so");
}

/// Held-out text of a new partition that the seed was trained on: the documents are dropped there, and it is said that this
/// trains everything anew.
#[test]
fn a_new_partition_whose_held_out_text_is_in_the_seed_says_what_it_costs() {
    let dir = study(|_| study_toml(&["law", "music"]));
    run(&dir);
    let seeds = fs::read_to_string(dir.path().join("general.jsonl")).expect("the seed's text");
    write_jsonl(&dir.path().join("physics.jsonl"), &documents("physics", 5, 120));
    let physics = fs::read_to_string(dir.path().join("physics.jsonl")).expect("text");
    fs::write(dir.path().join("physics.jsonl"), physics + &seeds).expect("a file that can be written");
    set(dir.path(), study_toml(&PARTITIONS));
    let before: BTreeSet<String> = tree(&dir.path().join("out/models")).keys().cloned().collect();
    let said = stockpot(dir.path(), &[&RUN[..], &["--until", "tokens"]].concat()).done();
    assert!(said.stderr.contains("nothing that was trained here before is of use"), "{}", said.stderr);
    assert!(said.stderr.contains("training documents dropped for sharing text with an evaluation document: seed "));

    // Coming late, it leaves the seed's text as it was, and is not scored on what it shares with that.
    let late = |name: &str, settings: String| {
        let from = format!("files = [\"{name}.jsonl\"]\n");
        settings.replace(&from, &format!("{from}late = true\n"))
    };
    set(dir.path(), late("physics", study_toml(&PARTITIONS)));
    let said = stockpot(dir.path(), &RUN).done();
    assert!(!said.stderr.contains("nothing that was trained here before"), "{}", said.stderr);
    let second = report(&dir);
    let made: BTreeSet<&str> = rows(&second["reuse"]["trained"]).iter().filter_map(Value::as_str).collect();
    assert_eq!(made, ["module physics", "seq law+physics", "seq music+physics"].into());
    assert!(before.is_subset(&tree(&dir.path().join("out/models")).keys().cloned().collect()));
    let held_out = |name: &str| {
        let rule = stockpot::engine::data::SplitRule::new(None, 0.0, 0.2).expect("shares");
        let text = fs::read_to_string(dir.path().join(name)).expect("text");
        let ids = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["id"].clone());
        ids.filter(|id| rule.split(id.as_str().expect("an id")) == stockpot::engine::data::Split::Test).count() as u64
    };
    // The seed's documents that the partition's rule holds out, and no other.
    let shared = held_out("general.jsonl");
    assert!(shared > 0);
    assert_eq!(second["decontamination"]["left_out"]["physics"], shared);
    let domain = rows(&second["domains"]).iter().find(|d| d["name"] == "physics").expect("a domain");
    assert_eq!(domain["documents"], held_out("physics.jsonl") - shared);
    assert!(said.stderr.contains(&format!("earlier sources have text of theirs: physics {shared}")), "{}", said.stderr);

    // A second one that comes late leaves the first as it is, too.
    let again = study_toml(&["law", "music", "physics", "ius"]);
    fs::copy(dir.path().join("physics.jsonl"), dir.path().join("ius.jsonl")).expect("a copy");
    let extra = documents("ius", 7, 120)
        .into_iter()
        .map(|(id, text)| serde_json::json!({"id": id, "text": text}).to_string() + "\n");
    let all = fs::read_to_string(dir.path().join("ius.jsonl")).expect("text") + &extra.collect::<String>();
    fs::write(dir.path().join("ius.jsonl"), all).expect("a file that can be written");
    set(dir.path(), late("ius", late("physics", again)));
    stockpot(dir.path(), &RUN).done();
    let third = report(&dir);
    let made: BTreeSet<&str> = rows(&third["reuse"]["trained"]).iter().filter_map(Value::as_str).collect();
    assert!(made.contains("module ius") && !made.contains("module physics"), "{made:?}");
}

/// A given seed of a longer context than its modules: no weight depends on it, so scaled merges and segments are made.
#[test]
fn a_seed_of_a_longer_context_can_be_scaled_and_connected() {
    let dir = study(|s| s);
    let seed = model(&run(&dir), "seed");
    let settings = study_toml(&PARTITIONS);
    let tables = &settings[settings.find("[[partition]]").expect("partitions")..];
    set(
        dir.path(),
        format!(
            "name = \"given\"\n[data]\ntest = 0.2\n[seed]\ncheckpoint = \"{seed}\"\ncontext = 8\n\
             [module.training]\nsteps = 5\nbatch = 4\nlearning_rate = 3e-4\n[mixtures]\npairs = \"all\"\n\
             [proxies]\nlambdas = [1.4]\n[connectivity]\npairs = 1\npoints = 3\n{tables}"
        ),
    );
    stockpot(dir.path(), &["run", "study.toml", "--device", "cpu", "--out", "given"]).done();
    let said = fs::read_to_string(dir.path().join("given/report.json")).expect("a report");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(rows(&said["segments"]).len(), 3);
    assert!(fs::read_to_string(dir.path().join("given/scores.csv")).expect("scores").contains("scaled@1.4"));
}

#[test]
fn hours_planned_and_spent_lie_beside_the_report() {
    let dir = study(|s| s);
    run(&dir);
    let cost: Value =
        serde_json::from_str(&fs::read_to_string(dir.path().join("out/cost.json")).expect("cost.json")).expect("JSON");
    let stages = rows(&cost["stages"]);
    let names: Vec<&str> = stages.iter().map(|s| s["stage"].as_str().expect("a name")).collect();
    assert_eq!(names, ["seed", "modules", "seq", "scoring"]);
    for stage in stages {
        assert!(stage["hours"].as_f64() > Some(0.0) && stage["planned_hours"].as_f64() > Some(0.0), "{stage}");
    }
    assert!(cost["modular_hours"].as_f64() > Some(0.0), "{cost}");
    // Another study in the same directory has a plan of its own.
    let planned = |cost: &Value| cost["stages"][2]["planned_hours"].as_f64().expect("hours");
    let all = planned(&cost);
    let three: String = fs::read_to_string(dir.path().join("study.toml")).expect("settings");
    fs::write(dir.path().join("one.toml"), three.replace("pairs = \"all\"", "pairs = 1")).expect("settings");
    stockpot(dir.path(), &["run", "one.toml", "--device", "cpu", "--out", "out"]).done();
    stockpot(dir.path(), &["report", "study.toml", "--out", "out"]).done();
    let again = fs::read_to_string(dir.path().join("out/cost.json")).expect("cost.json");
    assert_eq!(planned(&serde_json::from_str(&again).expect("JSON")), all);
    // All of the study's FLOPs were spent, each once.
    let report = report(&dir);
    for (spent, planned) in stages.iter().zip(rows(&report["cost"]["stages"])) {
        let (spent, planned) = (spent["flops"].as_f64().unwrap_or(0.0), planned["flops"].as_f64().unwrap_or(1.0));
        assert!((spent / planned - 1.0).abs() < 1e-9, "{spent} of {planned}");
    }
    // At the speed of all modules and SEQ runs.
    let sum = |key: &str| stages[1][key].as_f64().expect("a number") + stages[2][key].as_f64().expect("a number");
    let naive = report["cost"]["naive_flops"].as_f64().expect("FLOPs") * sum("hours") / sum("flops");
    assert!((cost["naive_hours"].as_f64().expect("hours") / naive - 1.0).abs() < 1e-9, "{cost}");
    let naive = rows(&report["cost"]["curves"]).iter().find(|p| p["partitions"] == 3).expect("three partitions");
    assert_eq!(naive["pairs"], report["cost"]["naive_flops"]);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let cases: [(&str, &[&str]); 9] = [
        ("[mixtures]\nrepeats = 0", &["mixtures.repeats"]),
        ("[mixtures]\nacross_sources = 3", &["at least two different `source`s"]),
        ("[proxies]\nlambdas = [0.0]", &["proxies.lambdas", "above 0"]),
        ("[proxies]\nlambdas = [1.0]\nlambda = 1.4", &["proxies.lambda", "add it there"]),
        ("[proxies]\nlaws = 3", &["proxies.laws", "10"]),
        ("[connectivity]\npoints = 2", &["connectivity.points"]),
        ("[target]\nmixtures = 1", &["missing field `model`"]),
        ("[mixtures]\nrepeated = \"some\"", &["a number of mixtures, or \"all\""]),
        ("[mixtures]\nupsampel = true", &["upsample"]),
    ];
    for (text, parts) in cases {
        let dir = study(|s| s.replace("[mixtures]\npairs = \"all\"\n", text));
        stockpot(dir.path(), &["plan", "study.toml"]).fails(2, parts);
    }
    for (key, part) in [
        ("units = 0", "at least one base unit"),
        ("years = [1990, 1980]", "end before they begin"),
        ("where = { a = [1] }", "expected a string, a number or a boolean"),
        ("field = \"\"", "`field`"),
    ] {
        let dir = study(|s| s.replace("files = [\"law.jsonl\"]\n", &format!("files = [\"law.jsonl\"]\n{key}\n")));
        stockpot(dir.path(), &["plan", "study.toml"]).fails(2, &[part]);
    }
}
