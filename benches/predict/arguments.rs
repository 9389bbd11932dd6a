//! Arguments of `predict`, and its output.

use super::gpus::{GPUS, Gpu};
use super::predict::predict;
use clap::Parser;
use stockpot::bench::BenchSubject;
use stockpot::error::Result;
use stockpot::progress::say;

/// Predict the times of `stockpot bench` for a GPU that this machine need not have
#[derive(Debug, Parser)]
#[command(name = "predict")]
pub struct Arguments {
    /// What to predict [default: everything]
    #[arg(value_enum)]
    subjects: Vec<BenchSubject>,
    /// The GPU: h100, h200 or a100
    #[arg(long, default_value = "h100", value_parser = gpu)]
    gpu: &'static Gpu,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// `cargo bench` passes this to every program that it runs.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

fn gpu(name: &str) -> std::result::Result<&'static Gpu, String> {
    Gpu::named(name).ok_or_else(|| {
        let known: Vec<&str> = GPUS.iter().map(|gpu| gpu.name).collect();
        format!("known GPUs are {}", known.join(", "))
    })
}

impl Arguments {
    /// All rows, as JSON or tables. Each row goes to stderr as soon as it is predicted.
    pub fn text(&self) -> Result<String> {
        let subjects = if self.subjects.is_empty() { &BenchSubject::ALL[..] } else { &self.subjects };
        let predictions = predict(self.gpu, subjects, &mut |row| say(&row.to_string()))?;
        let text = match self.json {
            true => serde_json::to_string_pretty(&predictions).expect("results are plain structs"),
            false => predictions.to_string(),
        };
        Ok(text.trim_end_matches('\n').into())
    }
}
