//! The work of one launch: bytes by memory level, flops by execution unit. Products and attention
//! are counted from their tiles, every other kernel from its op's operands and flops, with a few
//! stated exceptions.

use serde::Serialize;
use stockpot::engine::device::{Access, Arg, DType, Launch, Matrix, Op};
use stockpot::engine::ops::{GEMM_TILES, GemmTile};

/// The work of all blocks of a launch together.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LaunchWork {
    /// Bytes between memory and L2: each operand once, or twice if it is read and written. Data
    /// that an earlier launch left in L2 is not assumed; data that blocks read again comes from L2.
    pub memory_bytes: f64,
    /// Bytes between L2 and the multiprocessors.
    pub l2_bytes: f64,
    /// Bytes between shared memory and registers, and into shared memory. 0 for products, see
    /// `product`.
    pub shared_bytes: f64,
    /// Flops of the tensor cores in whole tiles, including masked scores within a tile.
    pub tensor_flops: f64,
    /// Operations in f32 outside the tensor cores.
    pub f32_flops: f64,
    /// Operations in f64. A product that the kernel fuses with a sum is one.
    pub f64_flops: f64,
    /// Exponentials, reciprocals and roots; of inner products, conversions to f64.
    pub special: f64,
    /// Thread instructions. A warp's tensor core instruction counts as one per thread. 0 for
    /// products, whose loop has few instructions besides mma.
    pub instructions: f64,
    /// A product's tile and (M, N, K); `GemmTile::time` models its tensor cores and shared memory.
    #[serde(skip)]
    pub product: Option<(&'static GemmTile, (usize, usize, usize))>,
    /// Whether a warp alternates between products and other work.
    #[serde(skip)]
    pub alternates: bool,
}

/// Registers per thread on sm_90a: the maximum over the configurations in tests/nvrtc/table.md. A
/// test checks that they give the table's occupancy. A row is a kernel, a define of its launch (""
/// for any) and the number.
const REGISTERS: [(&str, &str, u32); 19] = [
    ("gemm", "WARP_M=64", 234),
    ("gemm", "WARP_N=64", 156),
    ("gemm", "WARP_N=32", 110),
    ("attention_forward", "HEAD_WIDTH=128", 132),
    ("attention_forward", "HEAD_WIDTH=64", 201),
    ("attention_forward", "HEAD_WIDTH=32", 160),
    ("attention_backward_kv", "HEAD_WIDTH=128", 243),
    ("attention_backward_kv", "HEAD_WIDTH=64", 248),
    ("attention_backward_kv", "HEAD_WIDTH=32", 164),
    ("attention_backward_q", "HEAD_WIDTH=128", 160),
    ("attention_backward_q", "HEAD_WIDTH=64", 168),
    ("attention_backward_q", "HEAD_WIDTH=32", 128),
    ("adamw", "", 58),
    ("merge", "", 76),
    ("inner_products_partial", "", 104),
    ("rms_norm_forward", "", 64),
    ("rms_norm_backward", "", 127),
    ("embedding_backward", "", 48),
    ("swiglu_backward", "", 40),
];
/// Registers of a kernel without a row: few enough that threads, not registers, limit the
/// occupancy.
const FEW_REGISTERS: u32 = 32;

/// Special functions per element of a kernel's first operand: exponentials, one instruction each,
/// and IEEE divisions and roots, which add about IEEE_INSTRUCTIONS to one special instruction.
const SPECIAL: [(&str, &str, [f64; 2]); 5] = [
    ("cross_entropy", "GRADIENT=0", [1.0, 0.0]),
    ("cross_entropy", "GRADIENT=1", [2.0, 0.0]),
    // The first operand is (R, 2F): one sigmoid for two of its elements.
    ("swiglu_forward", "", [0.5, 0.5]),
    ("swiglu_backward", "", [0.5, 0.5]),
    ("adamw", "", [0.0, 3.0]),
];
const IEEE_INSTRUCTIONS: f64 = 8.0;

