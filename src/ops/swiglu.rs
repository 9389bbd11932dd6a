//! SwiGLU (Shazeer 2020, arXiv 2002.05202): out = silu(gate) * up, from one packed product.

use super::Op;
use crate::device::{Host, Launch, Matrix, Operands};

pub struct SwiGlu {
    /// (R, 2F): gate, then up
    pub gate_up: Matrix,
    /// (R, F)
    pub out: Matrix,
}

pub struct SwiGluBackward {
    /// (R, 2F)
    pub gate_up: Matrix,
    /// (R, F)
    pub dout: Matrix,
    /// (R, 2F)
    pub dgate_up: Matrix,
}

impl Op for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu_forward"
    }
    fn operands(&self) -> Operands {
        Operands::default().read(&self.gate_up).write(&self.out)
    }
    fn flops(&self) -> u64 {
        5 * self.out.elements() as u64
    }
    fn cpu(&self, host: &Host) {
        todo!()
    }
    fn launch(&self) -> Launch {
        todo!()
    }
}

impl Op for SwiGluBackward {
    fn name(&self) -> &'static str {
        "swiglu_backward"
    }
    fn operands(&self) -> Operands {
        Operands::default().read(&self.gate_up).read(&self.dout).write(&self.dgate_up)
    }
    fn flops(&self) -> u64 {
        10 * self.dout.elements() as u64
    }
    fn cpu(&self, host: &Host) {
        todo!()
    }
    fn launch(&self) -> Launch {
        todo!()
    }
}
