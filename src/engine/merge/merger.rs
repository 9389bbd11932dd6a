//! Loads weighted sums of a pool directly into a model, one after another. Each is summed in f64 in
//! the order of its terms and rounded once, so its bits do not depend on the device, the order of
//! the sums or the memory.
//!
//! On the CPU the page cache is the pool. A device that runs kernels keeps as many checkpoints as
//! its reserved memory holds; a sum is then one launch. A sum with more members is streamed through
//! that memory. Copies use the side stream: while a sum is scored, the missing members of the next
//! one are uploaded.

use super::pool::Pool;
use super::resident::{CHUNK, Loading, Resident};
use super::schedule::{Uses, members, schedule};
use super::stream::{overflow, to_memory};
use super::weighted_sum::WeightedSum;
use crate::engine::device::{Buffer, DType, Device, Matrix};
use crate::engine::model::Model;
use crate::engine::ops::merge::Merge;
use crate::engine::ops::{GRAD_NORM_OUT, GRAD_NORM_PARTS, GradNorm};
use crate::error::Result;
use std::ops::Range;

/// Elements that the CPU merges at a time: they are divided among the threads, and there is no
/// second copy of the model.
const BLOCK: usize = 1 << 22;
/// [`Merger::prefetch`] uploads 1/32 of a checkpoint at a time. A pass over 16,384 tokens computes
/// 33,000 flops per weight, which takes an H100 about 80 ps per weight at best; one part, 4 bytes
/// of every 32nd weight, takes 5 ps per weight on PCIe and 20 ps on a host thread. So copies end
/// within the pass, and a million tokens (61 passes) leave time for nearly two checkpoints.
const PARTS: usize = 32;
/// Device memory kept free for inputs and for kernels that are loaded later.
const RESERVE: u64 = 512 << 20;

/// Bytes of device memory that a [`Merger`] may take once everything else is allocated: the free
/// memory less a reserve, but at least half of it; all that the checkpoints need if the device
/// cannot report its free memory.
pub fn memory_for_pool(device: &Device) -> u64 {
    device.free_memory().map_or(u64::MAX, |free| free.saturating_sub(RESERVE).max(free / 2))
}

/// Loads weighted sums of one pool into models on one device.
pub struct Merger<'a> {
    pool: &'a Pool,
    sums: &'a [WeightedSum],
    order: Vec<usize>,
    /// On devices that run kernels.
    kernels: Option<Kernels>,
}

impl<'a> Merger<'a> {
    /// For these sums, in at most `budget` bytes of the device's memory: see [`memory_for_pool`].
    pub fn new(device: &mut Device, pool: &'a Pool, sums: &'a [WeightedSum], budget: u64) -> Result<Merger<'a>> {
        if !device.is_asynchronous() {
            return Ok(Merger { pool, sums, order: (0..sums.len()).collect(), kernels: None });
        }
        let all: Vec<Vec<usize>> = sums.iter().map(members).collect();
        let mut used: Vec<usize> = all.iter().flatten().copied().collect();
        used.sort_unstable();
        used.dedup();
        let widest = all.iter().map(Vec::len).max().unwrap_or(0);
        let resident = Resident::new(device, pool, &used, widest, budget)?;
        let order = schedule(sums, resident.slots.len());
        let in_order: Vec<Vec<usize>> = order.iter().map(|&m| all[m].clone()).collect();
        let terms = sums.iter().map(|m| m.terms.len()).max().unwrap_or(0);
        let kernels = Kernels {
            resident,
            uses: Uses::new(&in_order),
            members: in_order,
            rows: device.alloc(DType::U32, terms)?,
            weights: device.alloc(DType::F64, terms)?,
            next: None,
            ahead: None,
        };
        Ok(Merger { pool, sums, order, kernels: Some(kernels) })
    }

    /// The sums in the order that needs the fewest loads. Any order gives the same bits.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Loads sum `order()[position]` into `model`. Refused, by file: a checkpoint that is not
    /// finite or has changed since it was opened.
    pub fn load(&mut self, device: &mut Device, position: usize, model: &Model) -> Result<()> {
        assert_eq!(model.table.len, self.pool.table().len, "a model like those of the pool");
        let sum = &self.sums[self.order[position]];
        match &mut self.kernels {
            None => load_on_cpu(device, self.pool, sum, model),
            Some(kernels) => {
                kernels.load(device, self.pool, sum, position, model)?;
                kernels.check_finite(device, sum, model)
            }
        }
    }

    /// Uploads a part of the next sum's missing members on the side stream, beside the queued work.
    /// Call it after each pass that is queued between two loads. A failure is not reported here:
    /// [`Merger::load`] reads again, and reports it for the sum that it belongs to.
    pub fn prefetch(&mut self, device: &mut Device) {
        if let Some(kernels) = &mut self.kernels
            && kernels.prefetch(device, self.pool).is_err()
        {
            (kernels.next, kernels.ahead) = (None, None);
        }
    }
}

fn load_on_cpu(device: &mut Device, pool: &Pool, sum: &WeightedSum, model: &Model) -> Result<()> {
    let len = model.table.len;
    let mut block = vec![0.0; len.min(BLOCK)];
    for start in (0..len).step_by(BLOCK) {
        let block = &mut block[..BLOCK.min(len - start)];
        to_memory(pool, sum, start, block)?;
        device.upload(&model.master.slice(start..start + block.len()), block)?;
    }
    members(sum).iter().try_for_each(|&k| pool.checkpoints()[k].check_unchanged())
}

