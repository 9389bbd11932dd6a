//! The ops: each a value that knows its shapes, its cost, its CPU implementation and the launch of
//! its kernel. An op's file stem is the stem of its kernel's file. Row counts R are batch x context
//! (B*T) unless stated.

mod adamw;
mod attention;
mod cpu_gemm;
pub mod cpu_merge;
mod cross_entropy;
pub mod dtype_convert;
mod embedding;
mod fill;
mod gemm;
mod grad_norm;
mod inner_products;
mod launch_args;
mod loss_sum;
mod measure;
pub mod merge;
mod norm;
mod parallel;
mod rope;
pub mod simd;
mod swiglu;

pub use adamw::{ADAMW_CONSTANTS, AdamW, AdamWStep};
pub use attention::{Attention, AttentionBackward, AttentionShape, WIDEST_KERNEL_HEAD};
pub use cross_entropy::{CrossEntropy, IGNORED};
pub use embedding::{Embedding, EmbeddingBackward};
pub use fill::Fill;
pub use gemm::{Epilogue, GEMM_TILES, Gemm, GemmTile};
pub use grad_norm::{GRAD_NORM_OUT, GRAD_NORM_PARTS, GradNorm};
pub use inner_products::{INNER_PRODUCT_PART, INNER_PRODUCT_PARTS, InnerProducts};
pub use loss_sum::LossSum;
pub use measure::matmul_rate;
pub use norm::{NORM_PARTS, RmsNorm, RmsNormBackward};
pub use rope::{Rope, rope_table};
pub use swiglu::{SwiGlu, SwiGluBackward};

pub use crate::engine::device::{Op, OpCost};
