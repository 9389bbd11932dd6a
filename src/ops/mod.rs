//! The ops: each a value that knows its shapes, its cost, its CPU implementation and the launch of its kernel.
//! An op's file stem is the stem of its kernel's file. Row counts R are batch x context (B*T) unless said.

mod adamw;
mod arguments;
mod attention;
mod cross_entropy;
mod embedding;
mod fill;
mod gemm;
mod grad_norm;
mod measure;
pub mod merge;
mod norm;
mod parallel;
mod product;
mod rope;
pub mod simd;
mod swiglu;

pub use adamw::AdamW;
pub use attention::{Attention, AttentionBackward, AttentionShape};
pub use cross_entropy::{CrossEntropy, IGNORED};
pub use embedding::{Embedding, EmbeddingBackward};
pub use fill::Fill;
pub use gemm::{Epilogue, Gemm};
pub use grad_norm::{GRAD_NORM_OUT, GradNorm};
pub use measure::matmul_rate;
pub use norm::{RmsNorm, RmsNormBackward};
pub use rope::{Rope, rope_table};
pub use swiglu::{SwiGlu, SwiGluBackward};

use crate::device::{Access, Host, Launch, Matrix, Operands};

/// Work of one op: bytes that must move to and from memory if each operand is touched once, and flops.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    pub bytes: u64,
    pub flops: u64,
}

pub trait Op {
    /// Name of the op and of its kernel's entry.
    fn name(&self) -> &'static str;
    /// What it reads and writes, in the order of its kernel's parameters.
    fn operands(&self) -> Operands;
    fn flops(&self) -> u64;
    fn cost(&self) -> Cost {
        let operands = self.operands();
        let moved = |m: &Matrix, access: Access| m.bytes() * if access == Access::Update { 2 } else { 1 };
        Cost { bytes: operands.iter().map(|(m, access)| moved(m, *access)).sum(), flops: self.flops() }
    }
    /// Computes on the CPU, in f32, in an order of summation that depends on the shapes alone.
    fn cpu(&self, host: &Host);
    /// The launch of its kernel.
    fn launch(&self) -> Launch;
}
