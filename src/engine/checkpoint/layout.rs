//! The location of an arena's elements in a set of files. [`super::Reader`], the optimizer's state
//! and merges read through it. Names, shapes and types are checked here, once.

use super::tensors::{Tensor, TensorFile, weight_dtype};
use crate::engine::ops::dtype_convert::{StorageDType, Values};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Elements that one task reads: 256 KiB of f32, so a chunk stays in a core's cache. Affects only
/// speed.
pub(super) const CHUNK: usize = 1 << 16;

/// A tensor that must be there.
pub(super) struct Wanted<'a> {
    pub name: String,
    pub shape: &'a [usize],
}

/// One tensor's location: elements `range` of the arena, from byte `start` of `files[file]`.
#[derive(Debug)]
struct TensorSegment {
    name: String,
    range: Range<usize>,
    file: usize,
    start: u64,
    dtype: StorageDType,
}

#[derive(Debug)]
pub(super) struct TensorLayout {
    files: Vec<TensorFile>,
    /// In the order of the arena, without gaps.
    segments: Vec<TensorSegment>,
}

impl TensorLayout {
    /// Finds the wanted tensors; the arena holds them in the order given. `surplus` accepts or
    /// refuses each tensor that is not wanted. The error about a missing tensor names `directory`,
    /// or the file if there is only one.
    pub(super) fn new<'a>(
        directory: &Path,
        mut files: Vec<TensorFile>,
        wanted: impl Iterator<Item = Wanted<'a>>,
        surplus: impl Fn(&TensorFile, &Tensor) -> Result<()>,
    ) -> Result<TensorLayout> {
        let wanted: Vec<Wanted> = wanted.collect();
        let mut found: BTreeMap<&str, (usize, &Tensor)> = BTreeMap::new();
        for (i, file) in files.iter().enumerate() {
            for t in file.tensors() {
                if let Some((other, _)) = found.insert(&t.name, (i, t)) {
                    return Err(Error::input("two files of this checkpoint contain this tensor")
                        .at(file.path())
                        .tensor(&t.name)
                        .got(format!("it is also in {}", files[other].path().display())));
                }
            }
        }
        let mut segments = Vec::with_capacity(wanted.len());
        let mut next = 0;
        for want in wanted {
            let Some((file, t)) = found.remove(want.name.as_str()) else {
                let place = if files.len() == 1 { files[0].path() } else { directory };
                return Err(Error::input("this tensor is missing")
                    .at(place)
                    .tensor(&want.name)
                    .expected(format!("shape {:?}", want.shape))
                    .fix("check that config.json belongs to these files, and that no file is missing"));
            };
            let dtype = check_tensor(&files[file], t, want.shape)?;
            let range = next..next + want.shape.iter().product::<usize>();
            next = range.end;
            segments.push(TensorSegment { name: want.name, range, file, start: t.start, dtype });
        }
        for (file, t) in found.into_values() {
            surplus(&files[file], t)?;
        }
        // The segments hold all that later reads need, and many checkpoints can be open at once.
        files.iter_mut().for_each(TensorFile::forget_tensors);
        Ok(TensorLayout { files, segments })
    }

    pub(super) fn len(&self) -> usize {
        self.segments.last().map_or(0, |s| s.range.end)
    }

    /// The type of all tensors; `None` if they differ.
    pub(super) fn dtype(&self) -> Option<StorageDType> {
        let first = self.segments.first()?.dtype;
        self.segments.iter().all(|s| s.dtype == first).then_some(first)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| (s.range.len() * s.dtype.bytes()) as u64).sum()
    }

    /// The tensor and file that hold element `i`.
    pub(super) fn place(&self, i: usize) -> (&str, &Path) {
        let s = &self.segments[self.segments.partition_point(|s| s.range.end <= i)];
        (&s.name, self.files[s.file].path())
    }

    /// Elements `range` as stored, in the mapped file; all must be in one tensor. Call
    /// [`TensorLayout::check_readable`] after reading.
    pub(super) fn stored(&self, range: Range<usize>) -> Values<'_> {
        let s = &self.segments[self.segments.partition_point(|s| s.range.end <= range.start)];
        assert!(s.range.start <= range.start && range.end <= s.range.end, "elements {range:?} span several tensors");
        s.values(&self.files, range)
    }

    /// Elements `range` as f32, exactly.
    pub(super) fn read_chunk(&self, range: Range<usize>, out: &mut [f32]) -> Result<()> {
        assert_eq!(range.len(), out.len(), "one value for each element");
        for piece in self.pieces(range.clone()) {
            self.stored(piece.clone()).widen(&mut out[piece.start - range.start..piece.end - range.start]);
        }
        self.check_readable()
    }

    /// Reads elements from `start` on as f32 with all threads, then checks that the files did not
    /// change in the meantime.
    pub(super) fn read_all(&self, start: usize, out: &mut [f32]) -> Result<()> {
        out.par_chunks_mut(CHUNK).enumerate().try_for_each(|(i, out)| {
            let first = start + i * CHUNK;
            self.read_chunk(first..first + out.len(), out)
        })?;
        self.check_unchanged()
    }

    pub(super) fn check_unchanged(&self) -> Result<()> {
        self.files.iter().try_for_each(TensorFile::check_unchanged)
    }

    /// Fails if reading any byte of the files has failed so far.
    pub(super) fn check_readable(&self) -> Result<()> {
        self.files.iter().try_for_each(TensorFile::check_readable)
    }

    /// `range`, split at tensor boundaries.
    pub(super) fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        assert!(range.end <= self.len(), "elements {range:?} of {}", self.len());
        let first = self.segments.partition_point(|s| s.range.end <= range.start);
        let overlapping = self.segments[first..].iter().take_while(move |s| s.range.start < range.end);
        overlapping.map(move |s| s.range.start.max(range.start)..s.range.end.min(range.end))
    }
}

impl TensorSegment {
    fn values<'a>(&self, files: &'a [TensorFile], range: Range<usize>) -> Values<'a> {
        let at = self.start + ((range.start - self.range.start) * self.dtype.bytes()) as u64;
        Values::new(self.dtype, files[self.file].bytes(at, range.len() * self.dtype.bytes()))
    }
}

fn check_tensor(file: &TensorFile, t: &Tensor, shape: &[usize]) -> Result<StorageDType> {
    if t.shape != shape {
        let error = Error::input("this tensor does not have the shape that config.json gives")
            .at(file.path())
            .tensor(&t.name)
            .expected(format!("{shape:?}"))
            .got(format!("{:?}", t.shape));
        let rows_only = t.shape.len() == 2 && t.shape[1..] == shape[1..];
        return Err(if rows_only && (t.name.ends_with("embed_tokens.weight") || t.name == "lm_head.weight") {
            error.fix("set vocab_size in config.json to the number of rows of the table, padding included")
        } else {
            error.fix("check that config.json belongs to this file")
        });
    }
    weight_dtype(t.dtype).ok_or_else(|| {
        Error::input("the type of this tensor is not supported")
            .at(file.path())
            .tensor(&t.name)
            .expected("F32, BF16 or F16")
            .got(format!("{:?}", t.dtype))
            .fix("convert the checkpoint to one of these types")
    })
}
