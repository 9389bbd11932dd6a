//! `merge`: several checkpoints averaged into a new one, or several averages at once; and the arguments about weights,
//! which `eval --merge` takes too.

use crate::engine::checkpoint::StorageDType;
use crate::engine::merge::{self, MergePartition, MergeReport, Recipe, Scaled, Scheme, Weights};
use crate::error::{Error, Result};
use crate::progress::Progress;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Arguments of `merge`.
#[derive(Args)]
pub struct MergeArgs {
    /// Checkpoint directories; or mergekit's `linear` recipes (.yaml), of which several are merged in one pass
    #[arg(required_unless_present = "partition", conflicts_with = "partition", value_name = "CKPT|RECIPE.yaml")]
    inputs: Vec<PathBuf>,
    /// The new checkpoint; of several recipes a directory that gets one for each, named as the recipe
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    weights: WeightArgs,
    /// f32, bf16 or f16; what the checkpoints have, where they agree, unless given
    #[arg(long)]
    dtype: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How much each checkpoint of a merge counts.
#[derive(Args)]
pub(super) struct WeightArgs {
    /// uniform; tokens: by what each was trained on; units: by base units; or one number each, such as 0.5,0.3,0.2
    #[arg(long, value_name = "HOW", allow_hyphen_values = true)]
    weights: Option<String>,
    /// Divide the numbers by their sum
    #[arg(long)]
    normalize: bool,
    /// A partition whose base units have a module each; these share its weight. Can be given many times
    #[arg(long, value_name = "NAME=CKPT,...")]
    partition: Vec<String>,
    /// Scale the merge away from this seed model: seed + lambda (average - seed)
    #[arg(long, value_name = "CKPT", requires = "lambda")]
    seed: Option<PathBuf>,
    /// 0: the seed; 1: the average; more: beyond it
    #[arg(long, value_name = "L", requires = "seed", allow_hyphen_values = true)]
    lambda: Option<f64>,
}

impl WeightArgs {
    /// Weights of the checkpoints, or of the partitions where these were given. `beside` are weights that were given
    /// with the checkpoints.
    pub(super) fn resolve(&self, checkpoints: &[PathBuf], beside: Option<Vec<f64>>) -> Result<Weights> {
        let partitions = match &self.partition[..] {
            [] => checkpoints.iter().map(|path| MergePartition::of_one(path)).collect(),
            named => named.iter().map(|text| partition(text)).collect::<Result<Vec<_>>>()?,
        };
        let scheme = match (&self.weights, beside) {
            (None, None) => Scheme::Uniform,
            (None, Some(weights)) => Scheme::Given(weights),
            (Some(text), None) => scheme(text)?,
            (Some(text), Some(_)) => {
                return Err(Error::usage("weights are given twice")
                    .expected("--weights, or --merge CKPT=WEIGHT,...")
                    .got(format!("--weights {text} beside --merge CKPT=WEIGHT")));
            }
        };
        let scaled = self.seed.clone().zip(self.lambda).map(|(seed, lambda)| Scaled { seed, lambda });
        Weights::new(&partitions, &scheme, self.normalize, scaled)
    }

    /// The option that was given, if any was.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [
            ("--weights", self.weights.is_some()),
            ("--normalize", self.normalize),
            ("--partition", !self.partition.is_empty()),
            ("--seed", self.seed.is_some()),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(name, _)| name)
    }

    pub(super) fn partitions(&self) -> &[String] {
        &self.partition
    }
}

fn scheme(text: &str) -> Result<Scheme> {
    match text {
        "uniform" => Ok(Scheme::Uniform),
        "tokens" => Ok(Scheme::Tokens),
        "units" => Ok(Scheme::Units),
        numbers => {
            let number = |n: &str| {
                n.trim().parse().map_err(|_| {
                    Error::usage(format!("--weights {text} is unknown"))
                        .expected("uniform, tokens, units, or numbers such as 0.5,0.3,0.2")
                        .got(format!("`{n}`, which is no number"))
                })
            };
            Ok(Scheme::Given(numbers.split(',').map(number).collect::<Result<_>>()?))
        }
    }
}

fn partition(text: &str) -> Result<MergePartition> {
    let (name, modules) = super::split_once(text, "NAME=CKPT,...")?;
    if modules.split(',').any(str::is_empty) {
        return Err(Error::usage(format!("`{text}` is not NAME=CKPT,...")).expected("no empty path"));
    }
    Ok(MergePartition { name: Some(name), modules: modules.split(',').map(PathBuf::from).collect() })
}

