//! Turns a user's choice of weights into one weight for each checkpoint, in the order of summation,
//! and records how: the record is in `merge.json` and in the output of `eval --merge --json`.
//!
//! Members are partitions. One that was split into base units has a module for each of them;
//! `shares` computes the weight of each.

use super::shares::{PoolModel, Share, Terms, macro_of_merges, micro_merge, scaled_merge};
use super::weighted_sum::{check_weights, normalized};
use crate::engine::checkpoint::TrainerState;
use crate::error::{Error, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The source of the partitions' weights.
#[derive(Debug, Clone, PartialEq)]
pub enum Scheme {
    /// The same for every partition
    Uniform,
    /// Proportional to the tokens its modules were trained on, from the `trainer.json` of each
    Tokens,
    /// Proportional to its number of base units: the same for every base unit of all partitions
    Units,
    /// Given, one for each partition
    Given(Vec<f64>),
}

impl Scheme {
    /// `uniform`, `tokens`, `units` or `given`, as in `merge.json`.
    pub fn name(&self) -> &'static str {
        match self {
            Scheme::Uniform => "uniform",
            Scheme::Tokens => "tokens",
            Scheme::Units => "units",
            Scheme::Given(_) => "given",
        }
    }
}

/// A member of a merge: one module, or one for each of its base units.
#[derive(Debug, Clone, PartialEq)]
pub struct MergePartition {
    /// `None` for a checkpoint that was given only by its path
    pub name: Option<String>,
    /// Checkpoint directories, one for each base unit; at least one.
    pub modules: Vec<PathBuf>,
}

impl MergePartition {
    /// One module and no name.
    pub fn of_one(checkpoint: &Path) -> MergePartition {
        MergePartition { name: None, modules: vec![checkpoint.to_path_buf()] }
    }
}

/// A scaled merge: seed + lambda (average - seed).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scaled {
    /// Checkpoint directory of the seed model.
    pub seed: PathBuf,
    /// 1 is the average itself, 0 the seed, and above 1 extrapolates.
    pub lambda: f64,
}

/// Every weight of one merge, and how it was computed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Weights {
    /// [`Scheme::name`]
    pub scheme: &'static str,
    /// Whether given weights were divided by their sum
    pub normalized: bool,
    /// Present if this is a scaled merge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaled: Option<Scaled>,
    /// The partitions that were named
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionWeight>,
    /// In the order of summation; the seed of a scaled merge is the first.
    pub members: Vec<MergeMember>,
}

/// One named partition of a merge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartitionWeight {
    /// [`MergePartition::name`]
    pub name: String,
    /// Total weight of its modules, as used
    pub weight: f64,
    /// The weight before it was normalized and scaled
    pub given: f64,
    /// Base units, each with a module
    pub units: usize,
    /// Tokens that its modules were trained on, if weights are by tokens
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

/// One checkpoint of a merge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MergeMember {
    /// As given
    pub path: PathBuf,
    /// As used
    pub weight: f64,
    /// The weight before it was normalized and scaled
    pub given: f64,
    /// The partition it is a base unit of, if that was named
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Tokens that it was trained on, if weights are by tokens
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

impl Weights {
    /// Given weights must sum to 1, unless they are to be normalized; those of the other schemes
    /// always do. A scaled merge multiplies all weights by lambda and puts the seed before them,
    /// with the weight `1 - lambda`.
    pub fn new(
        partitions: &[MergePartition],
        scheme: &Scheme,
        normalize: bool,
        scaled: Option<Scaled>,
    ) -> Result<Weights> {
        check_partitions(partitions)?;
        let tokens = match scheme {
            Scheme::Tokens => Some(training_tokens(partitions)?),
            _ => None,
        };
        let given = partition_weights(partitions, scheme, tokens.as_deref())?;
        let normalized = normalize && matches!(scheme, Scheme::Given(_));
        let used = if normalized { self::normalized(&given)? } else { given.clone() };
        check_weights(&used)?;

        let lambda = scaled.as_ref().map(|s| s.lambda);
        if let Some(lambda) = lambda.filter(|lambda| !lambda.is_finite()) {
            return Err(Error::usage("lambda must be a finite number").got(lambda.to_string()));
        }
        let (as_given, as_used) = (terms(partitions, scheme, &given), terms(partitions, scheme, &used));
        let as_used = match lambda {
            Some(lambda) => scaled_merge(as_used, lambda),
            None => as_used,
        };
        let seed = scaled.as_ref().map(|scaled| &*scaled.seed);
        let members = members(partitions, seed, as_given, as_used, tokens.as_deref());
        let named = |(i, partition): (usize, &MergePartition)| {
            Some(PartitionWeight {
                name: partition.name.clone()?,
                weight: lambda.map_or(used[i], |lambda| lambda * used[i]),
                given: given[i],
                units: partition.modules.len(),
                tokens: tokens.as_ref().map(|t| t[i].iter().sum()),
            })
        };
        let named = partitions.iter().enumerate().filter_map(named).collect();
        Ok(Weights { scheme: scheme.name(), normalized, scaled, partitions: named, members })
    }

