//! A study by the shipped program on the software GPU, from documents to the recipe: equal bytes in
//! every order of the streams, and after kills.

use super::software_gpu::with_gpu;
use crate::binary::{Outcome, command, stockpot};
use crate::study::write_small_study;
use crate::trees::{assert_same_tree, tree};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// [`write_small_study`] in fewer steps and documents.
pub fn write_tiny_study(directory: &Path) {
    write_small_study(directory);
    let path = directory.join("study.toml");
    let text = fs::read_to_string(&path).expect("settings");
    let text = text
        .replace("steps = 6", "steps = 3")
        .replace("steps = 4", "steps = 2")
        .replace("warmup_steps = 5", "warmup_steps = 1")
        .replace("checkpoint_every = 3", "checkpoint_every = 1")
        .replace("documents = 4", "documents = 2");
    fs::write(path, text).expect("a file that can be written");
}

/// The command that runs the study of `directory` in its `out`.
pub fn run_command(directory: &Path, gpu: &str, until: &str) -> Command {
    let mut run = command(directory, &["run", "study.toml", "--out", "out", "--device", "cuda", "--until", until]);
    with_gpu(&mut run, gpu).env("SOFTWARE_GPU_COUNTS", directory.join("counts"));
    run
}

pub struct Whole {
    directory: PathBuf,
    pub files: BTreeMap<String, Vec<u8>>,
    /// Calls of each function of the driver.
    pub calls: BTreeMap<String, u64>,
}

/// The study, uninterrupted, run once for all tests.
pub fn whole() -> &'static Whole {
    static WHOLE: OnceLock<Whole> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a directory").keep();
        write_tiny_study(&directory);
        Outcome::of(&mut run_command(&directory, "order=late", "report")).done();
        let counts = fs::read_to_string(directory.join("counts")).expect("the counts of calls");
        let call = |line: &str| line.rsplit_once(' ').map(|(name, n)| (name.into(), n.parse().expect("a number")));
        let files = tree(&directory.join("out"));
        let whole = Whole { files, calls: counts.lines().filter_map(call).collect(), directory };
        fs::remove_dir_all(&whole.directory).expect("the directory can be removed");
        whole
    })
}

/// Asserts that a study up to its scores, with these settings, has only files of the whole one.
#[track_caller]
fn has_the_bytes_of_the_whole(gpu: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    write_tiny_study(dir.path());
    Outcome::of(&mut run_command(dir.path(), gpu, "scores")).done();
    let part = tree(&dir.path().join("out"));
    assert!(part.keys().any(|name| name.starts_with("scores/") && name.ends_with(".json")), "no scores");
    let other = |(name, bytes): &(&String, &Vec<u8>)| whole().files.get(*name) != Some(*bytes);
    let differing: Vec<&String> = part.iter().filter(other).map(|(name, _)| name).collect();
    assert!(differing.is_empty(), "these files differ: {differing:?}");
}

#[test]
fn a_study_has_the_same_bytes_when_launches_are_early_and_copies_late() {
    has_the_bytes_of_the_whole("order=forward");
}

#[test]
fn a_study_has_the_same_bytes_when_copies_are_early_and_launches_late() {
    has_the_bytes_of_the_whole("order=reverse");
}

/// Another order each time; the last run ends by itself.
#[test]
fn a_study_that_was_killed_resumes_with_the_same_bytes() {
    let dir = tempfile::tempdir().expect("a directory");
    write_tiny_study(dir.path());
    let mut killed = 0;
    for seed in 1..=8 {
        let mut run = run_command(dir.path(), &format!("order=random,seed={seed}"), "report");
        let mut child = run.spawn().expect("the program starts");
        std::thread::sleep(Duration::from_millis(300 * seed));
        child.kill().expect("a child can be killed");
        let status = child.wait().expect("a child");
        // A signal, or done before it.
        assert!(matches!(status.code(), None | Some(0)), "{status}");
        killed += u32::from(status.code().is_none());
    }
    assert!(killed >= 3, "{killed} runs were killed");
    stockpot(dir.path(), &["status", "study.toml", "--out", "out"]).done();
    Outcome::of(&mut run_command(dir.path(), "order=random,seed=9", "report")).done();
    assert_same_tree(&whole().files, &tree(&dir.path().join("out")));
}

/// One context, and each kernel loaded once, for all trainings, scores and gradients.
#[test]
fn a_study_opens_its_device_once() {
    let calls = &whole().calls;
    let called = |name: &str| calls.get(name).copied().unwrap_or(0);
    assert_eq!(called("cuDevicePrimaryCtxRetain"), 1, "{calls:?}");
    let kernels = called("cuModuleLoadData");
    assert!((10..60).contains(&kernels), "{kernels} modules");
    assert!(called("kernel") > 10 * kernels, "{calls:?}");
    // Steps after the second are one launch of a graph.
    assert!(called("cuGraphLaunch") > 0 && called("kernel") > called("cuLaunchKernel"), "{calls:?}");
    // Checkpoints of the next merge are copied beside the launches.
    assert!(called("copy-on-side-stream") > 0, "{calls:?}");
    // The host waits for results and, at times, for a slot of the ring of uploads.
    let (results, uploads) = (called("cuMemcpyDtoHAsync_v2"), called("cuMemcpyHtoDAsync_v2"));
    assert!(called("wait-for-event") < results + uploads / 8, "{calls:?}");
    // Two events for each page-locked block, of which one is cudarc's, and one for each fork and join.
    let events = 2 * called("cuMemHostAlloc") + called("cuStreamWaitEvent");
    assert_eq!(called("cuEventCreate"), events, "{calls:?}");
    // Page-locked memory is allocated once too: a ring for each of two streams, and blocks for results.
    assert!(called("cuMemHostAlloc") < 2 * 16 + 8, "{calls:?}");
}
