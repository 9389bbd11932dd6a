//! Writes a model as a Hugging Face directory that transformers, vLLM and mergekit load:
//! `config.json`, `model.safetensors`, `tokenizer.json` and `tokenizer_config.json`. Weights are
//! converted and written block by block.
//!
//! No `generation_config.json`: transformers derives it from `config.json`.

use super::config::{config_json, with_dtype};
use super::tensors;
use crate::engine::model::{Config, Table};
use crate::engine::ops::dtype_convert::{StorageDType, first_not_finite, narrow};
use crate::error::{Error, Result};
use crate::files;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Elements that one thread converts at a time.
const PIECE: usize = 1 << 16;
/// Elements that all threads convert between two writes.
const BLOCK: usize = 1 << 22;

/// Files besides the weights and `config.json` that a loader needs, if the directory has them.
const COMPANIONS: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
];

/// Fills `directory` with the model of `config` and `weights` (P, in the layout of its [`Table`]),
/// stored as `dtype`. With `tokenizer_json`, the tokenizer is written too: a copy of that file, and
/// a `tokenizer_config.json`, copied from beside it if there is one. Refused: a weight that is not
/// finite or does not fit `dtype`, by its tensor; a tokenizer with more tokens than the model has
/// rows, or without the model's end-of-text token.
pub fn write_model(
    directory: &Path,
    config: &Config,
    weights: &[f32],
    dtype: StorageDType,
    tokenizer_json: Option<&Path>,
) -> Result<()> {
    let table = Table::new(config);
    assert_eq!(weights.len(), table.len, "one value for each weight");
    write_json(&directory.join("config.json"), &config_json(config, dtype))?;
    if let Some(tokenizer) = tokenizer_json {
        write_tokenizer(directory, config, tokenizer)?;
    }
    let file = WeightsFile::create(directory, &table, dtype)?;
    let mut bytes = vec![0u8; BLOCK.min(weights.len()) * dtype.bytes()];
    for (block, values) in weights.chunks(BLOCK).enumerate() {
        let bytes = &mut bytes[..values.len() * dtype.bytes()];
        bytes.par_chunks_mut(PIECE * dtype.bytes()).zip(values.par_chunks(PIECE)).enumerate().try_for_each(
            |(piece, (out, values))| {
                let start = block * BLOCK + piece * PIECE;
                // before the conversion, which does not accept NaN
                if let Some(i) = first_not_finite(StorageDType::F32, bytemuck::cast_slice(values)) {
                    return Err(file.not_stored(&table, start + i, f64::from(values[i])));
                }
                narrow(values, dtype, out);
                match first_not_finite(dtype, out) {
                    Some(i) => Err(file.not_stored(&table, start + i, f64::from(values[i]))),
                    None => Ok(()),
                }
            },
        )?;
        file.write(block * BLOCK, bytes)?;
    }
    Ok(())
}

/// A `model.safetensors` being filled, in any order, by any thread.
pub struct WeightsFile {
    path: PathBuf,
    file: File,
    data_start: u64,
    dtype: StorageDType,
}

impl WeightsFile {
    /// Creates the file with its header and its full length.
    pub fn create(directory: &Path, table: &Table, dtype: StorageDType) -> Result<WeightsFile> {
        let path = directory.join("model.safetensors");
        let header = tensors::header(table.parameters.iter().map(|p| (p.name.clone(), &p.shape[..])), dtype);
        let data_start = header.len() as u64;
        let create = || -> std::io::Result<File> {
            let mut file = File::create(&path)?;
            file.write_all(&header)?;
            file.set_len(data_start + (table.len * dtype.bytes()) as u64)?;
            Ok(file)
        };
        let file = create().map_err(|e| Error::io("write", &path, &e))?;
        Ok(WeightsFile { path, file, data_start, dtype })
    }

    /// The type that every element is stored as.
    pub fn dtype(&self) -> StorageDType {
        self.dtype
    }

