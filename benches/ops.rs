//! Speed of the ops on this machine's CPU, on random data. Throughput of products and attention is
//! in floating-point operations, which criterion prints as "elements": 100 Gelem/s is 100 GFLOP/s.
//! Attention counts only the causal half. Throughput of the other ops is in bytes that must move.
//! RAYON_NUM_THREADS sets the number of threads.
//!
//! Shapes: `quickstart` C 96, F 256, V 1024; `30m` C 384, F 1024; `130m` C 768, F 2048, V 16384.

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use rand::{Rng, SeedableRng};
use std::time::Duration;
use stockpot::engine::device::{Buffer, DType, Device, Element, Matrix};
use stockpot::engine::ops::merge::Merge;
use stockpot::engine::ops::*;

/// A device and random memory on it.
struct Bench {
    device: Device,
    random: rand_chacha::ChaCha8Rng,
}

impl Bench {
    fn new() -> Bench {
        Bench { device: Device::cpu(), random: rand_chacha::ChaCha8Rng::seed_from_u64(1) }
    }
    fn upload<T: Element>(&mut self, values: &[T]) -> Buffer {
        let buffer = self.device.alloc(T::DTYPE, values.len()).expect("memory");
        self.device.upload(&buffer, values).expect("upload");
        buffer
    }
    fn vector<T: Element>(&mut self, values: &[T]) -> Matrix {
        self.upload(values).vector()
    }
    fn matrix(&mut self, rows: usize, cols: usize) -> Matrix {
        let values: Vec<f32> = (0..rows * cols).map(|_| self.random.random_range(-1.0..1.0)).collect();
        self.upload(&values).matrix(rows, cols)
    }
    fn positive(&mut self, cols: usize) -> Matrix {
        let values: Vec<f32> = (0..cols).map(|_| self.random.random_range(0.1..1.0)).collect();
        self.vector(&values)
    }
    /// (1, rows) tokens of a vocabulary: inputs or targets.
    fn tokens(&mut self, rows: usize, vocabulary: usize) -> Matrix {
        let values: Vec<u32> = (0..rows).map(|_| self.random.random_range(0..vocabulary as u32)).collect();
        self.vector(&values)
    }
    fn flops(&mut self, group: &mut BenchmarkGroup<WallTime>, name: &str, op: &dyn Op) {
        group.throughput(Throughput::Elements(op.flops()));
        group.bench_function(name, |b| b.iter(|| self.device.run(op).expect("the op runs")));
    }
    fn bytes(&mut self, group: &mut BenchmarkGroup<WallTime>, name: &str, op: &dyn Op) {
        self.bytes_moved(group, name, op, op.cost().bytes);
    }
    /// For an op that moves only a part of its operands.
    fn bytes_moved(&mut self, group: &mut BenchmarkGroup<WallTime>, name: &str, op: &dyn Op, bytes: u64) {
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(name, |b| b.iter(|| self.device.run(op).expect("the op runs")));
    }
}

/// Linear layers: forward (x W^T), gradient of the input (dy W) and of the weights (dy^T x,
/// accumulated).
fn gemm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gemm");
    for (shape, rows, inner, outer) in [
        ("quickstart attention", 2048, 96, 288),
        ("quickstart gate_up", 2048, 96, 512),
        ("quickstart head", 2048, 96, 1024),
        ("30m gate_up", 1024, 384, 2048),
        ("30m down", 1024, 1024, 384),
        ("130m gate_up", 1024, 768, 4096),
        ("130m down", 1024, 2048, 768),
        ("130m head", 512, 768, 16384),
    ] {
        let mut bench = Bench::new();
        let (x, w, y) = (bench.matrix(rows, inner), bench.matrix(outer, inner), bench.matrix(rows, outer));
        let product = |a: &Matrix, b: &Matrix, c: &Matrix, transpose_a, transpose_b, epilogue| Gemm {
            a: a.clone(),
            b: b.clone(),
            c: c.clone(),
            transpose_a,
            transpose_b,
            epilogue,
        };
        let forward = product(&x, &w, &y, false, true, Epilogue::Store);
        bench.flops(&mut group, &format!("{shape} forward"), &forward);
        // New random operands: repeated forward runs must not change what backward reads.
        let (dy, dx, dw) = (bench.matrix(rows, outer), bench.matrix(rows, inner), bench.matrix(outer, inner));
        bench.flops(&mut group, &format!("{shape} dx"), &product(&dy, &w, &dx, false, false, Epilogue::Store));
        bench.flops(&mut group, &format!("{shape} dw"), &product(&dy, &x, &dw, true, false, Epilogue::Accumulate));
    }
    group.finish();
}

