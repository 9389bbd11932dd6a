//! Failures of the driver at any call: each ends with one clear error, and the study resumes with
//! the same bytes.

use super::software_gpu::VIOLATION;
use super::study::{run_command, whole, write_tiny_study};
use crate::binary::Outcome;
use crate::trees::{assert_same_tree, tree};
use std::fs;

/// A CUresult.
struct Failure {
    code: u32,
    /// As the driver names it; the error must say it.
    name: &'static str,
}

const OUT_OF_MEMORY: Failure = Failure { code: 2, name: "CUDA_ERROR_OUT_OF_MEMORY" };
const UNAVAILABLE: Failure = Failure { code: 46, name: "CUDA_ERROR_DEVICE_UNAVAILABLE" };
const ECC: Failure = Failure { code: 214, name: "CUDA_ERROR_ECC_UNCORRECTABLE" };
const ILLEGAL_ADDRESS: Failure = Failure { code: 700, name: "CUDA_ERROR_ILLEGAL_ADDRESS" };
const LAUNCH_FAILED: Failure = Failure { code: 719, name: "CUDA_ERROR_LAUNCH_FAILED" };
const INVALID_VALUE: Failure = Failure { code: 1, name: "CUDA_ERROR_INVALID_VALUE" };
const LOST: Failure = Failure { code: 999, name: "CUDA_ERROR_UNKNOWN" };

/// The functions whose failure a program must report (not those that free), how each fails, and what
/// else the error must say.
const FAILURES: [(&str, &Failure, &str); 21] = [
    ("context-0", &UNAVAILABLE, "nvidia-smi"),
    ("cuStreamCreate", &OUT_OF_MEMORY, "create a stream"),
    ("cuMemHostAlloc", &OUT_OF_MEMORY, "page-locked host memory"),
    ("cuEventCreate", &OUT_OF_MEMORY, ""),
    ("cuModuleLoadData", &OUT_OF_MEMORY, "load "),
    ("cuModuleGetFunction", &LOST, "find "),
    ("cuFuncGetAttribute", &LOST, "find "),
    ("cuMemAllocAsync", &OUT_OF_MEMORY, "are free"),
    ("cuMemsetD8Async", &LAUNCH_FAILED, "allocate"),
    ("cuMemcpyHtoDAsync_v2", &ECC, "nvidia-smi"),
    ("cuMemcpyDtoHAsync_v2", &LOST, "copy from the device"),
    ("cuLaunchKernel", &INVALID_VALUE, "launch "),
    ("kernel", &LAUNCH_FAILED, "compute-sanitizer"),
    ("kernel", &ILLEGAL_ADDRESS, "compute-sanitizer"),
    ("cuStreamBeginCapture_v2", &INVALID_VALUE, "capture launches"),
    ("cuStreamEndCapture", &INVALID_VALUE, "graph"),
    ("cuGraphInstantiateWithFlags", &OUT_OF_MEMORY, "graph"),
    ("cuGraphLaunch", &LAUNCH_FAILED, "graph"),
    ("cuStreamWaitEvent", &LOST, "nvidia-smi"),
    ("cuStreamSynchronize", &LOST, "nvidia-smi"),
    ("cuEventSynchronize", &ECC, "nvidia-smi"),
];

/// Each failure comes at some call; the study continues in the same directory until all have come, and
/// then to its end.
#[test]
fn every_failure_of_the_driver_is_reported_and_the_study_resumes() {
    let dir = tempfile::tempdir().expect("a directory");
    write_tiny_study(dir.path());
    for (i, (function, failure, says)) in FAILURES.iter().enumerate() {
        let calls = whole().calls.get(*function).copied().unwrap_or(0);
        assert!(calls > 0, "{function} is not called");
        let call = 1 + calls * (i as u64 % 3) / 12;
        let gpu = format!("order=late,fail={function}@{call}:{}", failure.code);
        let mut outcome = Outcome::of(&mut run_command(dir.path(), &gpu, "scores"));
        if outcome.code == Some(0) {
            // Too little was left to do for so many calls: from the beginning.
            fs::remove_dir_all(dir.path().join("out")).expect("the study's directory");
            outcome = Outcome::of(&mut run_command(dir.path(), &gpu, "scores"));
        }
        let of = format!("{function}, call {call} of {calls}: {}\n{}", failure.name, outcome.stderr);
        assert_ne!(outcome.code, Some(0), "{of}");
        assert_ne!(outcome.code, Some(VIOLATION), "{of}");
        outcome.fails(outcome.code.expect("an exit code"), &[failure.name, says]);
    }
    Outcome::of(&mut run_command(dir.path(), "order=late", "report")).done();
    assert_same_tree(&whole().files, &tree(&dir.path().join("out")));
}
