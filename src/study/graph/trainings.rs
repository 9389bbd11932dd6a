//! The trainings of one model size: the seed, modules on partitions and their base units, SEQ on
//! mixtures, repeats.

use super::{Graph, Role, Stage, SubjectWeights, TRAIN_VERSION, Task, Work};
use crate::apportion::apportion;
use crate::engine::train::Settings;
use crate::error::{Error, Result};
use crate::study::mixtures::Mixture;
use crate::study::prepare::Prepared;
use crate::study::scale::{Scale, ScaleSettings};
use crate::study::settings::Study;
use crate::study::shards::ShardRef;
use crate::study::store::key;
use serde::Serialize;
use std::collections::BTreeSet;

/// The windows of one shard that a training uses, in the shard's own order. A shard with fewer
/// windows is repeated for further epochs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Member {
    /// The shard of these windows.
    pub shard: ShardRef,
    /// Number of windows, starting at `first`.
    pub windows: u64,
    /// Determines the order of the shard's windows, from which `windows` are taken.
    pub order_seed: u64,
    /// The first window, as a position in that order.
    #[serde(skip_serializing_if = "is_zero")]
    pub first: u64,
    /// Number of times these windows are used.
    #[serde(skip_serializing_if = "is_one")]
    pub copies: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}
fn is_one(n: &u64) -> bool {
    *n == 1
}

/// A model to train.
#[derive(Debug, Clone)]
pub struct Train {
    /// This training's settings. Steps of modules and SEQ are already multiplied by their base
    /// units.
    pub settings: Settings,
    /// The windows that it uses, before shuffling.
    pub members: Vec<Member>,
    /// Determines the order of all members' windows, and the seed's initial weights.
    pub shuffle_seed: u64,
}

/// A training that is not yet a task.
struct NewTraining {
    stage: Stage,
    role: Role,
    /// Its key and its work.
    training: (String, Train),
}

impl Mixture {
    /// Number of trainings on this mixture at a scale.
    pub fn trainings(&self, scale: Scale) -> u64 {
        match scale {
            Scale::Small => self.repeats,
            Scale::Target => u64::from(self.target),
        }
    }
}

impl Graph {
    /// Adds a scale's seed and every training that starts from it.
    pub(super) fn add_trainings(&mut self, study: &Study, scale: &ScaleSettings) -> Result<()> {
        let seed_key = match &study.seed.checkpoint {
            Some(directory) => {
                let key = self.prepared.checkpoint.clone().unwrap_or_default();
                let weights = SubjectWeights::Checkpoint(directory.clone());
                self.add_subject(scale.scale, Role::Seed, key.clone(), weights);
                key
            }
            None => {
                let (key, train) = seed(study, scale, &self.prepared, &self.device)?;
                let training = NewTraining { stage: Stage::Seed, role: Role::Seed, training: (key.clone(), train) };
                self.add_training(scale, training, vec![]);
                key
            }
        };
        let inputs: Vec<usize> = self.training_by_key.get(&seed_key).copied().into_iter().collect();
        for training in self.trainings_after(study, scale, &seed_key)? {
            self.add_training(scale, training, inputs.clone());
        }
        Ok(())
    }

    /// Every training that starts from the seed with this key.
    fn trainings_after(&self, study: &Study, scale: &ScaleSettings, seed: &str) -> Result<Vec<NewTraining>> {
        let after_seed = AfterSeed { study, scale, prepared: &self.prepared, device: &self.device, seed };
        let partitions: BTreeSet<&String> = study.partition.iter().map(|p| &p.name).collect();
        let module = |name: &String, repeat| -> Result<NewTraining> {
            let role = Role::Module { partition: name.clone(), repeat };
            Ok(NewTraining { stage: Stage::Modules, role, training: after_seed.module(name, repeat)? })
        };
        let mut list = Vec::new();
        for name in partitions.iter().filter(|_| scale.has_modules) {
            list.push(module(name, 0)?);
        }
        // Only merges of the small model use base units.
        for &name in partitions.iter().filter(|name| scale.scale == Scale::Small && study.units(name) > 1) {
            let of = study.units(name);
            for unit in 0..of {
                let role = Role::Unit { partition: name.clone(), unit, of };
                list.push(NewTraining { stage: Stage::Modules, role, training: after_seed.base_unit(name, unit)? });
            }
        }
        let most = self.mixtures.iter().map(|m| m.trainings(scale.scale)).max().unwrap_or(0);
        for repeat in 1..most {
            let repeated = self.mixtures.iter().filter(|m| m.trainings(scale.scale) > repeat);
            for name in repeated.flat_map(|m| m.members.keys()).collect::<BTreeSet<_>>() {
                list.push(module(name, repeat)?);
            }
        }
        for (i, mixture) in self.mixtures.iter().enumerate() {
            for repeat in 0..mixture.trainings(scale.scale) {
                let role = Role::Seq { mixture: i, repeat };
                list.push(NewTraining { stage: Stage::Seq, role, training: after_seed.seq(mixture, repeat)? });
            }
        }
        Ok(list)
    }

