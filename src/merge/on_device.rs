//! A weighted average put straight into a model on a device: the checkpoints are read in chunks, the device sums them in
//! f64 in the mixture's order and rounds once, so the bits are those of the CPU. Memory does not grow with the number of
//! checkpoints.

use super::mixture::Mixture;
use super::pool::Pool;
use super::stream::{overflow, to_memory};
use crate::checkpoint::Reader;
use crate::device::{Buffer, DType, Device};
use crate::error::Result;
use crate::model::Model;
use crate::ops::merge::{MERGE_SOURCES, MergeAdd, MergeRound};
use crate::ops::{GRAD_NORM_OUT, GRAD_NORM_PARTS, GradNorm};
use std::ops::Range;

/// Elements of each checkpoint that are on the device at a time.
const CHUNK: usize = 1 << 22;

/// Gives `model` the weights of `mixture`.
pub fn load_average(device: &mut Device, pool: &Pool, mixture: &Mixture, model: &Model) -> Result<()> {
    let sources = pool.checkpoints();
    if !device.is_asynchronous() {
        let mut weights = vec![0.0; model.table.len];
        to_memory(pool, mixture, 0, &mut weights)?;
        pool.check_unchanged()?;
        return model.load(device, &weights);
    }
    let mut staging = Staging::new(device, model.table.len.min(CHUNK), mixture.terms.len())?;
    for start in (0..model.table.len).step_by(CHUNK) {
        let range = start..model.table.len.min(start + CHUNK);
        for (i, terms) in mixture.terms.chunks(MERGE_SOURCES).enumerate() {
            let terms: Vec<(&Reader, f64)> = terms.iter().map(|&(k, weight)| (&sources[k], weight)).collect();
            staging.add(device, &terms, range.clone(), i == 0)?;
        }
        let separate = model.compute.dtype() != model.master.dtype();
        device.run(&MergeRound {
            sum: staging.sum.slice(0..range.len()).vector(),
            out: model.master.slice(range.clone()).vector(),
            copy: separate.then(|| model.compute.slice(range).vector()),
        })?;
    }
    pool.check_unchanged()?;
    check_finite(device, sources, model)
}

struct Staging {
    /// Sums of a chunk, f64
    sum: Buffer,
    /// A chunk of each of some checkpoints, f32
    sources: Vec<Buffer>,
    host: Vec<f32>,
}

impl Staging {
    fn new(device: &mut Device, chunk: usize, terms: usize) -> Result<Staging> {
        let sources = (0..terms.min(MERGE_SOURCES)).map(|_| device.alloc(DType::F32, chunk));
        let sources = sources.collect::<Result<_>>()?;
        Ok(Staging { sum: device.alloc(DType::F64, chunk)?, sources, host: vec![0.0; chunk] })
    }

    /// Adds elements `range` of the checkpoints to the sums, which begin anew with the `first`.
    fn add(&mut self, device: &mut Device, terms: &[(&Reader, f64)], range: Range<usize>, first: bool) -> Result<()> {
        let n = range.len();
        for ((source, _), buffer) in terms.iter().zip(&self.sources) {
            source.chunk(range.clone(), &mut self.host[..n])?;
            device.upload(buffer, &self.host[..n])?;
        }
        device.run(&MergeAdd {
            sum: self.sum.slice(0..n).vector(),
            sources: self.sources[..terms.len()].iter().map(|b| b.slice(0..n).vector()).collect(),
            weights: terms.iter().map(|term| term.1).collect(),
            first,
        })
    }
}

/// Refuses an average that is not finite, by the checkpoint and tensor at fault.
fn check_finite(device: &mut Device, sources: &[Reader], model: &Model) -> Result<()> {
    let out = device.alloc(DType::F32, GRAD_NORM_OUT)?;
    let parts = device.alloc(DType::F64, GRAD_NORM_PARTS)?.vector();
    device.run(&GradNorm { grads: model.master.vector(), out: out.vector(), parts, max_norm: f32::INFINITY })?;
    if device.to_vec::<f32>(&out)?[2] != 0.0 {
        return Ok(());
    }
    sources.iter().try_for_each(|s| s.check_finite())?;
    let weights: Vec<f32> = device.to_vec(&model.master)?;
    Err(overflow(&model.table, weights.iter().position(|x| !x.is_finite()).unwrap_or(0)))
}
