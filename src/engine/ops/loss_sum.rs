//! Row sums of a batch's losses, in f64: the nats of each scored window, or of a whole micro-batch.

use super::Op;
use super::launch_args::{OperandLayout, expect_shape, flag, launch, number, stride};
use crate::engine::device::{Host, Launch, Matrix, Operands};

/// `out[b] [+]= sum over t of losses[b][t]`, in f64.
pub struct LossSum {
    /// (B, T) f32
    pub losses: Matrix,
    /// (1, B) f64
    pub out: Matrix,
    /// out += instead of out =
    pub accumulate: bool,
}

/// Threads of a block of the kernel.
const BLOCK: usize = 256;

impl Op for LossSum {
    fn name(&self) -> &'static str {
        "loss_sum"
    }
    fn operands(&self) -> Operands {
        Operands::default().read(&self.losses).write_or_update(&self.out, self.accumulate)
    }
    fn flops(&self) -> u64 {
        self.losses.elements() as u64
    }
    fn cpu(&self, host: &Host) {
        expect_shape("out", &self.out, 1, self.losses.rows());
        let losses = host.read::<f32>(&self.losses);
        for (b, out) in host.write::<f64>(&self.out).flat().iter_mut().enumerate() {
            let sum = losses.row(b).iter().map(|&x| x as f64).sum::<f64>();
            *out = if self.accumulate { *out + sum } else { sum };
        }
    }
    /// One block a row. Scalars: B, T, stride.
    fn launches(&self) -> Vec<Launch> {
        expect_shape("out", &self.out, 1, self.losses.rows());
        let (rows, cols) = (self.losses.rows(), self.losses.cols());
        let defines = vec![("ACCUMULATE", flag(self.accumulate)), ("BLOCK", BLOCK.to_string())];
        let layout = OperandLayout { grid: [rows, 1, 1], block: BLOCK as u32, shared: 0, defines };
        let scalars = [number(rows), number(cols), stride(&self.losses)];
        vec![launch("loss_sum", "loss_sum", layout, &[&self.losses, &self.out], scalars)]
    }
}
