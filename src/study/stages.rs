//! The trainings and scorings of a study as values, each named by the hash of everything that makes its result:
//! inputs, settings, and the version of the stage's code. Equal key, equal bits; a changed input changes the keys of what
//! depends on it and of nothing else.

use super::layout::{Layout, key};
use super::mixtures::Mixture;
use super::prepare::Prepared;
use super::settings::Study;
use super::shards::ShardRef;
use crate::engine::model::Config;
use crate::engine::train::Settings;
use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Raised when a change of the code changes what a stage computes.
const TRAIN_VERSION: u32 = 1;
const SCORE_VERSION: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Seed,
    Module,
    Seq,
}

impl Role {
    /// The stage that makes models of this role.
    pub fn stage(self) -> &'static str {
        match self {
            Role::Seed => "seed",
            Role::Module => "modules",
            Role::Seq => "seq",
        }
    }
    pub fn name(self) -> &'static str {
        match self {
            Role::Seed => "seed",
            Role::Module => "module",
            Role::Seq => "seq",
        }
    }
}

/// Windows of one shard that a training uses, in the shard's own order: whole further epochs where it has fewer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Member {
    pub shard: ShardRef,
    /// How many, from `first` on.
    pub windows: u64,
    pub order_seed: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub first: u64,
    /// How often these windows are used.
    #[serde(skip_serializing_if = "is_one")]
    pub copies: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}
fn is_one(n: &u64) -> bool {
    *n == 1
}

/// One model to train.
#[derive(Debug, Clone)]
pub struct Training {
    pub role: Role,
    /// `seed`, `module law` or `seq law+physics`
    pub name: String,
    pub key: String,
    pub settings: Settings,
    pub members: Vec<Member>,
    pub shuffle_seed: u64,
}

/// The seed: trained here, or a given checkpoint.
#[derive(Debug, Clone)]
pub enum Seed {
    Trained(Training),
    Given { key: String, directory: PathBuf },
}

impl Seed {
    pub fn key(&self) -> &str {
        match self {
            Seed::Trained(t) => &t.key,
            Seed::Given { key, .. } => key,
        }
    }
    pub fn directory(&self, layout: &Layout) -> PathBuf {
        match self {
            Seed::Trained(t) => layout.model(&t.key),
            Seed::Given { directory, .. } => directory.clone(),
        }
    }
}

/// Every model that a study trains at one scale.
#[derive(Debug, Clone)]
pub struct Trainings {
    pub seed: Seed,
    /// By partition: on all of its base units. Of a larger model that has no modules, none.
    pub modules: BTreeMap<String, Training>,
    /// By partition of several base units: on each of these.
    pub units: BTreeMap<String, Vec<Training>>,
    /// As the mixtures: the training of each and its repeats; none of a mixture that this scale leaves out.
    pub seqs: Vec<Vec<Training>>,
    /// The modules again, for each repeat from the second on; those that repeated mixtures hold.
    pub repeated_modules: Vec<BTreeMap<String, Training>>,
}

/// The small model, or the larger one that it is to predict.
#[derive(Debug, Clone, Copy)]
pub struct Scale<'a> {
    pub config: &'a Config,
    pub seed: Option<&'a Settings>,
    pub module: &'a Settings,
    /// Before the names of its trainings.
    pub prefix: &'static str,
    pub modules: bool,
}

impl Trainings {
    /// `device` names the kind of device, whose arithmetic is part of what makes a result.
    pub fn new(
        study: &Study,
        scale: Scale,
        mixtures: &[Mixture],
        prepared: &Prepared,
        device: &str,
    ) -> Result<Trainings> {
        let seed = seed(study, scale, prepared, device)?;
        let after_seed = AfterSeed { study, scale, prepared, device, seed: seed.key() };
        let (mut modules, mut units) = (BTreeMap::new(), BTreeMap::new());
        for partition in study.partition.iter().filter(|_| scale.modules) {
            modules.insert(partition.name.clone(), after_seed.module(&partition.name, 0)?);
            if partition.units() > 1 {
                let each = (0..partition.units()).map(|unit| after_seed.base_unit(&partition.name, unit));
                units.insert(partition.name.clone(), each.collect::<Result<_>>()?);
            }
        }
        let is_target = !scale.prefix.is_empty();
        let repeats = |m: &Mixture| match is_target {
            true => u64::from(m.target),
            false => m.repeats,
        };
        let seqs: Vec<Vec<Training>> = mixtures
            .iter()
            .map(|m| (0..repeats(m)).map(|repeat| after_seed.seq(m, repeat)).collect())
            .collect::<Result<_>>()?;
        let most = mixtures.iter().map(repeats).max().unwrap_or(0);
        let repeated_modules = (1..most).map(|repeat| {
            let held = mixtures.iter().filter(|m| m.repeats > repeat).flat_map(|m| m.members.keys());
            held.map(|name| Ok((name.clone(), after_seed.module(name, repeat)?))).collect()
        });
        let repeated_modules = repeated_modules.collect::<Result<_>>()?;
        Ok(Trainings { seed, modules, units, seqs, repeated_modules })
    }

