//! `merge`: several checkpoints averaged into a new one.

use crate::checkpoint::StorageDType;
use crate::error::{Error, Result};
use crate::merge::{self, MergeOptions};
use crate::study::Progress;
use clap::Args;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Merge {
    /// Checkpoint directories
    #[arg(required = true, value_name = "CKPT")]
    checkpoints: Vec<PathBuf>,
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// One weight per checkpoint, such as 0.5,0.3,0.2; uniform unless given
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    weights: Option<Vec<f64>>,
    /// Divide the weights by their sum
    #[arg(long)]
    normalize: bool,
    /// f32, bf16 or f16; what the checkpoints have, where they agree, unless given
    #[arg(long)]
    dtype: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Merge {
    pub fn run(&self) -> Result<()> {
        if let [recipe] = &self.checkpoints[..]
            && recipe.extension().is_some_and(|e| e == "yaml" || e == "yml")
        {
            return Err(Error::usage("recipes in mergekit's YAML come in a later version")
                .at(recipe)
                .fix("name the checkpoints and --weights"));
        }
        let n = self.checkpoints.len();
        let weights = match &self.weights {
            Some(weights) if weights.len() == n => weights.clone(),
            Some(weights) => {
                return Err(Error::usage("--weights does not fit the checkpoints")
                    .expected(format!("{n} weights"))
                    .got(weights.len().to_string()));
            }
            None => vec![1.0 / n as f64; n],
        };
        let dtype = match self.dtype.as_deref() {
            None => None,
            Some("f32") => Some(StorageDType::F32),
            Some("bf16") => Some(StorageDType::Bf16),
            Some("f16") => Some(StorageDType::F16),
            Some(other) => {
                return Err(Error::usage(format!("--dtype {other} is unknown")).expected("f32, bf16 or f16"));
            }
        };
        let members: Vec<(PathBuf, f64)> = self.checkpoints.iter().cloned().zip(weights).collect();
        let (progress, started) = (Progress::new(), Instant::now());
        let task = progress.task("merge", 100);
        let tell = |done: u64, total: u64| {
            // A merge that is over in a moment needs no bar.
            if started.elapsed() > Duration::from_secs(1) {
                task.update(100 * done / total.max(1), "% of the parameters");
            }
        };
        let options = MergeOptions { normalize: self.normalize, dtype, progress: Some(&tell) };
        let report = merge::merge_to_directory(&members, &self.out, &options)?;
        super::print(self.json, &report, || format!("merged {n} checkpoints into {}", self.out.display()))
    }
}
