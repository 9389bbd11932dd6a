//! Weighted sums of a pool put straight into a model, one after the other. Each runs in f64 in the order of its terms
//! and is rounded once, so the bits are the same on every device, in every order of the sums and with any memory.
//!
//! On the CPU the page cache is the pool. A device that runs kernels keeps as many checkpoints as the memory set aside
//! holds, a sum is then one launch; one of more members is streamed through that memory. Copies go to the device
//! aside: while a sum is scored, the next one's missing members come in.

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

/// Elements that the CPU merges at a time: the threads share them out, and no second copy of the model exists.
const BLOCK: usize = 1 << 22;
/// [`Merger::prefetch`] brings in this part of a checkpoint at a time. A pass over 16,384 tokens computes 33,000 flops
/// for each weight, which takes an H100 some 80 ps a weight at best; the part, 4 bytes of every 32nd weight, takes PCIe
/// 5 ps and a host's thread 20. So copies end within the pass, and a million tokens, 61 passes, leave time for nearly
/// two checkpoints.
const PARTS: usize = 32;
/// What a device keeps for kernels that are loaded later and for inputs.
const RESERVE: u64 = 512 << 20;

/// Bytes of a device that a [`Merger`] may take, once all else is allocated: what is free less a reserve. Where the
/// device cannot tell, all that the checkpoints need.
pub fn memory_set_aside(device: &Device) -> u64 {
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
    /// For these sums, in at most `budget` bytes of the device's memory: see [`memory_set_aside`].
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

    /// The sums in the order in which they take the fewest loads. Any order gives the same bits.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Gives `model` the weights of sum `order()[position]`. Refused, by file: a checkpoint that is not finite, or
    /// changed since it was opened.
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

    /// Brings a part of what the next sum lacks to the device, beside the work that is queued there. Call it after
    /// each pass that is queued between two loads. What fails here is no error yet: [`Merger::load`] reads it again,
    /// and says what is wrong where that sum is meant.
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

/// What merging with kernels takes.
struct Kernels {
    resident: Resident,
    /// Of the sum at each position
    members: Vec<Vec<usize>>,
    uses: Uses,
    /// Each term's row of the memory, u32
    rows: Buffer,
    /// f64
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
            // Another sum than the one expected has no use for what is half there.
            if let Some(loading) = ahead.filter(|loading| self.members[position].contains(&loading.checkpoint)) {
                self.resident.finish(device, pool, loading)?;
            }
            while let Some(loading) = self.missing(position) {
                self.resident.finish(device, pool, loading)?;
            }
            device.join_uploads()?;
            let slots = &self.resident.slots;
            self.set_terms(device, sum, |k| slots.of(k).expect("the members were brought in"))?;
            self.merge(device, sum, self.resident.matrix(), 0..model.table.len, model)?;
        }
        // What comes in next may take the place of what this reads.
        device.fork_uploads()?;
        self.next = Some(position + 1);
        Ok(())
    }

    /// A load of one of the members at `position` that are not there, into a slot that is freed for it.
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

    /// Members that do not fit the memory together: chunks of all of them, in two halves of it by turns.
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
            // Before this chunk's launch: the copies that follow wait for the launch before it, which has read the half
            // that they fill, and run beside this one.
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

    /// Elements `range` of the model from the rows of `pool`.
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

    /// Refuses a sum that is not finite, by the tensor at fault. The weights of a sum and the largest of each
    /// checkpoint tell that there is none, nearly always: only otherwise is the device waited for.
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
