//! The report's scores in the forms of other tools, and training metrics for TensorBoard: equal to the files in
//! tests/fixtures/interchange and tests/fixtures/tensorboard, which those tools' own readers read once. What they read
//! is in `read.json` beside the files, made by the `read.py` there, and is compared with the numbers that went in.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use stockpot::analysis::*;
use stockpot::engine::train::Metrics;
use stockpot::report::tensorboard;
use tempfile::TempDir;

/// In the study's order, which is not that of the names; one is a column of Olmix's own, one needs quotes.
const PARTITIONS: [&str; 4] = ["law", "s2orc, \"bio\"", "index", "code"];

fn score(perplexity: f64, tokens: u64) -> Score {
    let nats = perplexity.ln() * tokens as f64;
    let bits_per_byte = nats / (4.0 * tokens as f64 * std::f64::consts::LN_2);
    Score { nats: Some(nats), tokens: Some(tokens), bytes: Some(4 * tokens), perplexity, bits_per_byte }
}

/// A score on each domain (two partitions and "web"), and the average "ood", the mean of one.
fn scores(base: f64) -> BTreeMap<String, Score> {
    let domains = [("law", 0.25), ("code", 1.5), ("web", 3.125)];
    let mut scores: BTreeMap<String, Score> = domains
        .iter()
        .zip(100..)
        .map(|((name, more), tokens)| (name.to_string(), score(base + more, tokens)))
        .collect();
    scores.insert("ood".into(), Score { nats: None, tokens: None, bytes: None, ..scores["web"] });
    scores
}

fn weights(pairs: &[(usize, f64)]) -> BTreeMap<String, f64> {
    pairs.iter().map(|&(p, w)| (PARTITIONS[p].to_string(), w)).collect()
}

fn mixture(id: &str, members: &[(usize, f64)], seq: Option<f64>, merged: f64) -> MixtureInfo {
    let mut by_model =
        BTreeMap::from([("merged".to_string(), scores(merged)), ("ind".to_string(), scores(merged + 1.0))]);
    // As a mean of scores has it: no sums.
    for score in by_model.get_mut("ind").unwrap().values_mut() {
        (score.nats, score.tokens, score.bytes) = (None, None, None);
    }
    by_model.extend(seq.map(|base| ("seq".to_string(), scores(base))));
    MixtureInfo {
        id: id.into(),
        group: "given".into(),
        members: weights(members),
        scores: by_model,
        ..Default::default()
    }
}

/// Four mixtures, the second of which was not trained, and one sample.
fn report() -> Report {
    let kinds = [("law", DomainKind::Id), ("code", DomainKind::Id), ("web", DomainKind::Ood)];
    let domain = |(name, kind): (&str, DomainKind)| DomainInfo {
        name: name.into(),
        kind,
        field: (name != "web").then(|| "all fields".into()),
        documents: 1,
        tokens: 100,
        bytes: 400,
    };
    Report {
        domains: kinds.map(domain).into(),
        partitions: PARTITIONS.map(|name| PartitionInfo { name: name.into(), ..Default::default() }).into(),
        mixtures: vec![
            mixture("index+law", &[(0, 0.5), (2, 0.5)], Some(20.0), 21.0),
            mixture("code+law", &[(0, 0.5), (3, 0.5)], None, 22.0),
            mixture("all", &[(0, 0.125), (1, 0.25), (2, 0.3), (3, 0.325)], Some(24.0), 23.0),
            // The same id in another group.
            mixture("index+law", &[(0, 0.1), (2, 0.9)], Some(26.0), 26.5),
        ],
        samples: vec![SampleInfo { members: weights(&[(1, 1.0)]), scores: scores(30.0) }],
        ..Default::default()
    }
}

fn fixtures(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The files, as text, that `dir` holds.
fn files_in(dir: &Path) -> BTreeMap<String, String> {
    let entry = |e: std::io::Result<fs::DirEntry>| {
        let e = e.unwrap();
        (e.file_name().into_string().unwrap(), fs::read_to_string(e.path()).unwrap())
    };
    fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).map(entry).collect()
}

/// To make the fixtures anew: copy `target/tmp/interchange/*`, then run read.py.
fn write(report: &Report) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interchange");
    report.write(&dir).unwrap();
    dir
}

