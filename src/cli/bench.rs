//! `bench`: kernels and whole steps, timed on one device, or predicted for a GPU that need not be there.

use super::DeviceArg;
use crate::bench::gpus::{GPUS, Gpu};
use crate::bench::{self, BenchSubject};
use crate::error::Result;
use crate::progress::say;
use clap::Args;

/// Arguments of `bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// What to time; everything unless given
    #[arg(value_enum)]
    subjects: Vec<BenchSubject>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Predict instead of timing, for a GPU that need not be there: h100 (unless given), h200, a100
    #[arg(long, value_name = "GPU", num_args = 0..=1, default_missing_value = "h100", value_parser = gpu)]
    #[arg(conflicts_with = "device")]
    model: Option<&'static Gpu>,
    #[command(flatten)]
    device: DeviceArg,
}

fn gpu(name: &str) -> std::result::Result<&'static Gpu, String> {
    Gpu::named(name).ok_or_else(|| {
        let known: Vec<&str> = GPUS.iter().map(|gpu| gpu.name).collect();
        format!("known GPUs are {}; what to predict goes before --model", known.join(", "))
    })
}

impl BenchArgs {
    /// Times or predicts the subjects: rows to stderr as they come, all of them to stdout.
    pub fn run(&self) -> Result<()> {
        let subjects = if self.subjects.is_empty() { &BenchSubject::ALL[..] } else { &self.subjects };
        if let Some(gpu) = self.model {
            let predictions = bench::predict(gpu, subjects, &mut |row| say(&row.to_string()))?;
            return super::print(self.json, &predictions, || predictions.to_string());
        }
        let mut device = self.device.spec()?.open()?;
        let timings = bench::run(&mut device, subjects, &mut |row| say(&row.to_string()))?;
        super::print(self.json, &timings, || timings.to_string())
    }
}
