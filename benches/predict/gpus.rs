//! Rates and limits of GPUs for predictions: one table, with the source of each number.
//!
//! * Multiprocessors, clocks, memory bandwidth, cache sizes: NVIDIA's white papers on A100 and H100
//!   and the data sheet of H200. The clock is the one of NVIDIA's dense bf16 peak: 989.4 TFLOP/s =
//!   132 x 4096 x 1.83 GHz, 311.9 = 108 x 2048 x 1.41 GHz.
//! * Results per clock of one multiprocessor, and its capacity: CUDA C++ Programming Guide,
//!   "Arithmetic Instructions" and "Compute Capabilities".
//! * L2: 64 bytes per clock for each multiprocessor. For all together 5120 on A100 (white paper)
//!   and about 6150 on H100, the value that DeepGEMM uses to choose tiles; 6144 is 96 slices of 64.
//! * `mma_sync`: Hopper's tensor cores reach their peak only with wgmma. This project's kernels use
//!   only mma.sync, which was measured at 62.9% of the peak on average (Luo et al. 2025, arXiv
//!   2501.12084; the number is quoted from memory). On Ampere mma.sync is the native instruction.

use serde::Serialize;

/// Rates and limits of one GPU.
#[derive(Debug, PartialEq, Serialize)]
pub struct Gpu {
    /// Its value for `--gpu`.
    pub name: &'static str,
    /// The product's full name, with its memory.
    pub title: &'static str,
    /// Streaming multiprocessors.
    pub processors: usize,
    /// Hertz, under load.
    pub clock: f64,
    /// Bytes per second between the device's memory and L2.
    pub memory_bandwidth: f64,
    /// Bytes per clock between L2 and all multiprocessors together.
    pub l2_bytes: f64,
    /// Bytes per clock between L2 and one multiprocessor.
    pub l2_bytes_of_one: f64,
    /// This and all fields below are per multiprocessor. bf16 flops per clock of its tensor cores,
    /// with sums in f32, by the fastest instruction.
    pub tensor_flops: f64,
    /// The fraction of `tensor_flops` that mma.sync reaches.
    pub mma_sync: f64,
    /// Additions, multiplications or multiply-adds per clock.
    pub f32: f64,
    /// The same in f64, where most kernels do not fuse products with sums.
    pub f64: f64,
    /// Exponentials, reciprocals and roots per clock; conversions to f64 have the same rate.
    pub special: f64,
    /// Thread instructions per clock: one warp's from each of four schedulers.
    pub instructions: f64,
    /// Bytes per clock of shared memory: 32 banks of 4.
    pub shared_bytes: f64,
    /// Maximum resident threads.
    pub most_threads: u32,
    /// Maximum resident blocks.
    pub most_blocks: u32,
    /// 32-bit registers.
    pub most_registers: u32,
    /// Bytes of shared memory of all resident blocks together.
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

/// The known GPUs.
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
    /// The GPU with this name.
    pub fn named(name: &str) -> Option<&'static Gpu> {
        GPUS.iter().find(|gpu| gpu.name == name)
    }

    /// Flops per second of dense bf16 products: the peak that MFU refers to.
    pub fn peak(&self) -> f64 {
        self.processors as f64 * self.tensor_flops * self.clock
    }

    /// Resident blocks per multiprocessor. Registers are allocated to warps in units of 256, and
    /// the system reserves one KB of shared memory per block.
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
