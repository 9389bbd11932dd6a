//! `stockpot bench --model`: every row of the timings, predicted without a GPU.

use crate::binary::stockpot;
use serde_json::Value;

fn predict(arguments: &[&str]) -> Value {
    let dir = tempfile::tempdir().expect("a directory");
    let arguments: Vec<&str> = ["bench"].into_iter().chain(arguments.iter().copied()).chain(["--json"]).collect();
    stockpot(dir.path(), &arguments).json()
}

fn rows(predictions: &Value) -> &Vec<Value> {
    predictions["rows"].as_array().expect("rows")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn every_row_of_every_preset_is_predicted() {
    let predictions = predict(&["--model"]);
    assert_eq!(predictions["gpu"]["name"], "h100");
    for preset in ["30m", "130m", "1b"] {
        for (subject, count) in [("gemm", 15), ("attention", 2), ("train", 1), ("eval", 1)] {
            let of = |row: &&Value| {
                row["subject"] == subject && row["name"].as_str().expect("a name").starts_with(&format!("{preset} "))
            };
            assert_eq!(rows(&predictions).iter().filter(of).count(), count, "{preset} {subject}");
        }
    }
    assert!(rows(&predictions).iter().any(|row| row["subject"] == "merge"));
    for row in rows(&predictions) {
        let kernels = row["kernels"].as_array().expect("kernels");
        let calls: f64 = kernels.iter().map(|k| number(&k["calls"])).sum();
        let share: f64 = kernels.iter().map(|k| number(&k["share"])).sum();
        assert!(calls == number(&row["launches"]) && (share - 1.0).abs() < 1e-9, "{row}");
        assert_eq!(row["graph"], row["subject"] == "train", "{}", row["name"]);
        for kernel in kernels {
            let limits = kernel["limits"].as_object().expect("limits");
            let slowest = limits.values().map(number).fold(0.0, f64::max);
            assert!(slowest > 0.0 && number(&kernel["seconds"]) > slowest, "{kernel}");
            assert!(number(&kernel["balance"]) > 0.0 && number(&kernel["balance"]) <= 1.0, "{kernel}");
        }
        if let Some(of_peak) = row["of_peak"].as_f64() {
            assert!(of_peak > 0.0 && of_peak < 0.629, "mma.sync has a limit: {}", row["name"]);
        }
    }
}

#[test]
fn faster_memory_is_faster_where_memory_binds() {
    let of = |gpu: &str| {
        let predictions = predict(&["train", "merge", "--model", gpu]);
        let seconds = |row: &Value| (row["name"].to_string(), number(&row["seconds"]));
        rows(&predictions).iter().map(seconds).collect::<Vec<_>>()
    };
    let (h100, h200, a100) = (of("h100"), of("h200"), of("a100"));
    for (((name, h100), (_, h200)), (_, a100)) in h100.iter().zip(&h200).zip(&a100) {
        assert!(h200 < h100 && h100 < a100, "{name}: {h200} {h100} {a100}");
        // A merge is all memory; a step is not.
        let ratio = h100 / h200;
        assert!(ratio < 4.8 / 3.352 && (name.contains("step") || ratio > 1.4), "{name}: {ratio}");
    }
}

#[test]
fn what_is_not_known_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    stockpot(dir.path(), &["bench", "--model", "gemm"]).fails(2, &["h100, h200, a100", "before --model"]);
    stockpot(dir.path(), &["bench", "--model", "--device", "cpu"]).fails(2, &["--model", "--device"]);
}
