//! A merge as a checkpoint directory.

use super::mixture::normalized;
use super::pool::Pool;
use super::stream::to_files;
use crate::checkpoint::{StorageDType, WeightsFile, copy_companions};
use crate::error::{Error, Result};
use crate::files;
use serde::Serialize;
use std::path::{Path, PathBuf};

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
    let used = if options.normalize { normalized(&given)? } else { given.clone() };
    let members: Vec<(PathBuf, f64)> = members.iter().zip(&used).map(|(m, &w)| (m.0.clone(), w)).collect();
    let (pool, mixture) = Pool::of_one(&members)?;
    check_output(&members, out)?;
    let (sources, table) = (pool.checkpoints(), pool.table());
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
        to_files(&pool, std::slice::from_ref(&mixture), &[file], options.progress)?;
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
