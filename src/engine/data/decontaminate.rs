//! Decontamination: finds training documents that share an n-gram of words with an evaluation
//! document, so that they can be dropped, each with the reason.
//!
//! A word is a run of alphanumeric characters, lower-cased, so punctuation, spacing and case do not
//! hide a copy; a text without spaces (Chinese, Japanese) has few, long words and is matched by
//! whole clauses. Candidates are found by a rolling 64-bit hash and then compared as text, so a
//! collision never drops a document. Memory: one copy of the evaluation text, and about 40 bytes
//! for each of its words.

use crate::engine::data::Document;
use crate::error::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// Default number of words in an n-gram: 13, as for GPT-3 (Brown et al. 2020, arXiv:2005.14165,
/// appendix C).
pub const DEFAULT_NGRAM: usize = 13;

/// An evaluation document with fewer words than this is a common phrase ("see also"). Containing it
/// proves nothing, so only a training document of exactly these words is dropped.
const SHORTEST_CONTAINED: usize = 5;

/// Why a training document is dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contamination {
    /// The training document.
    pub id: String,
    /// The training document's source, if known.
    pub source: Option<String>,
    /// The first shared n-gram, as lower-cased words.
    pub ngram: String,
    /// Domain of the evaluation document that has it (the first one added).
    pub domain: String,
    /// Id of that evaluation document.
    pub evaluation_id: String,
}

/// One n-gram of the evaluation text.
#[derive(Clone, Copy)]
struct Ngram {
    /// Bytes of [`Decontaminator::text`].
    start: u64,
    len: u32,
    document: u32,
}

/// An n-gram's position in the evaluation text: its first byte and its length in bytes.
pub type NgramPlace = (u64, u32);

/// The n-grams of the evaluation documents.
pub struct Decontaminator {
    n: usize,
    /// Lengths below `n` for which there are short evaluation documents.
    short: BTreeSet<usize>,
    /// Words of all evaluation documents, joined by spaces.
    text: String,
    /// (domain, id) of the evaluation documents.
    documents: Vec<(String, String)>,
    ngrams: HashMap<u64, Ngram>,
    /// N-grams whose hash is already taken by another; in practice none.
    collisions: Vec<(u64, Ngram)>,
    /// Bits of the hash that are used: all, except in a test of collisions.
    mask: u64,
}

impl Decontaminator {
    /// `n` is the number of consecutive words that may not be shared.
    pub fn new(n: usize) -> Result<Decontaminator> {
        if n == 0 {
            return Err(Error::usage("an n-gram needs at least one word")
                .expected(format!("1 or more; {DEFAULT_NGRAM} is usual")));
        }
        Ok(Decontaminator {
            n,
            short: BTreeSet::new(),
            text: String::new(),
            documents: Vec::new(),
            ngrams: HashMap::new(),
            collisions: Vec::new(),
            mask: u64::MAX,
        })
    }

    /// Adds an evaluation document of `domain`. One with fewer than n words is matched as a whole:
    /// a training document must contain its words consecutively or, if they are fewer than 5,
    /// consist of exactly these words. A document without words matches nothing.
    pub fn add(&mut self, domain: &str, document: &Document) {
        let words = Words::of(&document.text);
        if words.len() == 0 {
            return;
        }
        let length = self.n.min(words.len());
        if length < self.n {
            self.short.insert(length);
        }
        let base = self.text.len();
        self.text.push_str(&words.text);
        self.text.push(' ');
        let number = self.documents.len() as u32;
        self.documents.push((domain.to_string(), document.id.clone()));
        words.windows(length, |first, hash| {
            let bytes = words.bytes(first, length);
            let ngram = Ngram { start: (base + bytes.start) as u64, len: bytes.len() as u32, document: number };
            self.insert(hash & self.mask, ngram);
            None::<()>
        });
    }

