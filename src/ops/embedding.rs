//! Rows of the embedding table by token, and the scatter of their gradient in a fixed order.

use super::Op;
use crate::device::{Host, Launch, Matrix, Operands};

pub struct Embedding {
    /// (1, R) u32, each below V
    pub tokens: Matrix,
    /// (V, C)
    pub weight: Matrix,
    /// (R, C)
    pub out: Matrix,
}

pub struct EmbeddingBackward {
    /// (1, R) u32
    pub tokens: Matrix,
    /// (R, C)
    pub dout: Matrix,
    /// (V, C) f32, always accumulated into, rows of a token in the order of R
    pub dweight: Matrix,
}

impl Op for Embedding {
    fn name(&self) -> &'static str {
        "embedding_forward"
    }
    fn operands(&self) -> Operands {
        Operands::default().read(&self.tokens).read(&self.weight).write(&self.out)
    }
    fn flops(&self) -> u64 {
        0
    }
    fn cpu(&self, host: &Host) {
        todo!()
    }
    fn launch(&self) -> Launch {
        todo!()
    }
}

impl Op for EmbeddingBackward {
    fn name(&self) -> &'static str {
        "embedding_backward"
    }
    fn operands(&self) -> Operands {
        Operands::default().read(&self.tokens).read(&self.dout).update(&self.dweight)
    }
    fn flops(&self) -> u64 {
        self.dout.elements() as u64
    }
    fn cpu(&self, host: &Host) {
        todo!()
    }
    fn launch(&self) -> Launch {
        todo!()
    }
}
