//! Small trainings by the binary, their tokenizer, and copies of checkpoints.

use crate::binary::{Outcome, stockpot};
use crate::texts::{MODEL, documents, write_jsonl};
use crate::trees::tree;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A directory with text, a tokenizer and `train.toml` of 120 steps of 4 windows; `extra` is added
/// to its [training].
pub fn prepared(extra: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    write_jsonl(&dir.path().join("law.jsonl"), &documents("law", 2, 40));
    write_jsonl(&dir.path().join("music.jsonl"), &documents("music", 3, 40));
    write_tokenizer(&dir.path().join("tokenizer.json"));
    write_settings(dir.path(), "train.toml", 120, extra);
    dir
}

pub fn write_settings(dir: &Path, name: &str, steps: u64, extra: &str) {
    let text = format!(
        "files = [\"law.jsonl\", \"music.jsonl\"]\ntokenizer = \"tokenizer.json\"\n\
         checkpoint_every = 7\nrandom_seed = 3\n\n\
         [model]\n{MODEL}\n[training]\nsteps = {steps}\nbatch = 4\nlearning_rate = 2e-3\nschedule = \"cosine\"\n{extra}"
    );
    fs::write(dir.join(name), text).expect("a settings file");
}

pub const TRAIN: [&str; 7] = ["train", "--config", "train.toml", "--device", "cpu", "--out", "model"];

/// Trains in `dir` to `out`, with the further arguments `more`.
pub fn train(dir: &Path, config: &str, out: &str, more: &[&str]) -> Outcome {
    let args = ["train", "--config", config, "--device", "cpu", "--out", out];
    stockpot(dir, &[&args, more].concat())
}

pub fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir)
        .expect("a directory")
        .map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect()
}

/// Copies the files of a directory without subdirectories.
pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a directory");
    for (name, bytes) in tree(from) {
        fs::write(to.join(name), bytes).expect("a file");
    }
}

/// A tokenizer of 300 tokens, trained on general text.
pub fn write_tokenizer(path: &Path) {
    let texts = documents("general", 1, 60).into_iter().map(|(_, text)| text);
    stockpot::engine::data::Tokenizer::train(texts, 300).and_then(|t| t.save(path)).expect("a tokenizer");
}
