//! Weighted sums of checkpoints in device memory: an f64 sum of each element, rounded once.
//! Products and sums are rounded separately, in the order of the terms, so every device gives the
//! same bits.

use super::cpu_merge::add_terms;
use super::dtype_convert::{Values, round_to_f32};
use super::launch_args::{OperandLayout, expect_shape, flag, launch, number, stride, type_of, vector_with_tail};
use super::{Op, OpCost, parallel};
use crate::engine::device::{DType, Host, Launch, Matrix, Operands, Rows};
use half::bf16;
use half::slice::HalfFloatSliceExt;

/// out = sum_i weights\[i\] * pool\[rows\[i\]\], each product and each sum rounded to f64, then the
/// total to f32, to nearest, ties to even; copy = out, rounded again.
pub struct Merge {
    /// (slots, P) bf16 or f32, one checkpoint per row
    pub pool: Matrix,
    /// (1, n) u32: each term's row; rows may repeat
    pub rows: Matrix,
    /// (1, n) f64
    pub weights: Matrix,
    /// (1, P) f32
    pub out: Matrix,
    /// (1, P) in the device's compute type, when that is not f32
    pub copy: Option<Matrix>,
}

/// Threads of a block of the kernel.
const BLOCK: usize = 256;
/// Elements per thread.
const ELEMENTS: usize = 8;
/// Terms whose loads are in flight at once. Eight would take the registers of another block.
const AHEAD: usize = 4;

impl Merge {
    fn check(&self) {
        let (n, p) = (self.rows.cols(), self.pool.cols());
        assert!(n > 0, "a merge has at least one term");
        expect_shape("rows", &self.rows, 1, n);
        expect_shape("weights", &self.weights, 1, n);
        expect_shape("out", &self.out, 1, p);
        self.copy.iter().for_each(|copy| expect_shape("copy", copy, 1, p));
    }
}

impl Op for Merge {
    fn name(&self) -> &'static str {
        "merge"
    }
    fn operands(&self) -> Operands {
        let operands = Operands::default().read(&self.pool).read(&self.rows).read(&self.weights).write(&self.out);
        self.copy.iter().fold(operands, |operands, copy| operands.write(copy))
    }
    fn flops(&self) -> u64 {
        2 * (self.rows.cols() * self.out.cols()) as u64
    }
    /// Counts the terms' rows, not the whole pool.
    fn cost(&self) -> OpCost {
        let row = (self.pool.cols() * self.pool.dtype().bytes()) as u64;
        let written = self.out.bytes() + self.copy.as_ref().map_or(0, Matrix::bytes);
        OpCost { bytes: self.rows.cols() as u64 * row + written, flops: self.flops() }
    }
    fn cpu(&self, host: &Host) {
        self.check();
        let (rows, weights) = (host.read::<u32>(&self.rows).flat(), host.read::<f64>(&self.weights).flat());
        let terms: Vec<(usize, f64)> = rows.iter().map(|&row| row as usize).zip(weights.iter().copied()).collect();
        let out = host.write::<f32>(&self.out).flat();
        match self.pool.dtype() {
            DType::Bf16 => {
                let pool = host.read::<bf16>(&self.pool);
                sum(&terms, pool, |row| Values::of_bf16(row), out);
            }
            _ => sum(&terms, host.read::<f32>(&self.pool), |row| Values::of_f32(row), out),
        }
        match &self.copy {
            None => {}
            Some(copy) if copy.dtype() == DType::Bf16 => host.write::<bf16>(copy).flat().convert_from_f32_slice(out),
            Some(copy) => host.write::<f32>(copy).flat().copy_from_slice(out),
        }
    }
    /// Scalars: terms, P, the pool's stride.
    fn launches(&self) -> Vec<Launch> {
        self.check();
        let p = self.pool.cols();
        let mut vectors = vec![&self.pool, &self.out];
        vectors.extend(&self.copy);
        let layout = OperandLayout {
            grid: [p.div_ceil(BLOCK * ELEMENTS), 1, 1],
            block: BLOCK as u32,
            shared: 0,
            defines: vec![
                ("POOL_TYPE", type_of(&self.pool)),
                ("HAS_COPY", flag(self.copy.is_some())),
                ("COPY_TYPE", type_of(self.copy.as_ref().unwrap_or(&self.out))),
                ("BLOCK", BLOCK.to_string()),
                ("AHEAD", AHEAD.to_string()),
                vector_with_tail(&vectors),
            ],
        };
        let mut operands = vec![&self.pool, &self.rows, &self.weights, &self.out];
        operands.extend(&self.copy);
        let scalars = [number(self.rows.cols()), number(p), stride(&self.pool)];
        vec![launch("merge", "merge", layout, &operands, scalars)]
    }
}

/// Sums the terms in chunks of elements, so that the f64 sums stay in a core's cache.
fn sum<T: Sync>(terms: &[(usize, f64)], pool: Rows<T>, values: impl Fn(&[T]) -> Values + Sync, out: &mut [f32]) {
    let run = parallel::rows_per_chunk(1);
    parallel::for_each(out.chunks_mut(run).enumerate().collect(), |(i, out)| {
        let range = i * run..i * run + out.len();
        let mut sum = vec![0.0; out.len()];
        let terms: Vec<(Values, f64)> =
            terms.iter().map(|&(row, weight)| (values(&pool.row(row)[range.clone()]), weight)).collect();
        add_terms(&terms, true, &mut sum);
        round_to_f32(&sum, out);
    });
}
