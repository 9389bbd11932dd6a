//! The exact gradient of a merged model's loss in the weights of the merge: dL/dw_k is the inner
//! product of the gradient in the model's parameters with checkpoint k. One forward and backward
//! pass over each domain, then the gradients of several domains against the whole pool at once, so
//! that the pool is read once for all of them.

use super::perplexity::{DomainScore, rows, score};
use crate::engine::data::Shard;
use crate::engine::device::{Buffer, DType, DeviceSpec, OpenDevice};
use crate::engine::merge::{Merger, Pool, WeightedSum, memory_for_pool};
use crate::engine::model::{Activations, Batch, Config, MemoryPlan, Model};
use crate::engine::ops::Fill;
use crate::error::{Error, Result};

/// Bytes of gradients on a CPU; a GPU takes a quarter of its free memory.
const GRADIENT_BYTES: u64 = 2 << 30;
/// Elements between two gradients are whole vectors of the kernels.
const VECTOR: usize = 8;

/// Scores a merge on domains and computes the gradients of its losses in the merge's weights.
pub struct GradientScorer<'a> {
    model: Model,
    acts: Activations,
    merger: Merger<'a>,
    checkpoints: usize,
    /// (domains at a time, P) f32, rows of whole vectors
    gradients: Buffer,
    /// Dropped last: an accelerator is idle again after its memory is free.
    device: OpenDevice,
}

/// The loss of a merge on one domain, and its gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeGradient {
    /// The sum of nats, and the text that it is over.
    pub score: DomainScore,
    /// Derivative of the sum of nats in the weight of each checkpoint of the pool.
    pub gradient: Vec<f64>,
}

impl<'a> GradientScorer<'a> {
    /// Opens a device of `spec` for models of `config`, `sums` of the checkpoints of `pool`, and at
    /// most `domains` domains.
    pub fn new(
        spec: &DeviceSpec,
        config: &Config,
        pool: &'a Pool,
        sums: &'a [WeightedSum],
        domains: usize,
    ) -> Result<GradientScorer<'a>> {
        GradientScorer::on(spec.open()?, config, pool, sums, domains)
    }

    /// As [`GradientScorer::new`], on an open device.
    pub fn on(
        device: impl Into<OpenDevice>,
        config: &Config,
        pool: &'a Pool,
        sums: &'a [WeightedSum],
        domains: usize,
    ) -> Result<GradientScorer<'a>> {
        let mut device = device.into();
        let model = Model::without_weights(&mut device, config)?;
        let rows = rows(config.context, device.compute_dtype());
        // The bits are the same; recomputing takes a third more work and a fraction of the memory.
        let shape = Batch { batch: rows / config.context, context: config.context };
        let plan = MemoryPlan::of_training(config, device.compute_dtype(), shape, shape.batch, false)?;
        let recompute = device.free_memory().is_some_and(|free| plan.activations > free / 2);
        let acts = Activations::for_training(&mut device, config, rows, recompute)?;
        let stride = model.table.len.next_multiple_of(VECTOR);
        let bytes = device.free_memory().map_or(GRADIENT_BYTES, |free| free / 4);
        let at_a_time = (bytes / (4 * stride as u64)).clamp(1, domains.max(1) as u64) as usize;
        let gradients = device.alloc(DType::F32, at_a_time * stride)?;
        let budget = memory_for_pool(&device);
        let merger = Merger::with_inner_products(&mut device, pool, sums, budget)?;
        Ok(GradientScorer { device, model, acts, merger, checkpoints: pool.checkpoints().len(), gradients })
    }

    /// Loads the merge at `position`, in the order that needs the fewest loads. Returns its index
    /// among the merges that the scorer was made for.
    pub fn load_merge(&mut self, position: usize) -> Result<usize> {
        self.merger.load(&mut self.device, position, &self.model)?;
        Ok(self.merger.order()[position])
    }

    /// Scores the loaded merge on every document of each shard, with gradients.
    pub fn gradients(&mut self, shards: &[&Shard]) -> Result<Vec<MergeGradient>> {
        let GradientScorer { device, model, acts, merger, gradients, .. } = self;
        let len = model.table.len;
        let stride = len.next_multiple_of(VECTOR);
        let mut all = Vec::with_capacity(shards.len());
        for shards in shards.chunks(gradients.len() / stride) {
            let mut scores = Vec::with_capacity(shards.len());
            for (row, shard) in shards.iter().enumerate() {
                let gradient = gradients.slice(row * stride..row * stride + len);
                device.run(&Fill { x: gradient.vector(), value: 0.0 })?;
                scores.push(device.range("gradient", |device| {
                    score(device, model, acts, shard, Some(&gradient), &mut |_, _, _| {})
                })?);
            }
            let rows = gradients.slice(0..shards.len() * stride).matrix(shards.len(), stride).col_range(0..len);
            let products = device.range("inner products", |device| merger.inner_products(device, &rows))?;
            if products.iter().any(|product| !product.is_finite()) {
                return Err(Error::numeric("a gradient of the loss in the weights of a merge is not finite")
                    .fix("check the checkpoints for weights that have grown without bound"));
            }
            let products = products.chunks(self.checkpoints).map(<[f64]>::to_vec);
            all.extend(scores.into_iter().zip(products).map(|(score, gradient)| MergeGradient { score, gradient }));
        }
        Ok(all)
    }
}
