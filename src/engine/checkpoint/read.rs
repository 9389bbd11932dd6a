//! Reader of a Hugging Face checkpoint directory: `config.json` and `model.safetensors`, or shards
//! with `model.safetensors.index.json`, as one arena in the layout of [`Table`].

use super::config::read_config;
use super::layout::{CHUNK, TensorLayout, Wanted};
use super::tensors::{Tensor, TensorFile};
use crate::engine::model::{Config, Table};
use crate::engine::ops::dtype_convert::{StorageDType, Values};
use crate::error::{Error, Result};
use crate::files;
use rayon::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// An open checkpoint. Names, shapes and types have been checked; values are read on demand.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    config: Config,
    table: Table,
    layout: TensorLayout,
}

impl Reader {
    /// Opens `directory`. Refused: an unsupported config (see [`read_config`]); files that are not
    /// complete safetensors files; tensors that are missing, unknown to the model, of the wrong
    /// shape, or not f32, bf16 or f16. A tied model may store `lm_head.weight` if it equals the
    /// embedding.
    pub fn open(directory: &Path) -> Result<Reader> {
        let config = read_config(&directory.join("config.json"))?;
        let table = Table::new(&config);
        let files = open_files(directory)?;
        let wanted = table.parameters.iter().map(|p| Wanted { name: p.name.clone(), shape: &p.shape });
        let mut head = None;
        let surplus = |file: &TensorFile, t: &Tensor| check_surplus(&config, file, t);
        if config.tied {
            head = find_tensor(&files, "lm_head.weight");
        }
        if let Some((file, head)) = head {
            check_tied(&files, &files[file], head)?;
        }
        let layout = TensorLayout::new(directory, files, wanted, surplus)?;
        Ok(Reader { directory: directory.to_path_buf(), config, table, layout })
    }

    /// The directory that was opened, as the caller gave it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
    /// Sizes and constants from `config.json`, checked.
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// Layout of the arena that reads fill, P = `table().len` elements.
    pub fn table(&self) -> &Table {
        &self.table
    }
    /// The type that all tensors are stored in; `None` if they differ.
    pub fn dtype(&self) -> Option<StorageDType> {
        self.layout.dtype()
    }
    /// Bytes of the tensors.
    pub fn bytes(&self) -> u64 {
        self.layout.bytes()
    }

    /// Reads all weights as f32, in the layout of the table, with the threads of the rayon pool.
    /// `out` has `table().len` elements. Fails if a file changed in the meantime.
    pub fn read_weights(&self, out: &mut [f32]) -> Result<()> {
        assert_eq!(out.len(), self.table.len, "one value for each weight");
        self.layout.read_all(0, out)
    }

    /// Reads elements `range` of the arena as f32. Call [`Reader::check_unchanged`] after the last
    /// chunk.
    pub fn chunk(&self, range: Range<usize>, out: &mut [f32]) -> Result<()> {
        self.layout.read_chunk(range, out)
    }

