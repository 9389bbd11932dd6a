//! Predictions of single launches. Each expected number is computed here by hand or is in the NVRTC
//! gate's table.

use super::gpus::Gpu;
use super::model::{LAUNCH, Limit, Prediction};
use super::predict;
use super::work::registers;
use std::path::Path;
use stockpot::engine::device::{DType, Device, Launch, Matrix, Op};
use stockpot::engine::ops::{
    Attention, AttentionBackward, AttentionShape, Embedding, Epilogue, Gemm, INNER_PRODUCT_PARTS, InnerProducts,
    LossSum, SwiGlu,
};

fn gpu(name: &str) -> &'static Gpu {
    Gpu::named(name).expect("a row of the table")
}

fn device() -> Device {
    predict::device(gpu("h100")).0
}

fn matrix(device: &mut Device, dtype: DType, rows: usize, cols: usize) -> Matrix {
    device.alloc(dtype, rows * cols).expect("no memory is taken").matrix(rows, cols)
}

fn predicted(gpu: &Gpu, op: &dyn Op) -> Vec<Prediction> {
    op.launches().iter().enumerate().map(|(i, launch)| Prediction::of(gpu, op, i, launch)).collect()
}

/// Within a thousandth.
fn near(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() < 1e-3
}

fn square(device: &mut Device, n: usize) -> Gemm {
    let [a, b, c] = [(); 3].map(|()| matrix(device, DType::Bf16, n, n));
    Gemm { a, b, c, transpose_a: false, transpose_b: true, epilogue: Epilogue::Store }
}

#[test]
fn peaks_are_those_of_the_data_sheets() {
    for (name, peak) in [("h100", 989.4e12), ("h200", 989.4e12), ("a100", 311.9e12)] {
        assert!(near(gpu(name).peak(), peak), "{name}: {}", gpu(name).peak());
    }
}

#[test]
fn a_streaming_kernel_takes_its_bytes_over_the_bandwidth() {
    let mut device = device();
    let gate_up = matrix(&mut device, DType::Bf16, 16384, 8192);
    let out = matrix(&mut device, DType::Bf16, 16384, 4096);
    let [p] = &predicted(gpu("h100"), &SwiGlu { gate_up, out })[..] else { panic!("one launch") };
    // Three times 16384 x 4096 of 2 bytes, at 0.9 x 3352 GB/s.
    assert_eq!((p.limit, p.work.memory_bytes), (Limit::Memory, 402_653_184.0));
    assert!(near(p.seconds, 2e-6 + 133.47e-6), "{}", p.seconds);
}

#[test]
fn a_large_product_is_bound_by_the_busiest_multiprocessor() {
    let op = square(&mut device(), 8192);
    let [p] = &predicted(gpu("h100"), &op)[..] else { panic!("one launch") };
    // 2048 tiles of 128 x 256, 16 on the busiest: 16 x 128 x 256 x (8192 + 128) x 2 flops at 4096 x
    // 0.629 a clock, 1.83 GHz, of which 0.8.
    assert_eq!(p.limit, Limit::Tensor);
    assert!(near(p.seconds, 2e-6 + 2312.9e-6), "{}", p.seconds);
    assert!(near(p.waves, 2048.0 / 132.0) && near(p.balance, 2048.0 / 132.0 / 16.0));
    // 128 MiB each: A for 32 columns of tiles, B for 64 rows of them, C once.
    assert_eq!(p.work.l2_bytes, (32 + 64 + 1) as f64 * 134_217_728.0);
    assert_eq!(p.work.memory_bytes, 3.0 * 134_217_728.0);
}

#[test]
fn one_block_uses_one_multiprocessor() {
    let mut device = device();
    let losses = matrix(&mut device, DType::F32, 1, 1 << 20);
    let out = matrix(&mut device, DType::F64, 1, 1);
    let [p] = &predicted(gpu("h100"), &LossSum { losses, out, accumulate: false })[..] else { panic!("one launch") };
    assert!(near(p.waves * p.resident as f64, 1.0 / 132.0) && near(p.balance, 1.0 / 132.0));
    // 4 MiB at 0.8 x 64 bytes a clock, though the memory would take 1.4 microseconds.
    assert_eq!(p.limit, Limit::L2);
    assert!(near(p.seconds, 2e-6 + 44.77e-6), "{}", p.seconds);
    assert!(p.work.f64_flops > 0.0 && p.work.f32_flops == 0.0, "its sum is f64");
}

#[test]
fn small_launches_are_bound_by_the_launch() {
    let [p] = &predicted(gpu("h100"), &square(&mut device(), 64))[..] else { panic!("one launch") };
    assert_eq!(p.limit, Limit::Launch);
    assert!(p.seconds < 2.0 * LAUNCH);
}

