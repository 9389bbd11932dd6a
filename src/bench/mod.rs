//! Timings of kernels and whole steps on one device, at the shapes of model presets: random data, a
//! warm-up, the median and spread of several samples. A sample is enough repetitions to take at
//! least 100 ms, ended by one read-back, so a device that queues work is timed until the work
//! is done. Another [`Meter`] can replace the clock: `benches/predict` predicts the same rows for a
//! GPU that is not present.

mod merge;

use crate::engine::device::{Buffer, DType, Device, Matrix, Repeat};
use crate::engine::eval;
use crate::engine::model::{Activations, Architecture, Batch, Config, Inputs, Model, Table, initial_weights};
use crate::engine::ops::merge::Merge;
use crate::engine::ops::{Attention, AttentionBackward, AttentionShape, Epilogue, Gemm, Op};
use crate::engine::train::{Optimizer, Settings};
use crate::error::{Error, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::Serialize;
use std::fmt;
use std::time::{Duration, Instant};

/// A part of Stockpot to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BenchSubject {
    /// Matrix products of a layer and of the output
    Gemm,
    /// Causal attention, forward and backward
    Attention,
    /// Whole training steps
    Train,
    /// Weighted sums of checkpoints in the device's memory
    Merge,
    /// Scoring
    Eval,
}

impl BenchSubject {
    /// Every subject, in the order in which all are timed.
    pub const ALL: [BenchSubject; 5] =
        [BenchSubject::Gemm, BenchSubject::Attention, BenchSubject::Train, BenchSubject::Merge, BenchSubject::Eval];
}

/// One row of results.
#[derive(Debug, Clone, Serialize)]
pub struct BenchRow {
    /// The subject that was timed.
    pub subject: BenchSubject,
    /// The operation and its shape.
    pub name: String,
    /// Seconds of one repetition, median over the samples.
    pub seconds: f64,
    /// Seconds of one repetition in the fastest sample.
    pub fastest: f64,
    /// Seconds of one repetition in the slowest sample.
    pub slowest: f64,
    /// Flops of one repetition.
    pub flops: f64,
    /// Bytes that one repetition must move, each operand touched once; 0 if not counted.
    pub bytes: f64,
    /// Tokens of one repetition in training and scoring; else 0.
    pub tokens: f64,
    /// Bytes per second as a fraction of a memory copy's in the same run, for merges on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_copy: Option<f64>,
}

/// All rows of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Timings {
    /// The device's name.
    pub device: String,
    /// The rows, in the order in which they were timed.
    pub rows: Vec<BenchRow>,
}

/// One repetition of a row.
pub struct Repetition<'a> {
    /// The subject of the row.
    pub subject: BenchSubject,
    /// The operation and its shape.
    pub name: String,
    /// Flops of one repetition.
    pub flops: f64,
    /// Bytes that it must move, each operand touched once; 0 if not counted.
    pub bytes: f64,
    /// Tokens of one repetition in training and scoring; else 0.
    pub tokens: f64,
    /// Reading this buffer waits for the repetition to end.
    pub wait: &'a Buffer,
}

/// Measures or predicts the time of rows.
pub trait Meter {
    /// Whether operands and weights need values; otherwise they may be uninitialized.
    fn needs_values(&self) -> bool;
    /// Measures one row; `work` queues one repetition of it on `device`.
    fn row(
        &mut self,
        device: &mut Device,
        repetition: Repetition,
        work: &mut dyn FnMut(&mut Device) -> Result<()>,
    ) -> Result<()>;
}

/// Times `subjects` on `device`, at one preset or at all that suit it, and passes each row to
/// `progress`.
///
/// # Errors
/// The device is not timed at `preset`.
pub fn run(
    device: &mut Device,
    subjects: &[BenchSubject],
    preset: Option<&str>,
    progress: &mut dyn FnMut(&BenchRow),
) -> Result<Timings> {
    let known = presets(device.compute_dtype());
    if let Some(name) = preset.filter(|name| known.iter().all(|(known, _)| known != name)) {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let what = format!("{name} is not timed on {}", device.name());
        return Err(Error::usage(what).fix(format!("use one of: {}", names.join(", "))));
    }
    let mut clock = WallClock { rows: vec![], progress };
    for &subject in subjects {
        // On the CPU, merges read files.
        if subject == BenchSubject::Merge && !device.is_asynchronous() {
            merge::on_cpu(&mut |row| clock.push(row))?;
        } else {
            measure(device, subject, preset, &mut clock)?;
        }
    }
    Ok(Timings { device: device.name().to_string(), rows: clock.rows })
}

