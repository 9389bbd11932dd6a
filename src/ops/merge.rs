//! Weighted sums of checkpoints on a device: f32 values in, an f64 sum, and values rounded once out. Products and sums
//! are rounded apart, in the order of the sources, so every device gives the same bits.

use super::Op;
use super::arguments::{Define, Layout, expect_shape, flag, launch, number, type_of};
use super::storage::{Values, round_to_f32};
use super::weighted_sum::add_terms;
use crate::device::{Arg, DType, Host, Launch, Matrix, Operands};
use half::bf16;
use half::slice::HalfFloatSliceExt;

/// Most checkpoints that one [`MergeAdd`] adds.
pub const MERGE_SOURCES: usize = 8;

/// sum += sum_k weights\[k\] * sources\[k\], each product and each sum rounded to f64, in the order of the sources.
pub struct MergeAdd {
    /// (1, n) f64
    pub sum: Matrix,
    /// (1, n) f32 each, 1 to [`MERGE_SOURCES`] of them
    pub sources: Vec<Matrix>,
    pub weights: Vec<f64>,
    /// sum = instead of sum +=
    pub first: bool,
}

/// out = sum, rounded to nearest, ties to even; copy = out, rounded again.
pub struct MergeRound {
    /// (1, n) f64
    pub sum: Matrix,
    /// (1, n) f32
    pub out: Matrix,
    /// (1, n) in the device's compute type, when that is not f32
    pub copy: Option<Matrix>,
}

/// Threads of a block of the kernels.
const BLOCK: usize = 256;
/// Elements of a thread.
const ELEMENTS: usize = 4;

fn layout(n: usize, mut defines: Vec<Define>) -> Layout {
    defines.extend([("BLOCK", BLOCK.to_string()), ("ELEMENTS", ELEMENTS.to_string())]);
    Layout { grid: [n.div_ceil(BLOCK * ELEMENTS), 1, 1], block: BLOCK as u32, shared: 0, defines }
}

impl MergeAdd {
    fn check(&self) {
        let n = self.sources.len();
        assert!((1..=MERGE_SOURCES).contains(&n) && n == self.weights.len(), "a weight for each of 1 to 8 sources");
        self.sources.iter().for_each(|m| expect_shape("source", m, 1, self.sum.cols()));
    }
}

impl Op for MergeAdd {
    fn name(&self) -> &'static str {
        "merge_add"
    }
    fn operands(&self) -> Operands {
        let sum = Operands::default().write_or_update(&self.sum, !self.first);
        self.sources.iter().fold(sum, |operands, m| operands.read(m))
    }
    fn flops(&self) -> u64 {
        (2 * self.sources.len() * self.sum.elements()) as u64
    }
    fn cpu(&self, host: &Host) {
        self.check();
        let sum = host.write::<f64>(&self.sum).flat();
        let values = |m: &Matrix| Values::of_f32(host.read::<f32>(m).flat());
        let terms: Vec<(Values, f64)> = self.sources.iter().map(values).zip(self.weights.iter().copied()).collect();
        add_terms(&terms, self.first, sum);
    }
    /// Scalars: n, then the weights.
    fn launches(&self) -> Vec<Launch> {
        self.check();
        let n = self.sum.cols();
        let defines = vec![("COUNT", self.sources.len().to_string()), ("FIRST", flag(self.first))];
        let operands: Vec<&Matrix> = std::iter::once(&self.sum).chain(&self.sources).collect();
        let scalars = std::iter::once(number(n)).chain(self.weights.iter().map(|&w| Arg::F64(w)));
        vec![launch("merge", "merge_add", layout(n, defines), &operands, scalars)]
    }
}

impl Op for MergeRound {
    fn name(&self) -> &'static str {
        "merge_round"
    }
    fn operands(&self) -> Operands {
        let operands = Operands::default().read(&self.sum).write(&self.out);
        self.copy.iter().fold(operands, |operands, copy| operands.write(copy))
    }
    fn flops(&self) -> u64 {
        0
    }
    fn cpu(&self, host: &Host) {
        let out = host.write::<f32>(&self.out).flat();
        round_to_f32(host.read::<f64>(&self.sum).flat(), out);
        match &self.copy {
            None => {}
            Some(copy) if copy.dtype() == DType::Bf16 => host.write::<bf16>(copy).flat().convert_from_f32_slice(out),
            Some(copy) => host.write::<f32>(copy).flat().copy_from_slice(out),
        }
    }
    /// Scalars: n.
    fn launches(&self) -> Vec<Launch> {
        let n = self.sum.cols();
        expect_shape("out", &self.out, 1, n);
        let operands: Vec<&Matrix> = [&self.sum, &self.out].into_iter().chain(&self.copy).collect();
        let copy = self.copy.as_ref().unwrap_or(&self.out);
        let defines = vec![("HAS_COPY", flag(self.copy.is_some())), ("COPY_TYPE", type_of(copy))];
        vec![launch("merge", "merge_round", layout(n, defines), &operands, [number(n)])]
    }
}
