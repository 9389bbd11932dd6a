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
use crate::engine::ops::{
    GRAD_NORM_OUT, GRAD_NORM_PARTS, GradNorm, INNER_PRODUCT_PART, INNER_PRODUCT_PARTS, InnerProducts,
};
use crate::error::{Error, Kind, Result};
use rayon::prelude::*;
use std::ops::Range;

/// Elements that the CPU merges at a time: they are divided among the threads, and there is no
/// second copy of the model.
const BLOCK: usize = 1 << 22;
/// [`Merger::prefetch`] uploads 1/32 of a checkpoint at a time. A pass over 16,384 tokens computes
/// 33,000 flops per weight, which takes an H100 about 80 ps per weight at best; one part, 4 bytes
/// of every 32nd weight, takes 5 ps per weight on PCIe and 20 ps on a host thread. So copies end
/// within the pass, and a million tokens (61 passes) leave time for nearly two checkpoints.
const PARTS: usize = 32;
/// Checkpoints whose elements the CPU reads together for inner products.
const ROWS: usize = 16;
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
        let mut used: Vec<usize> = sums.iter().flat_map(members).collect();
        used.sort_unstable();
        used.dedup();
        let widest = sums.iter().map(|sum| members(sum).len()).max().unwrap_or(0);
        Merger::of_checkpoints(device, pool, sums, budget, &used, widest)
    }

    /// As [`Merger::new`], for [`Merger::inner_products`] too.
    pub fn with_inner_products(
        device: &mut Device,
        pool: &'a Pool,
        sums: &'a [WeightedSum],
        budget: u64,
    ) -> Result<Merger<'a>> {
        let all: Vec<usize> = (0..pool.checkpoints().len()).collect();
        Merger::of_checkpoints(device, pool, sums, budget, &all, all.len())
    }

    /// For weighted sums of at most `widest` of the `used` checkpoints.
    fn of_checkpoints(
        device: &mut Device,
        pool: &'a Pool,
        sums: &'a [WeightedSum],
        budget: u64,
        used: &[usize],
        widest: usize,
    ) -> Result<Merger<'a>> {
        if !device.is_asynchronous() {
            return Ok(Merger { pool, sums, order: (0..sums.len()).collect(), kernels: None });
        }
        let all: Vec<Vec<usize>> = sums.iter().map(members).collect();
        let resident = Resident::new(device, pool, used, widest, budget)?;
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

impl Merger<'_> {
    /// The inner products of each gradient, a row of `gradients` (D, P), with each of the K
    /// checkpoints of the pool: D rows of K. Every checkpoint is read once. For mergers made by
    /// [`Merger::with_inner_products`]. The bits depend neither on the threads nor on the memory.
    pub fn inner_products(&mut self, device: &mut Device, gradients: &Matrix) -> Result<Vec<f64>> {
        let (d, k) = (gradients.rows(), self.pool.checkpoints().len());
        let products = InnerProductSums::new(device, gradients, k)?;
        match &mut self.kernels {
            None => products.on_cpu(device, self.pool)?,
            Some(kernels) => kernels.inner_products(device, self.pool, &products)?,
        }
        let sums = device.to_vec::<f64>(&products.out)?;
        // A device has them in the order of its slots.
        let place = |checkpoint: usize| match &self.kernels {
            Some(kernels) if kernels.resident.slots.len() >= k => kernels.resident.slots.of(checkpoint),
            _ => Some(checkpoint),
        };
        let width = products.columns;
        let at =
            |row: usize, checkpoint: usize| sums[row * width + place(checkpoint).expect("all checkpoints are loaded")];
        Ok((0..d).flat_map(|row| (0..k).map(move |checkpoint| (row, checkpoint))).map(|(r, c)| at(r, c)).collect())
    }
}

/// Sums of inner products on a device, over ranges of elements.
struct InnerProductSums {
    /// (D, P) f32
    gradients: Matrix,
    /// (D, columns) f64
    out: Buffer,
    /// f64 scratch
    parts: Buffer,
    columns: usize,
}