/// State of merging with kernels.
struct Kernels {
    resident: Resident,
    /// Members of the sum at each position.
    members: Vec<Vec<usize>>,
    uses: Uses,
    /// (terms) u32: each term's row of the memory
    rows: Buffer,
    /// (terms) f64
    weights: Buffer,
    /// The position to prefetch for.
    next: Option<usize>,
    ahead: Option<Loading>,
}

impl Kernels {
    fn load(
        &mut self,
        device: &mut Device,
        pool: &Pool,
        sum: &WeightedSum,
        position: usize,
        model: &Model,
    ) -> Result<()> {
        let ahead = self.ahead.take();
        self.next = None;
        if self.members[position].len() > self.resident.slots.len() {
            self.stream(device, pool, sum, position, model)?;
        } else {
            // If this is not the expected sum and does not need the half-loaded checkpoint, drop
            // it.
            if let Some(loading) = ahead.filter(|loading| self.members[position].contains(&loading.checkpoint)) {
                self.resident.finish(device, pool, loading)?;
            }
            while let Some(loading) = self.missing(position) {
                self.resident.finish(device, pool, loading)?;
            }
            device.join_uploads()?;
            let slots = &self.resident.slots;
            self.set_terms(device, sum, |k| slots.of(k).expect("all members are loaded"))?;
            self.merge(device, sum, self.resident.matrix(), 0..model.table.len, model)?;
        }
        // Later uploads may replace what this launch reads.
        device.fork_uploads()?;
        self.next = Some(position + 1);
        Ok(())
    }

    /// Begins loading one missing member of the sum at `position`, into a slot that is freed for
    /// it.
    fn missing(&mut self, position: usize) -> Option<Loading> {
        let members = &self.members[position];
        let checkpoint = members.iter().copied().find(|&k| self.resident.slots.of(k).is_none())?;
        let slot = self.resident.slots.free(members, |k| self.uses.after(position, k));
        Some(self.resident.begin(checkpoint, slot))
    }

    fn prefetch(&mut self, device: &mut Device, pool: &Pool) -> Result<()> {
        let Some(position) = self.next.filter(|&next| next < self.members.len()) else { return Ok(()) };
        if self.members[position].len() > self.resident.slots.len() {
            return Ok(());
        }
        if self.ahead.is_none() {
            self.ahead = self.missing(position);
        }
        let Some(loading) = &mut self.ahead else { return Ok(()) };
        let part = (pool.table().len / PARTS).max(CHUNK);
        if self.resident.advance(device, pool, loading, part)? {
            self.ahead = None;
        }
        Ok(())
    }

    /// Streams members that do not fit the memory together: chunks of all of them, alternating
    /// between its two halves.
    fn stream(
        &mut self,
        device: &mut Device,
        pool: &Pool,
        sum: &WeightedSum,
        position: usize,
        model: &Model,
    ) -> Result<()> {
        let members = &self.members[position];
        self.set_terms(device, sum, |k| members.iter().position(|&m| m == k).expect("members are of terms"))?;
        let (len, chunk) = (model.table.len, self.resident.chunk(members.len()));
        for (i, start) in (0..len).step_by(chunk).enumerate() {
            let range = start..len.min(start + chunk);
            let rows = self.resident.stream(device, pool, members, range.clone(), i % 2)?;
            device.join_uploads()?;
            // Before this chunk's launch: the next copies wait only for the previous launch, which
            // reads the half that they fill, and run beside this one.
            device.fork_uploads()?;
            self.merge(device, sum, rows, range, model)?;
        }
        members.iter().try_for_each(|&k| pool.checkpoints()[k].check_unchanged())
    }

    fn set_terms(&self, device: &mut Device, sum: &WeightedSum, row: impl Fn(usize) -> usize) -> Result<()> {
        let rows: Vec<u32> = sum.terms.iter().map(|term| row(term.0) as u32).collect();
        let weights: Vec<f64> = sum.terms.iter().map(|term| term.1).collect();
        device.upload(&self.rows, &rows)?;
        device.upload(&self.weights, &weights)
    }

    /// Computes elements `range` of the model from the rows of `pool`.
    fn merge(
        &self,
        device: &mut Device,
        sum: &WeightedSum,
        pool: Matrix,
        range: Range<usize>,
        model: &Model,
    ) -> Result<()> {
        let terms = sum.terms.len();
        let separate = model.compute.dtype() != model.master.dtype();
        device.run(&Merge {
            pool,
            rows: self.rows.slice(0..terms).vector(),
            weights: self.weights.slice(0..terms).vector(),
            out: model.master.slice(range.clone()).vector(),
            copy: separate.then(|| model.compute.slice(range).vector()),
        })
    }

    /// Refuses a sum that is not finite, by the tensor at fault. The sum's weights and each
    /// checkpoint's largest magnitude nearly always prove that it is finite; only otherwise does
    /// this wait for the device.
    fn check_finite(&self, device: &mut Device, sum: &WeightedSum, model: &Model) -> Result<()> {
        let bound = |&(k, weight): &(usize, f64)| weight.abs() * f64::from(self.resident.largest(k));
        if sum.terms.iter().map(bound).sum::<f64>() <= f64::from(f32::MAX) {
            return Ok(());
        }
        let out = device.alloc(DType::F32, GRAD_NORM_OUT)?;
        let parts = device.alloc(DType::F64, GRAD_NORM_PARTS)?.vector();
        device.run(&GradNorm { grads: model.master.vector(), out: out.vector(), parts, max_norm: f32::INFINITY })?;
        if device.to_vec::<f32>(&out)?[2] != 0.0 {
            return Ok(());
        }
        let weights: Vec<f32> = device.to_vec(&model.master)?;
        Err(overflow(&model.table, weights.iter().position(|x| !x.is_finite()).unwrap_or(0)))
    }
}
