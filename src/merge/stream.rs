//! One pass over K checkpoints of P weights each: sum_k w_k * theta_k for M mixtures, in f64, terms in the order of each
//! mixture, rounded once to the output's type.
//!
//! The arena is dealt to the threads in tasks, and a task is done block by block: a block's elements are read where the
//! files are mapped, by every mixture in turn while they are in the core's cache, so that each checkpoint passes through
//! memory once, whatever M is. A thread's own memory is one block of sums and, for each mixture, the bytes of its
//! task's output, whatever K and P are. Elements are independent: the bits depend neither on the threads nor on how
//! the arena is cut.

use super::mixture::Mixture;
use super::pool::Pool;
use crate::checkpoint::WeightsFile;
use crate::error::{Error, Result};
use crate::model::Table;
use crate::ops::storage::{Values, first_not_finite, round_to_bytes, round_to_f32};
use crate::ops::weighted_sum::{add_terms, add_wide};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Elements of a task, over all mixtures: so many that the system's cost of a page, and of a write, is small.
const TASK: usize = 1 << 17;
/// The least elements of a task, however many mixtures there are.
const SMALLEST_TASK: usize = 1 << 12;
/// Elements whose sums are taken together, when there is one mixture.
const BLOCK: usize = 2048;
/// Elements of all checkpoints together that are widened for several mixtures: 128 KiB.
const WIDE: usize = 1 << 14;
/// The least elements of one checkpoint that are widened at a time, however many checkpoints there are.
const SMALLEST_BLOCK: usize = 64;

