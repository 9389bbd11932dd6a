//! RMSNorm over each row (Zhang and Sennrich 2019, arXiv 1910.07467), its gradient, and the
//! residual stream it is added to.

use super::launch_args::{Define, OperandLayout, expect_shape, flag, launch, number, stride, type_of, vector};
use super::simd::{dot, dot3, vectorized};
use super::{Op, parallel};
use crate::engine::device::{Arg, Host, Launch, Matrix, Operands};

/// Minimum rows per partial sum of dweight, so that adding up the partial sums costs little beside
/// the rows.
const LEAST_ROWS: usize = 32;

/// out = [residual +] x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + epsilon)
pub struct RmsNorm {
    /// (R, C)
    pub x: Matrix,
    /// (1, C)
    pub weight: Matrix,
    /// (R, C)
    pub residual: Option<Matrix>,
    /// (R, C)
    pub out: Matrix,
    /// (1, R) f32, kept for the backward
    pub rstd: Matrix,
    /// Added to the mean square.
    pub epsilon: f32,
}

/// With g = dout * weight: dx [+]= rstd (g - x rstd^2 mean(g x)), and dweight += sum over rows of
/// dout x rstd.
pub struct RmsNormBackward {
    /// (R, C)
    pub x: Matrix,
    /// (1, C)
    pub weight: Matrix,
    /// (1, R) f32
    pub rstd: Matrix,
    /// (R, C)
    pub dout: Matrix,
    /// (R, C)
    pub dx: Matrix,
    /// dx += instead of dx =
    pub accumulate_dx: bool,
    /// (1, C) f32, always accumulated into
    pub dweight: Matrix,
    /// ([`NORM_PARTS`], C) f32 scratch of the kernels
    pub parts: Matrix,
}

/// Threads of a block of the kernels.
const BLOCK: usize = 256;
/// Widest row that a warp computes; a wider one takes a block.
const WARP_COLS: usize = 1024;
/// Vectors of its row that a thread keeps in registers: all of them up to 8192 columns of bf16.
const KEPT: usize = 4;
/// Maximum blocks of the backward kernel; each writes a partial dweight, and a second kernel adds
/// them in order.
pub const NORM_PARTS: usize = 256;

/// Rows that a block works on at a time.
fn block_rows(cols: usize) -> usize {
    if cols <= WARP_COLS { BLOCK / 32 } else { 1 }
}

fn layout(x: &Matrix, blocks: usize, vector: Define, own: Define) -> OperandLayout {
    let defines = vec![
        ("TYPE", type_of(x)),
        ("BLOCK", BLOCK.to_string()),
        ("ROW_THREADS", (BLOCK / block_rows(x.cols())).to_string()),
        ("KEPT", KEPT.to_string()),
        vector,
        own,
    ];
    OperandLayout { grid: [blocks, 1, 1], block: BLOCK as u32, shared: 0, defines }
}

impl RmsNorm {
    fn check(&self) {
        let (rows, cols) = (self.x.rows(), self.x.cols());
        expect_shape("weight", &self.weight, 1, cols);
        expect_shape("rstd", &self.rstd, 1, rows);
        expect_shape("out", &self.out, rows, cols);
        if let Some(residual) = &self.residual {
            expect_shape("residual", residual, rows, cols);
        }
    }
}

impl RmsNormBackward {
    fn check(&self) {
        let (rows, cols) = (self.x.rows(), self.x.cols());
        expect_shape("weight", &self.weight, 1, cols);
        expect_shape("dweight", &self.dweight, 1, cols);
        expect_shape("parts", &self.parts, NORM_PARTS, cols);
        expect_shape("dout", &self.dout, rows, cols);
        expect_shape("dx", &self.dx, rows, cols);
        expect_shape("rstd", &self.rstd, 1, rows);
    }
}

/// One row; returns its rstd.
#[inline(always)]
fn forward(x: &[f32], weight: &[f32], residual: Option<&[f32]>, out: &mut [f32], epsilon: f32) -> f32 {
    let n = out.len();
    let rstd = 1.0 / (dot(x, x) / n as f32 + epsilon).sqrt();
    let (x, weight) = (&x[..n], &weight[..n]);
    match residual {
        None => {
            for i in 0..n {
                out[i] = x[i] * rstd * weight[i];
            }
        }
        Some(residual) => {
            let residual = &residual[..n];
            for i in 0..n {
                out[i] = (x[i] * rstd).mul_add(weight[i], residual[i]);
            }
        }
    }
    rstd
}

/// One row: dx [+]= rstd (g - x rstd^2 mean(g x)) with g = dout weight; dweight += dout x rstd.
#[inline(always)]
fn backward(x: &[f32], weight: &[f32], rstd: f32, dout: &[f32], dx: &mut [f32], accumulate: bool, dweight: &mut [f32]) {
    let n = dx.len();
    let (x, weight, dout, dweight) = (&x[..n], &weight[..n], &dout[..n], &mut dweight[..n]);
    let shrink = dot3(dout, weight, x) / n as f32 * rstd * rstd;
    for i in 0..n {
        let gradient = (dout[i] * weight[i] - x[i] * shrink) * rstd;
        dx[i] = if accumulate { dx[i] + gradient } else { gradient };
        dweight[i] = (x[i] * rstd).mul_add(dout[i], dweight[i]);
    }
}

