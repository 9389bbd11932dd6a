//! The binary: runs the command line, prints its error, sets the exit code. 0 done, 1 failed, 2
//! wrong usage.

use std::process::ExitCode;

fn main() -> ExitCode {
    match stockpot::cli::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            stockpot::progress::say(&format!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}
