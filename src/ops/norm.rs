//! RMSNorm over each row (Zhang and Sennrich 2019, arXiv 1910.07467), its gradient, and the residual stream it is
//! added to.

use super::Op;
use crate::device::{Host, Launch, Matrix, Operands};

/// out = [residual +] x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + epsilon)
pub struct RmsNorm {
    /// (R, C)
    pub x: Matrix,
    /// (1, C)
    pub weight: Matrix,
    /// (R, C)
    pub residual: Option<Matrix>,
    /// (R, C)
    pub out: Matrix,
    /// (1, R) f32, kept for the backward
    pub rstd: Matrix,
    pub epsilon: f32,
}

pub struct RmsNormBackward {
    /// (R, C)
    pub x: Matrix,
    /// (1, C)
    pub weight: Matrix,
    /// (1, R) f32
    pub rstd: Matrix,
    /// (R, C)
    pub dout: Matrix,
    /// (R, C)
    pub dx: Matrix,
    /// dx += instead of dx =
    pub accumulate_dx: bool,
    /// (1, C) f32, always accumulated into
    pub dweight: Matrix,
}

impl Op for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm_forward"
    }
    fn operands(&self) -> Operands {
        let o = Operands::default().read(&self.x).read(&self.weight).write(&self.out).write(&self.rstd);
        match &self.residual {
            Some(r) => o.read(r),
            None => o,
        }
    }
    fn flops(&self) -> u64 {
        4 * self.x.elements() as u64
    }
    fn cpu(&self, host: &Host) {
        todo!()
    }
    fn launch(&self) -> Launch {
        todo!()
    }
}

impl Op for RmsNormBackward {
    fn name(&self) -> &'static str {
        "rms_norm_backward"
    }
    fn operands(&self) -> Operands {
        Operands::default()
            .read(&self.x)
            .read(&self.weight)
            .read(&self.rstd)
            .read(&self.dout)
            .write_or_update(&self.dx, self.accumulate_dx)
            .update(&self.dweight)
    }
    fn flops(&self) -> u64 {
        9 * self.x.elements() as u64
    }
    fn cpu(&self, host: &Host) {
        todo!()
    }
    fn launch(&self) -> Launch {
        todo!()
    }
}
