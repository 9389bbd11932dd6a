//! Every element set to one value: how gradients are cleared.

use super::Op;
use crate::device::{Arg, Host, Launch, Matrix, Operands};
use rayon::prelude::*;

pub struct Fill {
    /// (R, C) f32
    pub x: Matrix,
    pub value: f32,
}

/// Elements per task on the CPU and per block in the kernel.
const CHUNK: usize = 1 << 16;

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
    fn launch(&self) -> Launch {
        let n = self.x.elements();
        Launch {
            file: "fill",
            kernel: "fill",
            defines: vec![],
            grid: [n.div_ceil(CHUNK) as u32, 1, 1],
            block: 256,
            shared_bytes: 0,
            args: vec![Arg::Matrix(self.x.clone()), Arg::U32(n as u32), Arg::F32(self.value)],
        }
    }
}
