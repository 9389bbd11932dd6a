//! One pass over K checkpoints of P weights each: sum_k w_k * theta_k for M mixtures, in f64, terms in the order of
//! the mixture, rounded once to the output's type.
//!
//! Chunks of a fixed number of elements are dealt to the threads. For each chunk every checkpoint is read once and
//! added to all mixtures that hold it, so memory is (8 M + a few) bytes per element of a chunk and thread, whatever K
//! and P are. Elements are independent: the bits depend neither on the threads nor on the chunks.

use super::plan::{self, Mixture, Plan};
use crate::checkpoint::{CHUNK, Reader, StorageDType, WeightsFile, copy_companions};
use crate::error::{Error, Result};
use crate::files;
use crate::model::Table;
use crate::ops::merge::{all_finite, first_not_finite, round_to_bytes, round_to_f32};
use rayon::prelude::*;
use serde::Serialize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default, Clone, Copy)]
pub struct MergeOptions<'a> {
    /// Divide the weights by their sum, which otherwise must be 1.
    pub normalize: bool,
    /// Type of the output; by default that of the inputs when they agree, else f32.
    pub dtype: Option<StorageDType>,
    /// Told, by any thread, how many of the P elements are done.
    pub progress: Option<&'a (dyn Fn(u64, u64) + Sync)>,
}

/// What a merge did, and exactly with which weights: also the contents of the output's `merge.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MergeReport {
    pub method: &'static str,
    /// In the order of summation, with the weights that were used.
    pub members: Vec<MergeMember>,
    /// Whether the weights given were divided by their sum.
    pub normalized: bool,
    pub dtype: StorageDType,
    /// P
    pub parameters: usize,
    pub bytes_read: u64,
    pub bytes_written: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MergeMember {
    /// As given
    pub path: PathBuf,
    /// As used
    pub weight: f64,
    /// As given
    pub given: f64,
}

/// Writes the weighted average of checkpoints as a checkpoint directory `out`, whole or not at all, with the first
/// member's config and tokenizer and a `merge.json` that says what was done. A full `out` is replaced only if it is an
/// earlier merge.
pub fn merge_to_directory(members: &[(PathBuf, f64)], out: &Path, options: &MergeOptions) -> Result<MergeReport> {
    let given: Vec<f64> = members.iter().map(|m| m.1).collect();
    let used = if options.normalize { plan::normalized(&given)? } else { given.clone() };
    let members: Vec<(PathBuf, f64)> = members.iter().zip(&used).map(|(m, &w)| (m.0.clone(), w)).collect();
    let plan = Plan::of_one(&members)?;
    check_output(&members, out)?;
    let sources: Vec<&Reader> = plan.sources.iter().collect();
    let table = sources[0].table();
    let agreed = sources[0].dtype().filter(|d| sources.iter().all(|s| s.dtype() == Some(*d)));
    let dtype = options.dtype.or(agreed).unwrap_or(StorageDType::F32);
    let report = MergeReport {
        method: "linear",
        members: members
            .iter()
            .zip(&given)
            .map(|((path, weight), &given)| MergeMember { path: path.clone(), weight: *weight, given })
            .collect(),
        normalized: options.normalize,
        dtype,
        parameters: table.len,
        bytes_read: sources.iter().map(|s| s.bytes()).sum(),
        bytes_written: (table.len * dtype.bytes()) as u64,
    };
    files::write_directory_atomic(out, |directory| {
        let file = WeightsFile::create(directory, table, dtype)?;
        to_files(&sources, &plan.mixtures, &[file], dtype, options.progress)?;
        copy_companions(sources[0].directory(), directory, dtype)?;
        let json = serde_json::to_string_pretty(&report)
            .map_err(|e| Error::input(format!("merge.json cannot be written: {e}")).at(out))?;
        let path = directory.join("merge.json");
        std::fs::write(&path, json + "\n").map_err(|e| Error::io("write", &path, &e))
    })?;
    Ok(report)
}

/// Refuses to write over a member, or over a directory that is no earlier merge.
fn check_output(members: &[(PathBuf, f64)], out: &Path) -> Result<()> {
    let Ok(here) = out.canonicalize() else { return Ok(()) };
    if members.iter().any(|(path, _)| path.canonicalize().is_ok_and(|p| p == here)) {
        return Err(Error::usage("the output of a merge cannot be one of its inputs")
            .at(out)
            .fix("choose another --out"));
    }
    let empty = std::fs::read_dir(&here).is_ok_and(|mut entries| entries.next().is_none());
    if empty || here.join("merge.json").exists() {
        return Ok(());
    }
    Err(Error::usage("the output of a merge exists and is not an earlier merge")
        .at(out)
        .fix("choose another --out, or remove it first"))
}

pub(super) fn to_memory(sources: &[&Reader], mixture: &Mixture, out: &mut [f32]) -> Result<()> {
    assert_eq!(out.len(), sources[0].table().len, "one value for each weight");
    out.par_chunks_mut(CHUNK).enumerate().try_for_each_init(Scratch::default, |scratch, (i, out)| {
        let range = i * CHUNK..i * CHUNK + out.len();
        sum_chunk(sources, std::slice::from_ref(mixture), range.clone(), scratch)?;
        round_to_f32(&scratch.sums[0], out);
        match out.iter().position(|x| !x.is_finite()) {
            Some(j) => Err(overflow(sources[0].table(), range.start + j)),
            None => Ok(()),
        }
    })?;
    sources.iter().try_for_each(|s| s.check_unchanged())
}

/// Mixture m goes to `files[m]`.
fn to_files(
    sources: &[&Reader],
    mixtures: &[Mixture],
    files: &[WeightsFile],
    dtype: StorageDType,
    progress: Option<&(dyn Fn(u64, u64) + Sync)>,
) -> Result<()> {
    let table = sources[0].table();
    let done = AtomicU64::new(0);
    (0..table.len.div_ceil(CHUNK)).into_par_iter().try_for_each_init(Scratch::default, |scratch, i| {
        let range = i * CHUNK..table.len.min((i + 1) * CHUNK);
        sum_chunk(sources, mixtures, range.clone(), scratch)?;
        let Scratch { sums, bytes, widened, .. } = scratch;
        for (sum, file) in sums.iter().zip(files) {
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
    sources.iter().try_for_each(|s| s.check_unchanged())
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
fn sum_chunk(sources: &[&Reader], mixtures: &[Mixture], range: Range<usize>, scratch: &mut Scratch) -> Result<()> {
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