impl Op for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm_forward"
    }
    fn operands(&self) -> Operands {
        let o = Operands::default().read(&self.x).read(&self.weight).write(&self.out).write(&self.rstd);
        match &self.residual {
            Some(r) => o.read(r),
            None => o,
        }
    }
    fn flops(&self) -> u64 {
        4 * self.x.elements() as u64
    }
    fn cpu(&self, host: &Host) {
        self.check();
        let (x, weight) = (host.read::<f32>(&self.x), host.read::<f32>(&self.weight).flat());
        let residual = self.residual.as_ref().map(|r| host.read::<f32>(r));
        let size = parallel::rows_per_chunk(x.cols());
        let out = host.write::<f32>(&self.out).chunks(size);
        let rstd = host.write::<f32>(&self.rstd).flat().chunks_mut(size);
        parallel::for_each(out.into_iter().zip(rstd).enumerate().collect(), |(chunk, (mut out, rstd))| {
            for (i, rstd) in rstd.iter_mut().enumerate() {
                let r = chunk * size + i;
                *rstd = vectorized(
                    #[inline(always)]
                    || forward(x.row(r), weight, residual.map(|m| m.row(r)), out.row(i), self.epsilon),
                );
            }
        });
    }
    /// Scalars: R, C, strides of x and out and, with a residual, of that, epsilon.
    fn launches(&self) -> Vec<Launch> {
        self.check();
        let (rows, cols) = (self.x.rows(), self.x.cols());
        let mut operands = vec![&self.x, &self.weight, &self.out, &self.rstd];
        operands.extend(&self.residual);
        let matrices: Vec<&Matrix> = operands.iter().copied().filter(|m| m.cols() == cols).collect();
        let residual = ("RESIDUAL", flag(self.residual.is_some()));
        let layout = layout(&self.x, rows.div_ceil(block_rows(cols)), vector(&matrices), residual);
        let mut scalars = vec![number(rows), number(cols), stride(&self.x), stride(&self.out)];
        scalars.extend(self.residual.as_ref().map(stride));
        scalars.push(Arg::F32(self.epsilon));
        vec![launch("norm", "rms_norm_forward", layout, &operands, scalars)]
    }
}

impl Op for RmsNormBackward {
    fn name(&self) -> &'static str {
        "rms_norm_backward"
    }
    fn operands(&self) -> Operands {
        Operands::default()
            .read(&self.x)
            .read(&self.weight)
            .read(&self.rstd)
            .read(&self.dout)
            .write_or_update(&self.dx, self.accumulate_dx)
            .update(&self.dweight)
            .scratch(&self.parts)
    }
    fn flops(&self) -> u64 {
        9 * self.x.elements() as u64
    }
    fn cpu(&self, host: &Host) {
        self.check();
        let (x, weight) = (host.read::<f32>(&self.x), host.read::<f32>(&self.weight).flat());
        let (rstd, dout) = (host.read::<f32>(&self.rstd).flat(), host.read::<f32>(&self.dout));
        // Longer chunks than elsewhere: each has its own sums for dweight.
        let (size, width) = (parallel::rows_per_chunk(x.cols()).max(LEAST_ROWS), x.cols());
        let dx = host.write::<f32>(&self.dx).chunks(size);
        let mut sums = vec![0.0f32; dx.len() * width];
        parallel::for_each(
            dx.into_iter().zip(sums.chunks_mut(width)).enumerate().collect(),
            |(chunk, (mut dx, sums))| {
                for i in 0..dx.rows() {
                    let r = chunk * size + i;
                    vectorized(
                        #[inline(always)]
                        || backward(x.row(r), weight, rstd[r], dout.row(r), dx.row(i), self.accumulate_dx, sums),
                    );
                }
            },
        );
        let dweight = host.write::<f32>(&self.dweight).flat();
        for sums in sums.chunks(width) {
            dweight.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
    }
    /// Scalars: R, C, strides of x, dout and dx; then of the second kernel the number of parts, C.
    fn launches(&self) -> Vec<Launch> {
        self.check();
        let (rows, cols) = (self.x.rows(), self.x.cols());
        let blocks = rows.div_ceil(block_rows(cols)).clamp(1, NORM_PARTS);
        let parts = self.parts.row_range(0..blocks);
        let vector = vector(&[&self.x, &self.weight, &self.dout, &self.dx]);
        let accumulate = ("ACCUMULATE", flag(self.accumulate_dx));
        let mut layout = layout(&self.x, blocks, vector, accumulate);
        // The block's sums of dweight.
        layout.shared = block_rows(cols) * cols * size_of::<f32>();
        let operands = [&self.x, &self.weight, &self.rstd, &self.dout, &self.dx, &parts];
        let strides = [&self.x, &self.dout, &self.dx].map(stride);
        let defines = vec![("BLOCK", BLOCK.to_string())];
        let sums = OperandLayout { grid: [cols.div_ceil(32), 1, 1], block: BLOCK as u32, shared: 0, defines };
        vec![
            launch("norm", "rms_norm_backward", layout, &operands, [rows, cols].map(number).into_iter().chain(strides)),
            launch("norm", "rms_norm_backward_weight", sums, &[&parts, &self.dweight], [blocks, cols].map(number)),
        ]
    }
}
