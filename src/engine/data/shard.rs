//! A shard: the tokens of many documents in one memory-mapped file. A directory of
//!
//! | file | content |
//! | --- | --- |
//! | `tokens.bin` | every document's tokens, each document followed by the EOS; headerless little-endian u16, or u32 when V > 65,536 (the layout of OLMo's data) |
//! | `documents.bin` | u64 little-endian, documents + 1 values: the start of each document (in tokens), then the end |
//! | `bytes.bin` | u64 little-endian, one value per document: bytes of its text, for bits per byte |
//! | `shard.json` | counts, type, vocabulary, EOS, and the hashes of the tokenizer and of the three files' content |
//!
//! The directory appears whole or not at all. Opening checks everything that reading relies on. The
//! caller decides which documents go into a shard, `batch` how they are cut into windows.

use crate::engine::data::{Document, Tokenizer};
use crate::error::{Error, Result};
use crate::files;
use memmap2::Mmap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

const TOKENS: &str = "tokens.bin";
const DOCUMENTS: &str = "documents.bin";
const BYTES: &str = "bytes.bin";
const INFO: &str = "shard.json";

/// The storage type of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenType {
    /// 2 bytes, little-endian.
    U16,
    /// 4 bytes, little-endian.
    U32,
}

impl TokenType {
    /// u16 if it holds every id below `vocabulary`, else u32.
    pub fn of(vocabulary: usize) -> TokenType {
        if vocabulary <= 1 << 16 { TokenType::U16 } else { TokenType::U32 }
    }
    /// Bytes of one token: 2 or 4.
    pub fn bytes(self) -> usize {
        match self {
            TokenType::U16 => 2,
            TokenType::U32 => 4,
        }
    }
}

/// The content of `shard.json`. Unknown fields are refused: this version would ignore their
/// meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardInfo {
    /// At least 1.
    pub documents: u64,
    /// Tokens, including one EOS per document.
    pub tokens: u64,
    /// Bytes of text (UTF-8).
    pub bytes: u64,
    /// [`TokenType::of`] the vocabulary.
    pub dtype: TokenType,
    /// Every token is below this.
    pub vocabulary: usize,
    /// The token after every document; below `vocabulary`, and nowhere within a document.
    pub eos: u32,
    /// [`Tokenizer::hash`].
    pub tokenizer: String,
    /// BLAKE3 (hexadecimal) of the BLAKE3 hashes of `tokens.bin`, `documents.bin` and `bytes.bin`.
    pub content: String,
}

/// Bytes of text that are collected before they are encoded in parallel.
const BATCH_BYTES: usize = 4 << 20;

/// Collects the documents of a shard that is being written; see [`Shard::write`].
pub struct ShardWriter<'a> {
    tokenizer: &'a Tokenizer,
    dtype: TokenType,
    waiting: Vec<String>,
    waiting_bytes: usize,
    tokens: HashedFile,
    documents: HashedFile,
    bytes: HashedFile,
    count: u64,
    end: u64,
    text_bytes: u64,
}

