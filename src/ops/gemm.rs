//! Matrix product: C (M, N) = op(A) (M, K) x op(B) (K, N), with an epilogue. f32 accumulation.

use super::arguments::{Layout, expect_shape, flag, launch, number, stride, type_of, vector_with_tail};
use super::product::{View, ViewMut, multiply};
use super::{Op, parallel};
use crate::device::{Host, Launch, Matrix, Operands};

/// What happens to the product.
#[derive(Clone)]
pub enum Epilogue {
    /// C = product
    Store,
    /// C += product
    Accumulate,
    /// C = residual + product; residual is (M, N)
    Residual(Matrix),
}

pub struct Gemm {
    /// (M, K), or (K, M) when `transpose_a`
    pub a: Matrix,
    /// (K, N), or (N, K) when `transpose_b`
    pub b: Matrix,
    /// (M, N)
    pub c: Matrix,
    pub transpose_a: bool,
    pub transpose_b: bool,
    pub epilogue: Epilogue,
}

impl Gemm {
    /// (M, N, K); panics when the operands' shapes do not fit.
    fn shape(&self) -> (usize, usize, usize) {
        let (m, k) = if self.transpose_a { (self.a.cols(), self.a.rows()) } else { (self.a.rows(), self.a.cols()) };
        let (kb, n) = if self.transpose_b { (self.b.cols(), self.b.rows()) } else { (self.b.rows(), self.b.cols()) };
        assert!(k == kb && (m, n) == (self.c.rows(), self.c.cols()), "gemm: the shapes do not fit");
        if let Epilogue::Residual(r) = &self.epilogue {
            expect_shape("residual", r, m, n);
        }
        (m, n, k)
    }
}

/// Rows and columns of C that one block of the kernel computes.
const BLOCK_TILE: usize = 128;
/// Tiles worth having, so that more than a few threads find work.
const ENOUGH_TILES: usize = 8;
/// Multiply-adds below which a tile is not cut further: some 100 microseconds.
const LEAST_WORK: usize = 5_000_000;

/// Rows and columns of C that one task computes. K is never cut: the order of summation stays the same. A tile of
/// 256 x 512 is where packing A and B anew for every tile costs least beside its product; smaller products are cut
/// until there are enough tiles.
fn tile(m: usize, n: usize, k: usize) -> (usize, usize) {
    let (mut rows, mut cols) = (m.clamp(1, 256), n.clamp(1, 512));
    let count = |rows, cols| m.div_ceil(rows) * n.div_ceil(cols);
    while count(rows, cols) < ENOUGH_TILES && rows * cols * k > 2 * LEAST_WORK && rows.max(cols) > 64 {
        if rows >= cols {
            rows = rows.div_ceil(2).next_multiple_of(6)
        } else {
            cols = cols.div_ceil(2).next_multiple_of(16)
        }
    }
    (rows, cols)
}

impl Op for Gemm {
    fn name(&self) -> &'static str {
        "gemm"
    }
    fn operands(&self) -> Operands {
        let o = Operands::default().read(&self.a).read(&self.b);
        match &self.epilogue {
            Epilogue::Store => o.write(&self.c),
            Epilogue::Accumulate => o.update(&self.c),
            Epilogue::Residual(r) => o.write(&self.c).read(r),
        }
    }
    fn flops(&self) -> u64 {
        let (m, n, k) = self.shape();
        2 * m as u64 * n as u64 * k as u64
    }
    fn cpu(&self, host: &Host) {
        let (m, n, k) = self.shape();
        let view = |m, transposed| {
            let view = View::of(host.read(m));
            if transposed { view.transposed() } else { view }
        };
        let (a, b) = (view(&self.a, self.transpose_a), view(&self.b, self.transpose_b));
        let residual = match &self.epilogue {
            Epilogue::Residual(r) => Some(host.read::<f32>(r)),
            _ => None,
        };
        let accumulate = matches!(self.epilogue, Epilogue::Accumulate);
        let (tile_rows, tile_cols) = tile(m, n, k);
        let rows = host.write::<f32>(&self.c).chunks(tile_rows).into_iter().enumerate();
        let tiles = rows.flat_map(|(i, rows)| {
            rows.col_chunks(tile_cols)
                .into_iter()
                .enumerate()
                .map(move |(j, tile)| (i * tile_rows, j * tile_cols, tile))
        });
        parallel::for_each(tiles.collect(), |(row, col, mut c)| {
            let (rows, cols) = (row..row + c.rows(), col..col + c.cols());
            if let Some(residual) = &residual {
                rows.clone().for_each(|r| c.row(r - row).copy_from_slice(&residual.row(r)[cols.clone()]));
            }
            let add = accumulate || residual.is_some();
            multiply(a.block(rows, 0..k), b.block(0..k, cols), ViewMut::of(&mut c), add);
        });
    }
    /// EPILOGUE is 0 to store, 1 to accumulate, 2 to add the residual. Scalars: M, N, K, strides of a, b, c and, with a
    /// residual, of that.
    fn launches(&self) -> Vec<Launch> {
        let (m, n, k) = self.shape();
        let (epilogue, residual) = match &self.epilogue {
            Epilogue::Store => (0, None),
            Epilogue::Accumulate => (1, None),
            Epilogue::Residual(r) => (2, Some(r)),
        };
        let operands: Vec<&Matrix> = [&self.a, &self.b, &self.c].into_iter().chain(residual).collect();
        let layout = Layout {
            grid: [n.div_ceil(BLOCK_TILE), m.div_ceil(BLOCK_TILE), 1],
            block: 256,
            shared: 0,
            defines: vec![
                ("C_TYPE", type_of(&self.c)),
                ("TRANSPOSE_A", flag(self.transpose_a)),
                ("TRANSPOSE_B", flag(self.transpose_b)),
                ("EPILOGUE", epilogue.to_string()),
                ("TILE", BLOCK_TILE.to_string()),
                vector_with_tail(&operands),
            ],
        };
        let strides = operands.iter().map(|m| stride(m));
        vec![launch("gemm", "gemm", layout, &operands, [m, n, k].map(number).into_iter().chain(strides))]
    }
}
