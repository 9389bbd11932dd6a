//! One pass over K checkpoints of P weights each: M sums of w_k * theta_k, in f64, terms in the
//! order of each sum, rounded once to the output's type.
//!
//! The arena is divided into tasks for the threads, and a task into blocks. Every sum in turn reads
//! a block's elements from the mapped files while they are in the core's cache, so each checkpoint
//! passes through memory once, whatever M is. A thread's own memory is one block of values and, for
//! each sum, the bytes of its task's output, whatever K and P are. Elements are independent: the
//! bits depend neither on the threads nor on how the arena is divided.

use super::pool::Pool;
use super::weighted_sum::WeightedSum;
use crate::engine::checkpoint::WeightsFile;
use crate::engine::model::Table;
use crate::engine::ops::cpu_merge::{add_terms, add_wide};
use crate::engine::ops::dtype_convert::{Values, first_not_finite, round_to_bytes, round_to_f32};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Elements of a task, over all sums: enough that the system's cost of a page, and of a write, is
/// small.
const TASK: usize = 1 << 17;
/// The fewest elements of a task, however many sums there are.
const SMALLEST_TASK: usize = 1 << 12;
/// Elements that are summed together if there is one sum.
const BLOCK: usize = 2048;
/// Elements of all checkpoints together that are widened at a time for several sums: 128 KiB.
const WIDE: usize = 1 << 14;
/// The fewest elements of one checkpoint that are widened at a time, however many checkpoints there
/// are.
const SMALLEST_BLOCK: usize = 64;

/// Computes the elements of `sum` from `start` on in f32, as many as `out` has. Call
/// [`Pool::check_unchanged`] after the last call.
pub fn to_memory(pool: &Pool, sum: &WeightedSum, start: usize, out: &mut [f32]) -> Result<()> {
    let sums = std::slice::from_ref(sum);
    out.par_chunks_mut(TASK).enumerate().try_for_each_init(StreamScratch::default, |scratch, (i, out)| {
        let range = start + i * TASK..start + i * TASK + out.len();
        let mut finite = true;
        add_up(pool, sums, range.clone(), scratch, |_, block, values| {
            finite &= round_to_f32(values, &mut out[block.start - range.start..block.end - range.start]);
        });
        check(pool, sums, range.clone(), finite)?;
        match out.iter().position(|x| !x.is_finite()) {
            Some(j) => Err(overflow(pool.table(), range.start + j)),
            None => Ok(()),
        }
    })
}

/// Writes sum m to `files[m]`, in that file's type. `progress` is called by any thread with the
/// number of elements that are done and the total, P. Fails if a checkpoint changed in the
/// meantime.
pub fn to_files(
    pool: &Pool,
    sums: &[WeightedSum],
    files: &[WeightsFile],
    progress: Option<&(dyn Fn(u64, u64) + Sync)>,
) -> Result<()> {
    let table = pool.table();
    let task = (TASK / sums.len()).max(SMALLEST_TASK);
    let done = AtomicU64::new(0);
    (0..table.len.div_ceil(task)).into_par_iter().try_for_each_init(StreamScratch::default, |scratch, i| {
        let range = i * task..table.len.min((i + 1) * task);
        let mut bytes = std::mem::take(&mut scratch.bytes);
        bytes.resize_with(sums.len(), Vec::new);
        bytes.iter_mut().zip(files).for_each(|(bytes, file)| bytes.resize(range.len() * file.dtype().bytes(), 0));
        let mut finite = true;
        add_up(pool, sums, range.clone(), scratch, |m, block, values| {
            let dtype = files[m].dtype();
            let (from, to) = (block.start - range.start, block.end - range.start);
            finite &= round_to_bytes(values, dtype, &mut bytes[m][from * dtype.bytes()..to * dtype.bytes()]);
        });
        check(pool, sums, range.clone(), finite)?;
        for ((bytes, file), sum) in bytes.iter().zip(files).zip(sums) {
            if !finite && let Some(j) = first_not_finite(file.dtype(), bytes) {
                return Err(file.not_stored(table, range.start + j, value_of(pool, sum, range.start + j)));
            }
            file.write(range.start, bytes)?;
        }
        scratch.bytes = bytes;
        if let Some(progress) = progress {
            let n = range.len() as u64;
            progress(done.fetch_add(n, Ordering::Relaxed) + n, table.len as u64);
        }
        Ok(())
    })?;
    pool.check_unchanged()
}

