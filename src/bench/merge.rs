//! Timings of merges on the CPU, from checkpoints in the page cache to new files and to memory,
//! with copies measured in the same run. Nothing here waits for the disk.

use super::{BenchRow, BenchSubject, SAMPLES, VOCABULARY};
use crate::engine::checkpoint::{StorageDType, WeightsFile, write_model};
use crate::engine::merge::{Pool, WeightedSum, for_each_block, to_files, to_memory};
use crate::engine::model::{Architecture, Config, initial_weights};
use crate::engine::ops::dtype_convert::round_to_bytes;
use crate::error::{Error, Result};
use crate::files;
use rayon::prelude::*;
use std::fs::{self, File};
use std::hint::black_box;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes that one thread copies at a time.
const PIECE: usize = 1 << 18;
/// Bytes of the memory copy.
const COPIED: usize = 1 << 29;
const CHECKPOINTS: usize = 8;
/// Bytes of rounded sums on the stack.
const PIECE_OF_SUMS: usize = 4096;

pub(super) fn on_cpu(push: &mut dyn FnMut(BenchRow)) -> Result<()> {
    let scratch = BenchFiles(std::env::temp_dir().join(format!("stockpot-bench-{}", std::process::id())));
    let mut bench = MergeBench { push, scratch: &scratch.0, copy: None };
    bench.copy_of_memory()?;
    let bf16 = bench.checkpoints("130m", StorageDType::Bf16)?;
    bench.copy_of_a_file(&bf16)?;
    bench.file_row("2 x 130m bf16 to a file", &bf16, &uniform(&[0, 1]))?;
    bench.file_row("8 x 130m bf16 to a file", &bf16, &all())?;
    bench.memory_row("8 x 130m bf16 to memory", &bf16, &all())?;
    drop(bf16);
    let f32 = bench.checkpoints("30m", StorageDType::F32)?;
    bench.file_row("8 x 30m f32 to a file", &f32, &all())?;
    bench.memory_row("8 x 30m f32 to memory", &f32, &all())?;
    drop(f32);
    let small = bench.checkpoints("30m", StorageDType::Bf16)?;
    let pairs = (0..CHECKPOINTS).flat_map(|a| (a + 1..CHECKPOINTS).map(move |b| [a, b]));
    let pairs: Vec<WeightedSum> = pairs.map(|pair| uniform(&pair)).collect();
    // Mixtures of all checkpoints, each with different weights.
    let weights = |m: usize| (0..CHECKPOINTS).map(move |k| (k, (1 + (m + 5 * k) % 32) as f64));
    let total = |m: usize| weights(m).map(|term| term.1).sum::<f64>();
    let dense: Vec<WeightedSum> =
        (0..32).map(|m| WeightedSum { terms: weights(m).map(|(k, w)| (k, w / total(m))).collect() }).collect();
    for (name, mixtures) in [("28 pairs", pairs), ("32 mixtures", dense)] {
        bench.many(&format!("{name} of 8 x 30m bf16"), &small, &mixtures)?;
    }
    Ok(())
}

fn uniform(members: &[usize]) -> WeightedSum {
    WeightedSum { terms: members.iter().map(|&k| (k, 1.0 / members.len() as f64)).collect() }
}

fn all() -> WeightedSum {
    uniform(&(0..CHECKPOINTS).collect::<Vec<_>>())
}

struct MergeBench<'a> {
    push: &'a mut dyn FnMut(BenchRow),
    scratch: &'a Path,
    /// Bytes read and written per second by the memory copy.
    copy: Option<f64>,
}

