//! Runs of the binary: exit code and output.

use std::path::Path;
use std::process::{Command, Stdio};

/// A command's exit code and output.
pub struct Outcome {
    /// `None` after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn of(command: &mut Command) -> Outcome {
        let output = command.output().expect("the command starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Asserts success.
    #[track_caller]
    pub fn done(self) -> Outcome {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let done = self.done();
        serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("not JSON: {e}\n{}", done.stdout))
    }

    /// Asserts failure with `code`, without a panic, and with one error that contains every one of
    /// `parts`.
    #[track_caller]
    pub fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        assert_eq!(self.stderr.matches("error: ").count(), 1, "one error:\n{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in:\n{}", self.stderr);
        }
    }
}

/// The binary, to be run in `directory`.
pub fn command(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockpot"));
    command.current_dir(directory).args(args).stdin(Stdio::null());
    command
}

/// Runs the binary in `directory`.
pub fn stockpot(directory: &Path, args: &[&str]) -> Outcome {
    Outcome::of(&mut command(directory, args))
}