    /// Every module: of whole partitions, of base units, and of repeats.
    pub fn all_modules(&self) -> impl Iterator<Item = &Training> {
        let repeated = self.repeated_modules.iter().flat_map(|modules| modules.values());
        self.modules.values().chain(self.units.values().flatten()).chain(repeated)
    }

    pub fn all_seqs(&self) -> impl Iterator<Item = &Training> {
        self.seqs.iter().flatten()
    }

    /// The seed too, where it is trained.
    pub fn all(&self) -> impl Iterator<Item = &Training> {
        let seed = match &self.seed {
            Seed::Trained(training) => Some(training),
            Seed::Given { .. } => None,
        };
        seed.into_iter().chain(self.all_modules()).chain(self.all_seqs())
    }
}

fn seed(study: &Study, scale: Scale, prepared: &Prepared, device: &str) -> Result<Seed> {
    if let Some(directory) = &study.seed.checkpoint {
        return Ok(Seed::Given { key: prepared.checkpoint.clone().unwrap_or_default(), directory: directory.clone() });
    }
    let (Some(settings), Some(shard)) = (scale.seed, &prepared.manifest.seed) else {
        return Err(Error::usage("the study has neither a seed checkpoint nor seed text"));
    };
    let (order_seed, shuffle_seed) = (order_seed(study, shard, 0), study.random_seed);
    let members = vec![Member { shard: shard.clone(), windows: settings.windows(), order_seed, first: 0, copies: 1 }];
    let inputs = (device, scale.config, &prepared.manifest.tokenizer, &members, settings, study.random_seed);
    let key = key("seed", TRAIN_VERSION, &inputs);
    let (role, name) = (Role::Seed, format!("{}seed", scale.prefix));
    Ok(Seed::Trained(Training { role, name, key, settings: settings.clone(), members, shuffle_seed }))
}

/// What all modules and SEQ runs of a scale share.
struct AfterSeed<'a> {
    study: &'a Study,
    scale: Scale<'a>,
    prepared: &'a Prepared,
    device: &'a str,
    seed: &'a str,
}

impl AfterSeed<'_> {
    /// On all base units of a partition.
    fn module(&self, partition: &str, repeat: u64) -> Result<Training> {
        let units = self.study.units(partition);
        let member = self.member(partition, units * self.scale.module.windows(), repeat)?;
        self.training(Role::Module, with_repeat(format!("module {partition}"), repeat), units, vec![member], repeat)
    }

    fn base_unit(&self, partition: &str, unit: u64) -> Result<Training> {
        let windows = self.scale.module.windows();
        let member = Member { first: unit * windows, ..self.member(partition, windows, 0)? };
        let name = format!("module {partition} unit {} of {}", unit + 1, self.study.units(partition));
        self.training(Role::Module, name, 1, vec![member], 0)
    }

    /// On a mixture, with the budgets of its members together, copies included: each member gives the very windows that
    /// its modules were trained on; under given weights as many windows as these say.
    fn seq(&self, mixture: &Mixture, repeat: u64) -> Result<Training> {
        let each = self.scale.module.windows();
        let units: Vec<u64> = mixture.members.keys().map(|name| self.study.units(name)).collect();
        let copies = |name: &String| mixture.copies.as_ref().map_or(1, |copies| copies[name]);
        let total: u64 = mixture.members.keys().zip(&units).map(|(name, u)| copies(name) * u).sum();
        let windows = match mixture.copies {
            Some(_) => units.iter().map(|u| u * each).collect(),
            None => apportion(total * each, &mixture.members),
        };
        let members = mixture
            .members
            .keys()
            .zip(windows)
            .map(|(name, windows)| Ok(Member { copies: copies(name), ..self.member(name, windows, repeat)? }));
        let name = with_repeat(format!("seq {}", mixture.id), repeat);
        self.training(Role::Seq, name, total, members.collect::<Result<_>>()?, repeat)
    }

    fn member(&self, partition: &str, windows: u64, repeat: u64) -> Result<Member> {
        let shard = self.prepared.partition(partition)?.train.clone();
        let order_seed = order_seed(self.study, &shard, repeat);
        Ok(Member { shard, windows, order_seed, first: 0, copies: 1 })
    }

    /// With the budget of `units` base units.
    fn training(&self, role: Role, name: String, units: u64, members: Vec<Member>, repeat: u64) -> Result<Training> {
        let mut settings = self.scale.module.clone();
        settings.steps *= units;
        settings.warmup_steps *= units;
        let shuffle_seed = self.study.random_seed ^ repeat_seed(repeat);
        let inputs = (self.device, self.seed, self.scale.config, &members, &settings, shuffle_seed);
        let key = key("train", TRAIN_VERSION, &inputs);
        let name = format!("{}{name}", self.scale.prefix);
        Ok(Training { role, name, key, settings, members, shuffle_seed })
    }
}