    /// Writes the bytes of the arena's elements from `first` on.
    pub fn write(&self, first: usize, bytes: &[u8]) -> Result<()> {
        let at = self.data_start + (first * self.dtype.bytes()) as u64;
        self.file.write_all_at(bytes, at).map_err(|e| Error::io("write", &self.path, &e))
    }

    /// The error for element `i`, whose `value` this file's type cannot hold.
    pub(crate) fn not_stored(&self, table: &Table, i: usize, value: f64) -> Error {
        let parameter = &table.parameters[table.parameters.partition_point(|p| p.range().end <= i)];
        let error = Error::numeric(format!("a weight cannot be stored as {}", self.dtype))
            .tensor(&parameter.name)
            .expected(format!("a finite number within the range of {}", self.dtype))
            .got(format!("{value} at element {}", i - parameter.offset));
        if value.is_finite() { error.fix("store it as bf16 or f32") } else { error }
    }
}

/// Copies the files that a loader needs besides the weights from the checkpoint `from` to `to`, and
/// `config.json` with its stored type set to `dtype` and all other fields unchanged.
pub fn copy_companions(from: &Path, to: &Path, dtype: StorageDType) -> Result<()> {
    write_json(&to.join("config.json"), &with_dtype(&from.join("config.json"), dtype)?)?;
    COMPANIONS
        .iter()
        .filter(|name| from.join(name).exists())
        .try_for_each(|name| copy(&from.join(name), &to.join(name)))
}

fn write_tokenizer(directory: &Path, config: &Config, tokenizer: &Path) -> Result<()> {
    let text = files::read_to_string(tokenizer)?;
    let json: Value = serde_json::from_str(&text)
        .map_err(|e| Error::input(format!("this is not a tokenizer.json: {e}")).at(tokenizer))?;
    let tokens = tokens_of(&json);
    if let Some((token, id)) = tokens.iter().find(|(_, id)| *id >= config.vocabulary as u64) {
        return Err(Error::input("the model has no row for a token of the tokenizer")
            .at(tokenizer)
            .expected(format!("tokens below {}", config.vocabulary))
            .got(format!("token {id}, {token:?}"))
            .fix("give the model a vocabulary of at least the tokenizer's size"));
    }
    let Some((eos, _)) = tokens.iter().find(|(_, id)| *id == u64::from(config.eos)) else {
        return Err(Error::input("the tokenizer lacks the model's end-of-text token")
            .at(tokenizer)
            .expected(format!("a token {}", config.eos))
            .got(format!("{} tokens", tokens.len())));
    };
    copy(tokenizer, &directory.join("tokenizer.json"))?;
    let beside = tokenizer.with_file_name("tokenizer_config.json");
    let to = directory.join("tokenizer_config.json");
    if beside.exists() {
        return copy(&beside, &to);
    }
    write_json(
        &to,
        &json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": eos,
            "model_max_length": config.context,
            "clean_up_tokenization_spaces": false,
        }),
    )
}

/// Every token and its id: added tokens first, then the vocabulary, which is a map (BPE, WordPiece,
/// WordLevel) or a list of (token, score) (Unigram).
fn tokens_of(json: &Value) -> Vec<(&str, u64)> {
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let added = added.filter_map(|t| Some((t["content"].as_str()?, t["id"].as_u64()?)));
    let map = json["model"]["vocab"].as_object().into_iter().flatten();
    let map = map.filter_map(|(token, id)| Some((token.as_str(), id.as_u64()?)));
    let list = json["model"]["vocab"].as_array().into_iter().flatten().enumerate();
    let list = list.filter_map(|(id, pair)| Some((pair[0].as_str()?, id as u64)));
    added.chain(map).chain(list).collect()
}

pub(crate) fn write_json(path: &Path, json: &Value) -> Result<()> {
    std::fs::write(path, format!("{json:#}\n")).map_err(|e| Error::io("write", path, &e))
}

/// Copies only the contents: the copy must be writable whatever the original's permissions.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(from).map_err(|e| Error::io("read", from, &e))?;
    std::fs::write(to, bytes).map_err(|e| Error::io("write", to, &e))
}