impl<'a> ShardWriter<'a> {
    fn create(directory: &Path, tokenizer: &'a Tokenizer) -> Result<ShardWriter<'a>> {
        Ok(ShardWriter {
            tokenizer,
            dtype: TokenType::of(tokenizer.vocabulary()),
            waiting: Vec::new(),
            waiting_bytes: 0,
            tokens: HashedFile::create(directory.join(TOKENS))?,
            documents: HashedFile::create(directory.join(DOCUMENTS))?,
            bytes: HashedFile::create(directory.join(BYTES))?,
            count: 0,
            end: 0,
            text_bytes: 0,
        })
    }

    /// Adds a document. Documents are buffered and encoded in batches.
    pub fn add(&mut self, document: Document) -> Result<()> {
        self.waiting_bytes += document.text.len();
        self.waiting.push(document.text);
        if self.waiting_bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Adds a document that is already encoded, without EOS; `bytes` is the length of its text.
    pub fn add_tokens(&mut self, tokens: &[u32], bytes: u64) -> Result<()> {
        self.flush()?;
        self.put(tokens, bytes)
    }

    fn flush(&mut self) -> Result<()> {
        let texts = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        for (text, tokens) in texts.iter().zip(self.tokenizer.encode_batch(&texts)?) {
            self.put(&tokens, text.len() as u64)?;
        }
        Ok(())
    }

    fn put(&mut self, tokens: &[u32], bytes: u64) -> Result<()> {
        let (vocabulary, eos) = (self.tokenizer.vocabulary(), self.tokenizer.eos());
        if let Some(bad) = tokens.iter().find(|t| **t as usize >= vocabulary || **t == eos) {
            return Err(Error::input("a document contains an invalid token")
                .expected(format!("tokens below {vocabulary} other than the EOS {eos}"))
                .got(bad.to_string()));
        }
        let all = tokens.iter().copied().chain([eos]);
        let packed: Vec<u8> = match self.dtype {
            TokenType::U16 => all.flat_map(|t| (t as u16).to_le_bytes()).collect(),
            TokenType::U32 => all.flat_map(u32::to_le_bytes).collect(),
        };
        self.tokens.write(&packed)?;
        self.documents.write(&self.end.to_le_bytes())?;
        self.bytes.write(&bytes.to_le_bytes())?;
        self.count += 1;
        self.end += tokens.len() as u64 + 1;
        self.text_bytes += bytes;
        Ok(())
    }

    fn finish(mut self, directory: &Path) -> Result<()> {
        self.flush()?;
        if self.count == 0 {
            return Err(Error::input("a shard needs at least one document")
                .fix("check the inputs, the split's shares and what decontamination dropped"));
        }
        self.documents.write(&self.end.to_le_bytes())?;
        let mut content = blake3::Hasher::new();
        for file in [self.tokens, self.documents, self.bytes] {
            content.update(file.finish()?.as_bytes());
        }
        let info = ShardInfo {
            documents: self.count,
            tokens: self.end,
            bytes: self.text_bytes,
            dtype: self.dtype,
            vocabulary: self.tokenizer.vocabulary(),
            eos: self.tokenizer.eos(),
            tokenizer: self.tokenizer.hash(),
            content: content.finalize().to_hex().to_string(),
        };
        let json = serde_json::to_string_pretty(&info).map_err(|e| Error::input(format!("cannot write JSON: {e}")))?;
        let path = directory.join(INFO);
        std::fs::write(&path, json + "\n").map_err(|e| Error::io("write", &path, &e))
    }
}

/// A file being written, and the hash of its content.
struct HashedFile {
    path: PathBuf,
    file: BufWriter<File>,
    hasher: blake3::Hasher,
}

impl HashedFile {
    fn create(path: PathBuf) -> Result<HashedFile> {
        let file = File::create(&path).map_err(|e| Error::io("create", &path, &e))?;
        Ok(HashedFile { path, file: BufWriter::with_capacity(1 << 18, file), hasher: blake3::Hasher::new() })
    }
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|e| Error::io("write", &self.path, &e))
    }
    fn finish(mut self) -> Result<blake3::Hash> {
        self.file.flush().map_err(|e| Error::io("write", &self.path, &e))?;
        Ok(self.hasher.finalize())
    }
}

/// An open shard. Its files must not change while it is open. Stockpot only ever replaces them by
/// renaming, which leaves the mapped files unchanged.
#[derive(Debug)]
pub struct Shard {
    directory: PathBuf,
    info: ShardInfo,
    tokens: Mmap,
    documents: Mmap,
    bytes: Mmap,
}

impl Shard {
    /// Writes the shard `directory` from the documents that `fill` adds, in that order, and opens
    /// it.
    pub fn write(
        directory: &Path,
        tokenizer: &Tokenizer,
        fill: impl FnOnce(&mut ShardWriter) -> Result<()>,
    ) -> Result<Shard> {
        files::write_directory_atomic(directory, |temporary| {
            let mut writer = ShardWriter::create(temporary, tokenizer)?;
            fill(&mut writer)?;
            writer.finish(temporary)
        })?;
        Shard::open(directory)
    }

    /// Maps a shard and checks it: sizes, offsets, the EOS after every document, every token below
    /// V, the sum of the bytes. Reads all tokens once.
    pub fn open(directory: &Path) -> Result<Shard> {
        let path = directory.join(INFO);
        let info: ShardInfo = serde_json::from_str(&files::read_to_string(&path)?).map_err(|e| {
            Error::input("not a shard description")
                .at(&path)
                .got(e.to_string())
                .fix("write the shard again with this version of stockpot")
        })?;
        if info.dtype != TokenType::of(info.vocabulary) || info.eos as usize >= info.vocabulary || info.documents == 0 {
            return Err(Error::input("the description contradicts itself")
                .at(&path)
                .expected("u16 up to a vocabulary of 65,536 and u32 above, the EOS below it, at least one document")
                .got(format!(
                    "{:?}, vocabulary {}, EOS {}, {} documents",
                    info.dtype, info.vocabulary, info.eos, info.documents
                )));
        }
        let map = |name: &str, count: Option<u64>, width: usize| map(&directory.join(name), count, width);
        let shard = Shard {
            tokens: map(TOKENS, Some(info.tokens), info.dtype.bytes())?,
            documents: map(DOCUMENTS, info.documents.checked_add(1), 8)?,
            bytes: map(BYTES, Some(info.documents), 8)?,
            directory: directory.to_path_buf(),
            info,
        };
        shard.check_offsets()?;
        shard.check_tokens()?;
        shard.check_bytes()?;
        Ok(shard)
    }

    fn check_offsets(&self) -> Result<()> {
        let bad = |expected: String, got: u64| {
            Err(damaged(&self.directory.join(DOCUMENTS), "the document offsets are wrong")
                .expected(expected)
                .got(got.to_string()))
        };
        let n = self.info.documents as usize;
        if u64_at(&self.documents, 0) != 0 {
            return bad("0 as the first start".to_string(), u64_at(&self.documents, 0));
        }
        for i in 0..n {
            let (start, end) = (u64_at(&self.documents, i), u64_at(&self.documents, i + 1));
            if end <= start {
                return bad(format!("a value above {start} after document {i}"), end);
            }
        }
        match u64_at(&self.documents, n) {
            end if end != self.info.tokens => bad(format!("{} tokens as the end", self.info.tokens), end),
            _ => Ok(()),
        }
    }