fn attention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention");
    for (name, batch, context, heads, kv_heads, head_width) in [
        ("quickstart", 16, 64, 3, 3, 32),
        ("30m", 1, 1024, 6, 6, 64),
        ("130m", 1, 2048, 12, 12, 64),
        ("grouped", 2, 512, 8, 2, 64),
    ] {
        let shape = AttentionShape { batch, context, heads, kv_heads, head_width };
        let (rows, wide, narrow) = (batch * context, heads * head_width, kv_heads * head_width);
        let mut bench = Bench::new();
        let (packed, gradient) = (bench.matrix(rows, wide + 2 * narrow), bench.matrix(rows, wide + 2 * narrow));
        let cut = |m: &Matrix| [0..wide, wide..wide + narrow, wide + narrow..wide + 2 * narrow].map(|r| m.col_range(r));
        let ([q, k, v], [dq, dk, dv]) = (cut(&packed), cut(&gradient));
        let (out, dout) = (bench.matrix(rows, wide), bench.matrix(rows, wide));
        let (lse, delta) = (bench.matrix(batch * heads, context), bench.matrix(batch * heads, context));
        let [q2, k2, v2] = [&q, &k, &v].map(Matrix::clone);
        let forward = Attention { shape, q: q2, k: k2, v: v2, out: out.clone(), lse: lse.clone() };
        bench.flops(&mut group, &format!("{name} forward"), &forward);
        let backward = AttentionBackward { shape, q, k, v, out, lse, dout, dq, dk, dv, delta };
        bench.flops(&mut group, &format!("{name} backward"), &backward);
    }
    group.finish();
}

fn norm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("norm");
    for (name, rows, cols) in [("quickstart", 2048, 96), ("30m", 1024, 384), ("130m", 1024, 768)] {
        let mut bench = Bench::new();
        let (x, weight, out) = (bench.matrix(rows, cols), bench.matrix(1, cols), bench.matrix(rows, cols));
        let (rstd, dout, dx) = (bench.matrix(1, rows), bench.matrix(rows, cols), bench.matrix(rows, cols));
        let (x2, weight2, rstd2) = (x.clone(), weight.clone(), rstd.clone());
        let forward = RmsNorm { x: x2, weight: weight2, residual: None, out, rstd: rstd2, epsilon: 1e-6 };
        bench.bytes(&mut group, &format!("{name} forward"), &forward);
        let dweight = bench.matrix(1, cols);
        let parts = bench.matrix(NORM_PARTS, cols);
        let backward = RmsNormBackward { x, weight, rstd, dout, dx, accumulate_dx: false, dweight, parts };
        bench.bytes(&mut group, &format!("{name} backward"), &backward);
    }
    group.finish();
}

fn swiglu(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("swiglu");
    for (name, rows, width) in [("quickstart", 2048, 256), ("30m", 1024, 1024), ("130m", 1024, 2048)] {
        let mut bench = Bench::new();
        let (gate_up, out) = (bench.matrix(rows, 2 * width), bench.matrix(rows, width));
        bench.bytes(&mut group, &format!("{name} forward"), &SwiGlu { gate_up: gate_up.clone(), out });
        let (dout, dgate_up) = (bench.matrix(rows, width), bench.matrix(rows, 2 * width));
        bench.bytes(&mut group, &format!("{name} backward"), &SwiGluBackward { gate_up, dout, dgate_up });
    }
    group.finish();
}

fn rope(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rope");
    for (name, rows, context, heads, head_width) in [("quickstart", 2048, 64, 6, 32), ("130m", 1024, 1024, 24, 64)] {
        let mut bench = Bench::new();
        let x = bench.matrix(rows, heads * head_width);
        let values = rope_table(context, head_width, 10_000.0);
        let table = bench.upload(&values).matrix(context, head_width);
        bench.bytes(&mut group, name, &Rope { x, table, head_width, inverse: false });
    }
    group.finish();
}

/// Only the tokens' rows of the table move. Forward reads and writes one row per token. Backward
/// reads one row of the gradient, and reads and writes one row of the table's gradient.
fn embedding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("embedding");
    for (name, rows, vocabulary, cols) in [("quickstart", 2048, 1024, 96), ("130m", 1024, 16384, 768)] {
        let mut bench = Bench::new();
        let (tokens, weight) = (bench.tokens(rows, vocabulary), bench.matrix(vocabulary, cols));
        let (out, dout, dweight) = (bench.matrix(rows, cols), bench.matrix(rows, cols), bench.matrix(vocabulary, cols));
        let bytes = out.bytes();
        let forward = Embedding { tokens: tokens.clone(), weight, out };
        bench.bytes_moved(&mut group, &format!("{name} forward"), &forward, 2 * bytes);
        let backward = EmbeddingBackward { tokens, dout, dweight };
        bench.bytes_moved(&mut group, &format!("{name} backward"), &backward, 3 * bytes);
    }
    group.finish();
}

