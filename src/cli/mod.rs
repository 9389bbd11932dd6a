//! The command line: one subcommand, one function. Results go to stdout, progress and messages to
//! stderr.

mod bench;
mod doctor;
mod eval;
mod export;
mod merge;
mod search;
mod study;
mod tokenize;
mod train;

use crate::engine::device::{Device, DeviceSpec};
use crate::error::{Error, Result};
use crate::progress::say;
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(name = "stockpot", version, about = "Find out which mixture of data partitions to train on")]
struct Cli {
    /// CPU threads [default: all]; does not change results
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run or resume a study: tokens, seed, modules, SEQ runs, merges, scores, report
    Run(study::RunArgs),
    /// Show what a study would train, merge and score, and what that costs
    Plan(study::PlanArgs),
    /// Show how much of a study is done
    Status(study::StatusArgs),
    /// Make a finished study's report again and print its answer; writes report.html, report.json and scores.csv
    Report(study::ReportArgs),
    /// Find the best of all mixtures; writes search.json and recipe.toml
    Search(Box<search::SearchArgs>),
    /// Write a recipe for another trainer: OLMo-core, Megatron-LM, LitGPT, RegMix, datasets
    Export(export::ExportArgs),
    /// Tokenize documents into a shard
    Tokenize(tokenize::TokenizeArgs),
    /// Train one model, on documents or on a recipe
    Train(train::TrainArgs),
    /// Average checkpoints into a new one
    Merge(merge::MergeArgs),
    /// Score a checkpoint, or a merge made in memory: perplexity and bits per byte
    Eval(eval::EvalArgs),
    /// Time kernels and whole steps
    Bench(bench::BenchArgs),
    /// Show this machine's devices, what is missing and how to get it
    Doctor(doctor::DoctorArgs),
}

/// Where to compute.
#[derive(Args)]
pub(crate) struct DeviceArg {
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: String,
}

impl DeviceArg {
    /// The device. `auto` is the first usable GPU, else the CPU; the choice is reported, with the
    /// reason for the CPU.
    pub(crate) fn spec(&self) -> Result<DeviceSpec> {
        let cuda = |ordinal: usize| DeviceSpec::accelerator(move || Device::cuda(ordinal));
        let unknown =
            || Error::usage(format!("--device {} is unknown", self.device)).expected("auto, cpu, cuda or cuda:N");
        match self.device.as_str() {
            "cpu" => Ok(DeviceSpec::cpu()),
            "cuda" => cuda(0),
            "auto" => match cuda(0) {
                Ok(spec) => {
                    say(&format!("device: {}", spec.name()));
                    Ok(spec)
                }
                Err(why) => {
                    say(&format!("device: the CPU; {}", why.summary()));
                    Ok(DeviceSpec::cpu())
                }
            },
            other => {
                let ordinal = other.strip_prefix("cuda:").and_then(|n| n.parse().ok()).ok_or_else(unknown)?;
                cuda(ordinal)
            }
        }
    }
}

/// Parses the command line and runs its subcommand. The caller prints the error and sets the exit
/// code; `--help` and a command line that cannot be parsed end the process here.
pub fn main() -> Result<()> {
    // SAFETY: (1) SIG_IGN is a valid action for SIGXFSZ; (2) no other thread runs yet. A write
    // beyond the limit on file sizes then fails like a write to a full disk, instead of silently
    // killing the process.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let cli = Cli::parse();
    let threads = match cli.threads {
        Some(n) => n as usize,
        None => std::thread::available_parallelism().map_or(1, |n| n.get()),
    };
    // Subcommands that compute outside a study's workers use the global pool.
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| Error::new(crate::error::Kind::Io, format!("cannot start {threads} threads: {e}")))?;
    match cli.command {
        Command::Run(args) => args.run(threads),
        Command::Plan(args) => args.run(),
        Command::Status(args) => args.run(),
        Command::Report(args) => args.run(),
        Command::Search(args) => args.run(threads),
        // Run inside the pool: every op called from outside would pay for entering it.
        Command::Tokenize(args) => rayon::scope(|_| args.run()),
        Command::Train(args) => rayon::scope(|_| args.run()),
        Command::Merge(args) => rayon::scope(|_| args.run()),
        Command::Eval(args) => rayon::scope(|_| args.run()),
        Command::Bench(args) => rayon::scope(|_| args.run()),
        Command::Export(args) => rayon::scope(|_| args.run()),
        Command::Doctor(args) => args.run(threads),
    }
}

/// Prints a result to stdout as JSON or text.
fn print(json: bool, value: &impl serde::Serialize, text: impl FnOnce() -> String) -> Result<()> {
    let text = if json { serde_json::to_string_pretty(value).expect("results are plain structs") } else { text() };
    print_now(text.trim_end_matches('\n'))
}

/// Prints part of a result to stdout and flushes it, so a reader sees it at once.
fn print_now(text: &str) -> Result<()> {
    use std::io::Write;
    let mut stdout = std::io::stdout();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        // A reader that closes the pipe early (such as `head`) is not an error.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Error::io("write to", "stdout", &e)),
        Ok(()) => Ok(()),
    }
}

/// Splits `NAME=VALUE` at the first `=`; the error names the expected form and an example of it.
fn split_once(text: &str, form: &str, example: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.into(), value.into())),
        _ => {
            Err(Error::usage(format!("`{text}` is not {form}"))
                .expected(format!("a name and paths, such as {example}")))
        }
    }
}
