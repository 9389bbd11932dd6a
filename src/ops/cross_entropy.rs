//! Cross-entropy of each row of logits with its target, and its gradient in place. The model gives it a chunk of rows
//! at a time, so that the logits of a whole batch are never stored.

use super::Op;
use crate::device::{Host, Launch, Matrix, Operands};

/// A target that is not scored: its loss is 0 and its gradient is 0.
pub const IGNORED: u32 = u32::MAX;

pub struct CrossEntropy {
    /// (R, V); with `gradient_scale`, replaced by (softmax - onehot(target)) * scale
    pub logits: Matrix,
    /// (1, R) u32, below V or [`IGNORED`]
    pub targets: Matrix,
    /// (1, R) f32: nats of each row
    pub losses: Matrix,
    /// `None` leaves the logits alone
    pub gradient_scale: Option<f32>,
}

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        if self.gradient_scale.is_some() { "cross_entropy_gradient" } else { "cross_entropy" }
    }
    fn operands(&self) -> Operands {
        let o = Operands::default();
        let o = if self.gradient_scale.is_some() { o.update(&self.logits) } else { o.read(&self.logits) };
        o.read(&self.targets).write(&self.losses)
    }
    fn flops(&self) -> u64 {
        let per_logit = if self.gradient_scale.is_some() { 5 } else { 3 };
        per_logit * self.logits.elements() as u64
    }
    fn cpu(&self, host: &Host) {
        todo!()
    }
    fn launch(&self) -> Launch {
        todo!()
    }
}
