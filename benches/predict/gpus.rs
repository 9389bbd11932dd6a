//! Rates and limits of GPUs that predictions are made from: one table, with the source of each
//! number.
//!
//! * Multiprocessors, clocks, memory bandwidth, cache sizes: NVIDIA's white papers of A100 and H100
//!   and the data sheet of H200. The clock is the one that NVIDIA's dense bf16 peak is computed
//!   with: 989.4 TFLOP/s = 132 x 4096 x 1.83 GHz, 311.9 = 108 x 2048 x 1.41 GHz.
//! * Results a clock of one multiprocessor, and what it holds: CUDA C++ Programming Guide,
//!   "Arithmetic Instructions" and "Compute Capabilities".
//! * L2: 64 bytes a clock for each multiprocessor, and all together 5120 (A100's white paper) and
//!   about 6150 on H100, which is what DeepGEMM's choice of tiles reckons with; 6144 is 96 slices
//!   of 64.
//! * `mma_sync`: Hopper's tensor cores reach their peak through wgmma alone. mma.sync, which is all
//!   that the kernels of this project use, was measured at 62.9% of it on average (Luo et al. 2025,
//!   arXiv 2501.12084; the number is quoted from memory). On Ampere mma.sync is the native
//!   instruction.

use serde::Serialize;

/// The rates and limits of a GPU that predictions are made from.
#[derive(Debug, PartialEq, Serialize)]
pub struct Gpu {
    /// As `--gpu` takes it.
    pub name: &'static str,
    /// The product's full name, with its memory.
    pub title: &'static str,
    /// Streaming multiprocessors.
    pub processors: usize,
    /// Hertz, under load.
    pub clock: f64,
    /// Bytes a second between the device's memory and L2.
    pub memory_bandwidth: f64,
    /// Bytes a clock between L2 and all multiprocessors together.
    pub l2_bytes: f64,
    /// Bytes a clock between L2 and one multiprocessor.
    pub l2_bytes_of_one: f64,
    /// The rest is of one multiprocessor. bf16 flops a clock of its tensor cores, sums in f32, by
    /// any instruction.
    pub tensor_flops: f64,
    /// The fraction of `tensor_flops` that mma.sync reaches.
    pub mma_sync: f64,
    /// Additions, multiplications or multiply-adds a clock.
    pub f32: f64,
    /// The same in f64, where kernels fuse no product with a sum.
    pub f64: f64,
    /// Exponentials, reciprocals, roots a clock.
    pub special: f64,
    /// Instructions of one thread a clock: one warp's from each of four schedulers.
    pub instructions: f64,
    /// Bytes a clock of shared memory: 32 banks of 4.
    pub shared_bytes: f64,
    /// Threads that it holds at once.
    pub most_threads: u32,
    /// Blocks that it holds at once.
    pub most_blocks: u32,
    /// 32-bit registers that it has.
    pub most_registers: u32,
    /// Bytes of shared memory that its blocks have together.
    pub most_shared: u32,
}

const H100: Gpu = Gpu {
    name: "h100",
    title: "NVIDIA H100 SXM, 80 GB",
    processors: 132,
    clock: 1.83e9,
    memory_bandwidth: 3.352e12,
    l2_bytes: 6144.0,
    l2_bytes_of_one: 64.0,
    tensor_flops: 4096.0,
    mma_sync: 0.629,
    f32: 128.0,
    f64: 64.0,
    special: 16.0,
    instructions: 128.0,
    shared_bytes: 128.0,
    most_threads: 2048,
    most_blocks: 32,
    most_registers: 65_536,
    most_shared: 228 << 10,
};

/// The GPUs that can be predicted.
pub static GPUS: [Gpu; 3] = [
    H100,
    // The same chip with faster memory.
    Gpu { name: "h200", title: "NVIDIA H200 SXM, 141 GB", memory_bandwidth: 4.8e12, ..H100 },
    Gpu {
        name: "a100",
        title: "NVIDIA A100 SXM, 80 GB",
        processors: 108,
        clock: 1.41e9,
        memory_bandwidth: 2.039e12,
        l2_bytes: 5120.0,
        tensor_flops: 2048.0,
        mma_sync: 1.0,
        f32: 64.0,
        f64: 32.0,
        most_shared: 164 << 10,
        ..H100
    },
];

impl Gpu {
    /// By its name in the table.
    pub fn named(name: &str) -> Option<&'static Gpu> {
        GPUS.iter().find(|gpu| gpu.name == name)
    }

    /// Flops a second of dense bf16 products, the peak that MFU is a fraction of.
    pub fn peak(&self) -> f64 {
        self.processors as f64 * self.tensor_flops * self.clock
    }

    /// Blocks side by side on one multiprocessor. A warp takes registers in units of 256, and one
    /// KB of each block's shared memory is the system's.
    pub fn resident(&self, block: u32, registers: u32, shared: u32) -> u32 {
        let warps = block.div_ceil(32);
        let limits = [
            self.most_threads / block,
            self.most_blocks,
            self.most_registers / (warps * (registers * 32).next_multiple_of(256)),
            self.most_shared / (shared + 1024),
        ];
        limits.into_iter().min().expect("four limits").max(1)
    }
}