impl MergeBench<'_> {
    fn copy_of_memory(&mut self) -> Result<()> {
        let from: Vec<u8> = (0..COPIED).map(|i| (i.wrapping_mul(7919) >> 8) as u8).collect();
        let mut to = vec![0u8; COPIED];
        let seconds = self.time("copy of 512 MiB of memory", 2 * COPIED, || {
            let start = Instant::now();
            to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
            Ok(start)
        })?;
        self.copy = Some(2.0 * COPIED as f64 / seconds);
        Ok(())
    }

    /// Copies the first checkpoint's file, which is in the page cache, to a new file.
    fn copy_of_a_file(&mut self, pool: &Pool) -> Result<()> {
        let from = pool.checkpoints()[0].directory().join("model.safetensors");
        let to = self.scratch.join("copy");
        let io = |e: std::io::Error| Error::io("copy to", &to, &e);
        let source = File::open(&from).map_err(io)?;
        let length = source.metadata().map_err(io)?.len() as usize;
        self.time("copy of 130m bf16 to a file", 2 * length, || {
            let _ = fs::remove_file(&to);
            let start = Instant::now();
            let target = File::create(&to).map_err(io)?;
            let piece = |buffer: &mut Vec<u8>, i: usize| {
                buffer.resize(PIECE.min(length - i * PIECE), 0);
                source.read_exact_at(buffer, (i * PIECE) as u64)?;
                target.write_all_at(buffer, (i * PIECE) as u64)
            };
            (0..length.div_ceil(PIECE)).into_par_iter().try_for_each_init(Vec::new, piece).map_err(io)?;
            Ok(start)
        })?;
        fs::remove_file(&to).map_err(io)
    }

    fn file_row(&mut self, name: &str, pool: &Pool, mixture: &WeightedSum) -> Result<()> {
        let mixtures = std::slice::from_ref(mixture);
        let out = self.scratch.join("out");
        // The output has the checkpoints' dtype.
        let first = &pool.checkpoints()[0];
        self.time(name, used(pool, mixtures) + first.bytes() as usize, || {
            files::remove_directory(&out)?;
            files::create_directory(&out)?;
            let start = Instant::now();
            let file = WeightsFile::create(&out, pool.table(), first.dtype().unwrap_or(StorageDType::F32))?;
            to_files(pool, mixtures, &[file], None)?;
            Ok(start)
        })?;
        Ok(())
    }

    /// Sums of many mixtures, rounded to bf16 and dropped: the cost of merging without writing
    /// files. Once in one pass, once in one pass per mixture.
    fn many(&mut self, name: &str, pool: &Pool, mixtures: &[WeightedSum]) -> Result<()> {
        let round = |_: usize, _: Range<usize>, sums: &[f64]| {
            let mut bytes = [0u8; PIECE_OF_SUMS];
            sums.chunks(PIECE_OF_SUMS / 2).fold(true, |finite, sums| {
                let bytes = black_box(&mut bytes[..2 * sums.len()]);
                finite & round_to_bytes(sums, StorageDType::Bf16, bytes)
            })
        };
        self.time(&format!("{name}, in one pass"), used(pool, mixtures), || {
            let start = Instant::now();
            for_each_block(pool, mixtures, round)?;
            Ok(start)
        })?;
        let each = || mixtures.iter().map(std::slice::from_ref);
        self.time(&format!("{name}, one by one"), each().map(|one| used(pool, one)).sum(), || {
            let start = Instant::now();
            each().try_for_each(|one| for_each_block(pool, one, round))?;
            Ok(start)
        })?;
        Ok(())
    }

    fn memory_row(&mut self, name: &str, pool: &Pool, mixture: &WeightedSum) -> Result<()> {
        let mut out = vec![0.0; pool.table().len];
        let bytes = used(pool, std::slice::from_ref(mixture)) + 4 * out.len();
        self.time(name, bytes, || {
            let start = Instant::now();
            to_memory(pool, mixture, 0, &mut out)?;
            Ok(start)
        })?;
        Ok(())
    }

    /// Times `work` from the instant that it returns. Returns the median in seconds.
    fn time(&mut self, name: &str, bytes: usize, mut work: impl FnMut() -> Result<Instant>) -> Result<f64> {
        let mut sample = || Ok(work()?.elapsed().as_secs_f64());
        sample()?;
        let mut samples = (0..SAMPLES).map(|_| sample()).collect::<Result<Vec<f64>>>()?;
        samples.sort_by(f64::total_cmp);
        let (seconds, fastest, slowest) = (samples[SAMPLES / 2], samples[0], samples[SAMPLES - 1]);
        let (subject, name, bytes, flops, tokens) = (BenchSubject::Merge, name.to_string(), bytes as f64, 0.0, 0.0);
        let of_copy = self.copy.map(|copy| bytes / seconds / copy);
        (self.push)(BenchRow { subject, name, seconds, fastest, slowest, flops, bytes, tokens, of_copy });
        Ok(seconds)
    }

    /// Eight checkpoints of random weights, just written and so in the page cache.
    fn checkpoints(&self, preset: &str, dtype: StorageDType) -> Result<Pool> {
        let Some(config) = Config::preset(preset, Architecture::Olmo2, VOCABULARY, 0) else {
            unreachable!("a preset's name");
        };
        files::remove_directory(self.scratch)?;
        let directories: Vec<PathBuf> = (0..CHECKPOINTS).map(|k| self.scratch.join(k.to_string())).collect();
        let mut weights = initial_weights(&config, 0);
        for directory in &directories {
            files::create_directory(directory)?;
            write_model(directory, &config, &weights, dtype, None)?;
            // Different weights, without drawing them again.
            weights.rotate_left(1009);
        }
        Pool::open(&directories)
    }
}

/// Bytes of the checkpoints that one pass reads.
fn used(pool: &Pool, mixtures: &[WeightedSum]) -> usize {
    let used = |k: usize| mixtures.iter().any(|m| m.terms.iter().any(|term| term.0 == k));
    let checkpoints = pool.checkpoints().iter().enumerate();
    checkpoints.filter(|(k, _)| used(*k)).map(|(_, checkpoint)| checkpoint.bytes() as usize).sum()
}

/// A temporary directory, which is removed on drop.
struct BenchFiles(PathBuf);

impl Drop for BenchFiles {
    fn drop(&mut self) {
        // A left-over temporary directory is not worth an error.
        let _ = files::remove_directory(&self.0);
    }
}