impl InnerProductSums {
    fn new(device: &mut Device, gradients: &Matrix, columns: usize) -> Result<InnerProductSums> {
        let sums = gradients.rows() * columns;
        let out = device.alloc(DType::F64, sums)?;
        let parts = device.alloc(DType::F64, INNER_PRODUCT_PARTS * sums)?;
        Ok(InnerProductSums { gradients: gradients.clone(), out, parts, columns })
    }

    /// Adds elements `range`, a column of `rows` for each, to the columns `columns` of the sums.
    fn add(&self, device: &mut Device, rows: &Matrix, range: Range<usize>, columns: Range<usize>) -> Result<()> {
        let d = self.gradients.rows();
        let most = INNER_PRODUCT_PARTS * INNER_PRODUCT_PART;
        for start in (0..range.len()).step_by(most) {
            let now = start..range.len().min(start + most);
            device.run(&InnerProducts {
                gradients: self.gradients.col_range(range.start + now.start..range.start + now.end),
                pool: rows.col_range(now.clone()),
                out: self.out.matrix(d, self.columns).col_range(columns.clone()),
                parts: self
                    .parts
                    .slice(0..INNER_PRODUCT_PARTS * d * columns.len())
                    .matrix(INNER_PRODUCT_PARTS, d * columns.len()),
                accumulate: range.start + start > 0,
            })?;
        }
        Ok(())
    }

    /// Reads the checkpoints a few at a time, so that the memory does not grow with their number.
    fn on_cpu(&self, device: &mut Device, pool: &Pool) -> Result<()> {
        let (len, k) = (pool.table().len, self.columns);
        let width = (32 * INNER_PRODUCT_PART).min(len.next_multiple_of(INNER_PRODUCT_PART));
        let rows = device.alloc(DType::F32, ROWS.min(k) * width)?;
        let mut block = vec![0.0f32; rows.len()];
        for start in (0..len).step_by(width) {
            let range = start..len.min(start + width);
            for first in (0..k).step_by(ROWS) {
                let group = first..k.min(first + ROWS);
                block
                    .par_chunks_mut(width)
                    .zip(group.clone())
                    .try_for_each(|(row, k)| pool.checkpoints()[k].chunk(range.clone(), &mut row[..range.len()]))?;
                device.upload(&rows, &block)?;
                let matrix = rows.matrix(ROWS.min(k), width).row_range(0..group.len()).col_range(0..range.len());
                self.add(device, &matrix, range.clone(), group)?;
            }
        }
        pool.check_unchanged()
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

    /// The products with every checkpoint: those in the slots if all fit, else each streamed
    /// through the memory.
    fn inner_products(&mut self, device: &mut Device, pool: &Pool, products: &InnerProductSums) -> Result<()> {
        let all: Vec<usize> = (0..pool.checkpoints().len()).collect();
        let len = pool.table().len;
        (self.next, self.ahead) = (None, None);
        if all.len() <= self.resident.slots.len() {
            while let Some(&checkpoint) = all.iter().find(|&&k| self.resident.slots.of(k).is_none()) {
                let slot = self.resident.slots.free(&all, |_| 0);
                let loading = self.resident.begin(checkpoint, slot);
                self.resident.finish(device, pool, loading)?;
            }
            device.join_uploads()?;
            products.add(device, &self.resident.matrix(), 0..len, 0..all.len())?;
            return device.fork_uploads();
        }
        // Whole parts, so that the bits do not depend on the memory.
        let chunk = self.resident.chunk(all.len()) / INNER_PRODUCT_PART * INNER_PRODUCT_PART;
        if chunk == 0 {
            return Err(Error::new(Kind::Io, "the device has too little memory for gradients of so many checkpoints")
                .expected(format!("{} elements of each of {} checkpoints, twice", INNER_PRODUCT_PART, all.len()))
                .fix("use a smaller context, or a device with more memory"));
        }
        for (i, start) in (0..len).step_by(chunk).enumerate() {
            let range = start..len.min(start + chunk);
            let rows = self.resident.stream(device, pool, &all, range.clone(), i % 2)?;
            device.join_uploads()?;
            device.fork_uploads()?;
            products.add(device, &rows, range, 0..all.len())?;
        }
        pool.check_unchanged()
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
