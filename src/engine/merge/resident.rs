//! Checkpoints in the memory of a device that runs kernels: slots of one model each, and loading
//! into them.
//!
//! Slots are bf16 if every checkpoint is stored in bf16, else f32, which holds bf16 and f16
//! exactly: nothing is narrowed. Each checkpoint that is read is checked to be finite and
//! unchanged. A slot keeps what its file held when it was opened, whatever happens to the file;
//! reading it again requires an unchanged file.

use super::pool::Pool;
use super::schedule::Slots;
use crate::engine::checkpoint::{Reader, StorageDType};
use crate::engine::device::{Buffer, DType, Device, Matrix};
use crate::engine::ops::dtype_convert::Values;
use crate::error::{Error, Result};
use half::bf16;
use rayon::prelude::*;
use std::ops::Range;

/// Elements read at a time: some MB, so that all threads read, and one block is uploaded while the
/// next is read.
const BLOCK: usize = 1 << 22;
/// Elements that one thread reads at a time.
pub(super) const CHUNK: usize = 1 << 16;
/// Rows begin at multiples of this many elements, so that a kernel can read 16 bytes at a time.
const VECTOR: usize = 8;

/// The device memory reserved for checkpoints.
pub(super) struct Resident {
    memory: Buffer,
    pub(super) slots: Slots,
    /// P
    len: usize,
    /// For each checkpoint that was read, an upper bound on the magnitude of its weights.
    largest: Vec<f32>,
    block: Vec<f32>,
}

/// A checkpoint that is being loaded into a slot.
pub(super) struct Loading {
    pub(super) checkpoint: usize,
    slot: usize,
    /// Elements that are uploaded or queued.
    done: usize,
    largest: f32,
}

impl Resident {
    /// For weighted sums of at most `widest` of the `used` checkpoints. Takes at most `budget`
    /// bytes, but always enough for a streamed sum to have a vector of each member in both halves.
    pub(super) fn new(
        device: &mut Device,
        pool: &Pool,
        used: &[usize],
        widest: usize,
        budget: u64,
    ) -> Result<Resident> {
        let len = pool.table().len;
        let in_bf16 = used.iter().all(|&k| pool.checkpoints()[k].dtype() == Some(StorageDType::Bf16));
        let dtype = if in_bf16 { DType::Bf16 } else { DType::F32 };
        let stride = len.next_multiple_of(VECTOR);
        let budget = usize::try_from(budget).unwrap_or(usize::MAX) / dtype.bytes();
        let slots = (budget / stride).min(used.len());
        let streaming = if widest > slots { budget.clamp(2 * VECTOR * widest, 2 * stride * widest) } else { 0 };
        let memory = device.alloc(dtype, streaming.max(slots * stride))?;
        // Copies wait until the new memory is zeroed.
        device.fork_uploads()?;
        let largest = vec![0.0; pool.checkpoints().len()];
        Ok(Resident { memory, slots: Slots::new(slots), len, largest, block: Vec::new() })
    }

    fn stride(&self) -> usize {
        self.len.next_multiple_of(VECTOR)
    }

    /// (slots, P)
    pub(super) fn matrix(&self) -> Matrix {
        self.memory.matrix(self.slots.len(), self.stride()).col_range(0..self.len)
    }

    /// An upper bound on the magnitude of the weights of a checkpoint that was read.
    pub(super) fn largest(&self, checkpoint: usize) -> f32 {
        self.largest[checkpoint]
    }

    /// Begins loading into `slot`, which is free.
    pub(super) fn begin(&self, checkpoint: usize, slot: usize) -> Loading {
        Loading { checkpoint, slot, done: 0, largest: 0.0 }
    }

    /// Reads `elements` more and queues their copy on the side stream. Returns whether the
    /// checkpoint is complete.
    pub(super) fn advance(
        &mut self,
        device: &mut Device,
        pool: &Pool,
        loading: &mut Loading,
        elements: usize,
    ) -> Result<bool> {
        let reader = &pool.checkpoints()[loading.checkpoint];
        let range = loading.done..self.len.min(loading.done + elements);
        let to = loading.slot * self.stride() + range.start;
        loading.largest = loading.largest.max(self.copy(device, reader, range.clone(), to)?);
        loading.done = range.end;
        if range.end < self.len {
            return Ok(false);
        }
        reader.check_unchanged()?;
        self.largest[loading.checkpoint] = loading.largest;
        self.slots.put(loading.slot, loading.checkpoint);
        Ok(true)
    }

    pub(super) fn finish(&mut self, device: &mut Device, pool: &Pool, mut loading: Loading) -> Result<()> {
        while !self.advance(device, pool, &mut loading, BLOCK)? {}
        Ok(())
    }