#[test]
fn attention_is_counted_by_tiles() {
    let mut device = device();
    let shape = AttentionShape { batch: 1, context: 256, heads: 1, kv_heads: 1, head_width: 64 };
    let [q, k, v, out, dout, dq, dk, dv] = [(); 8].map(|()| matrix(&mut device, DType::Bf16, 256, 64));
    let [lse, delta] = [(); 2].map(|()| matrix(&mut device, DType::F32, 1, 256));
    let op = Attention { shape, q: q.clone(), k: k.clone(), v: v.clone(), out: out.clone(), lse: lse.clone() };
    let forward = &predicted(gpu("h100"), &op)[0];
    // Eight bands of 32 queries see 1, 1, 2, 2, 3, 3, 4, 4 tiles of 64 keys: 20 x 2048 scores, two
    // products of 128 flops each. The two blocks load 2 and 4 tiles of keys and of values, of 64
    // rows of 128 bytes.
    assert_eq!((forward.work.tensor_flops, forward.work.special), (40_960.0 * 256.0, 40_960.0));
    let owned = q.bytes() + out.bytes() + lse.bytes();
    assert_eq!(forward.work.l2_bytes, owned as f64 + 6.0 * 2.0 * 64.0 * 128.0);
    let work = &forward.work;
    assert_eq!(work.shared_bytes, (20 * (32 + 2 * 64) + 6 * 2 * 64) as f64 * 128.0, "{work:?}");

    let op = AttentionBackward { shape, q, k, v, out, lse, dout, dq, dk, dv, delta };
    let [of_delta, kv, of_q] = &predicted(gpu("h100"), &op)[..] else { panic!("three launches") };
    assert_eq!(of_delta.work.tensor_flops, 0.0);
    // Eight bands of 32 keys are seen by 8, 7 .. 1 tiles of 32 queries: 36 x 1024 scores in four
    // products; by queries they see 1, 2 .. 8 tiles of 32 keys, in three.
    assert_eq!(kv.work.tensor_flops, 36_864.0 * 128.0 * 4.0);
    assert_eq!(of_q.work.tensor_flops, 36_864.0 * 128.0 * 3.0);
}

#[test]
fn attention_adds_a_part_of_the_limits_that_are_not_the_slowest() {
    let mut device = device();
    let shape = AttentionShape { batch: 16, context: 2048, heads: 12, kv_heads: 12, head_width: 64 };
    let [q, k, v, out] = [(); 4].map(|()| matrix(&mut device, DType::Bf16, 16 * 2048, 768));
    let lse = matrix(&mut device, DType::F32, 16 * 12, 2048);
    let p = &predicted(gpu("h100"), &Attention { shape, q, k, v, out, lse })[0];
    let [tensor, shared, special, instructions] =
        [Limit::Tensor, Limit::Shared, Limit::Special, Limit::Instructions].map(|limit| p.limits[&limit]);
    // Two blocks of four warps: two warps for each scheduler.
    assert_eq!((p.limit, p.resident), (Limit::Tensor, 2));
    assert!(near(p.seconds, LAUNCH + tensor + (shared + special + instructions) / 2.0));
}

#[test]
fn an_embedding_reads_the_rows_of_its_tokens() {
    let mut device = device();
    let tokens = matrix(&mut device, DType::U32, 1, 1000);
    let weight = matrix(&mut device, DType::Bf16, 50_304, 768);
    let out = matrix(&mut device, DType::Bf16, 1000, 768);
    let p = &predicted(gpu("h100"), &Embedding { tokens, weight, out })[0];
    assert!(near(p.work.memory_bytes, 4.0 * 1000.0 + 2.0 * 1000.0 * 768.0 * 2.0), "{:?}", p.work);
}

#[test]
fn inner_products_are_counted_by_tiles() {
    let mut device = device();
    let p = 1 << 20;
    let (gradients, pool) = (matrix(&mut device, DType::F32, 5, p), matrix(&mut device, DType::Bf16, 7, p));
    let (out, parts) =
        (matrix(&mut device, DType::F64, 5, 7), matrix(&mut device, DType::F64, INNER_PRODUCT_PARTS, 35));
    let op = InnerProducts { gradients, pool, out, parts, accumulate: true };
    let [partial, last] = &predicted(gpu("h100"), &op)[..] else { panic!("two launches") };
    // 64 parts of 16384 elements. Two tiles of 4 gradients and three of 3 checkpoints: gradients
    // are read three times and the pool twice.
    let (gradients, pool, sums) = (5.0 * 4.0 * p as f64, 7.0 * 2.0 * p as f64, 64.0 * 35.0 * 8.0);
    assert_eq!(partial.grid, [6, 64, 1]);
    assert_eq!(partial.work.memory_bytes, gradients + pool + sums);
    assert_eq!(partial.work.l2_bytes, 3.0 * gradients + 2.0 * pool + sums);
    assert_eq!((partial.work.f64_flops, partial.work.special), (72.0 * p as f64, 42.0 * p as f64));
    // The second reads the sums, and reads and writes the products.
    assert_eq!(last.work.memory_bytes, sums + 2.0 * 35.0 * 8.0);
}

/// With the assumed registers, every row of tests/nvrtc/table.md has the occupancy that the table
/// gives for sm_90a.
#[test]
fn assumed_registers_give_the_occupancy_of_the_compiled_kernels() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nvrtc/table.md");
    let text = std::fs::read_to_string(path).expect("the table");
    let cells = |line: &str| line.trim_matches('|').split('|').map(|c| c.trim().to_string()).collect::<Vec<_>>();
    let mut lines = text.lines().filter(|line| line.starts_with('|')).map(cells);
    let column = lines.next().and_then(|names| names.iter().position(|n| n == "sm_90a")).expect("a column of sm_90a");
    let h100 = gpu("h100");
    let mut rows = 0;
    for row in lines.skip(1) {
        let leak = |text: &str| -> &'static str { text.to_string().leak() };
        let defines = row[1].split_whitespace().filter_map(|d| d.split_once('='));
        let launch = Launch {
            file: "",
            kernel: leak(&row[0]),
            defines: defines.map(|(name, value)| (leak(name), value.to_string())).collect(),
            grid: [1; 3],
            block: row[2].parse().expect("threads"),
            shared_bytes: row[3].parse().expect("shared memory"),
            args: vec![],
        };
        let measured: u32 = row[column].split('/').nth(1).and_then(|n| n.trim().parse().ok()).expect("blocks");
        let assumed = h100.resident(launch.block, registers(&launch), launch.shared_bytes);
        assert_eq!(assumed, measured, "{}", row.join(" "));
        rows += 1;
    }
    assert!(rows > 40, "{rows} rows: the table is read wrongly");
}
