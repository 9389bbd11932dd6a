//! Messages and progress on stderr: bars on a terminal, plain lines elsewhere. `cli` prints results
//! to stdout.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Minimum time between two plain lines of one task.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Prints one message to stderr. A closed pipe (`2>&1 | head`) does not end the run, as it would
/// with `eprintln!`.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The output of one run: messages and progress bars. Threads may share it.
pub struct Progress {
    bars: Option<MultiProgress>,
}

impl Progress {
    /// Bars if stderr is a terminal now, plain lines otherwise.
    pub fn new() -> Progress {
        Progress { bars: std::io::stderr().is_terminal().then(MultiProgress::new) }
    }

    /// Prints one line, above the bars.
    pub fn line(&self, text: &str) {
        match &self.bars {
            // A terminal that closes during a run must not end it.
            Some(bars) => drop(bars.println(text)),
            None => say(text),
        }
    }

    /// Starts a task of `total` units, 0 if unknown; `name` comes first on its bar or line.
    pub fn task(&self, name: &str, total: u64) -> ProgressTask<'_> {
        let template = match total {
            0 => "{prefix:30!} {spinner} {pos} {msg} {elapsed}",
            _ => "{prefix:30!} {bar:24} {pos:>6}/{len:6} {msg} {eta} left",
        };
        let bar = self.bars.as_ref().map(|bars| {
            let style = ProgressStyle::with_template(template);
            let bar = ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bars.add(bar.with_prefix(name.to_string()))
        });
        let start = Instant::now();
        ProgressTask { progress: self, bar, name: name.to_string(), total, start, shown: Mutex::new((None, start)) }
    }
}

impl Default for Progress {
    fn default() -> Progress {
        Progress::new()
    }
}

/// The progress of one task: a bar, or a plain line every 10 seconds.
pub struct ProgressTask<'a> {
    progress: &'a Progress,
    bar: Option<ProgressBar>,
    name: String,
    total: u64,
    start: Instant,
    /// Units done at the first update (a resumed training starts partway), and the time of the last
    /// plain line.
    shown: Mutex<(Option<u64>, Instant)>,
}

impl ProgressTask<'_> {
    /// Time since the task started.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Reports `done` units as done, followed by `detail`.
    pub fn update(&self, done: u64, detail: &str) {
        let mut shown = self.shown.lock().unwrap_or_else(|e| e.into_inner());
        let is_first = shown.0.is_none();
        let first = *shown.0.get_or_insert(done);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(detail.to_string());
            if is_first {
                bar.reset_eta();
            }
        } else if shown.1.elapsed() >= BETWEEN_LINES {
            shown.1 = Instant::now();
            if self.total == 0 {
                return self.progress.line(&format!("{}: {done} {detail}", self.name));
            }
            let each = self.elapsed().as_secs_f64() / (done - first.min(done)).max(1) as f64;
            let left = each * self.total.saturating_sub(done) as f64;
            self.progress.line(&format!("{}: {done}/{} {detail} {left:.0} s left", self.name, self.total));
        }
    }

    /// Removes the bar and prints one final line.
    pub fn finish(self, detail: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.progress.line(&format!("{}: {detail}, {:.1} s", self.name, self.elapsed().as_secs_f64()));
    }
}
