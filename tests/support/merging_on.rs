//! Merges into a model on any device, for the host executor (tests/kernels/merger.rs) and a GPU
//! (tests/kernels/cuda.rs), bit-identical to a plain f64 average and to the CPU; inner products of
//! gradients with the checkpoints of a pool, equal to plain sums.

use rand::{Rng, SeedableRng};
use std::fs;
use std::path::PathBuf;
use stockpot::engine::checkpoint::{Reader, StorageDType, write_model};
use stockpot::engine::device::Device;
use stockpot::engine::merge::{Merger, Pool, WeightedSum};
use stockpot::engine::model::{Architecture, Config, Model, Table};
use stockpot::error::Result;
use tempfile::TempDir;

pub const BF16: StorageDType = StorageDType::Bf16;
pub const F16: StorageDType = StorageDType::F16;
pub const F32: StorageDType = StorageDType::F32;

/// A model of more than two of the readers' chunks.
pub fn config() -> Config {
    let mut config = Config::preset("tiny", Architecture::Olmo2, 997, 0).expect("a preset");
    (config.width, config.layers, config.heads, config.kv_heads, config.head_width) = (64, 1, 2, 1, 32);
    (config.feed_forward, config.context) = (88, 24);
    config
}

/// Checkpoints and their weights as stored.
pub struct Stored {
    /// Removed on drop.
    _directory: TempDir,
    pub paths: Vec<PathBuf>,
    pub weights: Vec<Vec<f32>>,
}

impl Stored {
    pub fn new(dtypes: &[StorageDType]) -> Stored {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut paths, mut weights) = (Vec::new(), Vec::new());
        for (k, dtype) in dtypes.iter().enumerate() {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(k as u64);
            let mut random = || (rng.random::<f32>() - 0.5) * 2f32.powi(rng.random_range(-12..2));
            let mut values: Vec<f32> = (0..Table::new(&config()).len).map(|_| random()).collect();
            // Including zeros of both signs.
            values.iter_mut().step_by(13).for_each(|x| *x *= 0.0);
            let path = directory.path().join(format!("module-{k}"));
            fs::create_dir(&path).expect("a directory");
            write_model(&path, &config(), &values, *dtype, None).expect("a checkpoint");
            Reader::open(&path).expect("a checkpoint").read_weights(&mut values).expect("its weights");
            paths.push(path);
            weights.push(values);
        }
        Stored { _directory: directory, paths, weights }
    }
    pub fn pool(&self) -> Pool {
        Pool::open(&self.paths).expect("checkpoints that match")
    }
    /// Bytes of one checkpoint in bf16.
    pub fn bytes(&self) -> u64 {
        2 * self.weights[0].len().next_multiple_of(8) as u64
    }
    /// The sum of the terms in order, rounded once.
    pub fn average(&self, sum: &WeightedSum) -> Vec<u32> {
        let term = |&(k, weight): &(usize, f64), i: usize| weight * f64::from(self.weights[k][i]);
        let (first, rest) = sum.terms.split_first().expect("a term");
        let sum = |i: usize| rest.iter().fold(term(first, i), |sum, next| sum + term(next, i));
        (0..self.weights[0].len()).map(|i| (sum(i) as f32).to_bits()).collect()
    }
}

pub fn sum(terms: &[(usize, f64)]) -> WeightedSum {
    WeightedSum { terms: terms.to_vec() }
}

/// All pairs of `n` with unusual weights, some negative, and each checkpoint alone.
pub fn pairs_and_singles(n: usize) -> Vec<WeightedSum> {
    let pair = |i: usize, j: usize| sum(&[(i, 1.0 / 3.0 - j as f64), (j, j as f64 + 2.0 / 3.0)]);
    let pairs = (0..n).flat_map(|i| (i + 1..n).map(move |j| pair(i, j)));
    pairs.chain((0..n).map(|k| sum(&[(k, 1.0)]))).collect()
}

/// The bits of each sum's weights. As a scorer does, calls `prefetch` `prefetches` times between
/// two sums, and only then reads what was loaded.
pub fn merged(
    device: &mut Device,
    pool: &Pool,
    sums: &[WeightedSum],
    budget: u64,
    prefetches: usize,
) -> Result<Vec<Vec<u32>>> {
    let model = Model::without_weights(device, pool.config())?;
    let mut merger = Merger::new(device, pool, sums, budget)?;
    let mut results = vec![Vec::new(); sums.len()];
    for position in 0..sums.len() {
        merger.load(device, position, &model)?;
        (0..prefetches).for_each(|_| merger.prefetch(device));
        let weights: Vec<f32> = device.to_vec(&model.master)?;
        if model.compute.dtype() == stockpot::engine::device::DType::Bf16 {
            let copy: Vec<half::bf16> = device.to_vec(&model.compute)?;
            let same = |(copy, &weight): (&half::bf16, &f32)| {
                copy.is_nan() && weight.is_nan() || copy.to_bits() == half::bf16::from_f32(weight).to_bits()
            };
            assert!(copy.iter().zip(&weights).all(same), "the copy at {position} is not the weights rounded");
        }
        results[merger.order()[position]] = weights.into_iter().map(f32::to_bits).collect();
    }
    Ok(results)
}

