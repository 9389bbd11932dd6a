//! Training speed of this machine's CPU, measured briefly; plans are based on it.

use crate::engine::device::Device;
use crate::engine::model::{Activations, Batch, Config, Inputs, Model, OptimizerArena, initial_weights};
use crate::error::Result;
use std::time::Instant;

/// Limits of the measured model, which has one layer: positions, and tokens of the vocabulary.
/// Products keep the model's width.
const ROWS: usize = 512;
const VOCABULARY: usize = 4096;
/// Passes are repeated for this long and the fastest counts: other load can only slow a pass down.
const SECONDS: f64 = 0.5;

/// Training FLOPs per second ([`Config::training_flops_per_token`]) of forward and backward passes
/// of the model, cut to these limits.
pub fn training_rate(config: &Config) -> Result<f64> {
    let (context, vocabulary) = (config.context.min(ROWS / 4), config.vocabulary.min(VOCABULARY));
    let config = Config { layers: 1, context, vocabulary, ..config.clone() };
    let shape = Batch { batch: (ROWS / context).max(1), context };
    let device = &mut Device::cpu();
    let model = Model::new(device, &config, &initial_weights(&config, 0))?;
    let acts = Activations::for_training(device, &config, shape.rows(), false)?;
    let arena = OptimizerArena::new(device, model.table.len)?;
    let inputs = Inputs::new(device, shape.rows())?;
    let tokens: Vec<u32> = (0..shape.rows()).map(|i| (i % config.vocabulary) as u32).collect();
    inputs.upload(device, &tokens, &tokens)?;
    let (since, mut best) = (Instant::now(), f64::INFINITY);
    while best == f64::INFINITY || since.elapsed().as_secs_f64() < SECONDS {
        let begun = Instant::now();
        model.accumulate_gradient(device, &acts, &arena.grads, shape, &inputs, 1.0)?;
        best = best.min(begun.elapsed().as_secs_f64());
    }
    Ok(shape.rows() as f64 * config.training_flops_per_token() / best)
}
