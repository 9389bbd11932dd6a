//! What scoring takes, on one device: a model whose weights are replaced, its activations, and the pool that merges are
//! made of. Checkpoints or merges are put into the model, one after the other, and scored on shards.

use super::perplexity::{DomainScore, rows, score};
use crate::engine::checkpoint::read_weights;
use crate::engine::data::Shard;
use crate::engine::device::{Device, DeviceSpec};
use crate::engine::merge::{Merger, Pool, WeightedSum, memory_set_aside};
use crate::engine::model::{Activations, Config, Model};
use crate::error::Result;
use std::path::Path;

/// A device with everything that scoring takes.
pub struct Scorer<'a> {
    device: Device,
    model: Model,
    acts: Activations,
    merger: Option<Merger<'a>>,
}

impl<'a> Scorer<'a> {
    /// On a device of `spec`, for models of `config`; `merges` and the pool that they are of, if there are any.
    pub fn new(
        spec: &DeviceSpec,
        config: &Config,
        merges: Option<(&'a Pool, &'a [WeightedSum])>,
    ) -> Result<Scorer<'a>> {
        let mut device = spec.open()?;
        let model = Model::without_weights(&mut device, config)?;
        let rows = rows(config.context, device.compute_dtype());
        let acts = Activations::for_evaluation(&mut device, config, rows)?;
        let budget = memory_set_aside(&device);
        let merger = merges.map(|(pool, sums)| Merger::new(&mut device, pool, sums, budget)).transpose()?;
        Ok(Scorer { device, model, acts, merger })
    }

    /// Puts a checkpoint into the model.
    pub fn load_checkpoint(&mut self, directory: &Path) -> Result<()> {
        self.model.load(&mut self.device, &read_weights(directory, &self.model.config)?)
    }

    /// Puts the merge at `position` of the order that takes the fewest loads into the model, and returns its position
    /// among the merges that the scorer was made for.
    pub fn load_merge(&mut self, position: usize) -> Result<usize> {
        let merger = self.merger.as_mut().expect("a scorer that was made for merges");
        merger.load(&mut self.device, position, &self.model)?;
        Ok(merger.order()[position])
    }

    /// Scores what was loaded last on every document of `shard`; meanwhile the next merge's checkpoints come in.
    /// `after_pass` is called with the windows that are done or queued, and with all of them.
    pub fn score(&mut self, shard: &Shard, after_pass: &mut dyn FnMut(u64, u64)) -> Result<DomainScore> {
        let Scorer { device, model, acts, merger } = self;
        let mut after_pass = |device: &mut Device, done, total| {
            if let Some(merger) = merger {
                merger.prefetch(device);
            }
            after_pass(done, total);
        };
        device.range("score", |device| score(device, model, acts, shard, &mut after_pass))
    }
}
