//! Global L2 norm of the gradient arena and the factor that clips it, left on the device for AdamW
//! to read.

use super::launch_args::{OperandLayout, expect_shape, launch, number, vector_with_tail};
use super::simd::{sum_of_squares, vectorized};
use super::{Op, parallel};
use crate::engine::device::{Arg, Host, Launch, Matrix, Operands};

/// Elements of `out`: norm, clip factor (1 when the norm is within bounds, 0 when it is not
/// finite), 1.0 if every gradient is finite else 0.0.
pub const GRAD_NORM_OUT: usize = 3;

/// Maximum blocks of the first kernel; each writes one partial sum, and the second kernel adds them
/// in order.
pub const GRAD_NORM_PARTS: usize = 1024;

/// Threads of a block of the kernels.
const BLOCK: usize = 256;
/// Minimum gradients per block: each thread reads two vectors.
const BLOCK_ELEMENTS: usize = 2 * 8 * BLOCK;

/// norm = sqrt(sum of grads^2), and what follows from it for the update; see [`GRAD_NORM_OUT`].
pub struct GradNorm {
    /// (1, P) f32
    pub grads: Matrix,
    /// (1, 3) f32, see [`GRAD_NORM_OUT`]
    pub out: Matrix,
    /// (1, [`GRAD_NORM_PARTS`]) f64 scratch of the kernels
    pub parts: Matrix,
    /// Largest norm that is not scaled down; `f32::INFINITY` for no clipping. The factor is
    /// max_norm / (norm + 1e-6), as in PyTorch's `clip_grad_norm_`.
    pub max_norm: f32,
}

impl Op for GradNorm {
    fn name(&self) -> &'static str {
        "grad_norm"
    }
    fn operands(&self) -> Operands {
        Operands::default().read(&self.grads).write(&self.out).scratch(&self.parts)
    }
    fn flops(&self) -> u64 {
        2 * self.grads.elements() as u64
    }
    fn cpu(&self, host: &Host) {
        expect_shape("out", &self.out, 1, GRAD_NORM_OUT);
        let grads = host.read::<f32>(&self.grads).flat();
        let size = parallel::rows_per_chunk(1);
        let mut sums = vec![0.0f64; grads.len().div_ceil(size)];
        parallel::for_each(sums.iter_mut().zip(grads.chunks(size)).collect(), |(sum, grads)| {
            *sum = vectorized(
                #[inline(always)]
                || sum_of_squares(grads),
            );
        });
        // Squares of finite f32 cannot overflow an f64, so the sum is finite exactly when every
        // gradient is.
        let norm = sums.iter().sum::<f64>().sqrt();
        let factor = if norm.is_finite() { (self.max_norm as f64 / (norm + 1e-6)).min(1.0) } else { 0.0 };
        let finite = if norm.is_finite() { 1.0 } else { 0.0 };
        host.write::<f32>(&self.out).flat().copy_from_slice(&[norm as f32, factor as f32, finite]);
    }
    /// Scalars: P, then the number of parts and the largest norm.
    fn launches(&self) -> Vec<Launch> {
        expect_shape("out", &self.out, 1, GRAD_NORM_OUT);
        let p = self.grads.elements();
        expect_shape("parts", &self.parts, 1, GRAD_NORM_PARTS);
        let blocks = p.div_ceil(BLOCK_ELEMENTS).clamp(1, GRAD_NORM_PARTS);
        let parts = self.parts.col_range(0..blocks);
        let defines = vec![("BLOCK", BLOCK.to_string()), vector_with_tail(&[&self.grads])];
        let layout =
            |blocks| OperandLayout { grid: [blocks, 1, 1], block: BLOCK as u32, shared: 0, defines: defines.clone() };
        let scalars = [number(blocks), Arg::F32(self.max_norm)];
        vec![
            launch("grad_norm", "grad_norm_partial", layout(blocks), &[&self.grads, &parts], [number(p)]),
            launch("grad_norm", "grad_norm", layout(1), &[&parts, &self.out], scalars),
        ]
    }
}