/// One merge, as `--json` shows it.
#[derive(Serialize)]
struct Written<'a> {
    out: &'a Path,
    #[serde(flatten)]
    report: &'a MergeReport,
}

/// Those of several recipes.
#[derive(Serialize)]
struct AllWritten<'a> {
    merges: &'a [Written<'a>],
    /// In the one pass for all of them
    bytes_read: u64,
}

impl MergeArgs {
    /// Writes the merges, in one pass over the checkpoints, and prints what was written.
    pub fn run(&self) -> Result<()> {
        let merges = self.merges()?;
        let (progress, started) = (Progress::new(), Instant::now());
        let task = progress.task("merge", 100);
        let tell = |done: u64, total: u64| {
            // A merge that is over in a moment needs no bar.
            if started.elapsed() > Duration::from_secs(1) {
                task.update(100 * done / total.max(1), "% of the parameters");
            }
        };
        let is_new = !self.out.exists();
        let pass = merge::write_merges(&merges, Some(&tell));
        if pass.is_err() && is_new && merges.len() > 1 {
            // Empty, as no merge was finished; what is not stays.
            let _ = std::fs::remove_dir(&self.out);
        }
        let pass = pass?;
        let written = merges.iter().zip(&pass.reports).map(|(merge, report)| Written { out: &merge.out, report });
        let written: Vec<Written> = written.collect();
        let line =
            |w: &Written| format!("merged {} checkpoints into {}", w.report.weights.members.len(), w.out.display());
        match &written[..] {
            [one] => super::print(self.json, one, || line(one)),
            all => super::print(self.json, &AllWritten { merges: all, bytes_read: pass.bytes_read }, || {
                all.iter().map(line).collect::<Vec<_>>().join("\n")
            }),
        }
    }

    fn merges(&self) -> Result<Vec<merge::MergeJob>> {
        let is_recipe = |path: &&PathBuf| path.extension().is_some_and(|e| e == "yaml" || e == "yml") && !path.is_dir();
        match self.inputs.iter().filter(is_recipe).count() {
            0 => {
                let (weights, dtype) = (self.weights.resolve(&self.inputs, None)?, self.dtype()?);
                Ok(vec![merge::MergeJob { weights, dtype, companions: 0, recipe: None, out: self.out.clone() }])
            }
            n if n == self.inputs.len() => self.recipes(),
            _ => Err(Error::usage("recipes and checkpoints cannot be merged together")
                .expected("RECIPE.yaml ..., or CKPT ...")
                .fix("list the checkpoints in the recipe, under `models`")),
        }
    }

    fn recipes(&self) -> Result<Vec<merge::MergeJob>> {
        if let Some(option) = self.weights.given().or(self.dtype.as_ref().map(|_| "--dtype")) {
            return Err(Error::usage(format!("{option} cannot be given with a recipe"))
                .fix("say it in the recipe: `weight` and `normalize` of `parameters`, `out_dtype`"));
        }
        // A later merge into this directory would take those inside it away.
        if self.inputs.len() > 1 && self.out.join("merge.json").exists() {
            return Err(Error::usage("this directory is a merge itself and cannot hold those of several recipes")
                .at(&self.out)
                .fix("choose another --out, or remove it first"));
        }
        let mut merges: Vec<merge::MergeJob> = Vec::new();
        for path in &self.inputs {
            let out = match self.inputs.len() {
                1 => self.out.clone(),
                _ => self.out.join(path.file_stem().unwrap_or(path.as_os_str())),
            };
            if merges.iter().any(|m| m.out == out) {
                return Err(Error::usage("two recipes would be written to one directory")
                    .at(path)
                    .got(out.display().to_string())
                    .fix("give the recipes different names"));
            }
            let Recipe { weights, dtype, companions } = Recipe::read(path)?;
            merges.push(merge::MergeJob { weights, dtype, companions, recipe: Some(path.clone()), out });
        }
        Ok(merges)
    }

    fn dtype(&self) -> Result<Option<StorageDType>> {
        match self.dtype.as_deref() {
            None => Ok(None),
            Some("f32") => Ok(Some(StorageDType::F32)),
            Some("bf16") => Ok(Some(StorageDType::Bf16)),
            Some("f16") => Ok(Some(StorageDType::F16)),
            Some(other) => Err(Error::usage(format!("--dtype {other} is unknown")).expected("f32, bf16 or f16")),
        }
    }
}
