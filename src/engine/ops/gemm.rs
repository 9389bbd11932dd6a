//! Matrix product: C (M, N) = op(A) (M, K) x op(B) (K, N), with an epilogue. f32 accumulation.

use super::cpu_gemm::{View, ViewMut, multiply};
use super::launch_args::{OperandLayout, expect_shape, flag, launch, number, stride, type_of};
use super::{Op, parallel};
use crate::engine::device::{Host, Launch, Matrix, Operands};

/// How C is computed from the product.
#[derive(Clone)]
pub enum Epilogue {
    /// C = product
    Store,
    /// C += product
    Accumulate,
    /// C = residual + product; residual is (M, N)
    Residual(Matrix),
}

/// C = op(A) op(B), then the epilogue.
pub struct Gemm {
    /// (M, K), or (K, M) when `transpose_a`
    pub a: Matrix,
    /// (K, N), or (N, K) when `transpose_b`
    pub b: Matrix,
    /// (M, N)
    pub c: Matrix,
    /// op(A) = A^T
    pub transpose_a: bool,
    /// op(B) = B^T
    pub transpose_b: bool,
    /// How `c` is written.
    pub epilogue: Epilogue,
}

impl Gemm {
    /// (M, N, K); panics if the operands' shapes do not match.
    fn shape(&self) -> (usize, usize, usize) {
        let (m, k) = if self.transpose_a { (self.a.cols(), self.a.rows()) } else { (self.a.rows(), self.a.cols()) };
        let (kb, n) = if self.transpose_b { (self.b.cols(), self.b.rows()) } else { (self.b.rows(), self.b.cols()) };
        assert!(k == kb && (m, n) == (self.c.rows(), self.c.cols()), "gemm: the shapes do not match");
        if let Epilogue::Residual(r) = &self.epilogue {
            expect_shape("residual", r, m, n);
        }
        (m, n, k)
    }

    /// The kernel's launch with this tile. EPILOGUE is 0 to store, 1 to accumulate, 2 to add the
    /// residual. Scalars: M, N, K, strides of a, b, c and, with a residual, of that.
    pub fn launch_with(&self, tile: &GemmTile) -> Launch {
        let (m, n, k) = self.shape();
        assert!(k > 0, "gemm: K is 0");
        let (epilogue, residual) = match &self.epilogue {
            Epilogue::Store => (0, None),
            Epilogue::Accumulate => (1, None),
            Epilogue::Residual(r) => (2, Some(r)),
        };
        let operands: Vec<&Matrix> = [&self.a, &self.b, &self.c].into_iter().chain(residual).collect();
        // Also for a single row: a block computes addresses of rows beyond it, though it reads
        // nothing there.
        let aligned =
            |m: &&Matrix| m.address().is_multiple_of(16) && (m.stride() * m.dtype().bytes()).is_multiple_of(16);
        let vector: usize = if operands.iter().all(aligned) { 8 } else { 1 };
        let numbers = [
            ("TILE_M", tile.m),
            ("TILE_N", tile.n),
            ("TILE_K", tile.k),
            ("WARP_M", tile.warp_m),
            ("WARP_N", tile.warp_n),
            ("STAGES", tile.stages),
            ("EPILOGUE", epilogue),
            ("VECTOR", vector),
        ];
        let names = [
            ("C_TYPE", type_of(&self.c)),
            ("TRANSPOSE_A", flag(self.transpose_a)),
            ("TRANSPOSE_B", flag(self.transpose_b)),
        ];
        let layout = OperandLayout {
            grid: [tile.count(m, n), 1, 1],
            block: tile.threads() as u32,
            shared: tile.shared_bytes(),
            defines: names.into_iter().chain(numbers.map(|(name, value)| (name, value.to_string()))).collect(),
        };
        let strides = operands.iter().map(|m| stride(m));
        launch("gemm", "gemm", layout, &operands, [m, n, k].map(number).into_iter().chain(strides))
    }
}

