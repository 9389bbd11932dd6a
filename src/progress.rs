//! Messages and progress on stderr: bars on a terminal, plain lines elsewhere. Results go to stdout by way of `cli`.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Time between two plain lines of one task.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// One message on stderr. A reader that went away (`2>&1 | head`) is no reason to end a run, as `eprintln!` would.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The output of one run: its messages and the bars of its tasks. Threads may share it.
pub struct Progress {
    bars: Option<MultiProgress>,
}

impl Progress {
    /// Bars if stderr is a terminal now, plain lines otherwise.
    pub fn new() -> Progress {
        Progress { bars: std::io::stderr().is_terminal().then(MultiProgress::new) }
    }

    /// One line, above the bars.
    pub fn line(&self, text: &str) {
        match &self.bars {
            // A terminal that went away in the middle of a run is no reason to end it.
            Some(bars) => drop(bars.println(text)),
            None => say(text),
        }
    }

    /// Work of `total` units, 0 where that is not known; `name` comes first on its bar or line.
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
        ProgressTask { progress: self, bar, name: name.to_string(), total, start, told: Mutex::new((None, start)) }
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
    /// Units done at the first update (a resumed training begins in the middle); when the last plain line was printed.
    told: Mutex<(Option<u64>, Instant)>,
}

impl ProgressTask<'_> {
    /// Time since the task was made.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// `done` units are done; `detail` says how it goes.
    pub fn update(&self, done: u64, detail: &str) {
        let mut told = self.told.lock().unwrap_or_else(|e| e.into_inner());
        let is_first = told.0.is_none();
        let first = *told.0.get_or_insert(done);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(detail.to_string());
            if is_first {
                bar.reset_eta();
            }
        } else if told.1.elapsed() >= BETWEEN_LINES {
            told.1 = Instant::now();
            if self.total == 0 {
                return self.progress.line(&format!("{}: {done} {detail}", self.name));
            }
            let each = self.elapsed().as_secs_f64() / (done - first.min(done)).max(1) as f64;
            let left = each * self.total.saturating_sub(done) as f64;
            self.progress.line(&format!("{}: {done}/{} {detail} {left:.0} s left", self.name, self.total));
        }
    }

    /// Leaves one line behind.
    pub fn finish(self, detail: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.progress.line(&format!("{}: {detail}, {:.1} s", self.name, self.elapsed().as_secs_f64()));
    }
}
