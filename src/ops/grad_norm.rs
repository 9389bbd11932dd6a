//! Global L2 norm of the gradient arena and the factor that clips it, left on the device for AdamW to read.

use super::Op;
use crate::device::{Host, Launch, Matrix, Operands};

/// Elements of `out`: norm, clip factor (1 when the norm is within bounds), 1.0 if every gradient is finite else 0.0.
pub const GRAD_NORM_OUT: usize = 3;

pub struct GradNorm {
    /// (1, P) f32
    pub grads: Matrix,
    /// (1, 3) f32, see [`GRAD_NORM_OUT`]
    pub out: Matrix,
    /// Largest norm that is not scaled down; `f32::INFINITY` for no clipping. The factor is
    /// max_norm / (norm + 1e-6), as in PyTorch's `clip_grad_norm_`.
    pub max_norm: f32,
}

impl Op for GradNorm {
    fn name(&self) -> &'static str {
        "grad_norm"
    }
    fn operands(&self) -> Operands {
        Operands::default().read(&self.grads).write(&self.out)
    }
    fn flops(&self) -> u64 {
        2 * self.grads.elements() as u64
    }
    fn cpu(&self, host: &Host) {
        todo!()
    }
    fn launch(&self) -> Launch {
        todo!()
    }
}
