//! Documents to shards: filters by metadata, and late partitions.

use super::{report, rows, run, set, study};
use crate::binary::stockpot;
use crate::runs::RUN;
use crate::studies::{PARTITIONS, study_toml};
use crate::texts::{documents, write_jsonl};
use crate::trees::tree;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Writes `history.jsonl`: documents with a year each, and some without.
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
fn partitions_by_year_and_metadata_select_documents_and_report_counts() {
    let parts = "\n[[partition]]\nname = \"early\"\nfiles = [\"history.jsonl\"]\nyears = [1900, 1959]\n\
                 \n[[partition]]\nname = \"speeches\"\nfiles = [\"history.jsonl\"]\nyears = [1960, 2100]\n\
                 where = { kind = \"speech\" }\n";
    let dir = study(|s| s + parts);
    write_years(dir.path());
    let said = stockpot(dir.path(), &RUN).done();
    assert!(said.stderr.contains("early: 48 of the 120 documents in its files, 24 without a year"), "{}", said.stderr);
    assert!(
        said.stderr.contains("speeches: 24 of the 120 documents in its files, 24 without a year"),
        "{}",
        said.stderr
    );
    let report = report(&dir);
    let documents = |name: &str| {
        let row = rows(&report["partitions"]).iter().find(|p| p["name"] == name).expect("a partition");
        row["train"]["documents"].as_u64().unwrap_or(0) + row["test"]["documents"].as_u64().unwrap_or(0)
    };
    assert!(documents("early") <= 48 && documents("early") > 40 && documents("speeches") <= 24);
    // A range of years without documents is an error.
    let too_early = parts.replace("[1900, 1959]", "[1700, 1750]");
    set(dir.path(), study_toml(&PARTITIONS) + &too_early);
    stockpot(dir.path(), &RUN)
        .fails(1, &["`early` selects none of the 120 documents in its files", "24 without a year"]);
}

/// The seed was trained on held-out text of a new partition. The documents are dropped from the
/// seed's text, and the run reports that nothing can be reused.
#[test]
fn a_new_partition_that_changes_the_seed_reports_it_and_late_keeps_the_seed() {
    let dir = study(|_| study_toml(&["law", "music"]));
    run(&dir);
    let seeds = fs::read_to_string(dir.path().join("general.jsonl")).expect("the seed's text");
    write_jsonl(&dir.path().join("physics.jsonl"), &documents("physics", 5, 120));
    let physics = fs::read_to_string(dir.path().join("physics.jsonl")).expect("text");
    fs::write(dir.path().join("physics.jsonl"), physics + &seeds).expect("a file that can be written");
    set(dir.path(), study_toml(&PARTITIONS));
    let before: BTreeSet<String> = tree(&dir.path().join("out/models")).keys().cloned().collect();
    let said = stockpot(dir.path(), &[&RUN[..], &["--until", "tokens"]].concat()).done();
    assert!(said.stderr.contains("No existing model can be reused"), "{}", said.stderr);
    assert!(
        said.stderr.contains("training documents dropped because they share text with an evaluation document: seed ")
    );

    // As a late partition it leaves the seed's text as it was, and is not scored on documents that
    // overlap it.
    let late = |name: &str, settings: String| {
        let from = format!("files = [\"{name}.jsonl\"]\n");
        settings.replace(&from, &format!("{from}late = true\n"))
    };
    set(dir.path(), late("physics", study_toml(&PARTITIONS)));
    let said = stockpot(dir.path(), &RUN).done();
    assert!(!said.stderr.contains("No existing model can be reused"), "{}", said.stderr);
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
    // Exactly the seed's documents that the partition's rule holds out.
    let shared = held_out("general.jsonl");
    assert!(shared > 0);
    assert_eq!(second["decontamination"]["left_out"]["physics"], shared);
    let domain = rows(&second["domains"]).iter().find(|d| d["name"] == "physics").expect("a domain");
    assert_eq!(domain["documents"], held_out("physics.jsonl") - shared);
    assert!(said.stderr.contains(&format!("earlier training text overlaps them: physics {shared}")), "{}", said.stderr);

    // A second late partition leaves the first one as it is, too.
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
