//! What `doctor` and `--device` say of drivers, compilers and GPUs that can and cannot be used.

use super::software_gpu::{folder, with_gpu};
use crate::binary::{Outcome, command};
use crate::study::write_small_study;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn here() -> &'static Path {
    Path::new(".")
}

fn doctor(gpu: &str, nvrtc: &str) -> Value {
    let mut doctor = command(here(), &["doctor", "--json"]);
    Outcome::of(with_gpu(&mut doctor, gpu).env("SOFTWARE_NVRTC", nvrtc)).json()["cuda"].take()
}

#[test]
fn a_usable_gpu_is_ready() {
    let cuda = doctor("memory=8000000000", "");
    assert_eq!(cuda["ready"], true, "{cuda}");
    assert_eq!(cuda["driver"], "13.2");
    assert_eq!(cuda["nvrtc"]["version"], "13.2");
    assert_eq!(cuda["nvrtc"]["path"], folder().join("libnvrtc.so").display().to_string());
    let gpu = &cuda["devices"][0];
    assert_eq!(gpu["device"], "cuda:0");
    assert_eq!((&gpu["name"], &gpu["compute_capability"]), (&"Software GPU 0".into(), &"9.0".into()));
    assert_eq!(gpu["memory_bytes"], 8_000_000_000u64);
}

#[test]
fn every_gpu_is_listed() {
    let cuda = doctor("devices=2", "");
    let names: Vec<&Value> = cuda["devices"].as_array().expect("devices").iter().map(|d| &d["device"]).collect();
    assert_eq!(names, ["cuda:0", "cuda:1"]);
}

#[test]
fn what_is_missing_is_named_with_its_remedy() {
    let cases = [
        ("driver=11080", "", "supports CUDA 11.8, but 12.0 or newer is needed", "525 or newer"),
        ("devices=0", "", "lists no GPU", "CUDA_VISIBLE_DEVICES"),
        ("init=999", "", "fails to initialize", "nvidia-smi"),
        ("init=100", "", "lists no GPU", "CUDA_VISIBLE_DEVICES"),
        ("fail=cuDeviceGetName@1:999", "", "fails to initialize", "nvidia-smi"),
        ("capability=75", "", "has compute capability 7.5, but 8.0 (Ampere) or newer is needed", "another device"),
        ("", "fails=1", "fails to compile", "libnvrtc-builtins.so"),
        ("capability=120", "archs=80+86+90", "NVRTC 13.2 does not support Software GPU 0", "--upgrade"),
    ];
    for (gpu, nvrtc, what, fix) in cases {
        let cuda = doctor(gpu, nvrtc);
        assert_eq!(cuda["ready"], false, "{gpu} {nvrtc}");
        let missing = cuda["missing"].as_array().expect("a list");
        let named = missing.iter().any(|m| {
            let text = |key: &str| m[key].as_str().unwrap_or_default().to_string();
            text("what").contains(what) && text("fix").contains(fix)
        });
        assert!(named, "{gpu} {nvrtc}: {missing:?}");
    }
}

#[test]
fn a_missing_compiler_is_named() {
    let mut doctor = command(here(), &["doctor", "--json"]);
    let cuda =
        Outcome::of(with_gpu(&mut doctor, "").env("STOCKPOT_NVRTC", "/nowhere/libnvrtc.so")).json()["cuda"].take();
    assert_eq!(cuda["ready"], false);
    assert!(cuda["missing"][0]["what"].as_str().expect("text").contains("/nowhere/libnvrtc.so"), "{cuda}");
}

/// Runs the small study up to its seed.
fn seed(device: &str, gpu: &str) -> (Outcome, String) {
    let dir = tempfile::tempdir().expect("a directory");
    write_small_study(dir.path());
    let mut run = command(dir.path(), &["run", "study.toml", "--out", "out", "--until", "seed", "--device", device]);
    let counts = dir.path().join("counts");
    let outcome = Outcome::of(with_gpu(&mut run, gpu).env("SOFTWARE_GPU_COUNTS", &counts));
    (outcome, fs::read_to_string(counts).unwrap_or_default())
}

#[test]
fn the_chosen_gpu_computes() {
    for (device, gpu) in [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("auto", 0)] {
        let (outcome, counts) = seed(device, "devices=2");
        let stderr = outcome.done().stderr;
        assert_eq!(stderr.contains("device: cuda sm_90a"), device == "auto", "{stderr}");
        let contexts: Vec<&str> = counts.lines().filter(|line| line.starts_with("context-")).collect();
        assert_eq!(contexts, [format!("context-{gpu} 1")], "{device}");
    }
}

#[test]
fn a_gpu_that_is_not_there_is_refused() {
    let (outcome, _) = seed("cuda:2", "devices=2");
    outcome.fails(2, &["there is no device cuda:2; there are 2", "stockpot doctor"]);
}

#[test]
fn without_a_usable_gpu_auto_takes_the_cpu_and_says_why() {
    let (outcome, _) = seed("auto", "driver=11080");
    let stderr = outcome.done().stderr;
    assert!(stderr.contains("device: the CPU; the NVIDIA driver supports CUDA 11.8"), "{stderr}");
    let (outcome, _) = seed("cuda", "driver=11080");
    outcome.fails(2, &["supports CUDA 11.8, but 12.0 or newer is needed"]);
}

/// A CUBIN of an NVRTC that is newer than the driver: chosen by STOCKPOT_NVRTC, refused by the driver.
#[test]
fn kernels_that_the_driver_cannot_load_are_named_with_both_versions() {
    let (outcome, _) = seed("cuda", "driver=12040");
    outcome.fails(1, &["cannot load", "a CUBIN of NVRTC 13.2", "update the NVIDIA driver"]);
}
