//! Predictions of the rows that `stockpot bench` times. The same code runs on a device without
//! memory that logs its launches, and `model.rs` predicts their times.

use super::gpus::Gpu;
use super::model::{HOST_LAUNCH, LAUNCH, MEMORY_REACHED, Prediction, SUSTAINED};
use clap::ValueEnum;
use serde::Serialize;
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex};
use stockpot::bench::{BenchSubject, Meter, Repetition, measure};
use stockpot::engine::device::{Buffer, CapturedGraph, DType, Device, Executor, Launch, Op};
use stockpot::error::Result;

/// All rows, predicted for one GPU.
#[derive(Debug, Serialize)]
pub struct Predictions {
    /// The GPU that the rows are predicted for.
    pub gpu: &'static Gpu,
    /// Dense bf16 flops per second; MFU is a fraction of this.
    pub peak: f64,
    /// The model's constants.
    pub assumed: Assumed,
    /// The rows, in the order in which `bench` times them.
    pub rows: Vec<PredictedRow>,
}

/// The constants of the model that are not properties of a GPU; `model.rs` gives their reasons.
#[derive(Debug, Serialize)]
pub struct Assumed {
    /// The fraction of the memory's bandwidth that a kernel reaches.
    pub memory_reached: f64,
    /// The fraction of every rate within the chip that a kernel reaches.
    pub sustained: f64,
    /// Seconds from the last block of one kernel to the first result of the next.
    pub launch_seconds: f64,
    /// CPU seconds to queue one launch outside a graph.
    pub host_launch_seconds: f64,
}

/// The prediction of a row of `bench`, with the same name.
#[derive(Debug, Serialize)]
pub struct PredictedRow {
    /// The subject of the row.
    pub subject: BenchSubject,
    /// The operation and its shape.
    pub name: String,
    /// Predicted seconds of one repetition.
    pub seconds: f64,
    /// Flops of one repetition.
    pub flops: f64,
    /// Bytes that one repetition must move, each operand touched once; 0 if not counted.
    pub bytes: f64,
    /// Tokens of one repetition in training and scoring; else 0.
    pub tokens: f64,
    /// flops / seconds / peak, if tensor cores are used. For a training step, with 6N + 6LCT flops
    /// per token, this is its MFU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_peak: Option<f64>,
    /// Whether the launches are one CUDA graph; otherwise the CPU queues each in
    /// `host_launch_seconds`.
    pub graph: bool,
    /// Launches of one repetition.
    pub launches: usize,
    /// Total seconds of the launches on the GPU; `seconds` is larger if the CPU queues them more
    /// slowly.
    pub gpu_seconds: f64,
    /// The distinct launches, in order of decreasing time.
    pub kernels: Vec<Kernel>,
}

/// The launches of a row with equal name, grid and time.
#[derive(Debug, Serialize)]
pub struct Kernel {
    /// Number of launches in one repetition.
    pub calls: usize,
    /// Fraction of the row's time on the GPU.
    pub share: f64,
    /// The prediction of one launch.
    #[serde(flatten)]
    pub call: Prediction,
}

/// Predicts the rows of `subjects` on `gpu` and passes each to `progress`.
pub fn predict(
    gpu: &'static Gpu,
    subjects: &[BenchSubject],
    progress: &mut dyn FnMut(&PredictedRow),
) -> Result<Predictions> {
    let (mut device, log) = device(gpu);
    let mut predictor = Predictor { gpu, log, rows: vec![], progress };
    subjects.iter().try_for_each(|&subject| measure(&mut device, subject, None, &mut predictor))?;
    let assumed = Assumed {
        memory_reached: MEMORY_REACHED,
        sustained: SUSTAINED,
        launch_seconds: LAUNCH,
        host_launch_seconds: HOST_LAUNCH,
    };
    Ok(Predictions { gpu, peak: gpu.peak(), assumed, rows: predictor.rows })
}

/// A device that predicts its launches, and the log of them.
pub(super) fn device(gpu: &'static Gpu) -> (Device, Arc<Mutex<LaunchLog>>) {
    let log = Arc::new(Mutex::new(LaunchLog::default()));
    let executor = LoggingExecutor { gpu, log: log.clone(), next: 0 };
    (Device::with_executor(&format!("model of {}", gpu.name), Box::new(executor), DType::Bf16), log)
}