/// Passes the f64 values of every sum to `take`, block by block, from any thread: the index of the
/// sum, the elements, their values. `take` returns whether they are finite. The values are valid
/// only once this has returned without an error.
pub fn for_each_block(
    pool: &Pool,
    sums: &[WeightedSum],
    take: impl Fn(usize, Range<usize>, &[f64]) -> bool + Sync,
) -> Result<()> {
    let length = pool.table().len;
    (0..length.div_ceil(TASK)).into_par_iter().try_for_each_init(StreamScratch::default, |scratch, i| {
        let range = i * TASK..length.min((i + 1) * TASK);
        let mut finite = true;
        add_up(pool, sums, range.clone(), scratch, |m, block, values| {
            finite &= take(m, block, values);
        });
        check(pool, sums, range, finite)
    })?;
    pool.check_unchanged()
}

/// One thread's memory.
#[derive(Default)]
struct StreamScratch {
    /// A block of one sum
    values: Vec<f64>,
    /// A block of each checkpoint
    wide: Vec<f64>,
    /// Output bytes of each sum
    bytes: Vec<Vec<u8>>,
}

/// Computes elements `range` of every sum and passes them to `take`: the index of the sum, the
/// elements, their values. A truncated file reads as zeros: [`check`] detects that.
fn add_up(
    pool: &Pool,
    sums: &[WeightedSum],
    range: Range<usize>,
    scratch: &mut StreamScratch,
    mut take: impl FnMut(usize, Range<usize>, &[f64]),
) {
    let checkpoints = pool.checkpoints();
    let mut used = vec![false; checkpoints.len()];
    sums.iter().flat_map(|m| &m.terms).for_each(|&(k, _)| used[k] = true);
    for piece in checkpoints[0].pieces(range) {
        let stored = |k: usize| if used[k] { checkpoints[k].stored(piece.clone()) } else { Values::F32(&[]) };
        let stored: Vec<Values> = (0..checkpoints.len()).map(stored).collect();
        match sums {
            [sum] => one(sum, &stored, piece, scratch, |block, values| take(0, block, values)),
            _ => several(sums, &stored, &used, piece, scratch, &mut take),
        }
    }
}

/// One sum within one tensor, directly from the stored values.
fn one(
    sum: &WeightedSum,
    stored: &[Values],
    piece: Range<usize>,
    scratch: &mut StreamScratch,
    mut take: impl FnMut(Range<usize>, &[f64]),
) {
    let mut terms: Vec<(Values, f64)> = Vec::with_capacity(sum.terms.len());
    for block in blocks(piece.clone(), BLOCK) {
        let at = block.start - piece.start..block.end - piece.start;
        terms.clear();
        terms.extend(sum.terms.iter().map(|&(k, weight)| (stored[k].slice(at.clone()), weight)));
        scratch.values.resize(block.len(), 0.0);
        add_terms(&terms, true, &mut scratch.values);
        take(block, &scratch.values);
    }
}

/// Several sums within one tensor: each checkpoint's values are widened to f64 once for all.
fn several(
    sums: &[WeightedSum],
    stored: &[Values],
    used: &[bool],
    piece: Range<usize>,
    scratch: &mut StreamScratch,
    take: &mut impl FnMut(usize, Range<usize>, &[f64]),
) {
    let StreamScratch { values, wide, .. } = scratch;
    let size = (WIDE / stored.len()).clamp(SMALLEST_BLOCK, BLOCK);
    wide.resize(size * stored.len(), 0.0);
    for block in blocks(piece.clone(), size) {
        let n = block.len();
        let at = block.start - piece.start..block.end - piece.start;
        for ((stored, wide), _) in stored.iter().zip(wide.chunks_mut(size)).zip(used).filter(|(_, used)| **used) {
            stored.slice(at.clone()).widen_to_f64(&mut wide[..n]);
        }
        let mut terms: Vec<(&[f64], f64)> = Vec::new();
        values.resize(n, 0.0);
        for (m, sum) in sums.iter().enumerate() {
            terms.clear();
            terms.extend(sum.terms.iter().map(|&(k, weight)| (&wide[k * size..][..n], weight)));
            add_wide(&terms, true, values);
            take(m, block.clone(), values);
        }
    }
}

fn blocks(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(size).map(move |start| start..range.end.min(start + size))
}

