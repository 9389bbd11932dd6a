//! Text to token ids: a Hugging Face `tokenizer.json`, read or trained here as a byte-level BPE.
//! Text never encodes to the document separator (EOS); only `shard` puts it between documents. Many
//! texts are encoded on the rayon pool of the calling thread; results are in the order of the
//! texts.

use crate::error::{Error, Result};
use crate::files;
use rayon::prelude::*;
use std::path::Path;
use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// Common names of the end-of-document token; the first that is present is used.
const EOS_NAMES: [&str; 6] = ["<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "<|eos|>", "[EOS]"];

/// A pair seen fewer times than this is not merged: a token that occurs once teaches nothing.
const MIN_COUNT: u64 = 2;

/// A tokenizer and its end-of-document token (EOS). Ids are below V = [`Tokenizer::vocabulary`].
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The file's own bytes, so that saving and hashing reproduce exactly what was read.
    json: Vec<u8>,
    vocabulary: usize,
    eos: u32,
    eos_text: String,
}

impl Tokenizer {
    /// The smallest vocabulary of a byte-level BPE: 256 bytes and the EOS.
    pub const SMALLEST: usize = 257;

    /// Trains a byte-level BPE of exactly `vocabulary` tokens: `<|endoftext|>` (id 0), the 256
    /// bytes in the order of their characters, and merges learned from `texts` cut into words as
    /// GPT-2 cuts them. Any text can be encoded. Keep the text below about 10 GB: the trainer
    /// counts a pair of tokens in 31 bits.
    ///
    /// The result depends on the texts, not on their order or on the number of threads: counts are
    /// integers, ties go to the smaller pair of ids, and no pair is queued twice, because a token's
    /// text is always assembled in the same way (a merge between two token boundaries does not see
    /// beyond them).
    ///
    /// Errors if `vocabulary` is below 257, or if the texts are too few to learn that many tokens.
    pub fn train(texts: impl Iterator<Item = String> + Send, vocabulary: usize) -> Result<Tokenizer> {
        if vocabulary < Tokenizer::SMALLEST {
            return Err(Error::usage("the vocabulary is too small for a byte-level BPE")
                .expected(format!("at least {}: 256 bytes and <|endoftext|>", Tokenizer::SMALLEST))
                .got(vocabulary.to_string()));
        }
        let mut trainer: TrainerWrapper = BpeTrainerBuilder::new()
            .show_progress(false)
            .vocab_size(vocabulary)
            .min_frequency(MIN_COUNT)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(vec![AddedToken::from(EOS_NAMES[0], true)])
            .build()
            .into();
        let byte_level = ByteLevel::new(false, true, true);
        let mut inner = tokenizers::Tokenizer::new(BPE::default());
        inner.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(byte_level));
        let failed = |e: tokenizers::Error| Error::input(format!("cannot train a tokenizer: {e}"));
        inner.train(&mut trainer, texts).map_err(failed)?;
        let learned = inner.get_vocab_size(true);
        if learned < vocabulary {
            return Err(Error::input("the text is too short to learn the vocabulary from")
                .expected(format!("{vocabulary} tokens"))
                .got(format!("{learned} tokens, after which no pair of tokens occurs twice"))
                .fix(format!("give more text, or set the vocabulary to {learned} or fewer")));
        }
        let json = inner.to_string(true).map_err(failed)?;
        Tokenizer::parse(json.into_bytes(), None)
    }

    /// Reads a `tokenizer.json`. `eos` names the end-of-document token; the default is the first of
    /// `<|endoftext|>`, `</s>`, `<|end_of_text|>`, `<eos>`, `<|eos|>`, `[EOS]` that the vocabulary
    /// has. Truncation and padding set in the file are switched off: a document is encoded whole.
    pub fn load(path: &Path, eos: Option<&str>) -> Result<Tokenizer> {
        let json = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
        Tokenizer::parse(json, eos).map_err(|e| e.at(path))
    }

    fn parse(json: Vec<u8>, eos: Option<&str>) -> Result<Tokenizer> {
        let mut inner = tokenizers::Tokenizer::from_bytes(&json).map_err(|e| {
            Error::input("this tokenizer cannot be read")
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
        // Text that spells a special token is encoded as plain text.
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
        // A model that looks up whole words in its vocabulary (Unigram, WordLevel) finds the EOS
        // there if text spells it. That text is encoded in pieces, each cut after the first
        // character of the spelling.
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
                .expected("the end-of-document token, as spelled in the vocabulary")
                .fix("name a token of this tokenizer, or leave the name out")
        });
    }
    EOS_NAMES.iter().find_map(|name| inner.token_to_id(name).map(|id| (id, name.to_string()))).ok_or_else(|| {
        Error::input("the tokenizer has no end-of-document token with a known name")
            .expected(format!("one of {}", EOS_NAMES.join(", ")))
            .fix("name the token to put between documents")
    })
}