/// The meter that predicts instead of timing.
struct Predictor<'a> {
    gpu: &'static Gpu,
    log: Arc<Mutex<LaunchLog>>,
    rows: Vec<PredictedRow>,
    progress: &'a mut dyn FnMut(&PredictedRow),
}

impl Predictor<'_> {
    /// Takes the launches since the last call.
    fn take(&self) -> LaunchLog {
        std::mem::take(&mut *self.log.lock().expect("no prediction panics"))
    }
}

impl Meter for Predictor<'_> {
    fn needs_values(&self) -> bool {
        false
    }

    /// Predicts the second repetition, which is the first that a device captures.
    fn row(
        &mut self,
        device: &mut Device,
        repetition: Repetition,
        work: &mut dyn FnMut(&mut Device) -> Result<()>,
    ) -> Result<()> {
        let Repetition { subject, name, flops, bytes, tokens, .. } = repetition;
        work(device)?;
        self.take();
        work(device)?;
        let LaunchLog { launches, graph } = self.take();
        let gpu_seconds: f64 = launches.iter().map(|launch| launch.seconds).sum();
        let queued = if graph { 0.0 } else { launches.len() as f64 * HOST_LAUNCH };
        let seconds = gpu_seconds.max(queued);
        let tensor = launches.iter().any(|launch| launch.work.tensor_flops > 0.0);
        let of_peak = tensor.then(|| flops / seconds / self.gpu.peak());
        let row = PredictedRow {
            subject,
            name,
            seconds,
            flops,
            bytes,
            tokens,
            of_peak,
            graph,
            launches: launches.len(),
            gpu_seconds,
            kernels: distinct(launches, gpu_seconds),
        };
        (self.progress)(&row);
        self.rows.push(row);
        Ok(())
    }
}

/// Groups launches of equal name, grid and time into one kernel.
fn distinct(launches: Vec<Prediction>, seconds: f64) -> Vec<Kernel> {
    let mut kernels: Vec<Kernel> = vec![];
    for call in launches {
        let same =
            |k: &&mut Kernel| (&k.call.name, k.call.grid, k.call.seconds) == (&call.name, call.grid, call.seconds);
        match kernels.iter_mut().find(same) {
            Some(kernel) => kernel.calls += 1,
            None => kernels.push(Kernel { calls: 1, share: 0.0, call }),
        }
    }
    kernels.iter_mut().for_each(|k| k.share = k.calls as f64 * k.call.seconds / seconds);
    kernels.sort_by(|a, b| b.share.total_cmp(&a.share));
    kernels
}

/// The log of launches since it was last taken.
#[derive(Default)]
pub(super) struct LaunchLog {
    launches: Vec<Prediction>,
    /// Whether they were captured as a graph.
    graph: bool,
}

/// Predicts every launch and computes nothing. Its memory is only addresses.
struct LoggingExecutor {
    gpu: &'static Gpu,
    log: Arc<Mutex<LaunchLog>>,
    next: u64,
}

impl Executor for LoggingExecutor {
    fn allocate(&mut self, bytes: usize) -> Result<(u64, Box<dyn Any + Send + Sync>)> {
        self.next = (self.next + 256).next_multiple_of(256);
        let address = self.next;
        self.next += bytes as u64;
        Ok((address, Box::new(())))
    }
    fn run(&mut self, op: &dyn Op) -> Result<()> {
        let launches = op.launches();
        let predicted = launches.iter().enumerate().map(|(i, launch)| Prediction::of(self.gpu, op, i, launch));
        self.log.lock().expect("no prediction panics").launches.extend(predicted);
        Ok(())
    }
    fn launch(&mut self, _: &Launch) -> Result<()> {
        unreachable!("an op is predicted as a whole")
    }
    fn upload(&mut self, _: &Buffer, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn download(&mut self, _: &Buffer, _: &mut [u8]) -> Result<()> {
        unreachable!("nothing is computed")
    }
    fn begin_capture(&mut self) -> Result<bool> {
        self.log.lock().expect("no prediction panics").graph = true;
        Ok(true)
    }
    fn end_capture(&mut self) -> Result<Box<dyn CapturedGraph>> {
        Ok(Box::new(EmptyGraph))
    }
}

/// A graph whose launches are already predicted.
struct EmptyGraph;

impl CapturedGraph for EmptyGraph {
    fn launch(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The subject's name on the command line.
fn word(subject: BenchSubject) -> String {
    subject.to_possible_value().expect("no subject is hidden").get_name().into()
}

/// Maximum number of kernels in a row's table.
const SHOWN: usize = 14;

impl fmt::Display for PredictedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:48} {:>10.1} us", self.name, self.seconds * 1e6)?;
        if let Some(of_peak) = self.of_peak {
            write!(f, "  {:>7.1} TFLOP/s, {:>4.1}% of peak", self.flops / self.seconds / 1e12, of_peak * 100.0)?;
        }
        if self.tokens > 0.0 {
            write!(f, "  {:>8.1}k tok/s", self.tokens / self.seconds / 1e3)?;
        } else {
            write!(f, "  {:>7.1} GB/s", self.bytes / self.seconds / 1e9)?;
        }
        if let [kernel] = &self.kernels[..] {
            let Prediction { limit, waves, resident, balance, .. } = &kernel.call;
            write!(f, "  {:12} {waves:>8.2} waves of {resident}, balance {balance:.2}", limit.name())?;
        }
        Ok(())
    }
}

