//! Tests of src/engine/merge on the CPU: bit-identical to a plain f64 average, and refusals that
//! must name the cause. tests/kernels/merger.rs tests merges with kernels.

mod pool;
mod recipe;
mod stream;
mod weighted_sum;
mod weights;
mod write;

use rand::{Rng, SeedableRng};
use std::fs;
use std::path::{Path, PathBuf};
use stockpot::engine::checkpoint::{Reader, StorageDType, write_model};
use stockpot::engine::device::Device;
use stockpot::engine::merge::{
    MergeJob, MergePartition, MergeReport, Merger, Pool, Scheme, WeightedSum, Weights, write_merges,
};
use stockpot::engine::model::{Architecture, Config, Model, Table};
use stockpot::error::Result;
use tempfile::TempDir;

/// Two chunks and a part, with tensors that cross their boundaries.
fn config() -> Config {
    Config {
        architecture: Architecture::Olmo2,
        width: 64,
        layers: 3,
        heads: 4,
        kv_heads: 2,
        head_width: 16,
        feed_forward: 168,
        vocabulary: 257,
        context: 32,
        tied: false,
        rope_base: 10000.0,
        norm_epsilon: 1e-6,
        init_std: 0.02,
        eos: 0,
    }
}

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| (rng.random::<f32>() - 0.5) * 2f32.powi(rng.random_range(-12..2))).collect()
}

/// Random checkpoints `a`, `b`, ... of these types, and the weights as stored.
fn checkpoints(dtypes: &[StorageDType]) -> (TempDir, Vec<PathBuf>, Vec<Vec<f32>>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut paths, mut stored) = (Vec::new(), Vec::new());
    for (i, dtype) in dtypes.iter().enumerate() {
        let path = dir.path().join(format!("{}", (b'a' + i as u8) as char));
        fs::create_dir(&path).unwrap();
        let values = random(Table::new(&config()).len, 10 + i as u64);
        write_model(&path, &config(), &values, *dtype, None).unwrap();
        let mut weights = vec![0.0; values.len()];
        Reader::open(&path).unwrap().read_weights(&mut weights).unwrap();
        paths.push(path);
        stored.push(weights);
    }
    (dir, paths, stored)
}

fn members(paths: &[PathBuf], weights: &[f64]) -> Vec<(PathBuf, f64)> {
    paths.iter().cloned().zip(weights.iter().copied()).collect()
}

/// sum_k w_k x_k in f64, in this order: the plainest loop.
fn plain(stored: &[Vec<f32>], weights: &[f64]) -> Vec<f64> {
    (0..stored[0].len())
        .map(|i| {
            let mut sum = weights[0] * f64::from(stored[0][i]);
            for k in 1..stored.len() {
                sum += weights[k] * f64::from(stored[k][i]);
            }
            sum
        })
        .collect()
}

fn merge(members: &[(PathBuf, f64)], out: &Path, dtype: Option<StorageDType>) -> Result<MergeReport> {
    write(members, out, dtype, false)
}

fn write(members: &[(PathBuf, f64)], out: &Path, dtype: Option<StorageDType>, normalize: bool) -> Result<MergeReport> {
    let partitions: Vec<MergePartition> = members.iter().map(|(path, _)| MergePartition::of_one(path)).collect();
    let given = Scheme::Given(members.iter().map(|member| member.1).collect());
    let weights = Weights::new(&partitions, &given, normalize, None)?;
    let merge = MergeJob { weights, dtype, companions: 0, recipe: None, out: out.to_path_buf() };
    Ok(write_merges(&[merge], None)?.reports.remove(0))
}

fn data(directory: &Path) -> Vec<u8> {
    let bytes = fs::read(directory.join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

fn refused<T>(result: stockpot::error::Result<T>, parts: &[&str]) {
    let Err(error) = result else { panic!("accepted, but should name {parts:?}") };
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

const BF16: StorageDType = StorageDType::Bf16;

const F16: StorageDType = StorageDType::F16;

const F32: StorageDType = StorageDType::F32;

/// (P): the average in a model's memory.
fn in_memory(pool: &Pool, sum: &WeightedSum) -> Result<Vec<f32>> {
    let mut device = Device::cpu();
    let model = Model::without_weights(&mut device, pool.config())?;
    Merger::new(&mut device, pool, std::slice::from_ref(sum), 0)?.load(&mut device, 0, &model)?;
    device.to_vec(&model.master)
}

fn average(members: &[(PathBuf, f64)]) -> Result<(Config, Vec<f32>)> {
    let (pool, sum) = Pool::of_one(members)?;
    Ok((pool.config().clone(), in_memory(&pool, &sum)?))
}
