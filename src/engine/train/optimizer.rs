//! AdamW over the arena: its memory on the device, one update, and loading and reading its state.

use super::settings::Settings;
use crate::engine::checkpoint::OptimizerState;
use crate::engine::device::Device;
use crate::engine::model::{Model, OptimizerArena};
use crate::engine::ops::{AdamW, AdamWStep, Fill, GradNorm};
use crate::error::{Error, Result};

/// AdamW's state of one model on a device.
pub struct Optimizer {
    /// Gradients and both moments, (P) f32 each.
    pub arena: OptimizerArena,
}

/// The outcome of one update, as stored in `arena.norm`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: f32,
    /// The gradient was not finite: nothing was changed.
    pub skipped: bool,
}

impl Update {
    /// From the elements of `arena.norm`.
    pub fn of(norm: &[f32]) -> Update {
        Update { grad_norm: norm[0], skipped: norm[2] == 0.0 }
    }
}

impl Optimizer {
    /// Starts with moments of zero, or with those of `state` after `updates` updates.
    pub fn new(device: &mut Device, model: &Model, state: Option<(&OptimizerState, u64)>) -> Result<Optimizer> {
        let arena = OptimizerArena::new(device, model.table.len)?;
        if let Some((state, updates)) = state {
            device.upload(&arena.m, &state.m)?;
            device.upload(&arena.v, &state.v)?;
            let updates = u32::try_from(updates).map_err(|_| {
                Error::input("the optimizer state has too many updates")
                    .expected("fewer than 2^32")
                    .got(updates.to_string())
            })?;
            device.upload(&arena.updates, &[updates])?;
        }
        Ok(Optimizer { arena })
    }

    /// Zeroes the (P) gradients, before a step's first micro-batch.
    pub fn zero_gradients(&self, device: &mut Device) -> Result<()> {
        device.run(&Fill { x: self.arena.grads.vector(), value: 0.0 })
    }

    /// Sets the learning rate of the updates that follow.
    pub fn set_learning_rate(&self, device: &mut Device, rate: f64) -> Result<()> {
        device.upload(&self.arena.rate, &[rate as f32])
    }

    /// Clips the gradient and applies it. Nothing is read back: the outcome is in `arena.norm`, see
    /// [`Update`].
    pub fn update(&self, device: &mut Device, model: &Model, s: &Settings) -> Result<()> {
        let arena = &self.arena;
        let (grads, norm, constants) = (arena.grads.vector(), arena.norm.vector(), arena.constants.vector());
        device.run(&GradNorm {
            grads: grads.clone(),
            out: norm.clone(),
            parts: arena.norm_parts.vector(),
            max_norm: s.clip as f32,
        })?;
        device.run(&AdamWStep {
            norm: norm.clone(),
            rate: arena.rate.vector(),
            updates: arena.updates.vector(),
            constants: constants.clone(),
            beta1: s.beta1 as f32,
            beta2: s.beta2 as f32,
            weight_decay: s.weight_decay as f32,
        })?;
        let separate = model.compute.dtype() != model.master.dtype();
        device.run(&AdamW {
            params: model.master.vector(),
            grads,
            m: arena.m.vector(),
            v: arena.v.vector(),
            compute: separate.then(|| model.compute.vector()),
            norm,
            constants,
            beta1: s.beta1 as f32,
            beta2: s.beta2 as f32,
            epsilon: s.epsilon as f32,
        })
    }

    /// The moments.
    pub fn state(&self, device: &mut Device) -> Result<OptimizerState> {
        Ok(OptimizerState { m: device.to_vec(&self.arena.m)?, v: device.to_vec(&self.arena.v)? })
    }

    /// Updates applied to these weights so far, including those before this training.
    pub fn updates(&self, device: &mut Device) -> Result<u64> {
        Ok(device.to_vec::<u32>(&self.arena.updates)?[0].into())
    }
}