    /// Checkpoints and weights in the order of summation; a checkpoint may occur more than once.
    pub fn terms(&self) -> Vec<(PathBuf, f64)> {
        self.members.iter().map(|m| (m.path.clone(), m.weight)).collect()
    }
}

/// The weight of each module, from the weights of the partitions.
fn terms(partitions: &[MergePartition], scheme: &Scheme, weights: &[f64]) -> Terms {
    let share = |(p, weight): (&MergePartition, &f64)| Share { weight: *weight, units: p.modules.len() };
    let shares: Vec<Share> = partitions.iter().zip(weights).map(share).collect();
    match scheme {
        // Not computed from the partitions' weights, so that all are exactly equal.
        Scheme::Units => micro_merge(&shares),
        _ => macro_of_merges(&shares),
    }
}

/// The members of a merge, with their weights as given and as used; the seed, which has no given
/// weight, comes first.
fn members(
    partitions: &[MergePartition],
    seed: Option<&Path>,
    as_given: Terms,
    as_used: Terms,
    tokens: Option<&[Vec<u64>]>,
) -> Vec<MergeMember> {
    let mut as_given = as_given.into_iter();
    let member = |(model, weight): (PoolModel, f64)| match (model, seed) {
        (PoolModel::Unit(i, unit), _) => MergeMember {
            path: partitions[i].modules[unit].clone(),
            weight,
            given: as_given.next().map_or(weight, |(_, given)| given),
            partition: partitions[i].name.clone(),
            tokens: tokens.map(|tokens| tokens[i][unit]),
        },
        (PoolModel::Seed, Some(seed)) => {
            MergeMember { path: seed.to_path_buf(), weight, given: weight, partition: None, tokens: None }
        }
        _ => unreachable!("merges of units, and of the seed of a scaled merge"),
    };
    as_used.into_iter().map(member).collect()
}

/// Refuses an empty list, a named partition without modules, and two partitions of one name.
fn check_partitions(partitions: &[MergePartition]) -> Result<()> {
    if partitions.is_empty() {
        return Err(Error::usage("a merge needs at least one checkpoint"));
    }
    for (i, partition) in partitions.iter().enumerate() {
        let Some(name) = &partition.name else { continue };
        if partition.modules.is_empty() {
            return Err(Error::usage(format!("the partition `{name}` has no checkpoint")));
        }
        if partitions[..i].iter().any(|other| other.name.as_ref() == Some(name)) {
            return Err(Error::usage(format!("two partitions are named `{name}`"))
                .fix("name all of a partition's checkpoints at once: NAME=CKPT,CKPT,..."));
        }
    }
    Ok(())
}

/// A weight for each partition, before normalizing and scaling. `tokens` are those of each module.
fn partition_weights(partitions: &[MergePartition], scheme: &Scheme, tokens: Option<&[Vec<u64>]>) -> Result<Vec<f64>> {
    let n = partitions.len();
    let proportional = |counts: Vec<f64>| {
        let total: f64 = counts.iter().sum();
        counts.iter().map(|count| count / total).collect()
    };
    match scheme {
        Scheme::Uniform => Ok(vec![1.0 / n as f64; n]),
        Scheme::Units => Ok(proportional(partitions.iter().map(|p| p.modules.len() as f64).collect())),
        Scheme::Tokens => {
            let tokens = tokens.into_iter().flatten();
            Ok(proportional(tokens.map(|modules| modules.iter().sum::<u64>() as f64).collect()))
        }
        Scheme::Given(weights) if weights.len() == n => Ok(weights.clone()),
        Scheme::Given(weights) => {
            let what = if partitions.iter().any(|p| p.name.is_some()) { "partitions" } else { "checkpoints" };
            Err(Error::usage(format!("--weights does not match the {what}"))
                .expected(format!("{n} weights"))
                .got(weights.len().to_string()))
        }
    }
}

/// The most training tokens accepted for a module: more than any training has, and their sums fit
/// u64.
const MOST_TOKENS: u64 = 1 << 50;

/// For each partition, the tokens that each of its modules was trained on. Refused: a checkpoint
/// that does not record the number, or records 0.
fn training_tokens(partitions: &[MergePartition]) -> Result<Vec<Vec<u64>>> {
    partitions.iter().map(|p| p.modules.iter().map(|module| tokens_of(module)).collect()).collect()
}

fn tokens_of(module: &Path) -> Result<u64> {
    let path = module.join("trainer.json");
    // A missing directory is reported by the read below.
    if module.exists() && !path.exists() {
        return Err(Error::input("this checkpoint does not record how many tokens it was trained on")
            .at(path)
            .expected("a trainer.json, as `stockpot train` writes it")
            .fix("give the weights as numbers, such as --weights 0.7,0.3"));
    }
    let tokens = TrainerState::read(module)?.tokens;
    if tokens == 0 || tokens > MOST_TOKENS {
        return Err(Error::input("the number of training tokens is out of range")
            .at(path)
            .expected(format!("1 to {MOST_TOKENS} tokens"))
            .got(tokens.to_string())
            .fix("give the weights as numbers, such as --weights 0.7,0.3"));
    }
    Ok(tokens)
}
