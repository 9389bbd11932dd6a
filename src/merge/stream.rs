//! One pass over K checkpoints of P weights each: sum_k w_k * theta_k for M mixtures, in f64, terms in the order of
//! the mixture, rounded once to the output's type.
//!
//! Chunks of a fixed number of elements are dealt to the threads. For each chunk every checkpoint is read once and
//! added to all mixtures that hold it, so memory is (8 M + a few) bytes per element of a chunk and thread, whatever K
//! and P are. Elements are independent: the bits depend neither on the threads nor on the chunks.

use super::mixture::Mixture;
use super::pool::Pool;
use crate::checkpoint::{CHUNK, Reader, WeightsFile};
use crate::error::{Error, Result};
use crate::model::Table;
use crate::ops::storage::{all_finite, first_not_finite, round_to_bytes, round_to_f32};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Elements of the arena from `start` on, in f32, as many as `out` has. Call [`Pool::check_unchanged`] after the last.
pub(super) fn to_memory(pool: &Pool, mixture: &Mixture, start: usize, out: &mut [f32]) -> Result<()> {
    out.par_chunks_mut(CHUNK).enumerate().try_for_each_init(Scratch::default, |scratch, (i, out)| {
        let range = start + i * CHUNK..start + i * CHUNK + out.len();
        sum_chunk(pool.checkpoints(), std::slice::from_ref(mixture), range.clone(), scratch)?;
        round_to_f32(&scratch.sums[0], out);
        match out.iter().position(|x| !x.is_finite()) {
            Some(j) => Err(overflow(pool.table(), range.start + j)),
            None => Ok(()),
        }
    })
}

/// Mixture m goes to `files[m]`, in that file's type. `progress` is told, by any thread, how many of the P elements are
/// done. Fails when a checkpoint changed meanwhile.
pub(super) fn to_files(
    pool: &Pool,
    mixtures: &[Mixture],
    files: &[WeightsFile],
    progress: Option<&(dyn Fn(u64, u64) + Sync)>,
) -> Result<()> {
    let table = pool.table();
    let done = AtomicU64::new(0);
    (0..table.len.div_ceil(CHUNK)).into_par_iter().try_for_each_init(Scratch::default, |scratch, i| {
        let range = i * CHUNK..table.len.min((i + 1) * CHUNK);
        sum_chunk(pool.checkpoints(), mixtures, range.clone(), scratch)?;
        let Scratch { sums, bytes, widened, .. } = scratch;
        for (sum, file) in sums.iter().zip(files) {
            let dtype = file.dtype();
            bytes.clear();
            round_to_bytes(sum, dtype, widened, bytes);
            if let Some(j) = first_not_finite(dtype, bytes) {
                return Err(file.not_stored(table, range.start + j, sum[j]));
            }
            file.write(range.start, bytes)?;
        }
        if let Some(progress) = progress {
            let n = range.len() as u64;
            progress(done.fetch_add(n, Ordering::Relaxed) + n, table.len as u64);
        }
        Ok(())
    })?;
    pool.check_unchanged()
}

/// One thread's memory.
#[derive(Default)]
struct Scratch {
    /// M sums of a chunk's elements
    sums: Vec<Vec<f64>>,
    stored: Vec<f32>,
    widened: Vec<f32>,
    bytes: Vec<u8>,
}

/// Sums elements `range` of every mixture into `scratch.sums`.
fn sum_chunk(sources: &[Reader], mixtures: &[Mixture], range: Range<usize>, scratch: &mut Scratch) -> Result<()> {
    let Scratch { sums, stored, widened, .. } = scratch;
    sums.resize_with(mixtures.len(), Vec::new);
    sums.iter_mut().for_each(|sum| sum.resize(range.len(), 0.0));
    for (k, source) in sources.iter().enumerate() {
        source.visit(range.clone(), stored, |at, values| {
            for (mixture, sum) in mixtures.iter().zip(&mut *sums) {
                let sum = &mut sum[at..at + values.len()];
                for (i, &(_, weight)) in mixture.terms.iter().enumerate().filter(|(_, term)| term.0 == k) {
                    values.add_to(sum, weight, i == 0, widened);
                }
            }
        })?;
    }
    // A weight that is not finite leaves a sum that is not (0 * inf is NaN, as are inf - inf and NaN + x): only then
    // are the checkpoints searched for it.
    if sums.iter().all(|sum| all_finite(sum)) {
        return Ok(());
    }
    sources.iter().try_for_each(|s| s.check_finite_in(range.clone()))?;
    let bad = sums.iter().find_map(|sum| sum.iter().position(|x| !x.is_finite()));
    Err(overflow(sources[0].table(), range.start + bad.unwrap_or(0)))
}

pub(super) fn overflow(table: &Table, i: usize) -> Error {
    let parameter = &table.parameters[table.parameters.partition_point(|p| p.range().end <= i)];
    Error::numeric("the weighted sum overflows").tensor(&parameter.name).fix("use smaller weights")
}
