//! Tests of src/engine/checkpoint: fixtures written by transformers (tests/fixtures/transformers),
//! round trips, and files that must be refused by name.

mod config;
mod read;
mod state;
mod tensors;
mod write;

use rand::{Rng, SeedableRng};
use std::fs;
use std::path::{Path, PathBuf};
use stockpot::engine::checkpoint::Reader;
use stockpot::engine::model::{Architecture, Config};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transformers").join(name)
}

fn small(tied: bool) -> Config {
    Config {
        architecture: Architecture::Llama,
        width: 16,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        head_width: 8,
        feed_forward: 24,
        vocabulary: 13,
        context: 32,
        tied,
        rope_base: 12345.0,
        norm_epsilon: 3e-6,
        init_std: 0.03,
        eos: 7,
    }
}

/// Random signs, exponents and mantissas: every rounding case occurs.
fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| (rng.random::<f32>() - 0.5) * 2f32.powi(rng.random_range(-12..4))).collect()
}

fn weights_of(reader: &Reader) -> Vec<f32> {
    let mut weights = vec![0.0; reader.table().len];
    reader.read_weights(&mut weights).unwrap();
    weights
}

fn copy_fixture(name: &str, to: &Path) {
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let entry = entry.unwrap();
        fs::write(to.join(entry.file_name()), fs::read(entry.path()).unwrap()).unwrap();
    }
}

/// Asserts that `result` is an error whose message contains each of `parts`.
fn refused<T>(result: stockpot::error::Result<T>, parts: &[&str]) {
    let Err(error) = result else { panic!("accepted, but should name {parts:?}") };
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}