    /// Elements `range` of the arena as stored, in the mapped file; all must be in one tensor (see
    /// [`Reader::pieces`]). Call [`Reader::check_readable`] before using what was read, and
    /// [`Reader::check_unchanged`] after the last read.
    pub fn stored(&self, range: Range<usize>) -> Values<'_> {
        self.layout.stored(range)
    }

    /// `range`, split at tensor boundaries.
    pub fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        self.layout.pieces(range)
    }

    /// Fails if reading any byte of the files has failed so far; unreadable bytes read as zeros.
    pub fn check_readable(&self) -> Result<()> {
        self.layout.check_readable()
    }

    /// Refuses files that changed since they were opened (see [`TensorFile::check_unchanged`]).
    pub fn check_unchanged(&self) -> Result<()> {
        self.layout.check_unchanged()
    }

    /// The name and file of the tensor that holds element `i` of the arena.
    pub fn place(&self, i: usize) -> (&str, &Path) {
        self.layout.place(i)
    }

    /// Refuses NaN and infinities among elements `range`; the error names file and tensor.
    pub fn check_finite_in(&self, range: Range<usize>) -> Result<()> {
        let mut widened = Vec::new();
        for piece in self.pieces(range) {
            widened.resize(piece.len(), 0.0);
            self.stored(piece.clone()).widen(&mut widened);
            self.check_readable()?;
            if let Some(i) = widened.iter().position(|x| !x.is_finite()) {
                return Err(self.not_finite(piece.start + i, widened[i]));
            }
        }
        Ok(())
    }

    /// Refuses NaN and infinities; the error names the file and tensor of the first.
    pub fn check_finite(&self) -> Result<()> {
        let chunk = |i: usize| self.check_finite_in(i * CHUNK..self.table.len.min((i + 1) * CHUNK));
        let chunks = (0..self.table.len.div_ceil(CHUNK)).into_par_iter();
        chunks.map(chunk).find_first(Result::is_err).unwrap_or(Ok(()))
    }

    fn not_finite(&self, i: usize, x: f32) -> Error {
        let (name, file) = self.place(i);
        let inside = self.table.find(name).map_or(i, |p| i - p.offset);
        Error::numeric("the checkpoint holds a weight that is not finite")
            .at(file)
            .tensor(name)
            .got(format!("{x} at element {inside}"))
            .fix("its training diverged, or the file is damaged: use an earlier checkpoint")
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// `model.safetensors` if it exists, otherwise the shards of the index, sorted by name.
fn open_files(directory: &Path) -> Result<Vec<TensorFile>> {
    let single = directory.join(SINGLE);
    if single.exists() {
        return Ok(vec![TensorFile::open(&single)?]);
    }
    let index = directory.join(INDEX);
    if !index.exists() {
        return Err(Error::input("this directory holds no weights")
            .at(directory)
            .expected(format!("{SINGLE}, or {INDEX} and the shards it names"))
            .fix("convert the checkpoint to safetensors (transformers: save_pretrained)"));
    }
    let Index { weight_map } = serde_json::from_str(&files::read_to_string(&index)?).map_err(|e| {
        Error::input("this is not an index of shards")
            .at(&index)
            .expected("weight_map: name -> file")
            .got(e.to_string())
    })?;
    let mut names: Vec<&String> = weight_map.values().collect();
    names.sort_unstable();
    names.dedup();
    let mut shards = Vec::new();
    for name in names {
        // A shard must be beside its index: a path could lead anywhere.
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(Error::input("the index names a shard outside its directory")
                .at(&index)
                .expected("a plain file name")
                .got(name.as_str()));
        }
        let shard = TensorFile::open(&directory.join(name))?;
        if let Some(t) = shard.tensors().iter().find(|t| weight_map.get(&t.name) != Some(name)) {
            return Err(Error::input("the index does not list this tensor under this shard")
                .at(shard.path())
                .tensor(&t.name)
                .got(weight_map.get(&t.name).map_or("no entry", String::as_str)));
        }
        shards.push(shard);
    }
    Ok(shards)
}

fn find_tensor<'a>(files: &'a [TensorFile], name: &str) -> Option<(usize, &'a Tensor)> {
    files.iter().enumerate().find_map(|(i, f)| f.tensors().iter().find(|t| t.name == name).map(|t| (i, t)))
}

/// Accepts the tensors that a checkpoint may hold besides its parameters: the output table of a
/// tied model (compared in [`check_tied`]), and RoPE's frequencies, which earlier versions of
/// transformers stored and which follow from the config.
fn check_surplus(config: &Config, file: &TensorFile, t: &Tensor) -> Result<()> {
    if (config.tied && t.name == "lm_head.weight") || t.name.ends_with(".rotary_emb.inv_freq") {
        return Ok(());
    }
    Err(Error::input("the model has no such tensor")
        .at(file.path())
        .tensor(&t.name)
        .got(format!("{:?} {:?}", t.dtype, t.shape))
        .fix("check that config.json belongs to this file"))
}

/// The output table of a tied model must be the embedding, byte for byte.
fn check_tied(files: &[TensorFile], file: &TensorFile, head: &Tensor) -> Result<()> {
    let fault = |got: &str| {
        Err(Error::input("the output table differs from the embedding, though tie_word_embeddings is true")
            .at(file.path())
            .tensor(&head.name)
            .expected("the values of model.embed_tokens.weight")
            .got(got)
            .fix("set tie_word_embeddings in config.json to false"))
    };
    let Some((other, embedding)) = find_tensor(files, "model.embed_tokens.weight") else {
        return Ok(()); // the layout reports the missing tensor
    };
    if (head.dtype, &head.shape) != (embedding.dtype, &embedding.shape) {
        return fault("a different shape or type");
    }
    let other = &files[other];
    let same = file.bytes(head.start, head.bytes as usize) == other.bytes(embedding.start, embedding.bytes as usize);
    file.check_readable()?;
    other.check_readable()?;
    if same { Ok(()) } else { fault("different values") }
}
