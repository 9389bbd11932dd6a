//! Whole models and a whole study on the host executor: the same launches as on a GPU, from documents to the report,
//! beside the CPU device and within what bf16 honestly loses.

mod common;
mod simt;

use common::*;
use serde_json::Value;
use simt::{Mode, Simt};
use std::fs;
use std::path::Path;
use stockpot::device::{DType, Device, Place};
use stockpot::model::{Activations, Architecture, Batch, Config, Inputs, Model, Table, initial_weights};
use stockpot::ops::IGNORED;
use stockpot::study::{self, Options, Phase, Study};
use stockpot::train::{Optimizer, Settings};

fn host_executor(mode: Mode) -> Device {
    Simt::new(mode).device(DType::Bf16)
}

/// Two layers with grouped heads, sizes that tell every field apart.
fn small(architecture: Architecture, tied: bool) -> Config {
    let mut config = Config::preset("tiny", architecture, 299, 0).expect("a preset");
    (config.width, config.layers, config.heads, config.kv_heads, config.head_width) = (64, 2, 4, 2, 32);
    (config.feed_forward, config.context, config.tied, config.init_std) = (88, 24, tied, 0.1);
    config
}

const SHAPE: Batch = Batch { batch: 3, context: 24 };

struct Trained {
    /// Of every target, before the first update and after the last.
    losses: [Vec<f32>; 2],
    /// (P), before the first update.
    gradient: Vec<f32>,
    norms: Vec<f32>,
    /// (P), after the last update.
    weights: Vec<f32>,
}

/// Three steps.
fn trained(mut device: Device, config: &Config, recompute: bool) -> Trained {
    let device = &mut device;
    let rows = SHAPE.rows() as u32;
    let tokens: Vec<u32> = (0..rows).map(|i| (i * 37 + 2) % 299).collect();
    let mut targets: Vec<u32> = (0..rows).map(|i| (i * 11 + 3) % 299).collect();
    targets[5] = IGNORED;
    let settings: Settings = toml::from_str("steps = 3\nbatch = 3\nlearning_rate = 1e-3").expect("settings");
    let model = Model::new(device, config, &initial_weights(config, 7)).expect("memory");
    let acts = Activations::for_training(device, config, SHAPE.rows(), recompute).expect("memory");
    let optimizer = Optimizer::new(device, &model, None).expect("memory");
    optimizer.set_learning_rate(device, 1e-3).expect("upload");
    let inputs = Inputs::new(device, SHAPE.rows()).expect("memory");
    inputs.upload(device, &tokens, &targets).expect("upload");
    let (mut losses, mut gradient, mut norms) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..3 {
        optimizer.zero_gradients(device).expect("zeros");
        let scale = 1.0 / rows as f32;
        model.accumulate_gradient(device, &acts, &optimizer.arena, SHAPE, &inputs, scale).expect("gradients");
        if step == 0 {
            losses = device.to_vec(&acts.losses(SHAPE.rows())).expect("losses");
            gradient = device.to_vec(&optimizer.arena.grads).expect("gradients");
        }
        optimizer.update(device, &model, &settings).expect("an update");
        norms.push(device.to_vec::<f32>(&optimizer.arena.norm).expect("the norm")[0]);
    }
    model.losses(device, &acts, SHAPE, &inputs).expect("losses");
    let after = device.to_vec(&acts.losses(SHAPE.rows())).expect("losses");
    Trained { losses: [losses, after], gradient, norms, weights: device.to_vec(&model.master).expect("weights") }
}

/// |a - b| / |b| in the L2 norm.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (difference / b.iter().map(|&b| square(b)).sum::<f64>().max(1e-30)).sqrt()
}

#[test]
fn training_on_kernels_is_training_on_the_cpu_but_for_bf16() {
    for (architecture, tied) in
        [(Architecture::Olmo2, false), (Architecture::Llama, false), (Architecture::Llama, true)]
    {
        let config = small(architecture, tied);
        let (cpu, kernels) =
            (trained(Device::cpu(), &config, false), trained(host_executor(Mode::FORWARD), &config, false));
        for (ours, theirs) in kernels.losses.iter().zip(&cpu.losses) {
            // bf16 rounds each of some twenty activations in a row by up to 1/256, and the logits, which are of order 1.
            let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 0.06, "{architecture:?}: a loss is off by {worst}");
            let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
            let off = (mean(ours) - mean(theirs)).abs();
            assert!(off < 4e-3, "{architecture:?}: the mean loss is off by {off}");
        }
        for p in &Table::new(&config).parameters {
            let off = distance(&kernels.gradient[p.range()], &cpu.gradient[p.range()]);
            println!("{architecture:?} {}: {off:.2e}", p.name);
            assert!(off < 0.04, "{architecture:?}: the gradient of {} is off by {off}", p.name);
        }
        for (ours, theirs) in kernels.norms.iter().zip(&cpu.norms) {
            assert!((ours / theirs - 1.0).abs() < 0.01, "{architecture:?}: norm {ours}, on the CPU {theirs}");
        }
        let off = distance(&kernels.weights, &cpu.weights);
        assert!(off < 0.01, "{architecture:?}: weights are off by {off}");
    }
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
