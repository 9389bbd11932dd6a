//! Gradients in the weights of a merge, through kernels (the host executor) and on the CPU.

use crate::merging_on::{F32, Stored, config, sum};
use crate::simt::{Mode, Simt};
use stockpot::engine::checkpoint::{Reader, write_model};
use stockpot::engine::data::{Shard, Tokenizer};
use stockpot::engine::device::Device;
use stockpot::engine::eval::{GradientScorer, MergeGradient};
use stockpot::engine::merge::Pool;
use stockpot::engine::model::initial_weights;

/// Documents of one token, some tokens, and more than a window.
fn shards(dir: &std::path::Path) -> Vec<Shard> {
    let tokenizer = Tokenizer::train(["the cat sat on the mat".to_string()].into_iter(), 260).expect("a tokenizer");
    let write = |domain: u32| {
        let tokens = |n: u32| (0..n).map(|i| 1 + (i * 37 + domain * 11) % 258).collect::<Vec<u32>>();
        Shard::write(&dir.join(format!("shard-{domain}")), &tokenizer, |writer| {
            [1, 9, 31].iter().try_for_each(|&n| writer.add_tokens(&tokens(n), u64::from(n)))
        })
        .expect("a shard")
    };
    (0..2).map(write).collect()
}

#[test]
fn kernels_give_the_gradients_of_the_cpu() {
    let stored = Stored::new(&[F32; 3]);
    // Models near each other, whose losses are ordinary.
    let mut config = config();
    config.init_std = 0.05;
    for (k, path) in stored.paths.iter().enumerate() {
        let (seed, moved) = (initial_weights(&config, 1), initial_weights(&config, 2 + k as u64));
        let weights: Vec<f32> = seed.iter().zip(&moved).map(|(s, m)| s + 0.2 * m).collect();
        write_model(path, Reader::open(path).expect("a checkpoint").config(), &weights, F32, None).expect("written");
    }
    let pool = Pool::open(&stored.paths).expect("a pool");
    let dir = tempfile::tempdir().expect("a directory");
    let shards = shards(dir.path());
    let shards: Vec<&Shard> = shards.iter().collect();
    let sums = [sum(&[(0, -0.5), (1, 0.75), (2, 0.75)])];
    let gradients = |device: Device| -> Vec<MergeGradient> {
        let mut scorer = GradientScorer::on(device, pool.config(), &pool, &sums, 2).expect("a scorer");
        scorer.load_merge(0).expect("a merge");
        scorer.gradients(&shards).expect("gradients")
    };
    let cpu = gradients(Device::cpu());
    let kernels = gradients(Simt::bf16(Mode::FORWARD));
    for (ours, theirs) in kernels.iter().zip(&cpu) {
        assert!((ours.score.nats / theirs.score.nats - 1.0).abs() < 2e-3, "{ours:?} {theirs:?}");
        let largest = theirs.gradient.iter().map(|g| g.abs()).fold(0.0, f64::max);
        for (ours, theirs) in ours.gradient.iter().zip(&theirs.gradient) {
            // bf16 has 8 bits; sums over 41 tokens.
            assert!((ours - theirs).abs() < 0.02 * largest, "{ours} {theirs} {largest}");
        }
    }
    assert_eq!(gradients(Simt::bf16(Mode::REVERSE)), kernels, "another order of threads and blocks");
}