    fn insert(&mut self, hash: u64, ngram: Ngram) {
        match self.ngrams.entry(hash) {
            Slot::Vacant(slot) => {
                slot.insert(ngram);
            }
            Slot::Occupied(slot) => {
                let new = text_of(&self.text, &ngram);
                let known = |other: &Ngram| text_of(&self.text, other) == new;
                if !known(slot.get()) && !self.collisions.iter().any(|(h, other)| *h == hash && known(other)) {
                    self.collisions.push((hash, ngram));
                }
            }
        }
    }

    /// The reason to drop a training document, if there is one: the first n-gram that it shares.
    pub fn check(&self, document: &Document) -> Option<Contamination> {
        let words = Words::of(&document.text);
        let hit = std::iter::once(&self.n).chain(&self.short).find_map(|&length| {
            if !self.may_share(&words, length) {
                return None;
            }
            words.windows(length, |first, hash| self.find(hash & self.mask, &words.text[words.bytes(first, length)]))
        })?;
        let (domain, evaluation_id) = self.documents[hit.document as usize].clone();
        Some(Contamination {
            id: document.id.clone(),
            source: document.source.clone(),
            ngram: text_of(&self.text, hit).to_string(),
            domain,
            evaluation_id,
        })
    }

    /// The positions in the evaluation text of the n-grams that a document shares with it; for each
    /// n-gram, its first position.
    pub fn shared(&self, document: &Document) -> BTreeSet<NgramPlace> {
        let words = Words::of(&document.text);
        let mut places = BTreeSet::new();
        for &length in std::iter::once(&self.n).chain(&self.short) {
            if self.may_share(&words, length) {
                words.windows(length, |first, hash| {
                    places.extend(
                        self.find(hash & self.mask, &words.text[words.bytes(first, length)]).map(|n| (n.start, n.len)),
                    );
                    None::<()>
                });
            }
        }
        places
    }

    /// The contamination of the training document `id` by the n-gram at `place` (see
    /// [`Decontaminator::shared`]), which the given evaluation document also has.
    pub fn shared_with(&self, place: NgramPlace, id: &str, domain: &str, evaluation_id: &str) -> Contamination {
        let [id, domain, evaluation_id] = [id, domain, evaluation_id].map(String::from);
        let ngram = self.text[place.0 as usize..place.0 as usize + place.1 as usize].to_string();
        Contamination { id, source: None, ngram, domain, evaluation_id }
    }

    /// A few words count only if they are the whole document.
    fn may_share(&self, words: &Words, length: usize) -> bool {
        length >= self.n.min(SHORTEST_CONTAINED) || words.len() == length
    }

    fn find(&self, hash: u64, text: &str) -> Option<&Ngram> {
        let first = self.ngrams.get(&hash)?;
        let others = self.collisions.iter().filter(|(h, _)| *h == hash).map(|(_, ngram)| ngram);
        std::iter::once(first).chain(others).find(|ngram| text_of(&self.text, ngram) == text)
    }

    /// The documents that share nothing, and the reasons for dropping the rest, both in the order
    /// of `documents`. Runs in parallel.
    pub fn filter(&self, documents: Vec<Document>) -> (Vec<Document>, Vec<Contamination>) {
        let reasons: Vec<Option<Contamination>> = documents.par_iter().map(|d| self.check(d)).collect();
        let mut kept = Vec::with_capacity(documents.len());
        let mut dropped = Vec::new();
        for (document, reason) in documents.into_iter().zip(reasons) {
            match reason {
                Some(reason) => dropped.push(reason),
                None => kept.push(document),
            }
        }
        (kept, dropped)
    }
}

fn text_of<'a>(text: &'a str, ngram: &Ngram) -> &'a str {
    &text[ngram.start as usize..ngram.start as usize + ngram.len as usize]
}

/// The words of one text: joined by single spaces, with the start of each and its hash.
struct Words {
    text: String,
    starts: Vec<usize>,
    hashes: Vec<u64>,
}

