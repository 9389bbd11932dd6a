//! Full disks, and outputs that cannot be written.

use crate::binary::{Outcome, command, stockpot};
use crate::runs::fresh;
use crate::trained;
use crate::trees::{assert_same_tree, tree};
use std::fs;
use std::process::Stdio;

/// The shell's limit on file sizes simulates a full disk on any machine. If the test may mount file
/// systems, it also fills a small one.
#[test]
fn a_full_disk_is_one_error_and_the_next_run_resumes() {
    let (dir, whole) = (fresh(), fresh());
    stockpot(whole.path(), &["run", "study.toml", "--device", "cpu", "--out", "out"]).done();
    let limited = |kib: u32, args: &str| {
        let script = format!("ulimit -f {kib}; exec '{}' {args}", env!("CARGO_BIN_EXE_stockpot"));
        Outcome::of(
            std::process::Command::new("bash").arg("-c").arg(script).current_dir(dir.path()).stdin(Stdio::null()),
        )
    };
    // In blocks of 1 KiB: first no tokenizer fits, then no shard, then no checkpoint.
    for (blocks, name) in [(2, "tokenizers"), (8, "shards"), (40, "models")] {
        limited(blocks, "run study.toml --device cpu --out out")
            .fails(1, &[&format!("out/{name}"), "File too large", "ulimit -f"]);
    }
    let made = tree(&dir.path().join("out"));
    assert!(made.keys().any(|name| name.starts_with("shards/") && name.ends_with("tokens.bin")), "shards are kept");
    stockpot(dir.path(), &["run", "study.toml", "--device", "cpu", "--out", "out"]).done();
    assert_same_tree(&tree(&dir.path().join("out")), &tree(&whole.path().join("out")));
    limited(8, "merge --out merged $(ls -d out/models/* | head -2)").fails(1, &["merged", "File too large"]);
    assert!(!dir.path().join("merged").exists());

    // A device that is always full.
    let full = fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let said =
        command(dir.path(), &["plan", "study.toml"]).stdout(full).stderr(Stdio::piped()).output().expect("the binary");
    let said = Outcome {
        code: said.status.code(),
        stdout: String::new(),
        stderr: String::from_utf8_lossy(&said.stderr).into_owned(),
    };
    said.fails(1, &["stdout: cannot write to: No space left on device"]);

    let small = dir.path().join("small");
    fs::create_dir(&small).expect("a directory");
    let mount =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=200k", "tmpfs"]).arg(&small).output();
    if !mount.is_ok_and(|m| m.status.success()) {
        eprintln!("skipped: this user may not mount a tmpfs; the limit on file sizes was tested");
        return;
    }
    let filled = stockpot(dir.path(), &["run", "study.toml", "--device", "cpu", "--out", "small/out"]);
    std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(&small).status().expect("mount");
    let read_only = stockpot(dir.path(), &["merge", "--out", "small/merged", "out/report.json"]);
    let read_only_run = stockpot(dir.path(), &["run", "study.toml", "--device", "cpu", "--out", "small/new"]);
    std::process::Command::new("umount").arg(&small).status().expect("umount");
    filled.fails(1, &["small/out/", "No space left on device", "free some space", "finished stages are kept"]);
    read_only.fails(1, &["out/report.json"]);
    read_only_run.fails(1, &["small/new", "Read-only file system", "choose another --out"]);
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let dir = trained();
    // Not even root can write below a file or in /proc.
    for out in ["law.jsonl/out", "/proc/stockpot"] {
        let failed = |args: &[&str]| stockpot(dir.path(), &[args, &["--out", out]].concat()).fails(1, &[out, "path"]);
        failed(&["run", "study.toml", "--device", "cpu"]);
        failed(&["train", "--config", "train.toml", "--device", "cpu"]);
        failed(&["merge", "model"]);
        failed(&["tokenize", "law.jsonl", "--tokenizer", "tokenizer.json"]);
    }
}
