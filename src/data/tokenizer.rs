//! Text to token ids: a Hugging Face `tokenizer.json`, read or trained here as a byte-level BPE. The document
//! separator (EOS) is never produced by text, only put between documents by `shard`. Encoding many texts runs on
//! the rayon pool of the calling thread; results are in the order of the texts.

use crate::data::bpe;
use crate::error::{Error, Result};
use crate::files;
use rayon::prelude::*;
use std::collections::HashMap;
use std::path::Path;
use tokenizers::models::ModelWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// Names under which tokenizers keep their end-of-document token; the first that is present is it.
const EOS_NAMES: [&str; 6] = ["<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "<|eos|>", "[EOS]"];

/// The smallest vocabulary of a byte-level BPE: 256 bytes and the EOS.
const SMALLEST: usize = 257;

/// How many texts are counted at a time in training: enough to keep the threads busy, few enough to hold.
const TRAINING_BATCH: usize = 1024;

pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The file's own bytes, so that saving and hashing say exactly what was read.
    json: Vec<u8>,
    vocabulary: usize,
    eos: u32,
    eos_text: String,
}

impl Tokenizer {
    /// Trains a byte-level BPE of exactly `vocabulary` tokens: `<|endoftext|>` (id 0), the 256 bytes in the order of
    /// their characters, and merges learned from `texts` cut into words as GPT-2 cuts them. Any text can be encoded.
    /// The result depends on the texts, not on their order or on the number of threads.
    ///
    /// Errors when `vocabulary` is below 257, or when the texts are too few to learn that many tokens.
    pub fn train(texts: impl Iterator<Item = String>, vocabulary: usize) -> Result<Tokenizer> {
        if vocabulary < SMALLEST {
            return Err(Error::usage("the vocabulary is too small for a byte-level BPE")
                .expected(format!("at least {SMALLEST}: 256 bytes and <|endoftext|>"))
                .got(vocabulary.to_string()));
        }
        let words = count_words(texts)?;
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let first = std::iter::once(EOS_NAMES[0].to_string()).chain(alphabet.iter().map(char::to_string)).collect();
        let learned = bpe::train(first, &words, vocabulary);
        if learned.tokens.len() < vocabulary {
            return Err(Error::input("the text is too short to learn the vocabulary from")
                .expected(format!("{vocabulary} tokens"))
                .got(format!("{} tokens, after which no pair of tokens occurs twice", learned.tokens.len()))
                .fix(format!("give more text, or set the vocabulary to {} or fewer", learned.tokens.len())));
        }
        Tokenizer::parse(tokenizer_json(&learned), None)
    }

    /// Reads a `tokenizer.json`. `eos` names the end-of-document token; without it, it is the first of
    /// `<|endoftext|>`, `</s>`, `<|end_of_text|>`, `<eos>`, `<|eos|>`, `[EOS]` that the vocabulary has. Truncation
    /// and padding that the file may ask for are switched off: a document is encoded whole.
    pub fn load(path: &Path, eos: Option<&str>) -> Result<Tokenizer> {
        let json = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
        Tokenizer::parse(json, eos).map_err(|e| e.at(path))
    }

