//! The command line: one subcommand, one function. Results go to stdout, progress and messages to stderr.

mod bench;
mod doctor;
mod eval;
mod merge;
mod study;
mod tokenize;
mod train;

use crate::engine::device::{Device, DeviceSpec};
use crate::error::{Error, Result};
use crate::progress::say;
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(name = "stockpot", version, about = "Which mixture of data partitions to train on")]
struct Cli {
    /// Threads of the CPU device; all of the machine's unless given. Results do not depend on it.
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a study, or go on with it: tokens, seed, modules, SEQ runs, merges, scores, report
    Run(study::RunArgs),
    /// What a study would train, merge and score, and what it costs
    Plan(study::PlanArgs),
    /// What of a study is done
    Status(study::ShowArgs),
    /// Correlations of a finished study; writes report.html, report.json and scores.csv
    Report(study::ShowArgs),
    /// Write documents as a shard of tokens
    Tokenize(tokenize::TokenizeArgs),
    /// Train one model
    Train(train::TrainArgs),
    /// Average checkpoints into a new one
    Merge(merge::MergeArgs),
    /// Perplexity of a checkpoint, or of a merge that is never written
    Eval(eval::EvalArgs),
    /// Time kernels and whole steps
    Bench(bench::BenchArgs),
    /// Devices of this machine, what is missing and how to get it
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
    /// Where that is; `auto` is the first GPU that can be used, else the CPU, and says which and why.
    pub(crate) fn spec(&self) -> Result<DeviceSpec> {
        let cuda = |ordinal: usize| DeviceSpec::accelerator(move || Device::cuda(ordinal));
        let unknown =
            || Error::usage(format!("--device {} is unknown", self.device)).expected("auto, cpu, cuda or cuda:N");
        match self.device.as_str() {
            "cpu" => Ok(DeviceSpec::cpu()),
            "cuda" => cuda(0),
            "auto" => match cuda(0) {
                Ok(place) => {
                    say(&format!("device: {}", place.name()));
                    Ok(place)
                }
                Err(why) => {
                    say(&format!("device: the CPU ({})", why.summary()));
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
/// code, except that a command line which cannot be parsed, and `--help`, end the process here.
pub fn main() -> Result<()> {
    // SAFETY: (1) SIG_IGN is a valid action for SIGXFSZ; (2) no other thread runs yet. A write beyond a limit on file
    // sizes then fails as one to a full disk does, instead of ending the process without a word.
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
        Command::Status(args) => args.status(),
        Command::Report(args) => args.report(),
        // Inside the pool: an op that is called from outside pays for the way in, each time.
        Command::Tokenize(args) => rayon::scope(|_| args.run()),
        Command::Train(args) => rayon::scope(|_| args.run()),
        Command::Merge(args) => rayon::scope(|_| args.run()),
        Command::Eval(args) => rayon::scope(|_| args.run()),
        Command::Bench(args) => rayon::scope(|_| args.run()),
        Command::Doctor(args) => args.run(threads),
    }
}

/// A result on stdout: as JSON, or as text.
fn print(json: bool, value: &impl serde::Serialize, text: impl FnOnce() -> String) -> Result<()> {
    let text = if json { serde_json::to_string_pretty(value).expect("results are plain structs") } else { text() };
    print_now(text.trim_end_matches('\n'))
}

/// A part of a result on stdout, there for a reader at once.
fn print_now(text: &str) -> Result<()> {
    use std::io::Write;
    let mut stdout = std::io::stdout();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        // A reader that stopped reading (as `head` does) has what it wanted.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Error::io("write to", "stdout", &e)),
        Ok(()) => Ok(()),
    }
}

/// `NAME=VALUE`, split at the first `=`.
fn split_once(text: &str, what: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.into(), value.into())),
        _ => Err(Error::usage(format!("`{text}` is not {what}"))),
    }
}