fn read_json(dir: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(fixtures(dir).join("read.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{e}: {value}"))
}

#[test]
fn the_files_are_those_that_the_tools_read() {
    let dir = write(&report());
    for tool in ["regmix", "olmix"] {
        assert_eq!(files_in(&dir.join(tool)), files_in(&fixtures("interchange").join(tool)), "{tool}");
    }
}

/// read.json: each pair of files by the steps of RegMix's notebook.
#[test]
fn regmix_reads_weights_and_losses_row_by_row() {
    let read = &read_json("interchange")["regmix"];
    let report = report();
    let list = |index: &[usize]| index.iter().map(|i| &report.mixtures[i - 1]).collect::<Vec<_>>();
    for (prefix, model, mixtures) in [
        ("", "seq", list(&[1, 3, 4])),
        ("merged_", "merged", list(&[1, 2, 3, 4])),
        ("ind_", "ind", list(&[1, 2, 3, 4])),
    ] {
        let pair = &read[format!("{prefix}val_loss.csv")];
        assert_eq!(pair["features"], serde_json::json!(PARTITIONS.map(|p| format!("train_{p}"))));
        assert_eq!(
            pair["metrics"],
            serde_json::json!(["metric/law_val_loss", "metric/code_val_loss", "metric/web_val_loss"])
        );
        let (x, y) = (numbers(&pair["x"]), numbers(&pair["y"]));
        let samples = if model == "merged" { 1 } else { 0 };
        assert_eq!((x.len(), y.len()), (mixtures.len() + samples, mixtures.len() + samples), "{model}");
        for ((x, y), mixture) in x.iter().zip(&y).zip(mixtures) {
            let weights = PARTITIONS.map(|p| mixture.members.get(p).copied().unwrap_or(0.0));
            assert_eq!(*x, weights, "{model} {}", mixture.id);
            for (loss, domain) in y.iter().zip(["law", "code", "web"]) {
                let expected = mixture.scores[model][domain].perplexity.ln();
                assert!((loss - expected).abs() < 1e-12, "{model} {} {domain}: {loss} {expected}", mixture.id);
            }
        }
        if samples > 0 {
            assert_eq!(x[4], [0.0, 1.0, 0.0, 0.0]);
            assert!((y[4][2] - 33.125f64.ln()).abs() < 1e-12);
        }
    }
    assert_eq!(read["val_loss.csv"]["index"], serde_json::json!([1, 3, 4]));
    assert_eq!(read["merged_val_loss.csv"]["index"], serde_json::json!([1, 2, 3, 4, 5]));
}

/// read.json: what `load_from_csv` of Olmix gave for ratios.csv with each file of metrics.
#[test]
fn olmix_joins_ratios_and_metrics_by_run() {
    let read = &read_json("interchange")["olmix"];
    let report = report();
    for (file, model, indices) in [
        ("metrics.csv", "seq", &[0, 2, 3][..]),
        ("merged_metrics.csv", "merged", &[0, 1, 2, 3, 4]),
        ("ind_metrics.csv", "ind", &[0, 1, 2, 3]),
    ] {
        let read = &read[file];
        assert_eq!(read["domains"], serde_json::json!(["law", "s2orc, \"bio\"", "partition_index", "code"]));
        assert_eq!(read["metrics"], serde_json::json!(["law_bpb", "code_bpb", "web_bpb"]));
        let names: Vec<&str> =
            indices.iter().map(|&i| report.mixtures.get(i).map_or("sample 1", |m| m.id.as_str())).collect();
        assert_eq!(read["names"], serde_json::json!([names, names]), "{file}");
        let (x, y) = (numbers(&read["x"]), numbers(&read["y"]));
        assert_eq!((x.len(), y.len()), (indices.len(), indices.len()));
        for ((x, y), &i) in x.iter().zip(&y).zip(indices) {
            let (members, scores) = match report.mixtures.get(i) {
                Some(m) => (&m.members, &m.scores[model]),
                None => (&report.samples[0].members, &report.samples[0].scores),
            };
            assert_eq!(*x, PARTITIONS.map(|p| members.get(p).copied().unwrap_or(0.0)));
            assert_eq!(*y, ["law", "code", "web"].map(|d| scores[d].bits_per_byte), "{file} {i}");
        }
    }
}

