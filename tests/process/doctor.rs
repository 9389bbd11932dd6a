//! `stockpot doctor` on machines that lack something: it reports what is missing and how to get it,
//! and never panics. Tests that need NVRTC look for it and report when there is none.

use crate::binary::{Outcome, command};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use stockpot::engine::device::nvrtc::Nvrtc;
use tempfile::TempDir;

/// Runs `doctor` with only these `variables` of those that determine where libraries are searched.
fn doctor(directory: &Path, args: &[&str], variables: &[(&str, &Path)]) -> Outcome {
    let mut command = command(directory, &[&["doctor", "--threads", "1"], args].concat());
    for name in ["STOCKPOT_NVRTC", "CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    command.env("PATH", directory).envs(variables.iter().copied());
    let outcome = Outcome::of(&mut command);
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    outcome
}

/// The missing item whose name contains `part`, and its fix.
fn missing(findings: &Value, part: &str) -> Option<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a string").to_string();
    let list = findings["cuda"]["missing"].as_array().expect("a list");
    list.iter().map(|m| (text(&m["what"]), text(&m["fix"]))).find(|(what, _)| what.contains(part))
}

/// This machine's NVRTC, if it has one.
fn nvrtc() -> Option<PathBuf> {
    let found = Nvrtc::find(None);
    if let Err(missing) = &found {
        // Bypasses libtest, which swallows the output of passing tests.
        let _ = writeln!(std::io::stderr(), "\n*** SKIPPED, no NVRTC: {}\n", missing.what());
    }
    found.ok().map(|nvrtc| nvrtc.path().to_path_buf())
}

#[test]
fn missing_items_come_with_a_fix() {
    let dir = TempDir::new().expect("a directory");
    let findings = doctor(dir.path(), &["--json"], &[]).json();
    let cuda = &findings["cuda"];
    let count = cuda["missing"].as_array().expect("a list").len();
    assert_eq!(cuda["ready"], count == 0, "{cuda}");
    if cuda["driver"].is_null() {
        let (_, fix) = missing(&findings, "driver").expect("no driver, and nothing said about it");
        assert!(fix.contains("--device cpu"), "{fix}");
    }
    if cuda["nvrtc"].is_null() {
        let (_, fix) = missing(&findings, "NVRTC").expect("no NVRTC, and nothing said about it");
        assert!(fix.contains("pip install nvidia-cuda-nvrtc"), "{fix}");
    }
    let text = doctor(dir.path(), &[], &[]).done().stdout;
    assert_eq!(text.matches("missing: ").count(), count, "{text}");
    assert_eq!(text.matches("fix: ").count(), count, "{text}");
}

#[test]
fn a_wrong_stockpot_nvrtc_is_named_and_no_other_is_used() {
    let dir = TempDir::new().expect("a directory");
    let text = dir.path().join("text.so");
    std::fs::write(&text, "no library").expect("a file");
    let other = Path::new("libc.so.6");
    for path in [&dir.path().join("absent.so"), &text, dir.path(), other] {
        let findings = doctor(dir.path(), &["--json"], &[("STOCKPOT_NVRTC", path)]).json();
        assert!(findings["cuda"]["nvrtc"].is_null(), "{findings}");
        let (what, fix) = missing(&findings, "STOCKPOT_NVRTC").expect("it is named");
        assert!(what.contains(&path.display().to_string()), "{what}");
        assert!(fix.contains("unset"), "{fix}");
    }
}

#[test]
fn nvrtc_is_found_where_pip_and_the_toolkit_put_it() {
    let Some(library) = nvrtc() else { return };
    let name = library.file_name().expect("a file's name");
    let dir = TempDir::new().expect("a directory");
    let places = [
        ("VIRTUAL_ENV", "lib/python3.11/site-packages/nvidia/cu13/lib"),
        ("VIRTUAL_ENV", "lib/python3.12/site-packages/nvidia/cuda_nvrtc/lib"),
        ("CUDA_HOME", "lib64"),
        ("CUDA_PATH", "lib"),
        ("STOCKPOT_NVRTC", ""),
    ];
    for (i, (variable, below)) in places.iter().enumerate() {
        let root = dir.path().join(i.to_string());
        let lib = root.join(below);
        std::fs::create_dir_all(&lib).expect("directories");
        // Its builtins library must be in the same directory.
        for file in std::fs::read_dir(library.parent().expect("a directory")).expect("a directory that can be listed") {
            let file = file.expect("an entry").path();
            let linked = file.file_name().expect("a name").to_string_lossy().into_owned();
            if linked.starts_with("libnvrtc") {
                std::os::unix::fs::symlink(&file, lib.join(linked)).expect("a link");
            }
        }
        let findings = doctor(dir.path(), &["--json"], &[(*variable, &root)]).json();
        let path = findings["cuda"]["nvrtc"]["path"].as_str().unwrap_or_else(|| panic!("{variable}: {findings}"));
        assert_eq!(Path::new(path).canonicalize().ok(), lib.join(name).canonicalize().ok(), "{variable}");
    }
}

#[test]
fn the_cache_is_where_the_environment_says() {
    let dir = TempDir::new().expect("a directory");
    let cache = |variables: &[(&str, &Path)]| {
        doctor(dir.path(), &["--json"], variables).json()["cuda"]["cache"].as_str().map(PathBuf::from)
    };
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    assert_eq!(cache(&[("STOCKPOT_CACHE", &a), ("XDG_CACHE_HOME", &b)]), Some(a));
    assert_eq!(cache(&[("STOCKPOT_CACHE", Path::new("")), ("XDG_CACHE_HOME", &b)]), Some(b.join("stockpot")));
}