/// Passes every row of `subject` to `meter`, at `preset` or at all presets that suit `device`.
pub fn measure(device: &mut Device, subject: BenchSubject, preset: Option<&str>, meter: &mut dyn Meter) -> Result<()> {
    let mut bench = Bench { device, preset, meter };
    match subject {
        BenchSubject::Gemm => bench.gemm(),
        BenchSubject::Attention => bench.attention(),
        BenchSubject::Train => bench.train(),
        BenchSubject::Merge => bench.merge(),
        BenchSubject::Eval => bench.eval(),
    }
}

/// The meter that times rows.
struct WallClock<'a> {
    rows: Vec<BenchRow>,
    progress: &'a mut dyn FnMut(&BenchRow),
}

impl WallClock<'_> {
    fn push(&mut self, row: BenchRow) {
        (self.progress)(&row);
        self.rows.push(row);
    }
}

impl Meter for WallClock<'_> {
    fn needs_values(&self) -> bool {
        true
    }

    fn row(
        &mut self,
        device: &mut Device,
        repetition: Repetition,
        work: &mut dyn FnMut(&mut Device) -> Result<()>,
    ) -> Result<()> {
        let Repetition { subject, name, flops, bytes, tokens, wait } = repetition;
        let mut sample = |repetitions: usize| -> Result<f64> {
            let start = Instant::now();
            for _ in 0..repetitions {
                work(device)?;
            }
            device.download(wait, &mut [0.0f32])?;
            Ok(start.elapsed().as_secs_f64() / repetitions as f64)
        };
        // Compiles, captures, warms up.
        for _ in 0..3 {
            sample(1)?;
        }
        let repetitions = (SAMPLE.as_secs_f64() / sample(1)?.max(1e-9)).ceil().clamp(1.0, 1e4) as usize;
        let mut seconds = (0..SAMPLES).map(|_| sample(repetitions)).collect::<Result<Vec<_>>>()?;
        seconds.sort_by(f64::total_cmp);
        let (seconds, fastest, slowest) = (seconds[SAMPLES / 2], seconds[0], seconds[SAMPLES - 1]);
        self.push(BenchRow { subject, name, seconds, fastest, slowest, flops, bytes, tokens, of_copy: None });
        Ok(())
    }
}

struct Bench<'a> {
    device: &'a mut Device,
    preset: Option<&'a str>,
    meter: &'a mut dyn Meter,
}

const SAMPLES: usize = 7;
/// Least time of one sample.
const SAMPLE: Duration = Duration::from_millis(100);

/// The presets to time, each with the windows of a micro-batch; small ones on a CPU.
fn presets(compute: DType) -> &'static [(&'static str, usize)] {
    if compute == DType::F32 { &[("tiny", 32), ("30m", 1)] } else { &[("30m", 32), ("130m", 16), ("1b", 4)] }
}

const VOCABULARY: usize = 50_304;
const SMALL_VOCABULARY: usize = 4096;

