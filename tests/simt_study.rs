//! Whole models and a whole study on the host executor: the same launches as on a GPU, from documents to the report,
//! beside the CPU device and within what bf16 honestly loses.

mod common;
mod simt;
mod training_on;

use common::*;
use serde_json::Value;
use simt::{Mode, Simt};
use std::fs;
use std::path::Path;
use stockpot::device::{DType, Device, Place};
use stockpot::model::Architecture;
use stockpot::study::{self, Options, Phase, Study};
use training_on::{is_training_on_the_cpu_but_for_bf16, small, trained};

fn host_executor(mode: Mode) -> Device {
    Simt::new(mode).device(DType::Bf16)
}

#[test]
fn training_on_kernels_is_training_on_the_cpu_but_for_bf16() {
    is_training_on_the_cpu_but_for_bf16(|| host_executor(Mode::FORWARD));
}

#[test]
fn training_has_the_same_bits_in_every_order_and_with_activations_computed_again() {
    let config = small(Architecture::Olmo2, false);
    let one = trained(host_executor(Mode::FORWARD), &config, false);
    for (mode, recompute) in [(Mode::FORWARD, true), (Mode::REVERSE, false), (Mode::EARLY, false)] {
        let other = trained(host_executor(mode), &config, recompute);
        assert!(one.gradient == other.gradient, "{mode:?} recompute {recompute}: other gradients");
        assert!(one.weights == other.weights, "{mode:?} recompute {recompute}: other weights");
        assert!(one.losses == other.losses, "{mode:?} recompute {recompute}: other losses");
    }
}

/// [`write_study`] with a model that kernels take, and few steps.
fn write_small_study(directory: &Path) {
    write_study(directory);
    let text = study_toml(&PARTITIONS[..2])
        .replace("width = 16\nlayers = 1\nheads = 2", "width = 32\nlayers = 1\nheads = 1")
        .replace("steps = 60", "steps = 6")
        .replace("steps = 25", "steps = 4\nmicro_batch = 2")
        .replace("checkpoint_every = 10", "checkpoint_every = 3")
        + "\n[evaluation]\ndocuments = 4\n";
    fs::write(directory.join("study.toml"), text).expect("a file that can be written");
}

fn run(directory: &Path, out: &str, place: Place) -> Value {
    let path = directory.join("study.toml");
    let study = Study::read(&path).expect("a study");
    let settings = fs::read_to_string(&path).expect("settings");
    let options = Options { until: Phase::Report, threads: 2, place };
    study::run(&study, &settings, &directory.join(out), &options).expect("the study runs").expect("a report");
    let report = fs::read_to_string(directory.join(out).join("report.json")).expect("a report");
    serde_json::from_str(&report).expect("JSON")
}

/// Perplexities of a mixture's `subject` by domain.
fn perplexities(report: &Value, subject: &str) -> Vec<f64> {
    let scores = |mixture: &Value| -> Vec<f64> {
        let domains = mixture["scores"][subject].as_object().expect("scores by domain");
        domains.values().map(|d| d["perplexity"].as_f64().expect("a perplexity")).collect()
    };
    report["mixtures"].as_array().expect("mixtures").iter().flat_map(scores).collect()
}

#[test]
fn a_study_runs_on_kernels_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    write_small_study(dir.path());
    let place = |mode| Place::accelerator(move || Ok(host_executor(mode))).expect("it opens");
    let cpu = run(dir.path(), "cpu", Place::cpu());
    let kernels = run(dir.path(), "kernels", place(Mode::FORWARD));
    for subject in ["seq", "merged", "ind"] {
        let (ours, theirs) = (perplexities(&kernels, subject), perplexities(&cpu, subject));
        assert!(!ours.is_empty() && ours.len() == theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            // A mean over hundreds of tokens of losses that are each off by some thousandths.
            assert!((ours / theirs - 1.0).abs() < 5e-3, "{subject}: {ours}, on the CPU {theirs}");
        }
    }
    // Another order of threads and blocks, in another directory: every file the same.
    run(dir.path(), "again", place(Mode::REVERSE));
    assert_same_tree(&tree(&dir.path().join("kernels")), &tree(&dir.path().join("again")));
    // Models of one device are not taken for those of another.
    let device = fs::read_to_string(dir.path().join("kernels/device")).expect("the device's name");
    assert_eq!(device.trim(), "simt");
    assert_ne!(
        tree(&dir.path().join("cpu/models")).keys().collect::<Vec<_>>(),
        tree(&dir.path().join("kernels/models")).keys().collect::<Vec<_>>()
    );
}