impl PredictedRow {
    /// The kernels of a row that has several.
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.graph { "one graph".into() } else { format!("queued in {:.1} us each", HOST_LAUNCH * 1e6) };
        writeln!(
            f,
            "\n{} {}: {} launches, {how}; on the GPU {:.1} us",
            word(self.subject),
            self.name,
            self.launches,
            self.gpu_seconds * 1e6
        )?;
        writeln!(
            f,
            "  {:>6} {:>5} {:>9}  {:12} {:>9} {:>9} {:>8} {:>8} {:>7}  kernel",
            "share", "calls", "us each", "limit", "memory MB", "L2 MB", "GFLOP", "waves", "balance"
        )?;
        for Kernel { calls, share, call } in self.kernels.iter().take(SHOWN) {
            let work = &call.work;
            let flops = work.tensor_flops + work.f32_flops + work.f64_flops;
            writeln!(
                f,
                "  {:>5.1}% {calls:>5} {:>9.1}  {:12} {:>9.1} {:>9.1} {:>8.1} {:>8.2} {:>7.2}  {}",
                share * 100.0,
                call.seconds * 1e6,
                call.limit.name(),
                work.memory_bytes / 1e6,
                work.l2_bytes / 1e6,
                flops / 1e9,
                call.waves,
                call.balance,
                call.name
            )?;
        }
        let rest: f64 = self.kernels.iter().skip(SHOWN).map(|k| k.share).sum();
        if self.kernels.len() > SHOWN {
            writeln!(f, "  {:>5.1}% {} more", rest * 100.0, self.kernels.len() - SHOWN)?;
        }
        let shares = |key: &dyn Fn(&Kernel) -> &'static str| {
            let mut sums: Vec<(&str, f64)> = vec![];
            for kernel in &self.kernels {
                match sums.iter_mut().find(|(name, _)| *name == key(kernel)) {
                    Some((_, share)) => *share += kernel.share,
                    None => sums.push((key(kernel), kernel.share)),
                }
            }
            sums.sort_by(|a, b| b.1.total_cmp(&a.1));
            let text = sums.iter().map(|(name, share)| format!("{name} {:.1}%", share * 100.0));
            text.collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "  by kernel: {}", shares(&|k| k.call.kernel))?;
        writeln!(f, "  by limit: {}", shares(&|k| k.call.limit.name()))
    }
}

impl fmt::Display for Predictions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gpu { title, processors, clock, memory_bandwidth, mma_sync, .. } = self.gpu;
        writeln!(f, "predicted, not measured: {title}")?;
        writeln!(
            f,
            "{processors} multiprocessors, {:.2} GHz, {:.0} GB/s, {:.0} TFLOP/s dense bf16, of which mma.sync {:.1}%",
            clock / 1e9,
            memory_bandwidth / 1e9,
            self.peak / 1e12,
            mma_sync * 100.0
        )?;
        writeln!(
            f,
            "assumed: {:.0}% of the memory's rate, {:.0}% of rates within the chip, {:.1} us between kernels\n",
            MEMORY_REACHED * 100.0,
            SUSTAINED * 100.0,
            LAUNCH * 1e6
        )?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{:9} {row}", word(row.subject)))?;
        self.rows.iter().filter(|row| row.kernels.len() > 1).try_for_each(|row| row.table(f))
    }
}