    fn check_tokens(&self) -> Result<()> {
        const CHUNK: usize = 1 << 20;
        let path = self.directory.join(TOKENS);
        let (width, vocabulary) = (self.info.dtype.bytes(), self.info.vocabulary as u64);
        let largest = |bytes: &[u8]| match self.info.dtype {
            TokenType::U16 => bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]) as u64).max(),
            TokenType::U32 => bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as u64).max(),
        };
        let largest = self.tokens.par_chunks(CHUNK * width).filter_map(largest).max().unwrap_or(0);
        if largest >= vocabulary {
            return Err(damaged(&path, "a token is outside the vocabulary")
                .expected(format!("tokens below {vocabulary}"))
                .got(largest.to_string()));
        }
        for i in 0..self.info.documents as usize {
            let mut last = [0];
            self.read(u64_at(&self.documents, i + 1) - 1, &mut last);
            if last[0] != self.info.eos {
                return Err(damaged(&path, "a document does not end with the EOS")
                    .expected(format!("token {} at the end of document {i}", self.info.eos))
                    .got(last[0].to_string()));
            }
        }
        Ok(())
    }

    fn check_bytes(&self) -> Result<()> {
        let sum = (0..self.info.documents as usize).map(|i| u64_at(&self.bytes, i) as u128).sum::<u128>();
        if sum != self.info.bytes as u128 {
            return Err(damaged(&self.directory.join(BYTES), "the documents' bytes do not sum to the shard's")
                .expected(self.info.bytes.to_string())
                .got(sum.to_string()));
        }
        Ok(())
    }

    /// The directory that was opened, as the caller gave it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Contents of `shard.json`; its counts were checked against the files by [`Shard::open`].
    pub fn info(&self) -> &ShardInfo {
        &self.info
    }

    /// Tokens in the shard, including one EOS per document.
    pub fn tokens_len(&self) -> u64 {
        self.info.tokens
    }

    /// Documents in the shard, at least 1.
    pub fn documents(&self) -> u64 {
        self.info.documents
    }

    /// Copies the tokens from `start` on to `out`. Panics if there are too few to fill `out`.
    pub fn read(&self, start: u64, out: &mut [u32]) {
        let width = self.info.dtype.bytes();
        let start = start as usize * width;
        let stored = &self.tokens[start..start + out.len() * width];
        match self.info.dtype {
            TokenType::U16 => {
                for (to, b) in out.iter_mut().zip(stored.chunks_exact(2)) {
                    *to = u16::from_le_bytes([b[0], b[1]]) as u32;
                }
            }
            TokenType::U32 => {
                for (to, b) in out.iter_mut().zip(stored.chunks_exact(4)) {
                    *to = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                }
            }
        }
    }

    /// The positions of document `i`'s tokens, without its EOS. Panics if there is no document `i`.
    pub fn document(&self, i: u64) -> Range<u64> {
        assert!(i < self.info.documents, "document {i} of {}", self.info.documents);
        u64_at(&self.documents, i as usize)..u64_at(&self.documents, i as usize + 1) - 1
    }

    /// Bytes of the text of document `i`. Panics if there is no document `i`.
    pub fn document_bytes(&self, i: u64) -> u64 {
        assert!(i < self.info.documents, "document {i} of {}", self.info.documents);
        u64_at(&self.bytes, i as usize)
    }

    /// The tokens of document `i`, without its EOS.
    pub fn document_tokens(&self, i: u64) -> Vec<u32> {
        let range = self.document(i);
        let mut tokens = vec![0; (range.end - range.start) as usize];
        self.read(range.start, &mut tokens);
        tokens
    }
}

fn u64_at(bytes: &[u8], i: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[8 * i..8 * i + 8]);
    u64::from_le_bytes(value)
}

/// Maps `path`, which must hold exactly `count` values of `width` bytes.
fn map(path: &Path, count: Option<u64>, width: usize) -> Result<Mmap> {
    let file = File::open(path).map_err(|e| Error::io("open", path, &e))?;
    let size = file.metadata().map_err(|e| Error::io("open", path, &e))?.len();
    if count.and_then(|count| count.checked_mul(width as u64)) != Some(size) {
        let count = count.map_or("too many".to_string(), |n| n.to_string());
        return Err(damaged(path, "the file has the wrong size")
            .expected(format!("{count} values of {width} bytes, as {INFO} says"))
            .got(format!("{size} bytes")));
    }
    // SAFETY: a mapping is sound while no one changes the file. Stockpot never writes to a finished
    // shard: a new one is written to a temporary directory and renamed, which leaves this file's
    // pages unchanged. The pages are only read as bytes.
    unsafe { Mmap::map(&file) }.map_err(|e| Error::io("map", path, &e))
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::input(what).at(path).fix("remove the shard and write it again: the file was cut off or changed")
}