#[test]
fn rows_without_a_finite_score_and_models_without_rows_are_left_out() {
    let lines = |files: &[(String, String)], name: &str| {
        let found = files.iter().find(|(file, _)| file == name);
        found.map(|(_, text)| text.lines().count() - 1)
    };
    let mut changed = report();
    changed.mixtures[0].scores.get_mut("seq").unwrap().get_mut("web").unwrap().nats = Some(f64::NAN);
    changed.mixtures[2].scores.get_mut("seq").unwrap().remove("law");
    let regmix = changed.to_regmix();
    assert_eq!((lines(&regmix, "val_loss.csv"), lines(&regmix, "train_mixture.csv")), (Some(1), Some(1)));
    assert_eq!(lines(&regmix, "merged_mixture.csv"), Some(5));
    let olmix = changed.to_olmix();
    assert_eq!((lines(&olmix, "ratios.csv"), lines(&olmix, "metrics.csv")), (Some(5), Some(1)));
    changed.mixtures.iter_mut().for_each(|m| drop(m.scores.remove("seq")));
    assert_eq!(lines(&changed.to_regmix(), "val_loss.csv"), None);
    assert_eq!(lines(&changed.to_olmix(), "metrics.csv"), None);

    // What an earlier report wrote does not stay.
    let dir = TempDir::new().unwrap();
    report().write(dir.path()).unwrap();
    assert!(dir.path().join("regmix/val_loss.csv").exists());
    changed.write(dir.path()).unwrap();
    assert!(!dir.path().join("regmix/val_loss.csv").exists() && dir.path().join("regmix/merged_val_loss.csv").exists());
    Report::default().write(dir.path()).unwrap();
    assert!(!dir.path().join("regmix").exists() && !dir.path().join("olmix").exists());
}

#[test]
fn scores_csv_has_repeats_the_larger_model_and_scaled_merges() {
    let mut report = report();
    report.mixtures.truncate(1);
    let first = &mut report.mixtures[0];
    first.scores.insert("scaled".into(), scores(19.0));
    first.repeats = vec![
        BTreeMap::from([("seq".into(), scores(20.5)), ("merged".into(), scores(21.5))]),
        BTreeMap::from([("seq".into(), scores(20.75))]),
    ];
    first.target = BTreeMap::from([("seq".into(), scores(10.0)), ("merged".into(), scores(11.0))]);
    first.by_lambda = vec![(1.0, scores(21.0)), (1.4, scores(20.25))];
    first.scores.get_mut("seq").unwrap().insert("field:all fields".into(), score(20.875, 10));
    let csv = report.to_csv();
    let header: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    assert_eq!(header[..5], ["mixture", "group", "model", "domain", "kind"]);
    assert_eq!((header[8], header[10], header.len()), ("perplexity", "repeat", 11));
    // One row of each on "law", whose perplexity is the base and a quarter.
    let on_law: Vec<String> = csv
        .lines()
        .map(|line| line.split(',').collect::<Vec<_>>())
        .filter(|cells| cells[3] == "law")
        .map(|cells| format!("{} {} {}", cells[2], cells[10], cells[8]))
        .collect();
    let expected = [
        "seq 0 20.25",
        "merged 0 21.25",
        "ind 0 22.25",
        "scaled 0 19.25",
        "seq 1 20.75",
        "merged 1 21.75",
        "seq 2 21",
        "target_seq 0 10.25",
        "target_merged 0 11.25",
        "scaled@1 0 21.25",
        "scaled@1.4 0 20.5",
    ];
    assert_eq!(on_law, expected);
    // All have three domains and "ood".
    assert_eq!(csv.lines().count(), 1 + expected.len() * 4 + 1);
    assert_eq!(csv.matches("seq,field:all fields,average,").count(), 1);
}

/// Among them 0, numbers that f32 rounds, and a gradient that was not finite.
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

    // What TensorBoard read of these bytes: tag -> [[wall time, step, value], ...]; a value that JSON has not, as text.
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
