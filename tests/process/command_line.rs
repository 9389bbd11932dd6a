//! The command line as a whole: help, unknown arguments and closed pipes.

use crate::binary::{Outcome, stockpot};
use crate::runs::fresh;
use crate::trained;
use crate::trees::{assert_same_tree, tree};
use std::fs;
use std::process::Stdio;

#[test]
fn an_unknown_device_is_refused() {
    let dir = fresh();
    // No machine has that many GPUs.
    stockpot(dir.path(), &["run", "study.toml", "--device", "cuda:999"]).fails(2, &["fix: "]);
    for device in ["gpu", "cuda:", "cuda:x", ""] {
        let run = stockpot(dir.path(), &["run", "study.toml", "--device", device]);
        run.fails(2, &["is unknown", "auto, cpu, cuda or cuda:N"]);
    }
    let auto = stockpot(dir.path(), &["run", "study.toml", "--until", "tokens"]).done();
    assert!(auto.stderr.contains("device: the CPU"), "{}", auto.stderr);
    assert!(dir.path().join("runs/small/shards").exists());
}

#[test]
fn a_wrong_command_line_gets_help() {
    let dir = fresh();
    let nothing = stockpot(dir.path(), &[]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(2), ""));
    for command in
        ["run", "plan", "status", "report", "search", "export", "tokenize", "train", "merge", "eval", "bench", "doctor"]
    {
        assert!(nothing.stderr.contains(&format!("\n  {command} ")), "no `{command}` in\n{}", nothing.stderr);
    }
    assert!(stockpot(dir.path(), &["--help"]).done().stdout.contains("Usage: stockpot"));
    assert!(stockpot(dir.path(), &["--version"]).done().stdout.starts_with("stockpot "));
    stockpot(dir.path(), &["frobnicate"]).fails(2, &["unrecognized subcommand 'frobnicate'", "--help"]);
    stockpot(dir.path(), &["run"]).fails(2, &["STUDY.toml"]);
    stockpot(dir.path(), &["run", "study.toml", "--until", "modulse"]).fails(2, &["modules"]);
    stockpot(dir.path(), &["doctor", "--threads", "0"]).fails(2, &["--threads"]);
    stockpot(dir.path(), &["eval", "--data", "x=letters.jsonl"]).fails(2, &["CKPT"]);
}

#[test]
fn a_bench_at_another_devices_preset_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let args = ["bench", "gemm", "--device", "cpu", "--preset", "1b"];
    stockpot(dir.path(), &args).fails(2, &["1b is not timed on cpu", "tiny, 30m"]);
}

#[test]
fn doctor_and_tokenize_report() {
    let dir = trained();
    let doctor = stockpot(dir.path(), &["doctor", "--json", "--threads", "2"]).json();
    assert_eq!(doctor["threads"], 2);
    assert!(doctor["matmul_gflops"].as_f64() > Some(0.0), "{doctor}");
    assert!(stockpot(dir.path(), &["doctor"]).done().stdout.contains("cuda: "));
    let tokenize = |files: &[&str], out: &str| {
        stockpot(
            dir.path(),
            &[&["tokenize"], files, &["--tokenizer", "tokenizer.json", "--out", out, "--json"]].concat(),
        )
    };
    let info = tokenize(&["law.jsonl", "letters.jsonl"], "shard").json();
    assert_eq!((&info["documents"], &info["vocabulary"]), (&52.into(), &300.into()));
    let shard = stockpot::engine::data::Shard::open(&dir.path().join("shard")).expect("a shard");
    assert_eq!(info["tokens"], shard.tokens_len());
    // A failed tokenization keeps the existing shard.
    let before = tree(&dir.path().join("shard"));
    fs::write(dir.path().join("bad.jsonl"), "{\"text\": 1}\n").expect("a file");
    tokenize(&["law.jsonl", "bad.jsonl"], "shard").fails(1, &["bad.jsonl:1: `text` is not a string"]);
    assert_same_tree(&tree(&dir.path().join("shard")), &before);
    stockpot(dir.path(), &["tokenize", "law.jsonl", "--tokenizer", "study.toml", "--out", "x"])
        .fails(1, &["study.toml: this tokenizer cannot be read", "a tokenizer.json"]);
}

/// `| head` closes a pipe early. That must not cause a panic, or end a run whose messages no one
/// reads.
#[test]
fn a_closed_pipe_does_not_panic() {
    let dir = fresh();
    let bash = |script: &str| {
        let script = format!(
            "{} ; echo \"codes ${{PIPESTATUS[*]}}\"",
            script.replace("stockpot", env!("CARGO_BIN_EXE_stockpot"))
        );
        Outcome::of(
            std::process::Command::new("bash").arg("-c").arg(script).current_dir(dir.path()).stdin(Stdio::null()),
        )
    };
    for script in
        ["stockpot plan study.toml --json | head -0", "stockpot --help | head -0", "stockpot doctor | head -0"]
    {
        let said = bash(script);
        assert!(said.stdout.ends_with("codes 0 0\n"), "{script}: {}\n{}", said.stdout, said.stderr);
        assert!(said.stderr.is_empty(), "{script}: {}", said.stderr);
    }
    let said = bash("stockpot run study.toml --out out 2>&1 | head -0");
    assert!(said.stdout.ends_with("codes 0 0\n"), "{}", said.stdout);
    assert!(dir.path().join("out/report.html").exists(), "the run did not finish");
    let said = bash("stockpot run absent.toml 2>&1 | head -0");
    assert!(said.stdout.ends_with("codes 1 0\n"), "{}", said.stdout);
}
