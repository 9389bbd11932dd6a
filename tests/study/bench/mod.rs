//! benches/predict: predictions of every row of the timings, without a GPU.

#[path = "../../../benches/predict/arguments.rs"]
mod arguments;
#[path = "../../../benches/predict/gpus.rs"]
mod gpus;
mod launches;
#[path = "../../../benches/predict/model.rs"]
mod model;
#[path = "../../../benches/predict/predict.rs"]
mod predict;
#[path = "../../../benches/predict/work.rs"]
mod work;

use arguments::Arguments;
use clap::Parser;
use serde_json::Value;

/// Parses the arguments as passed by cargo.
fn parsed(arguments: &[&str]) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from([&["predict"], arguments, &["--bench"]].concat())
}

fn predictions(arguments: &[&str]) -> Value {
    let arguments = parsed(&[arguments, &["--json"]].concat()).expect("arguments");
    serde_json::from_str(&arguments.text().expect("predictions")).expect("JSON")
}

fn rows(predictions: &Value) -> &Vec<Value> {
    predictions["rows"].as_array().expect("rows")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn every_row_of_every_preset_is_predicted() {
    let predictions = predictions(&[]);
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
        let predictions = predictions(&["train", "merge", "--gpu", gpu]);
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
fn wrong_arguments_are_named() {
    for (arguments, part) in
        [(["--gpu", "gemm"], "h100, h200, a100"), (["gemm", "gem"], "gemm"), (["--device", "cpu"], "--device")]
    {
        let error = parsed(&arguments).expect_err("wrong arguments");
        assert!(error.exit_code() == 2 && error.to_string().contains(part), "{error}");
    }
}
