//! Whole studies on the host executor: the same launches as on a GPU, from documents to the report.

use crate::simt::{Mode, Simt};
use crate::studies::{PARTITIONS, study_toml, write_study};
use crate::trees::{assert_same_tree, tree};
use serde_json::Value;
use std::any::Any;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use stockpot::engine::device::{Buffer, CapturedGraph, DType, Device, DeviceSpec, Executor, Fetched, Launch};
use stockpot::engine::model::{Architecture, Batch, Config, MemoryPlan};
use stockpot::error::{Error, Result};
use stockpot::study::{self, Options, Phase, SearchOptions, Study};

/// [`write_study`] with a model that the kernels support, and few steps.
pub fn write_small_study(directory: &Path) {
    write_study(directory);
    let text = study_toml(&PARTITIONS[..2])
        .replace("width = 16\nlayers = 1\nheads = 2", "width = 32\nlayers = 1\nheads = 1")
        .replace("steps = 60", "steps = 6")
        .replace("steps = 25", "steps = 4\nmicro_batch = 2")
        .replace("checkpoint_every = 10", "checkpoint_every = 3")
        + "\n[evaluation]\ndocuments = 4\n";
    fs::write(directory.join("study.toml"), text).expect("a file that can be written");
}

fn run(directory: &Path, out: &str, spec: DeviceSpec) -> Value {
    let path = directory.join("study.toml");
    let study = Study::read(&path).expect("a study");
    let settings = fs::read_to_string(&path).expect("settings");
    let options = Options { until: Phase::Report, threads: 2, spec };
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
    let spec = |mode| DeviceSpec::accelerator(move || Ok(Simt::bf16(mode))).expect("it opens");
    let cpu = run(dir.path(), "cpu", DeviceSpec::cpu());
    let kernels = run(dir.path(), "kernels", spec(Mode::FORWARD));
    for subject in ["seq", "merged", "ind"] {
        let (ours, theirs) = (perplexities(&kernels, subject), perplexities(&cpu, subject));
        assert!(!ours.is_empty() && ours.len() == theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            // A mean over hundreds of tokens, each loss off by some thousandths.
            assert!((ours / theirs - 1.0).abs() < 5e-3, "{subject}: {ours}, on the CPU {theirs}");
        }
    }
    // Another order of threads and blocks, in another directory: every file the same.
    run(dir.path(), "again", spec(Mode::REVERSE));
    assert_same_tree(&tree(&dir.path().join("kernels")), &tree(&dir.path().join("again")));
    // Models of one device are not reused on another.
    let device = fs::read_to_string(dir.path().join("kernels/device")).expect("the device's name");
    assert_eq!(device.trim(), "simt");
    assert_ne!(
        tree(&dir.path().join("cpu/models")).keys().collect::<Vec<_>>(),
        tree(&dir.path().join("kernels/models")).keys().collect::<Vec<_>>()
    );
}

/// A search through kernels finds what it finds on the CPU, with the same bits whatever the order of
/// threads and blocks.
#[test]
fn a_search_runs_on_kernels_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    write_small_study(dir.path());
    let path = dir.path().join("study.toml");
    let mut study = Study::read(&path).expect("a study");
    study.search.held_out = 8;
    let search = |out: &str, spec: DeviceSpec| {
        let options = SearchOptions { threads: 2, spec, verify: 0, asked: &[], overridden: false };
        study::search(&study, &dir.path().join(out), &options).expect("the search runs")
    };
    let spec = |mode| DeviceSpec::accelerator(move || Ok(Simt::bf16(mode))).expect("it opens");
    let (cpu, kernels) = (search("cpu", DeviceSpec::cpu()), search("kernels", spec(Mode::FORWARD)));
    let natural = |report: &study::SearchReport| report.outcome.find("baseline", "natural").expect("a baseline").merged;
    assert!((natural(&kernels) / natural(&cpu) - 1.0).abs() < 5e-3);
    // Gradients in bf16 lead to weights that are as good.
    let (ours, theirs) = (kernels.outcome.best().merged, natural(&kernels));
    assert!(ours < theirs + 1e-4, "{ours} {theirs}");
    search("again", spec(Mode::REVERSE));
    assert_same_tree(&tree(&dir.path().join("kernels")), &tree(&dir.path().join("again")));
}

/// A device that is lost at the `left`-th fetch of a result.
struct Losing {
    inner: Simt,
    left: Arc<AtomicI64>,
    /// Free bytes that it reports.
    free: Option<u64>,
}

