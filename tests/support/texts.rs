//! Text generated from a seed, so that tests read only files they wrote, and the smallest model.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::fs;
use std::path::Path;

pub fn random(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Text of a topic: `words` words, most from the topic's own 40, some common to all topics.
pub fn text(topic: u64, number: u64, words: usize) -> String {
    let mut vocabulary = random(1000 + topic);
    let mut word = || {
        let syllables = ["ka", "lo", "mi", "ter", "un", "sha", "pre", "dor", "vel", "qui", "nat", "os"];
        (0..2 + vocabulary.next_u32() % 2).map(|_| syllables[vocabulary.next_u32() as usize % 12]).collect::<String>()
    };
    let own: Vec<String> = (0..40).map(|_| word()).collect();
    let common = ["the", "of", "and", "a", "in", "is"];
    let mut draw = random(topic * 100_000 + number);
    let mut pick = || match draw.next_u32() % 4 {
        0 => common[draw.next_u32() as usize % common.len()].to_string(),
        _ => own[draw.next_u32() as usize % own.len()].clone(),
    };
    (0..words).map(|_| pick()).collect::<Vec<_>>().join(" ")
}

/// (id, text) of `count` documents of a topic; the ids are `<name>-<number>`.
pub fn documents(name: &str, topic: u64, count: u64) -> Vec<(String, String)> {
    (0..count).map(|i| (format!("{name}-{i}"), text(topic, i, 30 + (i as usize * 7) % 41))).collect()
}

pub fn write_jsonl(path: &Path, documents: &[(String, String)]) {
    let line = |(id, text): &(String, String)| serde_json::json!({"id": id, "text": text}).to_string() + "\n";
    fs::write(path, documents.iter().map(line).collect::<String>()).expect("a file that can be written");
}

/// Smaller than any preset; vocabulary 300 comes with the tokenizer.
pub const MODEL: &str = "preset = \"tiny\"\nwidth = 16\nlayers = 1\nheads = 2\nfeed_forward = 32\ncontext = 16\n";
