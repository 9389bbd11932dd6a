//! The trainings and scorings of a study as values, each named by the hash of everything that makes its result:
//! inputs, settings, and the version of the stage's code. Equal key, equal bits; a changed input changes the keys of what
//! depends on it and of nothing else.

use super::layout::{Layout, key};
use super::mixtures::Mixture;
use super::prepare::Prepared;
use super::settings::Study;
use super::shards::ShardRef;
use crate::error::{Error, Result};
use crate::model::Config;
use crate::train::Settings;
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

/// Windows of one shard that a training uses, in the shard's own order: whole further epochs where it has fewer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Member {
    pub shard: ShardRef,
    pub windows: u64,
    pub order_seed: u64,
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

/// Every model that a study trains.
#[derive(Debug, Clone)]
pub struct Trainings {
    pub seed: Seed,
    /// By partition.
    pub modules: BTreeMap<String, Training>,
    /// As the mixtures.
    pub seqs: Vec<Training>,
}

impl Trainings {
    /// `device` names the kind of device, whose arithmetic is part of what makes a result.
    pub fn new(study: &Study, mixtures: &[Mixture], prepared: &Prepared, device: &str) -> Result<Trainings> {
        let seed = seed(study, prepared, device)?;
        let after_seed = AfterSeed { study, prepared, device, seed: seed.key() };
        let mut modules = BTreeMap::new();
        for partition in &study.partition {
            let members = BTreeMap::from([(partition.name.clone(), 1.0)]);
            let training = after_seed.training(Role::Module, format!("module {}", partition.name), &members)?;
            modules.insert(partition.name.clone(), training);
        }
        let seqs = mixtures
            .iter()
            .map(|m| after_seed.training(Role::Seq, format!("seq {}", m.id), &m.members))
            .collect::<Result<_>>()?;
        Ok(Trainings { seed, modules, seqs })
    }
}

fn seed(study: &Study, prepared: &Prepared, device: &str) -> Result<Seed> {
    if let Some(directory) = &study.seed.checkpoint {
        return Ok(Seed::Given { key: prepared.checkpoint.clone().unwrap_or_default(), directory: directory.clone() });
    }
    let (Some(settings), Some(shard)) = (&study.seed.training, &prepared.manifest.seed) else {
        return Err(Error::usage("the study has neither a seed checkpoint nor seed text"));
    };
    let (order_seed, shuffle_seed) = (order_seed(study, shard), study.random_seed);
    let members = vec![Member { shard: shard.clone(), windows: settings.windows(), order_seed }];
    let inputs = (device, &prepared.config, &prepared.manifest.tokenizer, &members, settings, study.random_seed);
    let key = key("seed", TRAIN_VERSION, &inputs);
    let (role, name) = (Role::Seed, "seed".to_string());
    Ok(Seed::Trained(Training { role, name, key, settings: settings.clone(), members, shuffle_seed }))
}

/// What all modules and SEQ runs of a study share.
struct AfterSeed<'a> {
    study: &'a Study,
    prepared: &'a Prepared,
    device: &'a str,
    seed: &'a str,
}

impl AfterSeed<'_> {
    /// A training from the seed on `mixture`, with the budgets of its members together: each member of a uniform mixture
    /// gives the very windows that its module was trained on.
    fn training(&self, role: Role, name: String, mixture: &BTreeMap<String, f64>) -> Result<Training> {
        let mut settings = self.study.module.training.clone();
        settings.steps *= mixture.len() as u64;
        settings.warmup_steps *= mixture.len() as u64;
        let mut members = Vec::new();
        for ((partition, _), windows) in mixture.iter().zip(apportion(settings.windows(), mixture)) {
            let shard = &self.prepared.partition(partition)?.train;
            members.push(Member { shard: shard.clone(), windows, order_seed: order_seed(self.study, shard) });
        }
        let inputs = (self.device, self.seed, &self.prepared.config, &members, &settings, self.study.random_seed);
        let key = key("train", TRAIN_VERSION, &inputs);
        Ok(Training { role, name, key, settings, members, shuffle_seed: self.study.random_seed })
    }
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

/// The order of a shard's windows hangs on its content alone, so every training that uses the shard sees the same order, and
/// renaming or reordering partitions changes nothing.
fn order_seed(study: &Study, shard: &ShardRef) -> u64 {
    let hash = blake3::hash(shard.hash.as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes")) ^ study.random_seed
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
    pub fn merged(mixture: &Mixture, trainings: &Trainings, layout: &Layout) -> Subject {
        let modules: Vec<(&str, f64)> =
            mixture.members.iter().map(|(name, weight)| (trainings.modules[name].key.as_str(), *weight)).collect();
        let key = key("merge", SCORE_VERSION, &modules);
        let members = modules.iter().map(|(key, weight)| (layout.model(key), *weight)).collect();
        Subject::Merge { name: format!("merged {}", mixture.id), key, members }
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
