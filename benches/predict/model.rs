//! Predicted times of kernels on GPUs. Each formula can be checked by hand and each constant has a
//! stated reason. If a timing disagrees, one of them is wrong, and the disagreement shows which.
//!
//! A launch takes LAUNCH plus the slowest of these limits, each computed as if it were alone:
//!
//! ```text
//! memory        memory bytes / (bandwidth x MEMORY_REACHED)
//! L2            the larger of: L2 bytes / all multiprocessors' rate, busiest x L2 bytes / one's rate   (/ SUSTAINED)
//! tensor        busiest x flops / (flops a clock x mma.sync's fraction x clock)                        (/ SUSTAINED)
//!               of a product: GemmTile::time, which has the busiest multiprocessor's tiles, shared memory, idle ends
//! shared        busiest x shared bytes / (bytes a clock x clock)                                       (/ SUSTAINED)
//! f32           busiest x flops / (2 x multiply-adds a clock x clock)                                  (/ SUSTAINED)
//! f64           busiest x operations / (operations a clock x clock)                                    (/ SUSTAINED)
//! special       busiest x functions / (functions a clock x clock)                                      (/ SUSTAINED)
//! instructions  busiest x instructions / (instructions a clock x clock)                                (/ SUSTAINED)
//! ```
//!
//! where `busiest` = ceil(blocks / multiprocessors) / blocks: the fraction of all blocks that the
//! busiest multiprocessor runs. It is 1 / multiprocessors for a full grid, and 1 for one block.
//! Blocks are assumed to be equal. Attention's are not, but the long ones start first, so the last
//! block takes about the mean time.
//!
//! Attention's warps alternate between products and softmax. Of a scheduler's W warps, one waits
//! whenever its unit is busy. So of tensor, shared, special and instructions, 1/W of the time of
//! those that are not the slowest is added to it: slowest + (sum - slowest) / W. A product's loop
//! prefetches fragments and hides these times within a warp.
//!
//! Not modelled: data still in L2 from the previous launch (which makes small models faster),
//! clocks under a power limit, bank conflicts, blocks that wait for their first tile, and the copy
//! of tokens to the device.

use super::gpus::Gpu;
use super::work::{LaunchWork, matrices, product_shape, registers};
use serde::Serialize;
use std::collections::BTreeMap;
use stockpot::engine::device::{Launch, Op};

/// Achievable fraction of the memory's bandwidth: plans for H100 assume 3.0 of 3.35 TB/s for
/// kernels that read and write. A sum that only reads was measured at 3.24 (pranjalssh/fast.cu).
pub const MEMORY_REACHED: f64 = 0.90;
/// Achievable fraction of every rate within the chip over a whole kernel, with barriers, addresses
/// and waits. cuBLAS reaches this fraction of the tensor cores' peak: 795 of 989 TFLOP/s on H100
/// (fast.cu, 8192 cubed), 240 to 250 of 312 on A100 (NVIDIA/cutlass issue 105).
pub const SUSTAINED: f64 = 0.80;
/// Seconds from the last block of one kernel to the first result of the next, in a graph or a queue
/// that never runs empty: about 1 microsecond to drain and start, plus two memory latencies of 0.5.
/// An estimate, not a measurement.
pub const LAUNCH: f64 = 2e-6;
/// CPU seconds to queue one launch outside a graph: 4 to 6 microseconds were measured on a GeForce
/// (susun-blog.com, pegainfer 3). No row here comes near this limit.
pub const HOST_LAUNCH: f64 = 5e-6;

/// The limit that bounds a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// The time between kernels: the work takes less than [`LAUNCH`].
    Launch,
    /// Bytes between memory and L2.
    Memory,
    /// Bytes between L2 and the multiprocessors.
    L2,
    /// Tensor cores.
    Tensor,
    /// Bytes of shared memory.
    Shared,
    /// Arithmetic in f32.
    F32,
    /// Arithmetic in f64.
    F64,
    /// Exponentials, reciprocals, roots and conversions to f64.
    Special,
    /// Instructions issued.
    Instructions,
}

/// One launch, predicted.
#[derive(Debug, Clone, Serialize)]
pub struct Prediction {
    /// The kernel and its shape.
    pub name: String,
    /// The kernel's name alone.
    pub kernel: &'static str,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: u32,
    /// Dynamic shared memory of a block.
    pub shared: u32,
    /// Assumed registers per thread.
    pub registers: u32,
    /// Resident blocks per multiprocessor.
    pub resident: u32,
    /// Blocks / (multiprocessors x resident).
    pub waves: f64,
    /// Mean load divided by the busiest multiprocessor's load: below 1 if the last wave does not
    /// fill the device.
    pub balance: f64,
    /// The work of the launch.
    #[serde(flatten)]
    pub work: LaunchWork,
    /// Seconds of each limit alone, if there is work for it.
    pub limits: BTreeMap<Limit, f64>,
    /// The slowest limit, or `Launch` if LAUNCH takes longer.
    pub limit: Limit,
    /// Seconds of the whole launch, including LAUNCH.
    pub seconds: f64,
}

