//! `stockpot plan` and `stockpot status` before, during and after a run.

use super::{each, report, text_of};
use crate::binary::{command, stockpot};
use crate::runs::{RUN, fresh};
use crate::texts::{documents, write_jsonl};
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

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
        let of_role = each(&status["trainings"]).filter(|t| text_of(&t["name"]).starts_with(role));
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
        let full: &[&str] = if command == "report" { &["--full"] } else { &[] };
        let text = stockpot(dir.path(), &[&[command, "study.toml", "--out", "out"], full].concat()).done().stdout;
        assert!(text.contains("small") && text.lines().count() > 3, "{text}");
    }

    // With changed text, the existing report is no longer the study's.
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
    // Poll the status while it runs: it must never fail on files that are being replaced.
    let mut seed = Value::Null;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        seed = status()["trainings"].get(0).cloned().unwrap_or_default();
        if seed["steps_done"].as_u64() > Some(30) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // A second run is refused, and the first continues.
    let second = stockpot(dir.path(), &RUN);
    let (holder, alive) = (run.id(), run.try_wait().expect("a child can be asked").is_none());
    run.kill().expect("killed");
    run.wait().expect("waited for");
    second
        .fails(1, &["out: another run is using this directory", &format!("process {holder}"), "choose another --out"]);
    assert!(alive, "the first run ended");
    assert_eq!((text_of(&seed["name"]), text_of(&seed["state"])), ("seed", "partial"));
    assert_eq!(seed["steps_done"].as_u64().map(|n| n % 10), Some(0));
    assert_eq!(seed["steps"], 100_000);
}
