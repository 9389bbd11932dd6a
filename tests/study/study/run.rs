//! Results of a run, and results remade after a change.

use super::{each, json, report, text_of};
use crate::binary::stockpot;
use crate::runs::{RUN, finished, fresh};
use crate::studies::{PARTITIONS, study_toml};
use crate::texts::{documents, text, write_jsonl};
use crate::trees::{assert_same_tree, tree};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use stockpot::engine::data::{Split, SplitRule};
use tempfile::TempDir;

/// The identity of a file or directory, which changes if it is written again.
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
fn threads_do_not_change_a_bit() {
    let dirs = ["1", "2", "7"].map(|threads| {
        let dir = fresh();
        stockpot(dir.path(), &[&RUN[..], &["--threads", threads]].concat()).done();
        tree(&dir.path().join("out"))
    });
    assert_same_tree(&dirs[0], &dirs[1]);
    assert_same_tree(&dirs[0], &dirs[2]);
}

/// Everything but the search, whose random merges depend on the order of partitions.
fn run_without_search(dir: &TempDir) {
    stockpot(dir.path(), &[&RUN[..], &["--until", "scores"]].concat()).done();
    stockpot(dir.path(), &["report", "study.toml", "--out", "out"]).done();
}

#[test]
fn a_changed_partition_retrains_its_module_and_the_runs_that_contain_it() {
    let dir = fresh();
    run_without_search(&dir);
    let (before, hashes) = (made(&dir), report(&dir)["hashes"].clone());
    // One more training document of physics; its held-out documents stay as they are.
    let rule = SplitRule::new(None, 0.0, 0.2).expect("shares");
    let mut texts = documents("physics", 4, 40);
    let new = (1000..).map(|i| format!("physics-{i}")).find(|id| rule.split(id) == Split::Train).expect("an id");
    texts.push((new, text(4, 1000, 50)));
    write_jsonl(&dir.path().join("physics.jsonl"), &texts);
    run_without_search(&dir);

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

    // With the original text, all results exist and nothing is made.
    write_jsonl(&dir.path().join("physics.jsonl"), &documents("physics", 4, 40));
    run_without_search(&dir);
    assert_eq!(made(&dir), after);
    assert_eq!(report(&dir)["hashes"], hashes);
}

#[test]
fn rerunning_a_finished_study_does_nothing() {
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
fn reordering_and_renaming_partitions_retrains_nothing() {
    let dir = fresh();
    run_without_search(&dir);
    let before = made(&dir);
    fs::write(dir.path().join("study.toml"), study_toml(&["physics", "law", "music"])).expect("settings");
    run_without_search(&dir);
    assert_eq!(made(&dir), before);
    let domains: Vec<String> = each(&report(&dir)["domains"]).map(|d| text_of(&d["name"]).to_string()).collect();
    assert_eq!(domains, ["physics", "law", "music", "letters"]);

    let renamed = study_toml(&PARTITIONS).replace("name = \"law\"", "name = \"jura\"");
    fs::write(dir.path().join("study.toml"), renamed).expect("settings");
    stockpot(dir.path(), &RUN).done();
    assert_eq!(models(&made(&dir)), models(&before));
}

/// Equal text under two names gives trainings with the same key, which two workers must not run at
/// once.
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
        let mixture = each(&report["mixtures"]).find(|m| m["id"] == id).unwrap_or_else(|| panic!("no {id}"));
        mixture["scores"]["seq"]["letters"]["nats"].clone()
    };
    assert_eq!(score("law+music"), score("ius+music"));
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
    // The same seed and text give the same models, although their keys differ.
    assert_eq!(second["mixtures"], first["mixtures"]);
}