/// Refuses sums of elements `range` if bytes could not be read; if some were not `finite`, also
/// refuses a checkpoint that is not finite, by tensor. A weight that is not finite makes its sum
/// not finite: 0 * inf is NaN, as are inf - inf and NaN + x.
fn check(pool: &Pool, sums: &[WeightedSum], range: Range<usize>, finite: bool) -> Result<()> {
    let used = |k: &usize| sums.iter().any(|m| m.terms.iter().any(|term| term.0 == *k));
    let checkpoints = pool.checkpoints();
    checkpoints.iter().try_for_each(|c| c.check_readable())?;
    if finite {
        return Ok(());
    }
    (0..checkpoints.len()).filter(used).try_for_each(|k| checkpoints[k].check_finite_in(range.clone()))
}

fn value_of(pool: &Pool, sum: &WeightedSum, i: usize) -> f64 {
    let mut value = [0.0];
    let terms: Vec<(Values, f64)> =
        sum.terms.iter().map(|&(k, weight)| (pool.checkpoints()[k].stored(i..i + 1), weight)).collect();
    add_terms(&terms, true, &mut value);
    value[0]
}

pub(super) fn overflow(table: &Table, i: usize) -> Error {
    let parameter = &table.parameters[table.parameters.partition_point(|p| p.range().end <= i)];
    Error::numeric("the weighted sum overflows").tensor(&parameter.name).fix("use smaller weights")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::checkpoint::{StorageDType, write_model};
    use crate::engine::model::{Architecture, Config};
    use half::{bf16, f16};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use safetensors::tensor::TensorView;
    use std::fs;
    use std::path::{Path, PathBuf};

    const DTYPES: [StorageDType; 3] = [StorageDType::F32, StorageDType::Bf16, StorageDType::F16];

    fn config(rng: &mut ChaCha8Rng) -> Config {
        let (kv_heads, head_width) = (rng.random_range(1..3), 8 * rng.random_range(1..3));
        let heads = kv_heads * rng.random_range(1..3);
        Config {
            architecture: if rng.random() { Architecture::Olmo2 } else { Architecture::Llama },
            width: 8 * rng.random_range(1..6),
            layers: rng.random_range(1..4),
            heads,
            kv_heads,
            head_width,
            feed_forward: 8 * rng.random_range(1..9),
            vocabulary: rng.random_range(2..5000),
            context: 8,
            tied: rng.random(),
            rope_base: 10000.0,
            norm_epsilon: 1e-6,
            init_std: 0.02,
            eos: 0,
        }
    }

    /// Splits `model.safetensors` into two shards, with a header length that puts their numbers at
    /// odd addresses.
    fn cut_in_shards(directory: &Path) {
        let whole = directory.join("model.safetensors");
        let bytes = fs::read(&whole).expect("a file");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
        let names = tensors.names();
        let mut map = serde_json::Map::new();
        for (i, part) in names.chunks(names.len().div_ceil(2)).enumerate() {
            let name = format!("model-0000{}-of-00002.safetensors", i + 1);
            let views: Vec<(&str, TensorView)> =
                part.iter().map(|n| (*n, tensors.tensor(n).expect("a tensor"))).collect();
            part.iter().for_each(|n| drop(map.insert(n.to_string(), name.clone().into())));
            let shard = safetensors::serialize(views, None).expect("a shard");
            let length = u64::from_le_bytes(shard[..8].try_into().expect("eight")) + 1;
            let shard =
                [&length.to_le_bytes()[..], &shard[8..7 + length as usize], b" ", &shard[7 + length as usize..]];
            fs::write(directory.join(name), shard.concat()).expect("written");
        }
        let index = serde_json::json!({"weight_map": map}).to_string();
        fs::write(directory.join("model.safetensors.index.json"), index).expect("written");
        fs::remove_file(whole).expect("removed");
    }

    /// The nearest value of `dtype`, by comparing candidates in f64: independent of the code under
    /// test.
    fn nearest(x: f64, dtype: StorageDType) -> Vec<u8> {
        let widen = |bits: u16| match dtype {
            StorageDType::Bf16 => bf16::from_bits(bits).to_f64(),
            _ => f16::from_bits(bits).to_f64(),
        };
        let near = match dtype {
            StorageDType::F32 => return (x as f32).to_le_bytes().to_vec(),
            StorageDType::Bf16 => bf16::from_f32(x as f32).to_bits(),
            StorageDType::F16 => f16::from_f32(x as f32).to_bits(),
        };
        let candidates = [near.wrapping_sub(1), near, near.wrapping_add(1)].into_iter();
        let valid = candidates.filter(|b| widen(*b).is_finite() && (b ^ near) & 0x8000 == 0);
        let distance = |b: &u16| (widen(*b) - x).abs();
        let best = valid.min_by(|a, b| distance(a).total_cmp(&distance(b)).then((a & 1).cmp(&(b & 1))));
        best.expect("a neighbour").to_le_bytes().to_vec()
    }

    /// Random shapes, architectures, types, shards, K and M; every output, from a shared pass, from
    /// its own pass and in memory, has the bits of the plain f64 loop rounded once.
    #[test]
    fn every_pass_has_the_bits_of_the_plain_loop() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for case in 0..25 {
            let directory = tempfile::tempdir().expect("a directory");
            let config = config(&mut rng);
            let table = Table::new(&config);
            let (k, m) = (rng.random_range(1..21), rng.random_range(1..6));
            let mut stored: Vec<Vec<f32>> = Vec::new();
            let paths: Vec<PathBuf> = (0..k).map(|i| directory.path().join(i.to_string())).collect();
            for path in &paths {
                fs::create_dir(path).expect("a directory");
                let values: Vec<f32> =
                    (0..table.len).map(|_| (rng.random::<f32>() - 0.5) * 2f32.powi(rng.random_range(-18..3))).collect();
                write_model(path, &config, &values, DTYPES[rng.random_range(0..3)], None).expect("written");
                let mut weights = vec![0.0; table.len];
                crate::engine::checkpoint::Reader::open(path)
                    .expect("opens")
                    .read_weights(&mut weights)
                    .expect("reads");
                stored.push(weights);
                if rng.random() {
                    cut_in_shards(path);
                }
            }
            let sums: Vec<WeightedSum> = (0..m)
                .map(|_| {
                    let n = rng.random_range(1..=k + 2);
                    let terms = (0..n).map(|_| (rng.random_range(0..k), rng.random::<f64>() * 1.5 - 0.5));
                    WeightedSum { terms: terms.collect() }
                })
                .collect();
            let expected: Vec<Vec<f64>> = sums
                .iter()
                .map(|sum| {
                    let at = |(k, weight): (usize, f64), i: usize| weight * f64::from(stored[k][i]);
                    let (first, rest) = sum.terms.split_first().expect("a term");
                    let sum = |i| rest.iter().fold(at(*first, i), |sum, term| sum + at(*term, i));
                    (0..table.len).map(sum).collect()
                })
                .collect();
            let pool = Pool::open(&paths).expect("a pool");
            let dtypes: Vec<StorageDType> = (0..m).map(|_| DTYPES[rng.random_range(0..3)]).collect();
            let out = |what: &str, m: usize| {
                let path = directory.path().join(format!("{what}{m}"));
                fs::create_dir(&path).expect("a directory");
                path
            };
            let data = |path: &Path, dtype: StorageDType| {
                let bytes = fs::read(path.join("model.safetensors")).expect("a file");
                bytes[bytes.len() - table.len * dtype.bytes()..].to_vec()
            };
            let together: Vec<PathBuf> = (0..m).map(|m| out("together", m)).collect();
            let files: Vec<WeightsFile> =
                (0..m).map(|m| WeightsFile::create(&together[m], &table, dtypes[m]).expect("created")).collect();
            to_files(&pool, &sums, &files, None).expect("a pass");
            for m in 0..m {
                let bytes: Vec<u8> = expected[m].iter().flat_map(|&x| nearest(x, dtypes[m])).collect();
                assert!(data(&together[m], dtypes[m]) == bytes, "case {case}, sum {m} of one pass, {:?}", dtypes[m]);
                let alone = out("alone", m);
                let file = WeightsFile::create(&alone, &table, dtypes[m]).expect("created");
                to_files(&pool, &sums[m..m + 1], &[file], None).expect("a pass");
                assert!(data(&alone, dtypes[m]) == bytes, "case {case}, sum {m} of its own pass");
                let cut = rng.random_range(0..table.len);
                let mut memory = vec![0.0; table.len];
                let (begin, end) = memory.split_at_mut(cut);
                to_memory(&pool, &sums[m], 0, begin).expect("a pass");
                to_memory(&pool, &sums[m], cut, end).expect("a pass");
                let bits = |x: &f32| x.to_bits();
                let expected: Vec<u32> = expected[m].iter().map(|&x| (x as f32).to_bits()).collect();
                assert!(memory.iter().map(bits).collect::<Vec<_>>() == expected, "case {case}, sum {m} in memory");
            }
        }
    }
}
