//! Writes merges as checkpoint directories, any number of them in one pass over the checkpoints.

use super::pool::Pool;
use super::stream::to_files;
use super::weights::Weights;
use crate::engine::checkpoint::{Reader, StorageDType, WeightsFile, copy_companions};
use crate::error::{Error, Result};
use crate::files;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// One merge to write.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeJob {
    /// The checkpoints and their weights.
    pub weights: Weights,
    /// Type of the output; by default that of the inputs when they agree, else f32.
    pub dtype: Option<StorageDType>,
    /// Index of the member whose config and tokenizer the output gets.
    pub companions: usize,
    /// The file that all this was read from, if any.
    pub recipe: Option<PathBuf>,
    /// The checkpoint directory to write. If it exists, it must be empty or an earlier merge.
    pub out: PathBuf,
}

/// Called by any thread with the number of elements that are done and the total, P.
pub type MergeProgress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// The result of a merge and its exact weights; also the contents of the output's `merge.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MergeReport {
    /// mergekit's name of the method: `linear`.
    pub method: &'static str,
    /// The file that the weights were read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<PathBuf>,
    /// As used.
    #[serde(flatten)]
    pub weights: Weights,
    /// The type that every element of the output is stored as.
    pub dtype: StorageDType,
    /// P
    pub parameters: usize,
    /// Bytes of its members.
    pub bytes_read: u64,
    /// P times the bytes of an element.
    pub bytes_written: u64,
}

/// One pass over the checkpoints of several merges.
#[derive(Debug, Clone, PartialEq)]
pub struct MergePass {
    /// One for each merge.
    pub reports: Vec<MergeReport>,
    /// Bytes read, once for all merges.
    pub bytes_read: u64,
}

/// Writes weighted averages as checkpoint directories, each complete or absent, with config and
/// tokenizer of one member and a `merge.json` that describes the merge. Every checkpoint is read
/// once, however many merges use it. A directory with contents is replaced only if it is an earlier
/// merge.
pub fn write_merges(merges: &[MergeJob], progress: Option<MergeProgress>) -> Result<MergePass> {
    let (pool, sums) = Pool::of_sums(&merges.iter().map(|m| m.weights.terms()).collect::<Vec<_>>())?;
    merges.iter().try_for_each(|merge| check_output(&pool, &merge.out))?;
    let checkpoint = |m: usize, term: usize| &pool.checkpoints()[sums[m].terms[term].0];
    let reports: Vec<MergeReport> = merges
        .iter()
        .enumerate()
        .map(|(m, merge)| {
            // A checkpoint may occur more than once.
            let mut places: Vec<usize> = sums[m].terms.iter().map(|term| term.0).collect();
            places.sort_unstable();
            places.dedup();
            report(merge, pool.table().len, &places.iter().map(|&k| &pool.checkpoints()[k]).collect::<Vec<_>>())
        })
        .collect();
    let outs: Vec<&Path> = merges.iter().map(|m| m.out.as_path()).collect();
    in_directories(&outs, &mut Vec::new(), &|directories| {
        let file =
            |(directory, report): (&PathBuf, &MergeReport)| WeightsFile::create(directory, pool.table(), report.dtype);
        let files = directories.iter().zip(&reports).map(file).collect::<Result<Vec<_>>>()?;
        to_files(&pool, &sums, &files, progress)?;
        for (m, (directory, report)) in directories.iter().zip(&reports).enumerate() {
            copy_companions(checkpoint(m, merges[m].companions).directory(), directory, report.dtype)?;
            let path = directory.join("merge.json");
            let json = serde_json::to_string_pretty(report).expect("reports are plain structs");
            std::fs::write(&path, json + "\n").map_err(|e| Error::io("write", &path, &e))?;
        }
        Ok(())
    })?;
    Ok(MergePass { reports, bytes_read: pool.checkpoints().iter().map(Reader::bytes).sum() })
}

fn report(merge: &MergeJob, parameters: usize, sources: &[&Reader]) -> MergeReport {
    let agreed = sources[0].dtype().filter(|d| sources.iter().all(|s| s.dtype() == Some(*d)));
    let dtype = merge.dtype.or(agreed).unwrap_or(StorageDType::F32);
    MergeReport {
        method: "linear",
        recipe: merge.recipe.clone(),
        weights: merge.weights.clone(),
        dtype,
        parameters,
        bytes_read: sources.iter().map(|s| s.bytes()).sum(),
        bytes_written: (parameters * dtype.bytes()) as u64,
    }
}

/// [`files::write_directory_atomic`] for several directories that one `fill` fills: the last is
/// renamed into place first, and a failure leaves each complete or absent. `temporaries` are the
/// temporary directories made so far.
fn in_directories(
    outs: &[&Path],
    temporaries: &mut Vec<PathBuf>,
    fill: &dyn Fn(&[PathBuf]) -> Result<()>,
) -> Result<()> {
    match outs.split_first() {
        None => fill(temporaries),
        Some((out, rest)) => files::write_directory_atomic(out, |temporary| {
            temporaries.push(temporary.to_path_buf());
            in_directories(rest, temporaries, fill)
        }),
    }
}

/// Refuses to overwrite a member, a directory that contains one, or a directory that is not an
/// earlier merge.
fn check_output(pool: &Pool, out: &Path) -> Result<()> {
    let Ok(here) = out.canonicalize() else { return Ok(()) };
    let holds = |member: &Reader| member.directory().canonicalize().is_ok_and(|path| path.starts_with(&here));
    if pool.checkpoints().iter().any(holds) {
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
