//! Tests of src/engine/data: results for known inputs, errors for bad ones, and independence from
//! the number of threads.

mod batch;
mod decontaminate;
mod documents;
mod parquet;
mod shard;
mod split;
mod table;
mod tokenizer;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stockpot::engine::data::*;
use stockpot::error::{Error, Result};
use tempfile::TempDir;

pub fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write(directory: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn read(files: &[PathBuf]) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for_each_document(files, |d| {
        documents.push(d);
        Ok(())
    })?;
    Ok(documents)
}

/// The error of `result`, which must name each of `parts`.
fn refused<T>(result: Result<T>, parts: &[&str]) -> Error {
    let error = result.err().expect("an error");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
    error
}

fn document(id: &str, text: &str) -> Document {
    Document { id: id.into(), text: text.into(), source: None, metadata: Default::default() }
}

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

fn quickstart(domain: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart/data").join(format!("{domain}.jsonl.zst"))
}

/// A byte-level tokenizer of 280 tokens.
fn small_tokenizer() -> Tokenizer {
    let text = "the cat sat on the mat and the dog sat on the log; then the rat ran at the cat. ".repeat(4);
    Tokenizer::train([text].into_iter(), 280).unwrap()
}

/// A `tokenizer.json` that looks words up, and that truncates texts after two tokens.
fn word_level(vocabulary: &[(&str, u32)]) -> serde_json::Value {
    let vocabulary: BTreeMap<_, _> = vocabulary.iter().copied().collect();
    serde_json::json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": null, "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    })
}

fn load(directory: &Path, json: serde_json::Value) -> Result<Tokenizer> {
    Tokenizer::load(&write(directory, "tokenizer.json", json.to_string()), None)
}

/// A shard of the given documents, each a list of tokens; document i is recorded with 10 i bytes of
/// text.
pub fn shard(directory: &Path, documents: &[Vec<u32>]) -> Shard {
    Shard::write(directory, &small_tokenizer(), |writer| {
        documents.iter().enumerate().try_for_each(|(i, tokens)| writer.add_tokens(tokens, 10 * i as u64))
    })
    .unwrap()
}

/// One document of the tokens 1, 2, ... and its EOS, so that a window's tokens identify its
/// position.
fn ramp(directory: &Path, tokens: u32) -> Arc<Shard> {
    Arc::new(shard(directory, &[(1..tokens).collect()]))
}
