//! Scoring on one device: a model whose weights are replaced, its activations, and the pool that
//! merges are computed from. Checkpoints or merges are loaded into the model, one after another,
//! and scored on shards.

use super::perplexity::{DomainScore, rows, score};
use crate::engine::checkpoint::read_weights;
use crate::engine::data::Shard;
use crate::engine::device::{Device, DeviceSpec, OpenDevice};
use crate::engine::merge::{Merger, Pool, WeightedSum, memory_for_pool};
use crate::engine::model::{Activations, Config, Model};
use crate::error::Result;
use std::path::Path;

/// A device with everything that scoring needs.
pub struct Scorer<'a> {
    model: Model,
    acts: Activations,
    merger: Option<Merger<'a>>,
    /// Dropped last: an accelerator is idle again after its memory is free.
    device: OpenDevice,
}

impl<'a> Scorer<'a> {
    /// Opens a device of `spec` for models of `config`. `merges` is a pool and sums of its
    /// checkpoints, if any are to be scored.
    pub fn new(
        spec: &DeviceSpec,
        config: &Config,
        merges: Option<(&'a Pool, &'a [WeightedSum])>,
    ) -> Result<Scorer<'a>> {
        let mut device = spec.open()?;
        let model = Model::without_weights(&mut device, config)?;
        let rows = rows(config.context, device.compute_dtype());
        let acts = Activations::for_evaluation(&mut device, config, rows)?;
        let budget = memory_for_pool(&device);
        let merger = merges.map(|(pool, sums)| Merger::new(&mut device, pool, sums, budget)).transpose()?;
        Ok(Scorer { device, model, acts, merger })
    }

    /// Loads a checkpoint into the model.
    pub fn load_checkpoint(&mut self, directory: &Path) -> Result<()> {
        self.model.load(&mut self.device, &read_weights(directory, &self.model.config)?)
    }

    /// Loads the merge at `position`, in the order that needs the fewest loads, into the model.
    /// Returns its index among the merges that the scorer was made for.
    pub fn load_merge(&mut self, position: usize) -> Result<usize> {
        let merger = self.merger.as_mut().expect("a scorer that was made for merges");
        merger.load(&mut self.device, position, &self.model)?;
        Ok(merger.order()[position])
    }

    /// Scores the loaded model on every document of `shard`; meanwhile the next merge's checkpoints
    /// are uploaded. `after_pass` is called with the number of windows that are done or queued, and
    /// the total.
    pub fn score(&mut self, shard: &Shard, after_pass: &mut dyn FnMut(u64, u64)) -> Result<DomainScore> {
        let Scorer { device, model, acts, merger } = self;
        let mut after_pass = |device: &mut Device, done, total| {
            if let Some(merger) = merger {
                merger.prefetch(device);
            }
            after_pass(done, total);
        };
        device.range("score", |device| score(device, model, acts, shard, None, &mut after_pass))
    }
}
