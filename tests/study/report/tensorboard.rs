//! Training metrics for TensorBoard: equal to the file in tests/fixtures/tensorboard, which
//! TensorBoard's own reader read once. `read.json` beside it, made by the `read.py` there, has the
//! values that it read; these are compared with the original numbers.

use super::interchange::{fixtures, read_json};
use std::fs;
use std::path::Path;
use stockpot::engine::train::Metrics;
use stockpot::report::tensorboard;
use tempfile::TempDir;

/// Metrics that include 0, numbers that f32 rounds, and a gradient norm that is not finite.
fn metrics() -> Vec<Metrics> {
    let row = |step: u64, loss: f64, learning_rate: f64, grad_norm: f32| Metrics {
        step,
        loss,
        learning_rate,
        grad_norm,
        skipped: !grad_norm.is_finite(),
    };
    vec![
        row(1, 10.8125, 0.0, 1.5),
        row(2, 10.1, 1e-4, 0.3),
        row(3, 9.75, 2e-4, f32::INFINITY),
        row(300, 4.25, 6e-4, 0.0),
        row(5_000_000_000, 3.5, 6e-5, 0.25),
    ]
}

#[test]
fn tensorboard_reads_the_metrics() {
    let dir = TempDir::new().unwrap();
    tensorboard::write(dir.path(), "seq 0.5 law+0.5 code", &metrics()).unwrap();
    let path = dir.path().join("seq 0.5 law+0.5 code/events.out.tfevents.0.stockpot");
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes, tensorboard::events(&metrics()));
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("events.out.tfevents.0.stockpot"), &bytes).unwrap();
    assert!(bytes == fs::read(fixtures("tensorboard/events.out.tfevents.0.stockpot")).unwrap(), "the bytes changed");

    // TensorBoard's reading: tag -> [[wall time, step, value], ...]; values that JSON cannot
    // express are text.
    let read = read_json("tensorboard");
    let tags: Vec<&String> = read["scalars"].as_object().unwrap().keys().collect();
    assert_eq!(tags, ["grad_norm", "learning_rate", "loss"]);
    let value = |row: &Metrics, tag: &str| match tag {
        "loss" => row.loss as f32,
        "learning_rate" => row.learning_rate as f32,
        _ => row.grad_norm,
    };
    for tag in tags {
        let points = read["scalars"][tag].as_array().unwrap();
        assert_eq!(points.len(), metrics().len());
        for (point, row) in points.iter().zip(metrics()) {
            assert_eq!((point[0].as_f64(), point[1].as_u64()), (Some(row.step as f64), Some(row.step)), "{tag}");
            let expected = value(&row, tag);
            let same = if expected.is_finite() {
                point[2].as_f64() == Some(f64::from(expected))
            } else {
                point[2].as_str() == Some(&expected.to_string())
            };
            assert!(same, "{tag} at {}: {} is not {expected}", row.step, point[2]);
        }
    }
    // A changed training replaces its file.
    tensorboard::write(dir.path(), "seq 0.5 law+0.5 code", &metrics()[..1]).unwrap();
    assert!(fs::read(&path).unwrap().len() < bytes.len());
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn every_training_has_its_own_directory() {
    let long = "module ".to_string() + &"x".repeat(300);
    let names =
        ["seq a+b", "seq a_b", "seq a/b", "seq a\\b", "seq a:b", "..", ".", "", " ", "module é", &long, &long[..299]];
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        let path = tensorboard::run_directory(Path::new("tb"), name);
        assert_eq!(path.parent(), Some(Path::new("tb")), "{name}");
        let last = path.file_name().unwrap().to_str().unwrap();
        assert!(!last.starts_with('.') && last.len() <= 160 && last.is_ascii(), "{name}: {last}");
        assert!(seen.insert(path.clone()), "{name} shares {}", path.display());
    }
    assert_eq!(tensorboard::run_directory(Path::new("tb"), "seq a+b"), Path::new("tb/seq a+b"));
}
