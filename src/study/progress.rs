//! What the user sees while work goes on: bars on a terminal, plain lines elsewhere; all of it on stderr.

use crate::device::Place;
use crate::error::Result;
use crate::terminal::say;
use crate::train;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Time between two plain lines of one task.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

pub struct Progress {
    bars: Option<MultiProgress>,
}

impl Progress {
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
    pub fn task(&self, name: &str, total: u64) -> Task<'_> {
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
        Task { progress: self, bar, name: name.to_string(), total, start, told: Mutex::new((None, start)) }
    }
}

impl Progress {
    /// Trains under a bar with loss, speed and time left. `after_step` is told of every step.
    pub fn training(&self, name: &str, place: &Place, run: &train::Run, after_step: &mut dyn FnMut(u64)) -> Result<()> {
        let mut device = place.open()?;
        if place.is_shared() {
            let plan = train::memory_plan(run.config, run.settings, device.compute_dtype())?;
            self.line(&format!("{name}: memory {plan}, micro-batches of {}", run.settings.micro_batch()));
        }
        let task = self.task(name, run.settings.steps);
        let tokens_per_step = (run.settings.batch * run.config.context) as f64;
        let (mut steps_here, mut loss) = (0u64, None);
        let rate = |steps: u64| steps as f64 * tokens_per_step / task.elapsed().as_secs_f64() / 1e3;
        let trained = device.range(name, |device| {
            train::train(device, run, &mut |m| {
                steps_here += 1;
                loss = Some(m.loss);
                task.update(m.step, &format!("loss {:.3} {:.1}k tok/s", m.loss, rate(steps_here)));
                after_step(m.step);
                if m.skipped {
                    self.line(&format!("{name}: step {} skipped, its gradient is not finite", m.step));
                }
            })
        });
        trained?;
        let loss = loss.map_or(String::new(), |l| format!(", loss {l:.3}"));
        let detail = format!("{} steps{loss}, {:.1}k tok/s", run.settings.steps, rate(steps_here));
        task.finish(&detail);
        Ok(())
    }
}

impl Default for Progress {
    fn default() -> Progress {
        Progress::new()
    }
}

pub struct Task<'a> {
    progress: &'a Progress,
    bar: Option<ProgressBar>,
    name: String,
    total: u64,
    start: Instant,
    /// Units done at the first update (a resumed training begins in the middle); when the last plain line was printed.
    told: Mutex<(Option<u64>, Instant)>,
}

impl Task<'_> {
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
