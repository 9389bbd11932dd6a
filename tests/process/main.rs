//! The binary as a user runs it: messages, exit codes, kills and full disks.

mod command_line;
mod disk;
mod docs;
mod doctor;
mod eval;
mod export;
mod gpu_queue;
mod kills;
mod merge;
mod study;
mod train;

#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/checkpoints.rs"]
mod checkpoints;
#[path = "../support/runs.rs"]
mod runs;
#[path = "../support/studies.rs"]
mod studies;
#[path = "../support/texts.rs"]
mod texts;
#[path = "../support/trees.rs"]
mod trees;

use binary::stockpot;
use checkpoints::write_tokenizer;
use runs::fresh;
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use texts::MODEL;

/// A directory with text, a tokenizer and `model`, a small model trained for one step.
fn trained() -> TempDir {
    let dir = fresh();
    write_tokenizer(&dir.path().join("tokenizer.json"));
    train_model(dir.path(), "model", MODEL);
    dir
}

fn train_model(dir: &Path, out: &str, model: &str) {
    let text = format!(
        "files = [\"law.jsonl\"]\ntokenizer = \"tokenizer.json\"\n\n[model]\n{model}\n\
         [training]\nsteps = 1\nbatch = 2\nlearning_rate = 1e-3\n"
    );
    fs::write(dir.join("train.toml"), text).expect("settings");
    stockpot(dir, &["train", "--config", "train.toml", "--device", "cpu", "--out", out]).done();
}