/// Merges that fit the device's memory and larger ones, from checkpoints of one dtype and of
/// several; one after another on the same device, as in a study.
pub fn merges_have_the_bits_of_the_cpu(device: impl Fn() -> Device) {
    for dtypes in [[BF16; 5], [F32, BF16, F16, F32, BF16]] {
        let stored = Stored::new(&dtypes);
        let pool = stored.pool();
        let slot = stored.bytes() * if dtypes == [BF16; 5] { 1 } else { 2 };
        let mut sums = pairs_and_singles(5);
        let pairs = sums.len();
        sums.push(sum(&[(0, 0.3), (0, 0.4), (2, -0.2), (4, 0.5)]));
        // In an unsorted order.
        sums.push(sum(&[(3, 0.1), (1, 0.2), (4, 0.3), (0, 0.15), (2, 0.25)]));
        let expected: Vec<Vec<u32>> = sums.iter().map(|m| stored.average(m)).collect();
        let cpu = merged(&mut Device::cpu(), &pool, &sums, 0, 1).expect("merges");
        assert!(cpu == expected, "{dtypes:?}: the CPU");
        let mut device = device();
        let mut same = |what: &str, count: usize, budget: u64, prefetches: usize| {
            let ours = merged(&mut device, &pool, &sums[..count], budget, prefetches).expect("merges");
            let wrong: Vec<usize> = (0..count).filter(|&m| ours[m] != expected[m]).collect();
            assert!(wrong.is_empty(), "{dtypes:?}, {what}, {prefetches} prefetches: {wrong:?} have different bits");
        };
        for prefetches in [0, 1, 5] {
            same("all resident", sums.len(), u64::MAX, prefetches);
            same("slots for three and a bit", pairs, 3 * slot + 100, prefetches);
            same("slots for two, larger ones streamed", sums.len(), 2 * slot, prefetches);
        }
        // Several chunks; chunks of 8 elements are too many for the singles and pairs.
        same("less than one slot", sums.len(), slot * 2 / 7, 1);
        let last = std::slice::from_ref(&sums[pairs]);
        let ours = merged(&mut device, &pool, last, slot / 301, 1).expect("a merge");
        assert!(ours[0] == expected[pairs], "{dtypes:?}: streamed in very small chunks");
    }
}

/// Inner products with checkpoints that stay in the device's memory, and streamed through it: the
/// same bits, and those of a plain sum up to the order of the additions.
pub fn inner_products_do_not_depend_on_the_memory(device: impl Fn() -> Device) {
    for dtypes in [[BF16; 5], [F32, BF16, F16, F32, BF16]] {
        let stored = Stored::new(&dtypes);
        let pool = stored.pool();
        let (len, stride) = (stored.weights[0].len(), stored.weights[0].len().next_multiple_of(8));
        let gradients: Vec<f32> = (0..3 * stride).map(|i| ((i * 7919) % 1013) as f32 / 1013.0 - 0.4).collect();
        let products = |device: &mut Device, budget: u64| -> Vec<f64> {
            let buffer = device.alloc(stockpot::engine::device::DType::F32, 3 * stride).expect("memory");
            device.upload(&buffer, &gradients).expect("gradients");
            let sums = [sum(&[(1, 0.5), (3, 0.5)])];
            let mut merger = Merger::with_inner_products(device, &pool, &sums, budget).expect("memory");
            let model = Model::without_weights(device, pool.config()).expect("a model");
            // Between loads, as a search does.
            merger.load(device, 0, &model).expect("a merge");
            let rows = buffer.matrix(3, stride).col_range(0..len);
            let products = merger.inner_products(device, &rows).expect("products");
            merger.load(device, 0, &model).expect("a merge");
            assert_eq!(merger.inner_products(device, &rows).expect("products"), products);
            products
        };
        let slot = stored.bytes() * if dtypes == [BF16; 5] { 1 } else { 2 };
        let all = products(&mut device(), u64::MAX);
        // Halves of two and three parts for each of five rows, and slots for two.
        for budget in [slot * 5 / 2, slot * 9 / 5, slot * 5 - 1] {
            assert_eq!(products(&mut device(), budget), all, "{dtypes:?}, {budget} bytes");
        }
        let cpu = products(&mut Device::cpu(), 0);
        for (i, (ours, cpu)) in all.iter().zip(&cpu).enumerate() {
            let (gradient, checkpoint) = (&gradients[i / 5 * stride..][..len], &stored.weights[i % 5]);
            let product = |(g, x): (&f32, &f32)| f64::from(*g) * f64::from(*x);
            let expected: f64 = gradient.iter().zip(checkpoint).map(product).sum();
            let size: f64 = gradient.iter().zip(checkpoint).map(|p| product(p).abs()).sum();
            assert!((ours - expected).abs() < 1e-13 * size && (cpu - expected).abs() < 1e-13 * size, "product {i}");
        }
    }
}