    /// Partitions of equal text have trainings with equal keys, which are one task.
    fn add_training(&mut self, scale: &ScaleSettings, training: NewTraining, inputs: Vec<usize>) {
        let NewTraining { stage, role, training: (key, train) } = training;
        let weights = SubjectWeights::Checkpoint(self.store.model(&key));
        let subject = self.add_subject(scale.scale, role, key.clone(), weights);
        let next = self.tasks.len();
        if *self.training_by_key.entry(key.clone()).or_insert(next) != next {
            return;
        }
        let tokens = train.settings.windows() * scale.config.context as u64;
        self.tasks.push(Task {
            scale: scale.scale,
            stage,
            name: self.subjects[subject].name.clone(),
            key,
            inputs,
            tokens,
            flops: tokens as f64 * scale.config.training_flops_per_token(),
            work: Work::Train(train),
        });
    }
}

fn seed(study: &Study, scale: &ScaleSettings, prepared: &Prepared, device: &str) -> Result<(String, Train)> {
    let (Some(settings), Some(shard)) = (&scale.seed, &prepared.manifest.seed) else {
        return Err(Error::usage("the study has neither a seed checkpoint nor seed text"));
    };
    let (order_seed, shuffle_seed) = (order_seed(study, shard, 0), study.random_seed);
    let members = vec![Member { shard: shard.clone(), windows: settings.windows(), order_seed, first: 0, copies: 1 }];
    let inputs = (device, &scale.config, &prepared.manifest.tokenizer, &members, settings, study.random_seed);
    Ok((key("seed", TRAIN_VERSION, &inputs), Train { settings: settings.clone(), members, shuffle_seed }))
}

/// Inputs that all modules and SEQ runs of a scale share.
struct AfterSeed<'a> {
    study: &'a Study,
    scale: &'a ScaleSettings,
    prepared: &'a Prepared,
    device: &'a str,
    /// The seed's key.
    seed: &'a str,
}

impl AfterSeed<'_> {
    /// A training on all base units of a partition.
    fn module(&self, partition: &str, repeat: u64) -> Result<(String, Train)> {
        let units = self.study.units(partition);
        let member = self.member(partition, units * self.scale.module.windows(), repeat)?;
        Ok(self.training(units, vec![member], repeat))
    }

    fn base_unit(&self, partition: &str, unit: u64) -> Result<(String, Train)> {
        let windows = self.scale.module.windows();
        let member = Member { first: unit * windows, ..self.member(partition, windows, 0)? };
        Ok(self.training(1, vec![member], 0))
    }

    /// A training on a mixture, with the sum of its members' budgets, copies included. Each member
    /// gives the same windows that its modules were trained on; under given weights, their number
    /// is in proportion to the weights.
    fn seq(&self, mixture: &Mixture, repeat: u64) -> Result<(String, Train)> {
        let each = self.scale.module.windows();
        let total = mixture.units(self.study);
        let windows: Vec<u64> = match mixture.copies {
            Some(_) => mixture.members.keys().map(|name| self.study.units(name) * each).collect(),
            None => {
                let weights: Vec<f64> = mixture.members.values().copied().collect();
                apportion((total * each) as usize, &weights).into_iter().map(|windows| windows as u64).collect()
            }
        };
        let member = |(name, windows): (&String, u64)| {
            Ok(Member { copies: mixture.copies_of(name), ..self.member(name, windows, repeat)? })
        };
        let members = mixture.members.keys().zip(windows).map(member).collect::<Result<_>>()?;
        Ok(self.training(total, members, repeat))
    }

    fn member(&self, partition: &str, windows: u64, repeat: u64) -> Result<Member> {
        let shard = self.prepared.partition(partition)?.train.clone();
        let order_seed = order_seed(self.study, &shard, repeat);
        Ok(Member { shard, windows, order_seed, first: 0, copies: 1 })
    }

    /// A training with the budget of `units` base units.
    fn training(&self, units: u64, members: Vec<Member>, repeat: u64) -> (String, Train) {
        let mut settings = self.scale.module.clone();
        settings.steps *= units;
        settings.warmup_steps *= units;
        let shuffle_seed = self.study.random_seed ^ repeat_seed(repeat);
        let inputs = (self.device, self.seed, &self.scale.config, &members, &settings, shuffle_seed);
        (key("train", TRAIN_VERSION, &inputs), Train { settings, members, shuffle_seed })
    }
}

/// XORed into a seed to get a repeat's seed; 0 for the first training.
fn repeat_seed(repeat: u64) -> u64 {
    match repeat {
        0 => 0,
        _ => first_eight(blake3::hash(format!("repeat {repeat}").as_bytes())),
    }
}

fn first_eight(hash: blake3::Hash) -> u64 {
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"))
}

/// The order of a shard's windows depends only on its content and the repeat, so every training
/// that uses the shard sees the same order. Reordering the partitions in the study file changes
/// nothing. Nor does renaming one, unless that changes the alphabetical order, which is the order
/// of SEQ's members before shuffling.
fn order_seed(study: &Study, shard: &ShardRef, repeat: u64) -> u64 {
    first_eight(blake3::hash(shard.hash.as_bytes())) ^ study.random_seed ^ repeat_seed(repeat)
}