fn with_repeat(name: String, repeat: u64) -> String {
    if repeat == 0 { name } else { format!("{name} (repeat {})", repeat + 1) }
}

/// What turns a seed into that of a repeat; of the first training, nothing.
fn repeat_seed(repeat: u64) -> u64 {
    match repeat {
        0 => 0,
        _ => first_eight(blake3::hash(format!("repeat {repeat}").as_bytes())),
    }
}

fn first_eight(hash: blake3::Hash) -> u64 {
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"))
}

/// `total` windows shared out by weight, by largest remainders, so that they sum to `total`.
fn apportion(total: u64, mixture: &BTreeMap<String, f64>) -> Vec<u64> {
    let sum: f64 = mixture.values().sum();
    let exact: Vec<f64> = mixture.values().map(|w| total as f64 * w / sum).collect();
    let mut shares: Vec<u64> = exact.iter().map(|x| x.floor() as u64).collect();
    let mut by_remainder: Vec<usize> = (0..exact.len()).collect();
    by_remainder
        .sort_by(|&a, &b| (exact[b] - exact[b].floor()).total_cmp(&(exact[a] - exact[a].floor())).then(a.cmp(&b)));
    let missing = total.saturating_sub(shares.iter().sum());
    for &i in by_remainder.iter().cycle().take(missing as usize) {
        shares[i] += 1;
    }
    shares
}

/// The order of a shard's windows hangs on its content alone (and the repeat), so every training that uses the shard sees
/// the same order: another order of the partitions in the file changes nothing, nor does a new name, unless it moves the
/// partition in the alphabet, which is the order of SEQ's members before they are shuffled.
fn order_seed(study: &Study, shard: &ShardRef, repeat: u64) -> u64 {
    first_eight(blake3::hash(shard.hash.as_bytes())) ^ study.random_seed ^ repeat_seed(repeat)
}

/// A model to be scored: a trained one, or an average of modules that never touches the disk.
#[derive(Debug, Clone)]
pub enum Subject {
    Checkpoint { name: String, key: String, directory: PathBuf },
    Merge { name: String, key: String, members: Vec<(PathBuf, f64)> },
}

impl Subject {
    pub fn trained(training: &Training, layout: &Layout) -> Subject {
        let directory = layout.model(&training.key);
        Subject::Checkpoint { name: training.name.clone(), key: training.key.clone(), directory }
    }
    /// The weighted sum of models, each by its key and directory.
    pub fn merge(name: String, terms: Vec<(&str, PathBuf, f64)>) -> Subject {
        let weights: Vec<(&str, f64)> = terms.iter().map(|(key, _, weight)| (*key, *weight)).collect();
        let key = key("merge", SCORE_VERSION, &weights);
        Subject::Merge { name, key, members: terms.into_iter().map(|(_, path, weight)| (path, weight)).collect() }
    }
    pub fn name(&self) -> &str {
        match self {
            Subject::Checkpoint { name, .. } | Subject::Merge { name, .. } => name,
        }
    }
    pub fn key(&self) -> &str {
        match self {
            Subject::Checkpoint { key, .. } | Subject::Merge { key, .. } => key,
        }
    }
    /// The name of this model's score on a domain.
    pub fn score_key(&self, domain: &ShardRef, config: &Config, device: &str) -> String {
        key("score", SCORE_VERSION, &(self.key(), &domain.hash, config.context, device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apportions_all_windows() {
        let mixture = |w: &[f64]| w.iter().enumerate().map(|(i, w)| (i.to_string(), *w)).collect::<BTreeMap<_, _>>();
        assert_eq!(apportion(10, &mixture(&[0.5, 0.5])), [5, 5]);
        assert_eq!(apportion(10, &mixture(&[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0])), [4, 3, 3]);
        assert_eq!(apportion(7, &mixture(&[0.9, 0.1])), [6, 1]);
        assert_eq!(apportion(1, &mixture(&[0.5, 0.5])), [1, 0]);
    }
}
