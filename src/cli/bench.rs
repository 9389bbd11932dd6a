//! `bench`: kernels and whole steps, timed on one device.

use super::DeviceArg;
use crate::bench::{self, Subject};
use crate::error::Result;
use crate::terminal::say;
use clap::Args;

#[derive(Args)]
pub struct Bench {
    /// What to time; everything unless given
    #[arg(value_enum)]
    subjects: Vec<Subject>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArg,
}

impl Bench {
    pub fn run(&self) -> Result<()> {
        let subjects = if self.subjects.is_empty() { &Subject::ALL[..] } else { &self.subjects };
        let mut device = self.device.place()?.open()?;
        let timings = bench::run(&mut device, subjects, &mut |row| say(&row.to_string()))?;
        super::print(self.json, &timings, || timings.to_string())
    }
}