fn cross_entropy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cross_entropy");
    for (name, rows, vocabulary) in [("quickstart", 512, 1024), ("130m", 256, 16384), ("50k", 256, 50304)] {
        for (what, gradient_scale) in [("loss", None), ("gradient", Some(1.0 / rows as f32))] {
            let mut bench = Bench::new();
            let (logits, losses) = (bench.matrix(rows, vocabulary), bench.matrix(1, rows));
            let op = CrossEntropy { logits, targets: bench.tokens(rows, vocabulary), losses, gradient_scale };
            bench.bytes(&mut group, &format!("{name} {what}"), &op);
        }
    }
    group.finish();
}

/// Losses of a scoring batch: one sum per window.
fn loss_sum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("loss_sum");
    for (name, batch, context) in [("quickstart", 32, 64), ("30m", 16, 1024)] {
        let mut bench = Bench::new();
        let (losses, out) = (bench.matrix(batch, context), bench.vector(&vec![0.0f64; batch]));
        bench.bytes(&mut group, name, &LossSum { losses, out, accumulate: false });
    }
    group.finish();
}

/// The op that zeroes the gradients before each step.
fn fill(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fill");
    for (name, parameters) in PARAMETERS {
        let mut bench = Bench::new();
        let x = bench.matrix(1, parameters);
        bench.bytes(&mut group, name, &Fill { x, value: 0.0 });
    }
    group.finish();
}

/// Merges of f32 checkpoints in memory; benches/merge.rs has merges of checkpoints on disk.
fn merge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    for ((name, parameters), terms) in [(PARAMETERS[0], 2), (PARAMETERS[0], 8), (PARAMETERS[1], 2)] {
        let mut bench = Bench::new();
        let (pool, out) = (bench.matrix(terms, parameters), bench.matrix(1, parameters));
        let rows = bench.vector(&(0..terms as u32).collect::<Vec<_>>());
        let weights: Vec<f64> = (0..terms).map(|_| bench.random.random_range(0.1..1.0)).collect();
        let weights = bench.vector(&weights);
        bench.bytes(&mut group, &format!("{name} terms {terms}"), &Merge { pool, rows, weights, out, copy: None });
    }
    group.finish();
}

/// Gradients of domains, with f32 checkpoints.
fn inner_products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inner_products");
    // As many elements as one op takes.
    let most = ("4m", INNER_PRODUCT_PARTS * INNER_PRODUCT_PART);
    for ((name, parameters), domains, checkpoints) in [(PARAMETERS[0], 4, 8), (most, 2, 2)] {
        let mut bench = Bench::new();
        let (gradients, pool) = (bench.matrix(domains, parameters), bench.matrix(checkpoints, parameters));
        let products = domains * checkpoints;
        let out = bench.device.alloc(DType::F64, products).expect("memory").matrix(domains, checkpoints);
        let parts = bench.device.alloc(DType::F64, INNER_PRODUCT_PARTS * products).expect("memory");
        let parts = parts.matrix(INNER_PRODUCT_PARTS, products);
        let op = InnerProducts { gradients, pool, out, parts, accumulate: false };
        bench.bytes(&mut group, &format!("{name} {domains} x {checkpoints}"), &op);
    }
    group.finish();
}

/// Names and numbers of parameters of the models whose weights are one vector.
const PARAMETERS: [(&str, usize); 2] = [("quickstart", 500_000), ("30m", 30_000_000)];

fn optimizer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("optimizer");
    for (name, parameters) in PARAMETERS {
        let mut bench = Bench::new();
        let [params, grads, m] = [(); 3].map(|()| bench.matrix(1, parameters));
        let (v, norm) = (bench.positive(parameters), bench.matrix(1, GRAD_NORM_OUT));
        let parts = bench.device.alloc(DType::F64, GRAD_NORM_PARTS).expect("memory").vector();
        let clip = GradNorm { grads: grads.clone(), out: norm.clone(), parts, max_norm: 1.0 };
        bench.bytes(&mut group, &format!("{name} grad_norm"), &clip);
        let (beta1, beta2, epsilon) = (0.9, 0.95, 1e-8);
        let (compute, constants) = (None, bench.positive(ADAMW_CONSTANTS));
        let op = AdamW { params, grads, m, v, compute, norm, constants, beta1, beta2, epsilon };
        bench.bytes(&mut group, &format!("{name} adamw"), &op);
    }
    group.finish();
}

criterion_group! {
    name = ops;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    targets = gemm, attention, norm, swiglu, rope, embedding, cross_entropy, loss_sum, fill, optimizer, merge, inner_products
}
criterion_main!(ops);