impl Executor for Losing {
    fn allocate(&mut self, bytes: usize) -> Result<(u64, Box<dyn Any + Send + Sync>)> {
        self.inner.allocate(bytes)
    }
    fn launch(&mut self, launch: &Launch) -> Result<()> {
        self.inner.launch(launch)
    }
    fn upload(&mut self, to: &Buffer, bytes: &[u8]) -> Result<()> {
        self.inner.upload(to, bytes)
    }
    fn fork_uploads(&mut self) -> Result<()> {
        self.inner.fork_uploads()
    }
    fn upload_on_side_stream(&mut self, to: &Buffer, bytes: &[u8]) -> Result<()> {
        self.inner.upload_on_side_stream(to, bytes)
    }
    fn join_uploads(&mut self) -> Result<()> {
        self.inner.join_uploads()
    }
    fn download(&mut self, from: &Buffer, bytes: &mut [u8]) -> Result<()> {
        self.inner.download(from, bytes)
    }
    fn fetch(&mut self, from: &Buffer) -> Result<Box<dyn Fetched>> {
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            0 => Err(Error::numeric("the device is lost")),
            _ => self.inner.fetch(from),
        }
    }
    fn free_memory(&self) -> Option<u64> {
        self.free
    }
    fn begin_capture(&mut self) -> Result<bool> {
        self.inner.begin_capture()
    }
    fn end_capture(&mut self) -> Result<Box<dyn CapturedGraph>> {
        self.inner.end_capture()
    }
    fn finish(&mut self) -> Result<()> {
        self.inner.finish()
    }
}

#[test]
fn a_study_whose_device_was_lost_resumes_with_the_same_bits() {
    let dir = tempfile::tempdir().expect("a directory");
    write_small_study(dir.path());
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let shared = left.clone();
    let spec = DeviceSpec::accelerator(move || {
        let executor = Losing { inner: Simt::new(Mode::FORWARD), left: shared.clone(), free: None };
        Ok(Device::with_executor("simt", Box::new(executor), DType::Bf16))
    });
    let spec = spec.expect("it opens");
    run(dir.path(), "whole", spec.clone());
    let study = Study::read(&dir.path().join("study.toml")).expect("a study");
    // Two results a step: within the seed, before and after its partial checkpoint, within a
    // module, while scoring.
    for lost_after in [3, 9, 13, 40] {
        left.store(lost_after, Ordering::Relaxed);
        let options = Options { until: Phase::Report, threads: 2, spec: spec.clone() };
        let lost = study::run(&study, "", &dir.path().join("lost"), &options).expect_err("the device is lost");
        assert!(lost.to_string().contains("the device is lost"), "{lost}");
    }
    left.store(i64::MAX, Ordering::Relaxed);
    run(dir.path(), "lost", spec);
    assert_same_tree(&tree(&dir.path().join("whole")), &tree(&dir.path().join("lost")));
}

#[test]
fn a_training_that_does_not_fit_is_refused_with_the_micro_batch_that_does() {
    let dir = tempfile::tempdir().expect("a directory");
    write_small_study(dir.path());
    let study = Study::read(&dir.path().join("study.toml")).expect("a study");
    let mut config = Config::preset("tiny", Architecture::Olmo2, 300, 0).expect("a preset");
    (config.width, config.layers, config.heads, config.kv_heads, config.head_width) = (32, 1, 1, 1, 32);
    (config.feed_forward, config.context) = (32, 16);
    // The seed's batches are of 4 windows.
    let bytes = |micro| {
        let shape = Batch { batch: micro, context: 16 };
        MemoryPlan::of_training(&config, DType::Bf16, shape, 4, false).expect("a plan").total()
    };
    assert!(bytes(1) < bytes(2) && bytes(2) < bytes(4));
    let spec = |free: u64| {
        DeviceSpec::accelerator(move || {
            let left = Arc::new(AtomicI64::new(i64::MAX));
            let executor = Losing { inner: Simt::new(Mode::FORWARD), left, free: Some(free) };
            Ok(Device::with_executor("simt", Box::new(executor), DType::Bf16))
        })
    };
    let run = |out: &str, free: u64| {
        let options = Options { until: Phase::Seed, threads: 1, spec: spec(free).expect("it opens") };
        study::run(&study, "", &dir.path().join(out), &options)
    };
    for (micro, fix) in [(2, "set micro_batch = 2"), (1, "set micro_batch = 1")] {
        let refused = run("small", bytes(micro)).expect_err("less than micro-batches of 4 take").to_string();
        assert!(refused.contains("does not fit") && refused.contains(fix), "{refused}");
    }
    let refused = run("small", 1 << 12).expect_err("next to nothing").to_string();
    assert!(refused.contains("use a smaller model or context"), "{refused}");
    run("large", bytes(4)).expect("it fits");
}
