//! Fill: sets every element to one value, for clearing gradients.

use super::Op;
use super::launch_args::{OperandLayout, launch, number, vector_with_tail};
use crate::engine::device::{Arg, Host, Launch, Matrix, Operands};
use rayon::prelude::*;

/// x = value, in every element.
pub struct Fill {
    /// (R, C) f32
    pub x: Matrix,
    /// Any value, including NaN and infinities.
    pub value: f32,
}

/// Elements per task on the CPU.
const CHUNK: usize = 1 << 16;
/// Threads of a block of the kernel, each of which writes eight neighbours.
const BLOCK: usize = 256;

impl Op for Fill {
    fn name(&self) -> &'static str {
        "fill"
    }
    fn operands(&self) -> Operands {
        Operands::default().write(&self.x)
    }
    fn flops(&self) -> u64 {
        0
    }
    fn cpu(&self, host: &Host) {
        host.write::<f32>(&self.x).flat().par_chunks_mut(CHUNK).for_each(|chunk| chunk.fill(self.value));
    }
    /// Scalars: elements, value.
    fn launches(&self) -> Vec<Launch> {
        let n = self.x.elements();
        let defines = vec![("BLOCK", BLOCK.to_string()), vector_with_tail(&[&self.x])];
        let layout = OperandLayout { grid: [n.div_ceil(8 * BLOCK), 1, 1], block: BLOCK as u32, shared: 0, defines };
        vec![launch("fill", "fill", layout, &[&self.x], [number(n), Arg::F32(self.value)])]
    }
}