/// A kernel's tiling: a block computes `m` x `n` of C in steps of `k`, with one warp for each
/// `warp_m` x `warp_n` of it; `stages` slices of A and B are in shared memory. C is bit-identical
/// with every tile.
#[derive(Debug)]
pub struct GemmTile {
    /// Rows of C of a block.
    pub m: usize,
    /// Columns of C of a block.
    pub n: usize,
    /// Depth of one stage.
    pub k: usize,
    /// Rows of C of a warp; divides `m`.
    pub warp_m: usize,
    /// Columns of C of a warp; divides `n`.
    pub warp_n: usize,
    /// Slices of A and B in shared memory at a time.
    pub stages: usize,
    /// Time of a multiply-add in hundredths of the largest tile's, as shared-memory traffic limits
    /// the tensor cores.
    cost: usize,
    /// A block's work before its first and after its last product that no other block hides, in
    /// units of k.
    idle: usize,
}

const fn row([m, n, k]: [usize; 3], [warp_m, warp_n]: [usize; 2], stages: usize, c: [usize; 2]) -> GemmTile {
    GemmTile { m, n, k, warp_m, warp_n, stages, cost: c[0], idle: c[1] }
}

/// Registers are per thread on sm_80. sm_86, sm_89 and sm_120 give a block 99 KB of shared memory
/// and hold 100 KB in all. `cost` and `idle` are computed, not measured: from the bytes that a
/// product moves through shared memory, at 128 per clock, and from the number of blocks per
/// multiprocessor.
pub const GEMM_TILES: [GemmTile; 4] = [
    // 96 KB, 242 registers, one block. Larger than 128 x 256 does not fit: a warp's part takes 128
    // registers of sums and 64 of fragments, and twice as many warps would leave 128 for each
    // thread.
    row([128, 256, 32], [64, 64], 4, [100, 128]),
    // 48 KB, 242 registers, two blocks: a fourth stage would leave room for only one, except on
    // sm_80 and sm_90.
    row([128, 128, 32], [64, 64], 3, [108, 64]),
    // 48 KB, 160 registers, two or three blocks. For outputs with too few tiles; parts of 64 x 64
    // would leave two warps.
    row([64, 128, 32], [32, 64], 4, [140, 48]),
    // 48 KB, 114 registers, two to four blocks: for the smallest outputs.
    row([64, 64, 64], [32, 32], 3, [190, 32]),
];

/// Multiprocessors of the device that tiles are chosen for (H100; 108 on A100, 128 on RTX 4090).
const PROCESSORS: usize = 132;

impl GemmTile {
    /// Threads of a block: 32 for each warp.
    pub fn threads(&self) -> usize {
        self.m / self.warp_m * (self.n / self.warp_n) * 32
    }
    /// Dynamic shared memory: the ring of slots for bf16 tiles of A and B.
    pub fn shared_bytes(&self) -> usize {
        self.stages * (self.m + self.n) * self.k * 2
    }
    fn count(&self, m: usize, n: usize) -> usize {
        m.div_ceil(self.m) * n.div_ceil(self.n)
    }
    /// Time of a product on `processors` multiprocessors, in hundredths of a multiply-add of the
    /// largest tile: the busiest multiprocessor computes its tiles one after another.
    pub fn time(&self, (m, n, k): (usize, usize, usize), processors: usize) -> usize {
        self.count(m, n).div_ceil(processors) * self.m * self.n * (k + self.idle) * self.cost
    }
    /// The fastest for (M, N, K).
    fn best(shape: (usize, usize, usize)) -> &'static GemmTile {
        GEMM_TILES.iter().min_by_key(|tile| tile.time(shape, PROCESSORS)).expect("a table with rows")
    }
}

/// Minimum number of tiles, so that more than a few threads have work.
const ENOUGH_TILES: usize = 8;
/// Multiply-adds below which a tile is not split further: some 100 microseconds.
const LEAST_WORK: usize = 5_000_000;

/// Rows and columns of C that one task computes. K is never split, so the order of summation stays
/// the same. At 256 x 512, packing A and B again for every tile costs least relative to its
/// product; smaller products are split until there are enough tiles.
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
    fn launches(&self) -> Vec<Launch> {
        vec![self.launch_with(GemmTile::best(self.shape()))]
    }
}
