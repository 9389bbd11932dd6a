//! The tests of cuda.rs on the software GPU: each order of the streams in a process of its own,
//! because a process loads one driver.

use super::software_gpu::with_gpu;
use crate::binary::Outcome;
use std::process::Command;

/// Runs the tests of cuda.rs except `skipped`, and except that of all cases: the host executor runs
/// those in ops.rs.
fn cuda_tests(gpu: &str, skipped: &[&str]) {
    let mut child = Command::new(std::env::current_exe().expect("this program has a path"));
    child.args(["cuda::", "--skip", "every_case", "--test-threads", "1"]).env("STOCKPOT_REQUIRE_CUDA", "1");
    child.args(skipped.iter().flat_map(|name| ["--skip", name]));
    let done = Outcome::of(with_gpu(&mut child, gpu)).done();
    assert!(done.stdout.contains("test result: ok."), "{}", done.stdout);
    assert!(!done.stdout.contains(" 0 passed") && !done.stderr.contains("SKIPPED"), "{}{}", done.stdout, done.stderr);
}

#[test]
fn the_runtime_is_right_when_work_is_late() {
    cuda_tests("order=late", &[]);
}

#[test]
fn the_runtime_is_right_when_copies_are_early_and_launches_late() {
    // Products and trainings use one stream: another order of streams changes nothing.
    cuda_tests("order=reverse", &["every_tile", "training"]);
}

#[test]
fn the_runtime_is_right_in_random_order() {
    cuda_tests("order=random,seed=2", &["every_tile", "training"]);
}
