//! Rotary position embedding in place, half-rotation form (Su et al. 2021, arXiv 2104.09864; the pairing of
//! GPT-NeoX and transformers: element d with element d + D/2).

use super::Op;
use crate::device::{Host, Launch, Matrix, Operands};

pub struct Rope {
    /// (B*T, heads*D); row r has position r mod T
    pub x: Matrix,
    /// (T, D): cosines of position * base^(-2d/D) for d < D/2, then sines; see [`rope_table`]
    pub table: Matrix,
    /// D
    pub head_width: usize,
    /// Rotates back: the gradient of the rotation.
    pub inverse: bool,
}

/// The (T, D) table of [`Rope`]; angles in f32 from inverse frequencies in f32, as transformers computes them.
pub fn rope_table(context: usize, head_width: usize, base: f64) -> Vec<f32> {
    todo!()
}

impl Op for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }
    fn operands(&self) -> Operands {
        Operands::default().update(&self.x).read(&self.table)
    }
    fn flops(&self) -> u64 {
        3 * self.x.elements() as u64
    }
    fn cpu(&self, host: &Host) {
        todo!()
    }
    fn launch(&self) -> Launch {
        todo!()
    }
}
