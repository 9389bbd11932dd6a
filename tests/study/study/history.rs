//! Reuse by a changed study, and hours spent.

use super::{report, rows, run, set, study};
use crate::binary::stockpot;
use crate::runs::RUN;
use crate::studies::{PARTITIONS, study_toml};
use crate::trees::tree;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

#[test]
fn a_new_partition_trains_its_module_and_the_report_lists_what_was_reused() {
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
    // A second run reports the same, and so does one that was interrupted.
    stockpot(dir.path(), &RUN).done();
    assert_eq!(report(&dir), second);
    let html = fs::read_to_string(dir.path().join("out/report.html")).expect("report.html");
    assert!(html.contains("4 of 7 trainings ("), "the page says so");
}

#[test]
fn hours_planned_and_spent_are_written_with_the_report() {
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
    // The FLOPs spent are those planned, each counted once.
    let report = report(&dir);
    for (spent, planned) in stages.iter().zip(rows(&report["cost"]["stages"])) {
        let (spent, planned) = (spent["flops"].as_f64().unwrap_or(0.0), planned["flops"].as_f64().unwrap_or(1.0));
        assert!((spent / planned - 1.0).abs() < 1e-9, "{spent} of {planned}");
    }
    // The naive way counts at the mean speed of all modules and SEQ runs.
    let sum = |key: &str| stages[1][key].as_f64().expect("a number") + stages[2][key].as_f64().expect("a number");
    let naive = report["cost"]["naive_flops"].as_f64().expect("FLOPs") * sum("hours") / sum("flops");
    assert!((cost["naive_hours"].as_f64().expect("hours") / naive - 1.0).abs() < 1e-9, "{cost}");
    let naive = rows(&report["cost"]["curves"]).iter().find(|p| p["partitions"] == 3).expect("three partitions");
    assert_eq!(naive["pairs"], report["cost"]["naive_flops"]);
}
