//! Settings of one training, as written in study files and in TRAIN.toml, and the learning rate of
//! each step.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The learning rate after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Keeps the learning rate.
    Constant,
    /// Falls along a half cosine to `final_fraction` of the learning rate.
    Cosine,
    /// Falls along a line to `final_fraction` of the learning rate.
    Linear,
}

/// Settings of one training. Defaults are those of the published 130M runs, except sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Optimizer steps; steps * batch is at most 2^32 windows. Required.
    // 0 is "not given": a training on a recipe has the recipe's length.
    #[serde(default)]
    pub steps: u64,
    /// Windows of one context length per step. Required.
    pub batch: usize,
    /// Windows per forward and backward pass; divides `batch`. Default: `batch`.
    pub micro_batch: Option<usize>,
    /// Recomputes each layer's activations in the backward pass instead of keeping them: less
    /// memory, a third more work, the same bits (so it is not part of a result's name). Default:
    /// false.
    #[serde(default, skip_serializing)]
    pub recompute: bool,
    /// The peak learning rate, reached at the end of warm-up; above 0. Required.
    pub learning_rate: f64,
    /// Course of the learning rate after warm-up: `constant`, `cosine` or `linear`. Default:
    /// `constant`.
    #[serde(default = "constant")]
    pub schedule: Schedule,
    /// Steps over which the learning rate rises from 0. Default: 0.
    #[serde(default)]
    pub warmup_steps: u64,
    /// The last step's rate as a share of `learning_rate`; no effect on `constant`. Default: 0.1.
    #[serde(default = "tenth")]
    pub final_fraction: f64,
    /// Decoupled weight decay on all parameters. Default: 0.1.
    #[serde(default = "tenth")]
    pub weight_decay: f64,
    /// Decay of AdamW's first moment, below 1. Default: 0.9.
    #[serde(default = "beta1")]
    pub beta1: f64,
    /// Decay of AdamW's second moment, below 1. Default: 0.95.
    #[serde(default = "beta2")]
    pub beta2: f64,
    /// Added to the square root in AdamW's denominator; above 0. Default: 1e-8.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
    /// Maximum global L2 norm of the gradient; larger gradients are scaled down to it. Default: 1.
    #[serde(default = "one")]
    pub clip: f64,
}

fn constant() -> Schedule {
    Schedule::Constant
}
fn tenth() -> f64 {
    0.1
}
fn beta1() -> f64 {
    0.9
}
fn beta2() -> f64 {
    0.95
}
fn epsilon() -> f64 {
    1e-8
}
fn one() -> f64 {
    1.0
}

impl Settings {
    /// `table` is the settings' place in the file, for messages.
    pub fn check(&self, table: &str) -> Result<()> {
        let fault = |key: &str, expected: &str, got: String| {
            Err(Error::usage(format!("`{table}.{key}` is out of range")).expected(expected).got(got))
        };
        if self.batch == 0 || self.batch > 1 << 20 {
            return fault("batch", "at least 1 window a step", self.batch.to_string());
        }
        if self.steps == 0 {
            return fault("steps", "at least 1 step", "none".into());
        }
        // The order of the windows is in memory, 8 bytes each.
        if self.steps.checked_mul(self.batch as u64).is_none_or(|windows| windows > 1 << 32) {
            return fault("steps", "steps * batch up to 2^32 windows", format!("{} * {}", self.steps, self.batch));
        }
        let micro = self.micro_batch();
        if micro == 0 || !self.batch.is_multiple_of(micro) {
            return fault("micro_batch", &format!("a divisor of the batch of {}", self.batch), micro.to_string());
        }
        let positive = [("learning_rate", self.learning_rate), ("epsilon", self.epsilon), ("clip", self.clip)];
        for (key, value) in positive {
            if !(value > 0.0 && value.is_finite()) {
                return fault(key, "a positive number", value.to_string());
            }
        }
        for (key, value) in [("beta1", self.beta1), ("beta2", self.beta2), ("final_fraction", self.final_fraction)] {
            if !(0.0..=1.0).contains(&value) || (key != "final_fraction" && value == 1.0) {
                return fault(key, "a number between 0 and 1", value.to_string());
            }
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return fault("weight_decay", "0 or more", self.weight_decay.to_string());
        }
        Ok(())
    }

    /// Windows per pass: all of `batch` unless set.
    pub fn micro_batch(&self) -> usize {
        self.micro_batch.unwrap_or(self.batch)
    }

    /// Windows of the whole training.
    pub fn windows(&self) -> u64 {
        self.steps * self.batch as u64
    }

    /// The learning rate of step `step`, from 1: linear warm-up to the full rate at step `warmup_steps`, then the
    /// schedule, which reaches its end at the last step.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * step as f64 / self.warmup_steps as f64;
        }
        let left = (self.steps.saturating_sub(self.warmup_steps)).max(1) as f64;
        let done = ((step - self.warmup_steps) as f64 / left).min(1.0);
        let share = match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Cosine => {
                self.final_fraction + (1.0 - self.final_fraction) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
            Schedule::Linear => 1.0 - (1.0 - self.final_fraction) * done,
        };
        self.learning_rate * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(schedule: Schedule) -> Settings {
        let text = "steps = 100\nbatch = 4\nlearning_rate = 1.0\nwarmup_steps = 10";
        Settings { schedule, ..toml::from_str(text).expect("complete settings") }
    }

    #[test]
    fn warms_up_then_follows_the_schedule_to_its_end() {
        for (schedule, middle, end) in
            [(Schedule::Constant, 1.0, 1.0), (Schedule::Cosine, 0.55, 0.1), (Schedule::Linear, 0.55, 0.1)]
        {
            let s = settings(schedule);
            assert_eq!(s.learning_rate_at(1), 0.1);
            assert_eq!(s.learning_rate_at(10), 1.0);
            assert!((s.learning_rate_at(55) - middle).abs() < 1e-12, "{schedule:?}");
            assert!((s.learning_rate_at(100) - end).abs() < 1e-12, "{schedule:?}");
        }
    }

    #[test]
    fn refuses_what_cannot_be() {
        for (key, value) in [("batch", "0"), ("micro_batch", "3"), ("beta1", "1.0"), ("learning_rate", "-1.0")] {
            let base = "steps = 1\nbatch = 4\nlearning_rate = 1.0\n";
            let text = base
                .lines()
                .filter(|line| !line.starts_with(key))
                .chain([format!("{key} = {value}").as_str()])
                .collect::<Vec<_>>()
                .join("\n");
            let error = toml::from_str::<Settings>(&text).expect("well-formed").check("module").expect_err(key);
            assert!(error.to_string().contains(&format!("module.{key}")), "{error}");
        }
    }
}