/// Threads of a warp, flops of one mma.sync m16n8k16, bytes read by one ldmatrix.x4. Both are one
/// instruction per warp.
const WARP: f64 = 32.0;
const MMA_FLOPS: f64 = 4096.0;
const LDMATRIX_BYTES: f64 = 512.0;

fn define<'a>(launch: &'a Launch, name: &str) -> &'a str {
    let found = launch.defines.iter().find(|(n, _)| *n == name);
    &found.unwrap_or_else(|| panic!("{} has no {name}", launch.kernel)).1
}

fn number(launch: &Launch, name: &str) -> usize {
    define(launch, name).parse().unwrap_or_else(|_| panic!("{name} of {} is no number", launch.kernel))
}

fn has(launch: &Launch, define: &str) -> bool {
    define.is_empty() || launch.defines.iter().any(|(name, value)| define.split_once('=') == Some((name, value)))
}

/// The matrices among a launch's arguments, in order.
pub fn matrices(launch: &Launch) -> Vec<&Matrix> {
    launch.args.iter().filter_map(|arg| if let Arg::Matrix(m) = arg { Some(m) } else { None }).collect()
}

/// The counts among a launch's arguments, in order.
fn counts(launch: &Launch) -> Vec<usize> {
    launch.args.iter().filter_map(|arg| if let Arg::U32(n) = arg { Some(*n as usize) } else { None }).collect()
}

/// Registers per thread, from the table above; few for a kernel without a row.
pub fn registers(launch: &Launch) -> u32 {
    let row = REGISTERS.iter().find(|(kernel, define, _)| *kernel == launch.kernel && has(launch, define));
    row.map_or(FEW_REGISTERS, |row| row.2)
}

/// A product's (M, N, K).
pub fn product_shape(launch: &Launch) -> Option<(usize, usize, usize)> {
    (launch.kernel == "gemm").then(|| (counts(launch)[0], counts(launch)[1], counts(launch)[2]))
}

/// The differences between the attention kernels.
struct AttentionKernel {
    owned: &'static str,
    streamed: &'static str,
    owns_queries: bool,
    /// Tiles that a block owns, and products per tile. Each product reads a streamed tile; as many
    /// of them as there are owned tiles also read the band's own rows.
    tiles: usize,
    products: usize,
    /// Indices of the two streamed operands among the launch's operands.
    operands: [usize; 2],
    /// Instructions per score. Forward: maximum, multiply-add, exponential, sum, half a conversion;
    /// kv: multiply-add, exponential, difference, product, two half conversions; q: the same with
    /// one half.
    per_score: f64,
}

impl AttentionKernel {
    fn of(launch: &Launch) -> AttentionKernel {
        match launch.kernel {
            "attention_forward" => AttentionKernel {
                owned: "FORWARD_QUERIES",
                streamed: "FORWARD_KEYS",
                owns_queries: true,
                tiles: 1,
                products: 2,
                operands: [1, 2],
                per_score: 4.5,
            },
            "attention_backward_kv" => AttentionKernel {
                owned: "BACKWARD_KV_KEYS",
                streamed: "BACKWARD_KV_QUERIES",
                owns_queries: false,
                tiles: 2,
                products: 4,
                operands: [0, 4],
                per_score: 5.0,
            },
            _ => AttentionKernel {
                owned: "BACKWARD_Q_QUERIES",
                streamed: "BACKWARD_Q_KEYS",
                owns_queries: true,
                tiles: 2,
                products: 3,
                operands: [1, 2],
                per_score: 4.5,
            },
        }
    }
}

