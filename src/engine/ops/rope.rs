//! Rotary position embedding in place, half-rotation form (Su et al. 2021, arXiv 2104.09864; the
//! pairing of GPT-NeoX and transformers: element d with element d + D/2).

use super::launch_args::{Define, OperandLayout, flag, launch, number, stride, type_of, vector};
use super::simd::vectorized;
use super::{Op, parallel};
use crate::engine::device::{Host, Launch, Matrix, Operands};

/// `(x[d], x[d + D/2])` rotated by position * base^(-2d/D), for each head and d < D/2.
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

/// Threads of a block of the kernel: a warp for each row.
const BLOCK: usize = 256;

impl Rope {
    fn check(&self) {
        assert!(self.head_width.is_multiple_of(2), "rope: the head width {} is odd", self.head_width);
        assert!(self.x.cols().is_multiple_of(self.head_width), "rope: the columns of x are not whole heads");
        assert_eq!(self.table.cols(), self.head_width, "rope: the table has another head width");
    }

    /// A vector of pairs must be within one head.
    fn vector(&self) -> Define {
        if (self.head_width / 2).is_multiple_of(8) { vector(&[&self.x, &self.table]) } else { ("VECTOR", "1".into()) }
    }
}

/// The (T, D) table of [`Rope`]; angles in f32 from inverse frequencies in f32, as transformers
/// computes them.
pub fn rope_table(context: usize, head_width: usize, base: f64) -> Vec<f32> {
    let pairs = head_width / 2;
    let mut table = vec![0.0; context * head_width];
    for (position, row) in table.chunks_exact_mut(head_width).enumerate() {
        for d in 0..pairs {
            let exponent = (2 * d) as f32 / head_width as f32;
            let frequency = 1.0 / base.powf(exponent as f64) as f32;
            let angle = (position as f32 * frequency) as f64;
            row[d] = angle.cos() as f32;
            row[pairs + d] = angle.sin() as f32;
        }
    }
    table
}

/// Rotates every head of one row; `table` is the row of its position: D/2 cosines, D/2 sines.
#[inline(always)]
fn rotate(x: &mut [f32], table: &[f32], inverse: bool) {
    let (cos, sin) = table.split_at(table.len() / 2);
    let pairs = cos.len();
    let sin = &sin[..pairs];
    let sign = if inverse { -1.0 } else { 1.0 };
    for head in x.chunks_exact_mut(2 * pairs) {
        let (low, high) = head.split_at_mut(pairs);
        let high = &mut high[..pairs];
        for d in 0..pairs {
            let (a, b, s) = (low[d], high[d], sin[d] * sign);
            low[d] = a * cos[d] - b * s;
            high[d] = b * cos[d] + a * s;
        }
    }
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
        self.check();
        let table = host.read::<f32>(&self.table);
        let size = parallel::rows_per_chunk(self.x.cols());
        let chunks = host.write::<f32>(&self.x).chunks(size).into_iter().enumerate().collect();
        parallel::for_each(chunks, |(chunk, mut x)| {
            vectorized(
                #[inline(always)]
                || {
                    for i in 0..x.rows() {
                        rotate(x.row(i), table.row((chunk * size + i) % table.rows()), self.inverse);
                    }
                },
            );
        });
    }
    /// A warp a row. Scalars: R, columns of x, stride of x, T, stride of the table.
    fn launches(&self) -> Vec<Launch> {
        self.check();
        let (rows, cols) = (self.x.rows(), self.x.cols());
        let layout = OperandLayout {
            grid: [rows.div_ceil(BLOCK / 32), 1, 1],
            block: BLOCK as u32,
            shared: 0,
            defines: vec![
                ("TYPE", type_of(&self.x)),
                ("HEAD_WIDTH", self.head_width.to_string()),
                ("INVERSE", flag(self.inverse)),
                ("BLOCK", BLOCK.to_string()),
                self.vector(),
            ],
        };
        let scalars = [number(rows), number(cols), stride(&self.x), number(self.table.rows()), stride(&self.table)];
        vec![launch("rope", "rope", layout, &[&self.x, &self.table], scalars)]
    }
}
