//! AdamW over the arena: its memory on the device, one update, and its state in and out.

use super::settings::Settings;
use crate::checkpoint::OptimizerState;
use crate::device::Device;
use crate::error::Result;
use crate::model::{Model, OptimizerArena};
use crate::ops::{AdamW, Fill, GradNorm};

pub struct Optimizer {
    pub arena: OptimizerArena,
    /// Updates applied to these weights so far, those before this training included: the t of the bias correction.
    pub updates: u64,
}

/// What one update did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: f32,
    /// The gradient was not finite: nothing was changed.
    pub skipped: bool,
}

impl Optimizer {
    /// With moments of zero, or those of `state` after `updates` updates.
    pub fn new(device: &mut Device, model: &Model, state: Option<(&OptimizerState, u64)>) -> Result<Optimizer> {
        let arena = OptimizerArena::new(device, model.table.len)?;
        let mut updates = 0;
        if let Some((state, before)) = state {
            device.upload(&arena.m, &state.m)?;
            device.upload(&arena.v, &state.v)?;
            updates = before;
        }
        Ok(Optimizer { arena, updates })
    }

    pub fn zero_gradients(&self, device: &mut Device) -> Result<()> {
        device.run(&Fill { x: self.arena.grads.vector(), value: 0.0 })
    }

    /// Clips the gradient and applies it.
    pub fn update(&mut self, device: &mut Device, model: &Model, s: &Settings, learning_rate: f64) -> Result<Update> {
        let arena = &self.arena;
        let (grads, norm) = (arena.grads.vector(), arena.norm.vector());
        device.run(&GradNorm { grads: grads.clone(), out: norm.clone(), max_norm: s.clip as f32 })?;
        let separate = model.compute.dtype() != model.master.dtype();
        device.run(&AdamW {
            params: model.master.vector(),
            grads,
            m: arena.m.vector(),
            v: arena.v.vector(),
            compute: separate.then(|| model.compute.vector()),
            norm,
            learning_rate: learning_rate as f32,
            beta1: s.beta1 as f32,
            beta2: s.beta2 as f32,
            epsilon: s.epsilon as f32,
            weight_decay: s.weight_decay as f32,
            step: self.updates + 1,
        })?;
        let read = device.to_vec::<f32>(&arena.norm)?;
        let skipped = read[2] == 0.0;
        self.updates += u64::from(!skipped);
        Ok(Update { grad_norm: read[0], skipped })
    }

    pub fn state(&self, device: &mut Device) -> Result<OptimizerState> {
        Ok(OptimizerState { m: device.to_vec(&self.arena.m)?, v: device.to_vec(&self.arena.v)? })
    }
}