impl LaunchWork {
    /// The work of launch number `index` of `op`.
    pub fn of(op: &dyn Op, index: usize, launch: &Launch) -> LaunchWork {
        let operands = op.operands();
        let updated = |m: &Matrix| operands.iter().any(|(o, a)| *a == Access::Update && o.address() == m.address());
        let touches = |m: &Matrix| if updated(m) { 2.0 } else { 1.0 };
        let touched = matrices(launch);
        let elements: f64 = touched.iter().map(|m| m.elements() as f64 * touches(m)).sum();
        let bytes: f64 = touched.iter().map(|m| m.bytes() as f64 * touches(m)).sum();
        // A second launch adds up the partial sums of the first.
        let flops = if index == 0 { op.flops() as f64 } else { elements };
        let is_f64 = |arg: &Arg| match arg {
            Arg::Matrix(m) => m.dtype() == DType::F64,
            Arg::F64(_) => true,
            Arg::U32(_) | Arg::F32(_) => false,
        };
        let (f32_flops, f64_flops) = if launch.args.iter().any(is_f64) { (0.0, flops) } else { (flops, 0.0) };
        let row = SPECIAL.iter().find(|(kernel, define, _)| *kernel == launch.kernel && has(launch, define));
        let [exponentials, ieee] = row.map_or([0.0; 2], |row| row.2).map(|n| n * touched[0].elements() as f64);
        let work = LaunchWork {
            memory_bytes: bytes,
            l2_bytes: bytes,
            f32_flops,
            f64_flops,
            special: exponentials + ieee,
            // Each element is converted or moved once. Multiplications are assumed not to be fused
            // with additions.
            instructions: flops + elements + exponentials + IEEE_INSTRUCTIONS * ieee,
            ..LaunchWork::default()
        };
        match launch.kernel {
            "gemm" => work.gemm(launch, &touched),
            "attention_forward" | "attention_backward_kv" | "attention_backward_q" => work.attention(launch, &touched),
            // One product and one sum per element of `out`; the op's other flops belong to its
            // other launches.
            "attention_delta" => {
                let f32_flops = 2.0 * touched[0].elements() as f64;
                LaunchWork { f32_flops, instructions: f32_flops + elements, ..work }
            }
            "embedding_forward" | "embedding_backward" => work.embedding(launch, &touched),
            "inner_products_partial" => work.inner_products(launch, &touched),
            // Every row is read again from L2 for its gradient.
            "cross_entropy" if has(launch, "GRADIENT=1") => {
                LaunchWork { l2_bytes: bytes + touched[0].bytes() as f64, ..work }
            }
            _ => work,
        }
    }

    /// A is read once per column of tiles, B once per row of tiles.
    fn gemm(self, launch: &Launch, operands: &[&Matrix]) -> LaunchWork {
        let (m, n, k) = product_shape(launch).expect("a product");
        let sizes = ["TILE_M", "TILE_N", "WARP_M", "WARP_N"].map(|name| number(launch, name));
        let tile = GEMM_TILES.iter().find(|t| [t.m, t.n, t.warp_m, t.warp_n] == sizes).expect("a tile of the table");
        let (a, b) = (operands[0].bytes() as f64, operands[1].bytes() as f64);
        let again = a * (n.div_ceil(tile.n) - 1) as f64 + b * (m.div_ceil(tile.m) - 1) as f64;
        LaunchWork {
            memory_bytes: self.memory_bytes,
            l2_bytes: self.memory_bytes + again,
            tensor_flops: 2.0 * m as f64 * n as f64 * k as f64,
            product: Some((tile, (m, n, k))),
            ..LaunchWork::default()
        }
    }