impl Prediction {
    /// Predicts launch number `index` of `op`.
    pub fn of(gpu: &Gpu, op: &dyn Op, index: usize, launch: &Launch) -> Prediction {
        let work = LaunchWork::of(op, index, launch);
        let registers = registers(launch);
        let resident = gpu.resident(launch.block, registers, launch.shared_bytes);
        let blocks: f64 = launch.grid.iter().map(|&n| n as f64).product();
        let processors = gpu.processors as f64;
        let busiest = (blocks / processors).ceil() / blocks;
        let limits = limits(gpu, &work, busiest);
        let slowest = limits.iter().max_by(|a, b| a.1.total_cmp(b.1));
        let (limit, slowest) = slowest.map_or((Limit::Launch, 0.0), |(limit, seconds)| (*limit, *seconds));
        let mut seconds = slowest;
        if work.alternates {
            let warps = (resident * launch.block / 32) as f64 / 4.0;
            let turns: Vec<f64> = limits.iter().filter(|(limit, _)| limit.of_a_warp()).map(|l| *l.1).collect();
            let longest = turns.iter().copied().fold(0.0, f64::max);
            seconds = seconds.max(longest + (turns.iter().sum::<f64>() - longest) / warps);
        }
        Prediction {
            name: name(launch),
            kernel: launch.kernel,
            grid: launch.grid,
            block: launch.block,
            shared: launch.shared_bytes,
            registers,
            resident,
            waves: blocks / (processors * resident as f64),
            balance: 1.0 / (processors * busiest),
            work,
            limits,
            limit: if seconds < LAUNCH { Limit::Launch } else { limit },
            seconds: LAUNCH + seconds,
        }
    }
}

impl Limit {
    /// Whether the warps of a multiprocessor share it in turns.
    fn of_a_warp(self) -> bool {
        matches!(self, Limit::Tensor | Limit::Shared | Limit::Special | Limit::Instructions)
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Launch => "launch",
            Limit::Memory => "memory",
            Limit::L2 => "L2",
            Limit::Tensor => "tensor",
            Limit::Shared => "shared",
            Limit::F32 => "f32",
            Limit::F64 => "f64",
            Limit::Special => "special",
            Limit::Instructions => "instructions",
        }
    }
}

/// Seconds of each limit that a launch has work for; the head of this file has the formulas.
fn limits(gpu: &Gpu, work: &LaunchWork, busiest: f64) -> BTreeMap<Limit, f64> {
    let one = |amount: f64, a_clock: f64| busiest * amount / (a_clock * gpu.clock * SUSTAINED);
    let mma = gpu.tensor_flops * gpu.mma_sync;
    let tensor = match work.product {
        // `time` is in hundredths of a multiply-add, which is two flops.
        Some((tile, shape)) => tile.time(shape, gpu.processors) as f64 / 100.0 * 2.0 / (mma * gpu.clock * SUSTAINED),
        None => one(work.tensor_flops, mma),
    };
    let l2_of_all = work.l2_bytes / (gpu.l2_bytes * gpu.clock * SUSTAINED);
    let mut limits = BTreeMap::from([
        (Limit::Memory, work.memory_bytes / (gpu.memory_bandwidth * MEMORY_REACHED)),
        (Limit::L2, l2_of_all.max(one(work.l2_bytes, gpu.l2_bytes_of_one))),
        (Limit::Tensor, tensor),
        (Limit::Shared, one(work.shared_bytes, gpu.shared_bytes)),
        (Limit::F32, one(work.f32_flops, 2.0 * gpu.f32)),
        (Limit::F64, one(work.f64_flops, gpu.f64)),
        (Limit::Special, one(work.special, gpu.special)),
        (Limit::Instructions, one(work.instructions, gpu.instructions)),
    ]);
    limits.retain(|_, seconds| *seconds > 0.0);
    limits
}

/// A launch's name, such as `gemm 32768x2304x768 A B^T tile 128x256`, or a kernel with the rows and
/// columns of its largest operand.
fn name(launch: &Launch) -> String {
    if let Some((m, n, k)) = product_shape(launch) {
        let of = |name: &str| &launch.defines.iter().find(|(n, _)| *n == name).expect("a define of products").1;
        let side = |letter: &str, flag: &str| if of(flag) == "1" { format!("{letter}^T") } else { letter.into() };
        let (a, b) = (side("A", "TRANSPOSE_A"), side("B", "TRANSPOSE_B"));
        return format!("gemm {m}x{n}x{k} {a} {b} tile {}x{}", of("TILE_M"), of("TILE_N"));
    }
    let widest = matrices(launch).into_iter().max_by_key(|m| m.elements());
    widest.map_or(launch.kernel.into(), |m| format!("{} {}x{}", launch.kernel, m.rows(), m.cols()))
}
