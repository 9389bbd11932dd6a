//! `bench`: kernels and whole steps, timed on one device.

use super::DeviceArg;
use crate::bench::{self, BenchSubject};
use crate::error::Result;
use crate::progress::say;
use clap::Args;

/// Arguments of `bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// What to time [default: everything]
    #[arg(value_enum)]
    subjects: Vec<BenchSubject>,
    /// Only at this preset [default: all that suit the device]
    #[arg(long)]
    preset: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArg,
}

impl BenchArgs {
    /// Times the subjects. Rows go to stderr as they are measured, all of them to stdout at the
    /// end.
    pub fn run(&self) -> Result<()> {
        let subjects = if self.subjects.is_empty() { &BenchSubject::ALL[..] } else { &self.subjects };
        let mut device = self.device.spec()?.open()?;
        let timings = bench::run(&mut device, subjects, self.preset.as_deref(), &mut |row| say(&row.to_string()))?;
        super::print(self.json, &timings, || timings.to_string())
    }
}