    fn parse(json: Vec<u8>, eos: Option<&str>) -> Result<Tokenizer> {
        let mut inner = tokenizers::Tokenizer::from_bytes(&json).map_err(|e| {
            Error::input("not a tokenizer that can be read")
                .expected("a tokenizer.json of Hugging Face tokenizers")
                .got(e.to_string())
        })?;
        if let ModelWrapper::BPE(model) = inner.get_model()
            && model.dropout.is_some_and(|share| share > 0.0)
        {
            return Err(Error::input("the tokenizer drops merges at random, so a text has no fixed tokens")
                .expected("`dropout` null")
                .fix("set \"dropout\": null under \"model\" in the file"));
        }
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| Error::input(format!("cannot switch off truncation: {e}")))?;
        // Text that spells a special token is text.
        inner.set_encode_special_tokens(true);
        let (eos, eos_text) = find_eos(&inner, eos)?;
        // Ids may have gaps, and the embedding needs a row for each id up to the largest.
        let vocabulary = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        Ok(Tokenizer { inner, json, vocabulary, eos, eos_text })
    }

    /// Writes the `tokenizer.json`, byte for byte as it was read or trained.
    pub fn save(&self, path: &Path) -> Result<()> {
        files::write_atomic(path, |out| out.write_all(&self.json))
    }

    /// The token ids of `text`, without any begin or end token; the EOS is never among them.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.encode_piece(text)?;
        if !ids.contains(&self.eos) {
            return Ok(ids);
        }
        // A model that looks whole words up in its vocabulary (Unigram, WordLevel) finds the EOS there when text
        // spells it. Such a text is encoded in pieces, each cut after the first character of the spelling.
        let mut ids = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(&self.eos_text) {
            let cut = at + self.eos_text.chars().next().map_or(0, char::len_utf8);
            ids.extend(self.encode_piece(&rest[..cut])?);
            rest = &rest[cut..];
        }
        ids.extend(self.encode_piece(rest)?);
        match ids.contains(&self.eos) {
            true => Err(Error::input(format!("the tokenizer turns text into its EOS token `{}`", self.eos_text))
                .fix("name another end-of-document token, one that no text is encoded to")),
            false => Ok(ids),
        }
    }

    fn encode_piece(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| Error::input(format!("the tokenizer cannot encode a text: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// [`Tokenizer::encode`] of each text, in order, in parallel.
    pub fn encode_batch<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Vec<u32>>> {
        texts.par_iter().map(|text| self.encode(text.as_ref())).collect()
    }

    /// The text of `ids`, special tokens included.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, false).map_err(|e| Error::input(format!("the tokenizer cannot decode: {e}")))
    }

    /// Every id is below this.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The id put after each document.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// The text that names the EOS, such as `<|endoftext|>`.
    pub fn eos_text(&self) -> &str {
        &self.eos_text
    }

    /// BLAKE3 (hexadecimal) of the file and of the choice of EOS: equal hashes give equal tokens.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.json).update(&self.eos.to_le_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

fn find_eos(inner: &tokenizers::Tokenizer, named: Option<&str>) -> Result<(u32, String)> {
    if let Some(name) = named {
        return inner.token_to_id(name).map(|id| (id, name.to_string())).ok_or_else(|| {
            Error::input(format!("the tokenizer has no token `{name}`"))
                .expected("the end-of-document token, as it stands in the vocabulary")
                .fix("name a token of this tokenizer, or leave the name out")
        });
    }
    EOS_NAMES.iter().find_map(|name| inner.token_to_id(name).map(|id| (id, name.to_string()))).ok_or_else(|| {
        Error::input("the tokenizer has no end-of-document token of a known name")
            .expected(format!("one of {}", EOS_NAMES.join(", ")))
            .fix("name the token to put between documents")
    })
}

/// The words of all texts in the byte alphabet, sorted, with their counts.
fn count_words(mut texts: impl Iterator<Item = String>) -> Result<Vec<(String, u64)>> {
    let splitter = ByteLevel::new(false, true, true);
    let count = |text: &String| -> Result<HashMap<String, u64>> {
        let mut words = PreTokenizedString::from(text.as_str());
        splitter.pre_tokenize(&mut words).map_err(|e| Error::input(format!("cannot cut a text into words: {e}")))?;
        let mut counts = HashMap::new();
        for (word, _, _) in words.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            *counts.entry(word.to_string()).or_default() += 1;
        }
        Ok(counts)
    };
    let mut total: HashMap<String, u64> = HashMap::new();
    loop {
        let batch: Vec<String> = texts.by_ref().take(TRAINING_BATCH).collect();
        if batch.is_empty() {
            break;
        }
        for counts in batch.par_iter().map(count).collect::<Result<Vec<_>>>()? {
            for (word, n) in counts {
                *total.entry(word).or_default() += n;
            }
        }
    }
    let mut words: Vec<(String, u64)> = total.into_iter().collect();
    words.sort_unstable();
    Ok(words)
}

/// The `tokenizer.json` of a byte-level BPE whose token 0 is the EOS. Merges are written as "a b", the form that
/// every version of transformers reads; tokens of the byte alphabet hold no space.
fn tokenizer_json(bpe: &bpe::Bpe) -> Vec<u8> {
    let byte_level =
        serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let name = |id: u32| bpe.tokens[id as usize].as_str();
    let merges: Vec<String> = bpe.merges.iter().map(|&(a, b)| format!("{} {}", name(a), name(b))).collect();
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        bpe.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let json = serde_json::json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [{
            "id": 0, "content": EOS_NAMES[0], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        }],
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": merges
        }
    });
    let mut out = format!("{json:#}").into_bytes();
    out.push(b'\n');
    out
}
