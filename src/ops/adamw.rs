//! AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) in one pass over the arenas, in the order of operations of
//! PyTorch's: decay p by lr * weight_decay, then p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon).
//! A step whose gradient is not finite changes nothing.

use super::Op;
use crate::device::{Host, Launch, Matrix, Operands};

pub struct AdamW {
    /// (1, P) f32 master weights
    pub params: Matrix,
    /// (1, P) f32
    pub grads: Matrix,
    /// (1, P) f32 first moment
    pub m: Matrix,
    /// (1, P) f32 second moment
    pub v: Matrix,
    /// (1, P) copy of the new weights in the device's compute type, when that is not f32
    pub compute: Option<Matrix>,
    /// (1, 3) f32 from [`super::GradNorm`]: gradients are multiplied by its clip factor
    pub norm: Matrix,
    pub learning_rate: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    pub weight_decay: f32,
    /// t, from 1
    pub step: u64,
}

impl Op for AdamW {
    fn name(&self) -> &'static str {
        "adamw"
    }
    fn operands(&self) -> Operands {
        let o =
            Operands::default().update(&self.params).read(&self.grads).update(&self.m).update(&self.v).read(&self.norm);
        match &self.compute {
            Some(c) => o.write(c),
            None => o,
        }
    }
    fn flops(&self) -> u64 {
        14 * self.params.elements() as u64
    }
    fn cpu(&self, host: &Host) {
        todo!()
    }
    fn launch(&self) -> Launch {
        todo!()
    }
}
