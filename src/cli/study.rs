//! `run`, `plan`, `status` and `report`: the subcommands that take a study file.

use super::DeviceArg;
use crate::analysis::Report;
use crate::error::Result;
use crate::files;
use crate::progress::say;
use crate::study::{self, Phase, Study};
use clap::Args;
use std::path::{Path, PathBuf};

/// A study file, the directory of its results, and the form of the output.
#[derive(Args)]
pub(super) struct StudyArgs {
    /// The study file
    #[arg(value_name = "STUDY.toml")]
    study: PathBuf,
    /// Directory for results [default: the study's `out`, or runs/<name>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl StudyArgs {
    pub(super) fn read(&self) -> Result<(Study, PathBuf)> {
        let study = Study::read(&self.study)?;
        let default = || study.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&study.name));
        let out = self.out.clone().unwrap_or_else(default);
        Ok((study, out))
    }
}

/// Arguments of `run`.
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    common: StudyArgs,
    #[command(flatten)]
    device: DeviceArg,
    /// The last phase to run
    #[arg(long, value_enum, default_value = "report")]
    until: Phase,
    #[command(flatten)]
    extent: FullArg,
}

/// How much of a report is printed.
#[derive(Args)]
struct FullArg {
    /// Print the whole report, the answer last
    #[arg(long)]
    full: bool,
}

impl FullArg {
    /// Prints the answer in at most ten lines, after the rest if that is asked for.
    fn print(&self, json: bool, report: &Report, out: &Path) -> Result<()> {
        super::print(json, report, || {
            let recipe = out.join("recipe.toml");
            let mut text = if self.full { report.to_text() + "\n" } else { String::new() };
            text += &report.to_short_text();
            if report.search.is_some() {
                text += &format!("\nrecipe: {}", recipe.display());
            }
            text
        })
    }
}

impl RunArgs {
    /// Runs everything missing up to `--until`, and prints the report if that is reached. `threads`
    /// of the CPU are divided among the workers.
    pub fn run(&self, threads: usize) -> Result<()> {
        let (study, out) = self.common.read()?;
        let settings = files::read_to_string(&self.common.study)?;
        let report = study::run(
            &study,
            &settings,
            &out,
            &study::Options { until: self.until, threads, spec: self.device.spec()? },
        )?;
        if let Some(report) = report {
            self.extent.print(self.common.json, &report, &out)?;
            say(&format!("report: {}", out.join("report.html").display()));
        }
        Ok(())
    }
}

/// Arguments of `plan`.
#[derive(Args)]
pub struct PlanArgs {
    #[command(flatten)]
    common: StudyArgs,
}

impl PlanArgs {
    /// Prints the plan without reading any of the study's text.
    pub fn run(&self) -> Result<()> {
        let plan = study::Plan::new(&self.common.read()?.0)?;
        super::print(self.common.json, &plan, || plan.to_string())
    }
}

/// Arguments of `status`.
#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    common: StudyArgs,
}

impl StatusArgs {
    /// Prints how much of the study is done.
    pub fn run(&self) -> Result<()> {
        let (study, out) = self.common.read()?;
        let status = study::Status::new(&study, study::Store { root: out })?;
        super::print(self.common.json, &status, || status.to_string())
    }
}

/// Arguments of `report`, which runs no model.
#[derive(Args)]
pub struct ReportArgs {
    #[command(flatten)]
    common: StudyArgs,
    #[command(flatten)]
    extent: FullArg,
}

impl ReportArgs {
    /// Makes the report from the scores, writes it and prints it. A missing score is an error.
    pub fn run(&self) -> Result<()> {
        let (study, out) = self.common.read()?;
        let settings = files::read_to_string(&self.common.study)?;
        let report = study::report(&study, &settings, &out)?;
        self.extent.print(self.common.json, &report, &out)
    }
}
