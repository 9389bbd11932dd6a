//! Inner products of gradients with checkpoints in device memory, for the gradient of a merged
//! model's loss in the weights of the merge. Sums are f64 in a fixed order.

use super::launch_args::{OperandLayout, expect_shape, flag, launch, number, stride, type_of, vector_with_tail};
use super::simd::{dot_f64, vectorized};
use super::{Op, OpCost, parallel};
use crate::engine::device::{DType, Host, Launch, Matrix, Operands, Rows};
use half::bf16;
use half::slice::HalfFloatSliceExt;

/// `out[d, k] = [out[d, k] +] sum_p gradients[d, p] pool[k, p]`: each product is exact in f64, and
/// the sum is rounded to f64 at each addition.
pub struct InnerProducts {
    /// (D, P) f32; P is at most [`INNER_PRODUCT_PARTS`] times [`INNER_PRODUCT_PART`], so longer rows
    /// take several of these ops, which accumulate
    pub gradients: Matrix,
    /// (K, P) bf16 or f32, one checkpoint per row
    pub pool: Matrix,
    /// (D, K) f64
    pub out: Matrix,
    /// ([`INNER_PRODUCT_PARTS`], D K) f64 scratch of the kernels
    pub parts: Matrix,
    /// Adds to `out` instead of replacing it.
    pub accumulate: bool,
}

/// Elements whose products are summed together; the sums of these parts are added in order. With
/// ranges of columns that are multiples of it, the bits do not depend on the ranges.
pub const INNER_PRODUCT_PART: usize = 1 << 14;
/// Maximum parts of one op.
pub const INNER_PRODUCT_PARTS: usize = 256;

/// Threads of a block of the kernels.
const BLOCK: usize = 256;
/// Gradients and checkpoints of a tile: a thread keeps the sums of all of their products in
/// registers. A tile of 4 x 4 would leave room for only one block on a multiprocessor.
const TILE: [usize; 2] = [4, 3];

impl InnerProducts {
    /// D, K, P
    fn sizes(&self) -> (usize, usize, usize) {
        let (d, k, p) = (self.gradients.rows(), self.pool.rows(), self.gradients.cols());
        assert!(p <= INNER_PRODUCT_PARTS * INNER_PRODUCT_PART, "{p} elements in one op");
        expect_shape("pool", &self.pool, k, p);
        expect_shape("out", &self.out, d, k);
        expect_shape("parts", &self.parts, INNER_PRODUCT_PARTS, d * k);
        (d, k, p)
    }
}

impl Op for InnerProducts {
    fn name(&self) -> &'static str {
        "inner_products"
    }
    fn operands(&self) -> Operands {
        let operands = Operands::default().read(&self.gradients).read(&self.pool);
        operands.write_or_update(&self.out, self.accumulate).scratch(&self.parts)
    }
    fn flops(&self) -> u64 {
        2 * (self.gradients.elements() * self.pool.rows()) as u64
    }
    /// Counts gradients and pool once: tiles of the same elements are neighbours in the grid, so
    /// the cache serves all but the first.
    fn cost(&self) -> OpCost {
        let written = self.out.bytes() * if self.accumulate { 2 } else { 1 };
        OpCost { bytes: self.gradients.bytes() + self.pool.bytes() + written, flops: self.flops() }
    }
    fn cpu(&self, host: &Host) {
        let (_, _, p) = self.sizes();
        let gradients = host.read::<f32>(&self.gradients);
        let parts = match self.pool.dtype() {
            DType::Bf16 => {
                let pool = host.read::<bf16>(&self.pool);
                products(p, gradients, pool.rows(), |k, start, out| {
                    pool.row(k)[start..start + out.len()].convert_to_f32_slice(out)
                })
            }
            _ => {
                let pool = host.read::<f32>(&self.pool);
                products(p, gradients, pool.rows(), |k, start, out| {
                    out.copy_from_slice(&pool.row(k)[start..start + out.len()])
                })
            }
        };
        let mut out = host.write::<f64>(&self.out);
        let k = self.pool.rows();
        for d in 0..self.gradients.rows() {
            for (i, out) in out.row(d).iter_mut().enumerate() {
                let start = if self.accumulate { *out } else { 0.0 };
                *out = parts.iter().fold(start, |sum, part| sum + part[d * k + i]);
            }
        }
    }
    /// Scalars: D, K, P, the strides of gradients and pool, the elements of a part; then the number
    /// of parts, D, K and the stride of `out`.
    fn launches(&self) -> Vec<Launch> {
        let (d, k, p) = self.sizes();
        let count = p.div_ceil(INNER_PRODUCT_PART).max(1);
        assert!(u32::try_from(d * k).is_ok(), "inner_products: {d} x {k} products do not fit 32 bits");
        let parts = self.parts.row_range(0..count);
        let defines = vec![
            ("BLOCK", BLOCK.to_string()),
            ("POOL_TYPE", type_of(&self.pool)),
            ("TILE_GRADIENTS", TILE[0].to_string()),
            ("TILE_POOL", TILE[1].to_string()),
            vector_with_tail(&[&self.gradients, &self.pool]),
        ];
        let last_defines = vec![("ACCUMULATE", flag(self.accumulate)), ("BLOCK", BLOCK.to_string())];
        let layout = |grid, defines| OperandLayout { grid, block: BLOCK as u32, shared: 0, defines };
        let tiles = layout([d.div_ceil(TILE[0]) * k.div_ceil(TILE[1]), count, 1], defines);
        let sums = layout([(d * k).div_ceil(BLOCK), 1, 1], last_defines);
        let (g, x) = (&self.gradients, &self.pool);
        let scalars = [number(d), number(k), number(p), stride(g), stride(x), number(INNER_PRODUCT_PART)];
        let last = [number(count), number(d), number(k), stride(&self.out)];
        vec![
            launch("inner_products", "inner_products_partial", tiles, &[g, x, &parts], scalars),
            launch("inner_products", "inner_products", sums, &[&parts, &self.out], last),
        ]
    }
}

/// The products of each part of P elements, (D, K). `read` copies elements of checkpoint k from
/// `start` on.
fn products(
    p: usize,
    gradients: Rows<f32>,
    checkpoints: usize,
    read: impl Fn(usize, usize, &mut [f32]) + Sync,
) -> Vec<Vec<f64>> {
    let mut parts = vec![vec![0.0f64; gradients.rows() * checkpoints]; p.div_ceil(INNER_PRODUCT_PART)];
    parallel::for_each(parts.iter_mut().enumerate().collect(), |(i, sums)| {
        let range = i * INNER_PRODUCT_PART..p.min((i + 1) * INNER_PRODUCT_PART);
        parallel::with_scratch(range.len(), |values| {
            for k in 0..checkpoints {
                read(k, range.start, values);
                for d in 0..gradients.rows() {
                    let gradient = &gradients.row(d)[range.clone()];
                    sums[d * checkpoints + k] = vectorized(
                        #[inline(always)]
                        || dot_f64(gradient, values),
                    );
                }
            }
        });
    });
    parts
}
