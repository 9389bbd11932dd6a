//! src/report: report.json, report.html, scores.csv and terminal text of synthetic studies
//! (tests/support/synthetic.rs): field names, numbers, words, escapes.

mod browser;
mod csv;
mod first_screen;
mod html;
mod interchange;
mod plot;
mod tensorboard;
mod text;

use crate::synthetic::{score, study};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use stockpot::analysis::*;

/// All text forms of a report, each with its name.
fn forms(report: &Report) -> [(&'static str, String); 4] {
    [
        ("report.json", report.to_json()),
        ("report.html", report.to_html()),
        ("scores.csv", report.to_csv()),
        ("text", report.to_text()),
    ]
}

fn assert_no_nan(report: &Report) {
    for (name, text) in forms(report) {
        for word in text.split(|c: char| !c.is_alphanumeric()) {
            assert!(!["nan", "inf", "infinity"].contains(&word.to_lowercase().as_str()), "{word} in {name}");
        }
    }
}

#[test]
fn writes_three_files_twice_the_same() {
    // Kept under target/tmp for inspection.
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    study().write(&dir).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let again = study();
    for (name, text) in &forms(&again)[..3] {
        assert_eq!(read(name), *text, "{name}");
    }
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(study), again);
    assert_no_nan(&again);
}

#[test]
fn json_has_the_fields_of_the_design() {
    let json: Value = serde_json::from_str(&study().to_json()).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let has = |value: &Value, names: &[&str]| {
        let keys = keys(value);
        names.iter().for_each(|n| assert!(keys.iter().any(|k| k == n), "{n} is missing among {keys:?}"));
    };
    assert_eq!(json["study"], "quickstart");
    has(&json, &["study", "domains", "mixtures", "correlations", "cost"]);
    assert_eq!(keys(&json["domains"][0]), ["name", "kind", "documents", "tokens", "bytes"]);
    assert_eq!((&json["domains"][0]["kind"], &json["domains"][8]["kind"]), (&"id".into(), &"ood".into()));
    let mixture = &json["mixtures"][0];
    assert_eq!(keys(mixture), ["id", "group", "members", "tokens", "available_tokens", "scores"]);
    assert_eq!(mixture["members"], serde_json::json!({"chemistry": 0.5, "law": 0.5}));
    assert_eq!(keys(&mixture["scores"]), ["ind", "merged", "seq"]);
    has(&mixture["scores"]["seq"]["law"], &["nats", "tokens", "perplexity"]);
    assert_eq!(keys(&mixture["scores"]["seq"]["ood"]), ["perplexity", "bits_per_byte"]);
    has(
        &json["correlations"][0],
        &[
            "group",
            "domain",
            "proxy",
            "n",
            "pearson",
            "pearson_low",
            "pearson_high",
            "spearman",
            "kendall",
            "regret_at_1",
            "decision_accuracy",
        ],
    );
    has(&json["cost"], &["modular_flops", "naive_flops"]);
}

/// Untrained, constant and diverged scores give words and nulls, never NaN.
#[test]
fn undefined_statistics_have_reasons() {
    let mut report = study();
    for m in &mut report.mixtures {
        m.group = "pairs".into();
        m.scores.remove("seq");
    }
    let retake = |report: &mut Report| {
        report.correlations = correlations(&report.mixtures, &report.domains, 1);
        report.answers = answers(&report.mixtures, &report.correlations);
        assert_no_nan(report);
    };
    retake(&mut report);
    assert!(report.answers[0].text.contains("No mixture of this group was trained, so the choice is untested."));
    let json: Value = serde_json::from_str(&report.to_json()).unwrap();
    let first = &json["correlations"][0];
    assert_eq!((&first["n"], &first["pearson"]), (&0.into(), &Value::Null));
    let reason = "not defined: mixtures scored both ways: 0; needed: at least 3";
    assert_eq!(first["not_defined"]["pearson"], reason);
    assert!(report.to_text().contains(reason));

    let flat = score(20.0, 10);
    for m in &mut report.mixtures {
        m.scores.insert("seq".into(), BTreeMap::from([("ood".into(), flat), ("law".into(), flat)]));
    }
    let diverged = Score { perplexity: f64::INFINITY, bits_per_byte: f64::NAN, ..Default::default() };
    report.mixtures[3].scores.get_mut("merged").unwrap().insert("law".into(), diverged);
    report.cost = Cost::default();
    retake(&mut report);
    assert!(report.answers[0].confidence.contains("not defined: SEQ's scores are all equal"));
    assert!(report.answers[0].confidence.contains("These mixtures hardly differ here"));
    assert!(report.to_html().contains("1 of 34 points not drawn"));
    let empty = Report::default();
    assert_no_nan(&empty);
    assert!(empty.to_html().contains("No mixture has been scored yet."));
}