impl Words {
    fn of(text: &str) -> Words {
        let mut words = Words { text: String::with_capacity(text.len()), starts: Vec::new(), hashes: Vec::new() };
        let mut inside = false;
        for c in text.chars() {
            if !c.is_alphanumeric() {
                inside = false;
                continue;
            }
            if !inside {
                if !words.text.is_empty() {
                    words.text.push(' ');
                }
                words.starts.push(words.text.len());
                inside = true;
            }
            if c.is_ascii() { words.text.push(c.to_ascii_lowercase()) } else { words.text.extend(c.to_lowercase()) }
        }
        words.hashes = (0..words.starts.len()).map(|i| hash_word(&words.text[words.bytes(i, 1)])).collect();
        words
    }

    fn len(&self) -> usize {
        self.starts.len()
    }

    /// The bytes of `count` words from the word `first`, without the space after them.
    fn bytes(&self, first: usize, count: usize) -> Range<usize> {
        let end = self.starts.get(first + count).map_or(self.text.len(), |next| next - 1);
        self.starts[first]..end
    }

    /// Calls `each(first word, hash)` on every window of `length` words until it returns `Some`.
    /// The hash of words w is the sum of `w[i] BASE^(length-1-i)` mod 2^64, so the next window's
    /// costs two multiplications.
    fn windows<T>(&self, length: usize, mut each: impl FnMut(usize, u64) -> Option<T>) -> Option<T> {
        const BASE: u64 = 0x9E37_79B9_7F4A_7C15;
        if self.len() < length {
            return None;
        }
        let leaving = BASE.wrapping_pow(length as u32 - 1);
        let step = |hash: u64, word: u64| hash.wrapping_mul(BASE).wrapping_add(word);
        let mut hash = self.hashes[..length].iter().fold(0, |hash, &word| step(hash, word));
        for first in 0.. {
            if let Some(found) = each(first, hash) {
                return Some(found);
            }
            let Some(&next) = self.hashes.get(first + length) else { break };
            hash = step(hash.wrapping_sub(self.hashes[first].wrapping_mul(leaving)), next);
        }
        None
    }
}

/// FNV-1a, then the finalizer of MurmurHash3 to spread the bits (Appleby, public domain).
fn hash_word(word: &str) -> u64 {
    let mut hash = word.bytes().fold(0xCBF2_9CE4_8422_2325, |h: u64, b| (h ^ b as u64).wrapping_mul(0x0100_0000_01B3));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(id: &str, text: &str) -> Document {
        Document { id: id.into(), text: text.into(), source: None, metadata: Default::default() }
    }

    /// With every hash equal, only the comparison of text decides.
    #[test]
    fn a_collision_drops_nothing() {
        let mut all_collide = Decontaminator::new(5).unwrap();
        all_collide.mask = 0;
        all_collide.add("e", &document("e0", "one two three four five six"));
        all_collide.add("e", &document("e1", "a b c d e f g"));
        assert_eq!(all_collide.collisions.len(), 4);
        assert_eq!(all_collide.check(&document("t", "six five four three two one")), None);
        let hit = all_collide.check(&document("t", "x b c d e f y")).unwrap();
        assert_eq!((hit.ngram.as_str(), hit.evaluation_id.as_str()), ("b c d e f", "e1"));
    }

    #[test]
    fn rolling_hash_equals_the_hash_of_each_window() {
        let words = Words::of("the quick brown fox jumps over the lazy dog again and again");
        let mut rolled = Vec::new();
        words.windows(4, |first, hash| {
            rolled.push((first, hash));
            None::<()>
        });
        assert_eq!(rolled.len(), words.len() - 3);
        for (first, hash) in rolled {
            Words::of(&words.text[words.bytes(first, 4)]).windows(4, |_, alone| {
                assert_eq!(alone, hash, "window {first}");
                None::<()>
            });
        }
    }
}
