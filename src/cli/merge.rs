//! `merge`: averages checkpoints into a new one, or makes several averages in one pass. Also the
//! arguments for weights, which `eval --merge` shares.

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
    /// Checkpoint directories, or mergekit `linear` recipes (.yaml); several recipes are merged in
    /// one pass
    #[arg(required_unless_present = "partition", conflicts_with = "partition", value_name = "CKPT|RECIPE.yaml")]
    inputs: Vec<PathBuf>,
    /// The new checkpoint; with several recipes, a directory for one checkpoint per recipe, named
    /// after it
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    weights: WeightArgs,
    /// f32, bf16 or f16 [default: the checkpoints' dtype, if they agree]
    #[arg(long)]
    dtype: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Weights of a merge's checkpoints.
#[derive(Args)]
pub(super) struct WeightArgs {
    /// uniform; tokens (that each was trained on); units (base units); or one number each:
    /// 0.5,0.3,0.2
    #[arg(long, value_name = "HOW", allow_hyphen_values = true)]
    weights: Option<String>,
    /// Divide the weights by their sum
    #[arg(long)]
    normalize: bool,
    /// A partition with one module per base unit, which share its weight; repeatable
    #[arg(long, value_name = "NAME=CKPT,...")]
    partition: Vec<String>,
    /// Scale the merge away from this seed model: seed + lambda (average - seed)
    #[arg(long, value_name = "CKPT", requires = "lambda")]
    seed: Option<PathBuf>,
    /// 0 is the seed, 1 the average; larger values extrapolate
    #[arg(long, value_name = "L", requires = "seed", allow_hyphen_values = true)]
    lambda: Option<f64>,
}

impl WeightArgs {
    /// Weights of the checkpoints, or of the partitions if there are any. `inline` weights are
    /// those given with the checkpoints.
    pub(super) fn resolve(&self, checkpoints: &[PathBuf], inline: Option<Vec<f64>>) -> Result<Weights> {
        let partitions = match &self.partition[..] {
            [] => checkpoints.iter().map(|path| MergePartition::of_one(path)).collect(),
            named => named.iter().map(|text| partition(text)).collect::<Result<Vec<_>>>()?,
        };
        let scheme = match (&self.weights, inline) {
            (None, None) => Scheme::Uniform,
            (None, Some(weights)) => Scheme::Given(weights),
            (Some(text), None) => scheme(text)?,
            (Some(text), Some(_)) => {
                return Err(Error::usage("weights are given twice")
                    .expected("--weights, or --merge CKPT=WEIGHT,...")
                    .got(format!("--weights {text} and --merge CKPT=WEIGHT")));
            }
        };
        let scaled = self.seed.clone().zip(self.lambda).map(|(seed, lambda)| Scaled { seed, lambda });
        Weights::new(&partitions, &scheme, self.normalize, scaled)
    }

    /// The first of these options that was given.
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
                        .got(format!("`{n}`, which is not a number"))
                })
            };
            Ok(Scheme::Given(numbers.split(',').map(number).collect::<Result<_>>()?))
        }
    }
}

fn partition(text: &str) -> Result<MergePartition> {
    let (name, modules) = super::split_once(text, "NAME=CKPT,...", "--partition law=runs/a,runs/b")?;
    if modules.split(',').any(str::is_empty) {
        return Err(Error::usage(format!("`{text}` is not NAME=CKPT,...")).expected("no empty path"));
    }
    Ok(MergePartition { name: Some(name), modules: modules.split(',').map(PathBuf::from).collect() })
}

/// One merge in `--json`.
#[derive(Serialize)]
struct Written<'a> {
    out: &'a Path,
    #[serde(flatten)]
    report: &'a MergeReport,
}

/// The merges of several recipes in `--json`.
#[derive(Serialize)]
struct AllWritten<'a> {
    merges: &'a [Written<'a>],
    /// Bytes read in the one pass for all merges.
    bytes_read: u64,
}

impl MergeArgs {
    /// Writes the merges in one pass over the checkpoints and prints what it wrote.
    pub fn run(&self) -> Result<()> {
        let merges = self.merges()?;
        let (progress, started) = (Progress::new(), Instant::now());
        let task = progress.task("merge", 100);
        let update = |done: u64, total: u64| {
            // A quick merge needs no bar.
            if started.elapsed() > Duration::from_secs(1) {
                task.update(100 * done / total.max(1), "% of the parameters");
            }
        };
        let is_new = !self.out.exists();
        let pass = merge::write_merges(&merges, Some(&update));
        if pass.is_err() && is_new && merges.len() > 1 {
            // Removes it only if it is empty, so a finished merge is kept.
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
                .fix("set it in the recipe: `weight` and `normalize` under `parameters`, or `out_dtype`"));
        }
        // A later merge into this directory would delete the merges inside it.
        if self.inputs.len() > 1 && self.out.join("merge.json").exists() {
            return Err(Error::usage(
                "this directory is itself a merge, so it cannot hold the merges of several recipes",
            )
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