    /// Elements of each of `members` that one half of the memory holds.
    pub(super) fn chunk(&self, members: usize) -> usize {
        (self.memory.len() / 2 / members / VECTOR * VECTOR).min(self.stride())
    }

    /// Queues copies of elements `range` of each of `members` to the first (0) or second (1) half
    /// of the memory, where they become the rows of the matrix. The contents of the slots are lost.
    pub(super) fn stream(
        &mut self,
        device: &mut Device,
        pool: &Pool,
        members: &[usize],
        range: Range<usize>,
        half: usize,
    ) -> Result<Matrix> {
        self.slots.clear();
        let chunk = self.chunk(members.len());
        let start = half * members.len() * chunk;
        for (row, &k) in members.iter().enumerate() {
            let before = if range.start == 0 { 0.0 } else { self.largest[k] };
            let largest = self.copy(device, &pool.checkpoints()[k], range.clone(), start + row * chunk)?;
            self.largest[k] = before.max(largest);
        }
        let rows = self.memory.slice(start..start + members.len() * chunk).matrix(members.len(), chunk);
        Ok(rows.col_range(0..range.len()))
    }

    /// Queues a copy of elements `range` to element `to` of the memory and returns their largest
    /// magnitude. Refuses values that are not finite.
    fn copy(&mut self, device: &mut Device, reader: &Reader, range: Range<usize>, to: usize) -> Result<f32> {
        let mut largest = 0.0f32;
        for start in range.clone().step_by(BLOCK) {
            let part = start..range.end.min(start + BLOCK);
            let at = to + start - range.start;
            let target = self.memory.slice(at..at + part.len());
            self.block.resize(self.block.len().max(part.len()), 0.0);
            let found = if self.memory.dtype() == DType::Bf16 {
                let block: &mut [u16] = &mut bytemuck::cast_slice_mut(&mut self.block)[..part.len()];
                let found = read_bf16(reader, part.start, block)?;
                device.upload_on_side_stream::<bf16>(&target, bytemuck::cast_slice(block))?;
                found
            } else {
                let block = &mut self.block[..part.len()];
                let found = read_f32(reader, part.start, block)?;
                device.upload_on_side_stream(&target, block)?;
                found
            };
            if !found.is_finite() {
                return Err(not_finite(reader, part));
            }
            largest = largest.max(found);
        }
        Ok(largest)
    }
}

/// Reads elements from `start` on as stored; returns their largest magnitude, which is infinite or
/// NaN if any of them is.
fn read_bf16(reader: &Reader, start: usize, out: &mut [u16]) -> Result<f32> {
    let chunk = |(i, out): (usize, &mut [u16])| -> Result<u16> {
        let first = start + i * CHUNK;
        for piece in reader.pieces(first..first + out.len()) {
            let out = &mut out[piece.start - first..piece.end - first];
            match reader.stored(piece) {
                Values::Bf16(values) => bytemuck::cast_slice_mut(out).copy_from_slice(values.as_flattened()),
                _ => unreachable!("bf16 memory is only for checkpoints stored in bf16"),
            }
        }
        reader.check_readable()?;
        Ok(out.iter().fold(0, |largest, bits| largest.max(bits & 0x7fff)))
    };
    let largest = out.par_chunks_mut(CHUNK).enumerate().map(chunk).try_reduce(|| 0, |a, b| Ok(a.max(b)))?;
    Ok(f32::from_bits(u32::from(largest) << 16))
}

/// As [`read_bf16`], widened to f32.
fn read_f32(reader: &Reader, start: usize, out: &mut [f32]) -> Result<f32> {
    let chunk = |(i, out): (usize, &mut [f32])| -> Result<u32> {
        let first = start + i * CHUNK;
        reader.chunk(first..first + out.len(), out)?;
        Ok(out.iter().fold(0, |largest, x| largest.max(x.to_bits() & 0x7fff_ffff)))
    };
    let largest = out.par_chunks_mut(CHUNK).enumerate().map(chunk).try_reduce(|| 0, |a, b| Ok(a.max(b)))?;
    Ok(f32::from_bits(largest))
}

/// The error for a weight that is not finite among elements `range`; names its file and tensor.
fn not_finite(reader: &Reader, range: Range<usize>) -> Error {
    let found = reader.check_finite_in(range).and_then(|()| reader.check_unchanged());
    found.err().unwrap_or_else(|| {
        Error::numeric("a weight that is not finite was read, but is no longer in the file")
            .at(reader.directory())
            .fix("wait until the program that writes the checkpoint has finished, then run the same command again")
    })
}
