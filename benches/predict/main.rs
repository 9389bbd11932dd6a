//! Predicted times of every row of `stockpot bench`, without a GPU. Rows go to stderr as soon as
//! they are predicted, all of them to stdout at the end.
//!
//! ```text
//! cargo bench --bench predict -- [gemm|attention|train|merge|eval ...] [--gpu h100|h200|a100] [--json]
//! ```

mod arguments;
mod gpus;
mod model;
mod predict;
mod work;

use arguments::Arguments;
use clap::Parser;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use stockpot::error::{Error, Result};
use stockpot::progress::say;

fn main() -> ExitCode {
    match print() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

fn print() -> Result<()> {
    let text = Arguments::parse().text()?;
    match writeln!(std::io::stdout(), "{text}") {
        // A reader that closes the pipe early (such as `head`) is not an error.
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("write to", "stdout", &e)),
        _ => Ok(()),
    }
}