/// Elements of the arena from `start` on, in f32, as many as `out` has. Call [`Pool::check_unchanged`] after the last.
pub(super) fn to_memory(pool: &Pool, mixture: &Mixture, start: usize, out: &mut [f32]) -> Result<()> {
    let mixtures = std::slice::from_ref(mixture);
    out.par_chunks_mut(TASK).enumerate().try_for_each_init(Scratch::default, |scratch, (i, out)| {
        let range = start + i * TASK..start + i * TASK + out.len();
        let mut finite = true;
        sum(pool, mixtures, range.clone(), scratch, |_, block, sums| {
            finite &= round_to_f32(sums, &mut out[block.start - range.start..block.end - range.start]);
        });
        check(pool, mixtures, range.clone(), finite)?;
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
    let task = (TASK / mixtures.len()).max(SMALLEST_TASK);
    let done = AtomicU64::new(0);
    (0..table.len.div_ceil(task)).into_par_iter().try_for_each_init(Scratch::default, |scratch, i| {
        let range = i * task..table.len.min((i + 1) * task);
        let mut bytes = std::mem::take(&mut scratch.bytes);
        bytes.resize_with(mixtures.len(), Vec::new);
        bytes.iter_mut().zip(files).for_each(|(bytes, file)| bytes.resize(range.len() * file.dtype().bytes(), 0));
        let mut finite = true;
        sum(pool, mixtures, range.clone(), scratch, |m, block, sums| {
            let dtype = files[m].dtype();
            let (from, to) = (block.start - range.start, block.end - range.start);
            finite &= round_to_bytes(sums, dtype, &mut bytes[m][from * dtype.bytes()..to * dtype.bytes()]);
        });
        check(pool, mixtures, range.clone(), finite)?;
        for ((bytes, file), mixture) in bytes.iter().zip(files).zip(mixtures) {
            if !finite && let Some(j) = first_not_finite(file.dtype(), bytes) {
                return Err(file.not_stored(table, range.start + j, sum_of_one(pool, mixture, range.start + j)));
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

/// One thread's memory.
#[derive(Default)]
struct Scratch {
    /// A block of one mixture
    sums: Vec<f64>,
    /// A block of each checkpoint
    wide: Vec<f64>,
    /// Of each mixture
    bytes: Vec<Vec<u8>>,
}

/// Sums elements `range` of every mixture and hands them out: the mixture, the elements, their sums. What was read where a
/// file had been cut short are zeros: [`check`] tells.
fn sum(
    pool: &Pool,
    mixtures: &[Mixture],
    range: Range<usize>,
    scratch: &mut Scratch,
    mut take: impl FnMut(usize, Range<usize>, &[f64]),
) {
    let checkpoints = pool.checkpoints();
    let mut used = vec![false; checkpoints.len()];
    mixtures.iter().flat_map(|m| &m.terms).for_each(|&(k, _)| used[k] = true);
    for piece in checkpoints[0].pieces(range) {
        let stored = |k: usize| if used[k] { checkpoints[k].stored(piece.clone()) } else { Values::F32(&[]) };
        let stored: Vec<Values> = (0..checkpoints.len()).map(stored).collect();
        match mixtures {
            [mixture] => one(mixture, &stored, piece, scratch, |block, sums| take(0, block, sums)),
            _ => several(mixtures, &stored, &used, piece, scratch, &mut take),
        }
    }
}

/// Sums of one mixture in one tensor, straight from the stored values.
fn one(
    mixture: &Mixture,
    stored: &[Values],
    piece: Range<usize>,
    scratch: &mut Scratch,
    mut take: impl FnMut(Range<usize>, &[f64]),
) {
    let mut terms: Vec<(Values, f64)> = Vec::with_capacity(mixture.terms.len());
    for block in blocks(piece.clone(), BLOCK) {
        let at = block.start - piece.start..block.end - piece.start;
        terms.clear();
        terms.extend(mixture.terms.iter().map(|&(k, weight)| (stored[k].slice(at.clone()), weight)));
        scratch.sums.resize(block.len(), 0.0);
        add_terms(&terms, true, &mut scratch.sums);
        take(block, &scratch.sums);
    }
}

/// Sums of several mixtures in one tensor: each checkpoint's values are widened to f64 once for all.
fn several(
    mixtures: &[Mixture],
    stored: &[Values],
    used: &[bool],
    piece: Range<usize>,
    scratch: &mut Scratch,
    take: &mut impl FnMut(usize, Range<usize>, &[f64]),
) {
    let Scratch { sums, wide, .. } = scratch;
    let size = (WIDE / stored.len()).clamp(SMALLEST_BLOCK, BLOCK);
    wide.resize(size * stored.len(), 0.0);
    for block in blocks(piece.clone(), size) {
        let n = block.len();
        let at = block.start - piece.start..block.end - piece.start;
        for ((values, wide), _) in stored.iter().zip(wide.chunks_mut(size)).zip(used).filter(|(_, used)| **used) {
            values.slice(at.clone()).widen_to_f64(&mut wide[..n]);
        }
        let mut terms: Vec<(&[f64], f64)> = Vec::new();
        sums.resize(n, 0.0);
        for (m, mixture) in mixtures.iter().enumerate() {
            terms.clear();
            terms.extend(mixture.terms.iter().map(|&(k, weight)| (&wide[k * size..][..n], weight)));
            add_wide(&terms, true, sums);
            take(m, block.clone(), sums);
        }
    }
}

fn blocks(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(size).map(move |start| start..range.end.min(start + size))
}

/// Refuses sums of elements `range` for which bytes were missing; where some were not `finite`, names the checkpoint and
/// tensor at fault, if one is. A weight that is not finite leaves a sum that is not: 0 * inf is NaN, as are inf - inf and
/// NaN + x.
fn check(pool: &Pool, mixtures: &[Mixture], range: Range<usize>, finite: bool) -> Result<()> {
    let used = |k: &usize| mixtures.iter().any(|m| m.terms.iter().any(|term| term.0 == *k));
    let checkpoints = pool.checkpoints();
    checkpoints.iter().try_for_each(|c| c.check_readable())?;
    if finite {
        return Ok(());
    }
    (0..checkpoints.len()).filter(used).try_for_each(|k| checkpoints[k].check_finite_in(range.clone()))
}

fn sum_of_one(pool: &Pool, mixture: &Mixture, i: usize) -> f64 {
    let mut sum = [0.0];
    let terms: Vec<(Values, f64)> =
        mixture.terms.iter().map(|&(k, weight)| (pool.checkpoints()[k].stored(i..i + 1), weight)).collect();
    add_terms(&terms, true, &mut sum);
    sum[0]
}

pub(super) fn overflow(table: &Table, i: usize) -> Error {
    let parameter = &table.parameters[table.parameters.partition_point(|p| p.range().end <= i)];
    Error::numeric("the weighted sum overflows").tensor(&parameter.name).fix("use smaller weights")
}