    /// See the head of kernels/attention.cu: a block owns rows, one band per warp, and streams
    /// tiles past them.
    fn attention(self, launch: &Launch, operands: &[&Matrix]) -> LaunchWork {
        let kernel = AttentionKernel::of(launch);
        let (owned, streamed) = (number(launch, kernel.owned), number(launch, kernel.streamed));
        let (band, t) = (owned / number(launch, "WARPS"), counts(launch)[1]);
        let heads = (counts(launch)[0] * counts(launch)[2]) as f64;
        // A head is padded to 16, 32, 64 or 128 columns.
        let width = number(launch, "HEAD_WIDTH").next_power_of_two().max(16);
        // Tiles of the other side that are visible to rows first .. first + rows.
        let seen = |first: usize, rows: usize| {
            if kernel.owns_queries {
                (first + rows).min(t).div_ceil(streamed)
            } else {
                t.div_ceil(streamed) - first.min(t) / streamed
            }
        };
        let sum = |rows: usize| (0..t).step_by(rows).map(|first| seen(first, rows)).sum::<usize>() as f64;
        let (loaded, computed) = (heads * sum(owned), heads * sum(band));
        let row = 2.0 * width as f64;
        let scores = computed * (band * streamed) as f64;
        let tensor_flops = scores * (2 * width * kernel.products) as f64;
        let read = computed * (kernel.tiles * band + kernel.products * streamed) as f64 * row;
        let copied = loaded * (2 * streamed) as f64 * row;
        let given: f64 = kernel.operands.iter().map(|&i| operands[i].bytes() as f64).sum();
        // Forward rescales its sums when a maximum grows: D per row of a tile.
        let per_score = kernel.per_score + if kernel.products == 2 { width as f64 / streamed as f64 } else { 0.0 };
        LaunchWork {
            memory_bytes: self.memory_bytes,
            l2_bytes: self.memory_bytes - given + copied,
            shared_bytes: read + copied,
            tensor_flops,
            f32_flops: per_score * scores,
            special: scores,
            instructions: per_score * scores + WARP * (tensor_flops / MMA_FLOPS + read / LDMATRIX_BYTES),
            alternates: true,
            ..LaunchWork::default()
        }
    }

    /// Every tile of products reads its rows, from L2 if another tile has read them, and converts
    /// each element to f64. Its products are fused with their sums.
    fn inner_products(self, launch: &Launch, operands: &[&Matrix]) -> LaunchWork {
        let (gradients, pool) = (operands[0], operands[1]);
        let [of_gradients, of_pool] = ["TILE_GRADIENTS", "TILE_POOL"].map(|name| number(launch, name));
        let (down, across) = (gradients.rows().div_ceil(of_gradients), pool.rows().div_ceil(of_pool));
        let again = gradients.bytes() as f64 * (across - 1) as f64 + pool.bytes() as f64 * (down - 1) as f64;
        // Rows beyond the last are computed too, as zeros.
        let tiles = (down * across * gradients.cols()) as f64;
        let fused = tiles * (of_gradients * of_pool) as f64;
        let converted = tiles * (of_gradients + of_pool) as f64;
        LaunchWork {
            l2_bytes: self.l2_bytes + again,
            f64_flops: fused,
            special: converted,
            instructions: fused + converted,
            ..self
        }
    }

    /// Only the rows of occurring tokens of the (V, C) table are touched. All tokens are assumed to
    /// differ, as in the timings.
    fn embedding(self, launch: &Launch, operands: &[&Matrix]) -> LaunchWork {
        let backward = launch.kernel == "embedding_backward";
        let table = operands[if backward { 2 } else { 1 }];
        let rows = operands[0].elements().min(table.rows());
        let touches = if backward { 2.0 } else { 1.0 };
        let unused = touches * table.bytes() as f64 * (1.0 - rows as f64 / table.rows() as f64);
        // Every block of the backward pass scans all tokens: load, compare, vote, count.
        let blocks: f64 = launch.grid.iter().map(|&n| n as f64).product();
        let looked = if backward { blocks * operands[0].elements() as f64 } else { 0.0 };
        LaunchWork {
            memory_bytes: self.memory_bytes - unused,
            l2_bytes: self.l2_bytes - unused + 4.0 * looked,
            instructions: self.instructions - unused / table.dtype().bytes() as f64 + 4.0 * looked,
            ..self
        }
    }
}