impl Bench<'_> {
    fn configs(&self) -> Vec<(&'static str, Config, Batch)> {
        let compute = self.device.compute_dtype();
        let vocabulary = if compute == DType::F32 { SMALL_VOCABULARY } else { VOCABULARY };
        let config = |name| Config::preset(name, Architecture::Olmo2, vocabulary, 0);
        let chosen = presets(compute).iter().filter(|(name, _)| self.preset.is_none_or(|preset| preset == *name));
        let rows = chosen.filter_map(|&(name, windows)| {
            let config = config(name)?;
            let batch = Batch { batch: windows, context: config.context };
            Some((name, config, batch))
        });
        rows.collect()
    }

    fn gemm(&mut self) -> Result<()> {
        for (preset, config, batch) in self.configs() {
            let (rows, c, f, v) = (batch.rows(), config.width, config.feed_forward, config.vocabulary);
            let qkv = config.q_width() + 2 * config.kv_width();
            let chunk = rows.min(4096);
            // Rows, outputs and inputs of each linear layer. Timed: its forward pass, and the
            // gradients of its input and weight.
            for (layer, rows, out, inner) in [
                ("qkv", rows, qkv, c),
                ("out", rows, c, c),
                ("gate_up", rows, 2 * f, c),
                ("down", rows, c, f),
                ("head", chunk, v, c),
            ] {
                let (x, dx) = (self.random(rows, inner)?, self.random(rows, inner)?);
                let (weight, y) = (self.random(out, inner)?, self.random(rows, out)?);
                let dweight = self.random_of(DType::F32, out, inner)?;
                let product = |a: &Matrix, b: &Matrix, c: &Matrix, transpose_a, transpose_b, epilogue| Gemm {
                    a: a.clone(),
                    b: b.clone(),
                    c: c.clone(),
                    transpose_a,
                    transpose_b,
                    epilogue,
                };
                let name = |what: &str| format!("{preset} {layer} {what} {rows}x{out}x{inner}");
                self.op(BenchSubject::Gemm, name("forward"), &product(&x, &weight, &y, false, true, Epilogue::Store))?;
                self.op(BenchSubject::Gemm, name("dx"), &product(&y, &weight, &dx, false, false, Epilogue::Store))?;
                self.op(
                    BenchSubject::Gemm,
                    name("dweight"),
                    &product(&y, &x, &dweight, true, false, Epilogue::Accumulate),
                )?;
            }
        }
        Ok(())
    }

    fn attention(&mut self) -> Result<()> {
        for (preset, config, batch) in self.configs() {
            let shape = AttentionShape {
                batch: batch.batch,
                context: batch.context,
                heads: config.heads,
                kv_heads: config.kv_heads,
                head_width: config.head_width,
            };
            let (rows, q, kv) = (batch.rows(), config.q_width(), config.kv_width());
            let statistics = (shape.batch * shape.heads, shape.context);
            let [wide, out, dout, dq] = [(); 4].map(|()| self.random(rows, q));
            let [k, v, dk, dv] = [(); 4].map(|()| self.random(rows, kv));
            let (q, k, v, out) = (wide?, k?, v?, out?);
            let lse = self.random_of(DType::F32, statistics.0, statistics.1)?;
            let delta = self.random_of(DType::F32, statistics.0, statistics.1)?;
            let name = |what: &str| {
                format!("{preset} {what} B{} T{} H{} D{}", shape.batch, shape.context, shape.heads, shape.head_width)
            };
            let forward =
                Attention { shape, q: q.clone(), k: k.clone(), v: v.clone(), out: out.clone(), lse: lse.clone() };
            self.op(BenchSubject::Attention, name("forward"), &forward)?;
            let (dout, dq, dk, dv) = (dout?, dq?, dk?, dv?);
            let backward = AttentionBackward { shape, q, k, v, out, lse, dout, dq, dk, dv, delta };
            self.op(BenchSubject::Attention, name("backward"), &backward)?;
        }
        Ok(())
    }

    fn train(&mut self) -> Result<()> {
        for (preset, config, batch) in self.configs() {
            let text = format!("steps = 1\nbatch = {}\nlearning_rate = 1e-4", batch.batch);
            let Ok(settings) = toml::from_str::<Settings>(&text) else { unreachable!("complete settings") };
            let model = self.model(&config)?;
            let optimizer = Optimizer::new(self.device, &model, None)?;
            optimizer.set_learning_rate(self.device, 1e-4)?;
            let acts = Activations::for_training(self.device, &config, batch.rows(), false)?;
            let inputs = self.inputs(&config, batch)?;
            let mut repeat = Repeat::default();
            let scale = 1.0 / batch.rows() as f32;
            let repetition = Repetition {
                subject: BenchSubject::Train,
                name: format!("{preset} step of {} x {} tokens", batch.batch, batch.context),
                flops: batch.rows() as f64 * config.training_flops_per_token(),
                bytes: 0.0,
                tokens: batch.rows() as f64,
                wait: &optimizer.arena.norm,
            };
            self.meter.row(self.device, repetition, &mut |device| {
                device.repeat(&mut repeat, |device| {
                    optimizer.zero_gradients(device)?;
                    model.accumulate_gradient(device, &acts, &optimizer.arena.grads, batch, &inputs, scale)?;
                    optimizer.update(device, &model, &settings)
                })
            })?;
        }
        Ok(())
    }

    fn merge(&mut self) -> Result<()> {
        // Eight checkpoints of the largest preset exceed the memory of most devices.
        for (preset, config, _) in self.configs().into_iter().filter(|(preset, ..)| *preset != "1b") {
            let p = Table::new(&config).len;
            let compute = self.device.compute_dtype();
            for count in [2, 8] {
                let weights = self.device.alloc(DType::F64, count)?;
                self.device.upload(&weights, &vec![1.0 / count as f64; count])?;
                let rows = self.device.alloc(DType::U32, count)?;
                self.device.upload(&rows, &(0..count as u32).collect::<Vec<_>>())?;
                let merge = Merge {
                    pool: self.random(count, p.next_multiple_of(8))?.col_range(0..p),
                    rows: rows.vector(),
                    weights: weights.vector(),
                    out: self.device.alloc(DType::F32, p)?.vector(),
                    copy: match compute {
                        DType::F32 => None,
                        compute => Some(self.device.alloc(compute, p)?.vector()),
                    },
                };
                self.op(BenchSubject::Merge, format!("{preset} {count} checkpoints of {p} weights"), &merge)?;
            }
        }
        Ok(())
    }

    fn eval(&mut self) -> Result<()> {
        for (preset, config, _) in self.configs() {
            let rows = eval::rows(config.context, self.device.compute_dtype());
            let batch = Batch { batch: rows / config.context, context: config.context };
            let model = self.model(&config)?;
            let acts = Activations::for_evaluation(self.device, &config, rows)?;
            let inputs = self.inputs(&config, batch)?;
            let repetition = Repetition {
                subject: BenchSubject::Eval,
                name: format!("{preset} {} x {} tokens", batch.batch, batch.context),
                flops: batch.rows() as f64 * config.forward_flops_per_token(),
                bytes: 0.0,
                tokens: batch.rows() as f64,
                wait: &acts.losses(1),
            };
            self.meter.row(self.device, repetition, &mut |device| model.losses(device, &acts, batch, &inputs))?;
        }
        Ok(())
    }

    fn op(&mut self, subject: BenchSubject, name: String, op: &dyn Op) -> Result<()> {
        let cost = op.cost();
        let wait = &self.device.alloc(DType::F32, 1)?;
        let (flops, bytes, tokens) = (cost.flops as f64, cost.bytes as f64, 0.0);
        let repetition = Repetition { subject, name, flops, bytes, tokens, wait };
        self.meter.row(self.device, repetition, &mut |device| device.run(op))
    }

    fn model(&mut self, config: &Config) -> Result<Model> {
        if self.meter.needs_values() {
            Model::new(self.device, config, &initial_weights(config, 0))
        } else {
            Model::without_weights(self.device, config)
        }
    }

    fn inputs(&mut self, config: &Config, batch: Batch) -> Result<Inputs> {
        let v = config.vocabulary as u64;
        let tokens: Vec<u32> = (0..batch.rows() as u64).map(|i| (i * 7919 % v) as u32).collect();
        let targets: Vec<u32> = (0..batch.rows() as u64).map(|i| (i * 104_729 % v) as u32).collect();
        let inputs = Inputs::new(self.device, batch.rows())?;
        inputs.upload(self.device, &tokens, &targets)?;
        Ok(inputs)
    }

    /// Normally distributed numbers in the compute dtype.
    fn random(&mut self, rows: usize, cols: usize) -> Result<Matrix> {
        self.random_of(self.device.compute_dtype(), rows, cols)
    }

    fn random_of(&mut self, dtype: DType, rows: usize, cols: usize) -> Result<Matrix> {
        let buffer = self.device.alloc(dtype, rows * cols)?;
        if !self.meter.needs_values() {
            return Ok(buffer.matrix(rows, cols));
        }
        let mut rng = ChaCha8Rng::seed_from_u64((rows * 31 + cols) as u64);
        // A short sequence of random numbers, repeated: the cost of arithmetic does not depend on
        // more.
        let stretch: Vec<f32> = (0..65_521).map(|_| StandardNormal.sample(&mut rng)).collect();
        let values: Vec<f32> = stretch.iter().copied().cycle().take(rows * cols).collect();
        if dtype == DType::Bf16 {
            let rounded: Vec<half::bf16> = values.iter().map(|&x| half::bf16::from_f32(x)).collect();
            self.device.upload(&buffer, &rounded)?;
        } else {
            self.device.upload(&buffer, &values)?;
        }
        Ok(buffer.matrix(rows, cols))
    }
}

impl fmt::Display for BenchRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spread = (self.slowest - self.fastest) / self.seconds * 100.0;
        write!(f, "{:48} {:>10.1} us  spread {spread:>4.1}%", self.name, self.seconds * 1e6)?;
        if self.flops > 0.0 {
            write!(f, "  {:>8.3} TFLOP/s", self.flops / self.seconds / 1e12)?;
        }
        if self.bytes > 0.0 {
            write!(f, "  {:>8.1} GB/s", self.bytes / self.seconds / 1e9)?;
        }
        if let Some(fraction) = self.of_copy {
            write!(f, "  {:>4.2} of a copy", fraction)?;
        }
        if self.tokens > 0.0 {
            write!(f, "  {:>9.1}k tok/s", self.tokens / self.seconds / 1e3)?;
        }
        Ok(())
    }
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "device: {}", self.device)?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}
