//! The report's scores as RegMix and Olmix files: equal to the files in tests/fixtures/interchange,
//! which those tools' own readers read once. `read.json` beside the files, made by the `read.py`
//! there, has the values that they read; these are compared with the original numbers.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use stockpot::analysis::*;
use tempfile::TempDir;

/// In the study's order, which is not alphabetical; one is a reserved column of Olmix, one needs
/// quotes.
const PARTITIONS: [&str; 4] = ["law", "s2orc, \"bio\"", "index", "code"];

pub fn score(perplexity: f64, tokens: u64) -> Score {
    let nats = perplexity.ln() * tokens as f64;
    let bits_per_byte = nats / (4.0 * tokens as f64 * std::f64::consts::LN_2);
    Score { nats: Some(nats), tokens: Some(tokens), bytes: Some(4 * tokens), perplexity, bits_per_byte }
}

/// A score on each domain (two partitions and "web"), and the average "ood" over one domain.
pub fn scores(base: f64) -> DomainScores {
    let domains = [("law", 0.25), ("code", 1.5), ("web", 3.125)];
    let mut scores: DomainScores = domains
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
    // No sums, as in a mean of scores.
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

/// Four mixtures, of which the second was not trained, and one sample.
pub fn report() -> Report {
    let kinds = [("law", DomainKind::Id), ("code", DomainKind::Id), ("web", DomainKind::Ood)];
    let domain = |(name, kind): (&str, DomainKind)| DomainInfo {
        name: name.into(),
        kind,
        field: (name != "web").then(|| "all fields".into()),
        documents: 1,
        tokens: 100,
        bytes: 400,
        document_tokens: Vec::new(),
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

pub fn fixtures(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The files in `dir`, as text.
fn files_in(dir: &Path) -> BTreeMap<String, String> {
    let entry = |e: std::io::Result<fs::DirEntry>| {
        let e = e.unwrap();
        (e.file_name().into_string().unwrap(), fs::read_to_string(e.path()).unwrap())
    };
    fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).map(entry).collect()
}

/// To regenerate the fixtures, copy `target/tmp/interchange/*`, then run read.py.
fn write(report: &Report) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interchange");
    report.write(&dir).unwrap();
    dir
}

pub fn read_json(dir: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(fixtures(dir).join("read.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{e}: {value}"))
}

#[test]
fn files_equal_those_that_the_tools_read() {
    let dir = write(&report());
    for tool in ["regmix", "olmix"] {
        assert_eq!(files_in(&dir.join(tool)), files_in(&fixtures("interchange").join(tool)), "{tool}");
    }
}

/// read.json has each pair of files, read by the steps of RegMix's notebook.
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

/// read.json has the results of Olmix's `load_from_csv` for ratios.csv with each file of metrics.
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

    // Files of an earlier report are removed.
    let dir = TempDir::new().unwrap();
    report().write(dir.path()).unwrap();
    assert!(dir.path().join("regmix/val_loss.csv").exists());
    changed.write(dir.path()).unwrap();
    assert!(!dir.path().join("regmix/val_loss.csv").exists() && dir.path().join("regmix/merged_val_loss.csv").exists());
    Report::default().write(dir.path()).unwrap();
    assert!(!dir.path().join("regmix").exists() && !dir.path().join("olmix").exists());
}
