//! SwiGLU (Shazeer 2020, arXiv 2002.05202): out = silu(gate) * up, from one packed product.

use super::launch_args::{OperandLayout, expect_shape, launch, number, stride, type_of, vector};
use super::simd::{sigmoid, vectorized};
use super::{Op, parallel};
use crate::engine::device::{Host, Launch, Matrix, Operands};

/// out = silu(gate) * up, with silu(z) = z / (1 + e^-z)
pub struct SwiGlu {
    /// (R, 2F): gate, then up
    pub gate_up: Matrix,
    /// (R, F)
    pub out: Matrix,
}

/// With s = sigmoid(gate): dgate = dout up s (1 + gate (1 - s)), dup = dout gate s.
pub struct SwiGluBackward {
    /// (R, 2F)
    pub gate_up: Matrix,
    /// (R, F)
    pub dout: Matrix,
    /// (R, 2F)
    pub dgate_up: Matrix,
}

/// Threads of a block of the kernels, each of which computes eight neighbouring elements of a row.
const BLOCK: usize = 128;

fn layout(out: &Matrix, operands: &[&Matrix]) -> OperandLayout {
    OperandLayout {
        grid: [out.rows(), out.cols().div_ceil(8 * BLOCK), 1],
        block: BLOCK as u32,
        shared: 0,
        defines: vec![("TYPE", type_of(out)), ("BLOCK", BLOCK.to_string()), vector(operands)],
    }
}

#[inline(always)]
fn forward(gate_up: &[f32], out: &mut [f32]) {
    let n = out.len();
    let (gate, up) = gate_up.split_at(n);
    let up = &up[..n];
    for i in 0..n {
        out[i] = gate[i] * sigmoid(gate[i]) * up[i];
    }
}

/// With s = sigmoid(gate): d silu / d gate = s (1 + gate (1 - s)).
#[inline(always)]
fn backward(gate_up: &[f32], dout: &[f32], dgate_up: &mut [f32]) {
    let n = dout.len();
    let (gate, up) = gate_up.split_at(n);
    let (dgate, dup) = dgate_up.split_at_mut(n);
    let (up, dup) = (&up[..n], &mut dup[..n]);
    for i in 0..n {
        let s = sigmoid(gate[i]);
        dgate[i] = dout[i] * up[i] * s * gate[i].mul_add(1.0 - s, 1.0);
        dup[i] = dout[i] * gate[i] * s;
    }
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
        expect_shape("gate_up", &self.gate_up, self.out.rows(), 2 * self.out.cols());
        let gate_up = host.read::<f32>(&self.gate_up);
        let size = parallel::rows_per_chunk(gate_up.cols());
        let chunks = host.write::<f32>(&self.out).chunks(size).into_iter().enumerate().collect();
        parallel::for_each(chunks, |(chunk, mut out)| {
            for i in 0..out.rows() {
                vectorized(
                    #[inline(always)]
                    || forward(gate_up.row(chunk * size + i), out.row(i)),
                );
            }
        });
    }
    /// Scalars: R, F, strides of gate_up and out.
    fn launches(&self) -> Vec<Launch> {
        let (rows, width) = (self.out.rows(), self.out.cols());
        expect_shape("gate_up", &self.gate_up, rows, 2 * width);
        let scalars = vec![number(rows), number(width), stride(&self.gate_up), stride(&self.out)];
        let operands = [&self.gate_up, &self.out];
        vec![launch("swiglu", "swiglu_forward", layout(&self.out, &operands), &operands, scalars)]
    }
}

impl SwiGluBackward {
    fn check(&self) {
        let (rows, width) = (self.dout.rows(), self.dout.cols());
        expect_shape("gate_up", &self.gate_up, rows, 2 * width);
        expect_shape("dgate_up", &self.dgate_up, rows, 2 * width);
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
        self.check();
        let (gate_up, dout) = (host.read::<f32>(&self.gate_up), host.read::<f32>(&self.dout));
        let size = parallel::rows_per_chunk(gate_up.cols());
        let chunks = host.write::<f32>(&self.dgate_up).chunks(size).into_iter().enumerate().collect();
        parallel::for_each(chunks, |(chunk, mut dgate_up)| {
            for i in 0..dgate_up.rows() {
                let r = chunk * size + i;
                vectorized(
                    #[inline(always)]
                    || backward(gate_up.row(r), dout.row(r), dgate_up.row(i)),
                );
            }
        });
    }
    /// Scalars: R, F, strides of gate_up, dout and dgate_up.
    fn launches(&self) -> Vec<Launch> {
        self.check();
        let sizes = [number(self.dout.rows()), number(self.dout.cols())];
        let operands = [&self.gate_up, &self.dout, &self.dgate_up];
        let scalars = sizes.into_iter().chain(operands.map(stride));
        vec![launch("swiglu", "swiglu_backward", layout(&self.dout, &operands), &operands, scalars)]
    }
}
