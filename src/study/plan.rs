//! What a study will train, merge and score, and what that costs, before anything is run.

use super::merges;
use super::mixtures::{Mixture, mixtures};
use super::opened::TARGET;
use super::settings::{Source, Study};
use super::speed;
use crate::analysis::{Cost, CostPoint, StageCost};
use crate::engine::data::Tokenizer;
use crate::engine::device::DType;
use crate::engine::model::{Config, MemoryPlan, Table};
use crate::engine::train::{Settings, memory_plan};
use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Trainings, or scorings, of one kind, together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Work {
    pub models: u64,
    pub tokens: u64,
    pub flops: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub study: String,
    /// P
    pub parameters: u64,
    pub context: usize,
    pub vocabulary: usize,
    pub partitions: usize,
    pub domains: usize,
    pub mixtures: Vec<Mixture>,
    pub seed: Work,
    pub modules: Work,
    pub seq: Work,
    /// Merges scored: of 0 tokens where these are not known before the text is tokenized, `evaluation.tokens` not being set.
    pub merged: Work,
    /// The larger model, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetPlan>,
    pub cost: Cost,
    /// Hours of all of the above on this machine's CPU, at the speed of a training pass measured just now.
    pub estimated_hours: f64,
    /// And of each stage of `cost`.
    pub hours: BTreeMap<String, f64>,
    /// What the largest training takes of the memory of the CPU's machine.
    pub cpu_memory: MemoryPlan,
    /// And of a GPU's; none where there are no kernels for the model.
    pub gpu_memory: Option<MemoryPlan>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TargetPlan {
    pub parameters: u64,
    pub seed: Work,
    pub modules: Work,
    pub seq: Work,
    pub merged: Work,
}

impl Plan {
    pub fn new(study: &Study) -> Result<Plan> {
        let domains = (study.partition.len() + study.ood.len()) as u64;
        // Without a bound the tokens are known only once the text is tokenized.
        let scored = Some(study.evaluation.tokens).filter(|bound| *bound < u64::MAX);
        Plan::of(study, &model_config(study)?, scored.map_or(0, |tokens| tokens.saturating_mul(domains)))
    }

    /// For a model that is known already, with `scored` tokens scored per model.
    pub fn of(study: &Study, config: &Config, scored: u64) -> Result<Plan> {
        let mixtures = mixtures(study);
        let domains = study.partition.len() + study.ood.len();
        let target = target_config(study, config.vocabulary, config.eos)?;
        let counts = Counts { study, mixtures: &mixtures, scored };
        let small = counts.stages(config, study.seed.training.as_ref(), &study.module.training, None);
        let large = study.target.as_ref().zip(target.as_ref()).map(|(t, config)| TargetPlan {
            parameters: Table::new(config).len as u64,
            ..counts.stages(config, Some(&t.seed.training), &t.module.training, Some(t.modules))
        });
        let cost = cost(study, config, target.as_ref(), &mixtures, scored);
        let hours = hours(&cost, config, target.as_ref())?;
        Ok(Plan {
            study: study.name.clone(),
            parameters: Table::new(config).len as u64,
            context: config.context,
            vocabulary: config.vocabulary,
            partitions: study.partition.len(),
            domains,
            seed: small.seed,
            modules: small.modules,
            seq: small.seq,
            merged: small.merged,
            target: large,
            cost,
            mixtures,
            estimated_hours: hours.values().sum(),
            hours,
            cpu_memory: largest_training(study, config, target.as_ref(), DType::F32)?,
            gpu_memory: largest_training(study, config, target.as_ref(), DType::Bf16).ok(),
        })
    }
}

/// Hours of each stage on this machine's CPU.
fn hours(cost: &Cost, config: &Config, target: Option<&Config>) -> Result<BTreeMap<String, f64>> {
    let small = speed::training_rate(config)?;
    let large = target.map_or(Ok(small), speed::training_rate)?;
    let rate = |s: &StageCost| if s.stage.starts_with(TARGET) { large } else { small };
    Ok(cost.stages.iter().map(|s| (s.stage.clone(), s.flops / rate(s) / 3600.0)).collect())
}

/// The memory of the training that takes the most.
fn largest_training(study: &Study, config: &Config, target: Option<&Config>, compute: DType) -> Result<MemoryPlan> {
    let small = [study.seed.training.as_ref(), Some(&study.module.training)].map(|s| s.map(|s| (config, s)));
    let large = study.target.as_ref().zip(target);
    let large = large.map(|(t, config)| [&t.seed.training, &t.module.training].map(|s| Some((config, s))));
    let trainings = small.into_iter().chain(large.into_iter().flatten()).flatten();
    let plans: Vec<MemoryPlan> =
        trainings.map(|(config, settings)| memory_plan(config, settings, compute)).collect::<Result<_>>()?;
    plans.into_iter().max_by_key(MemoryPlan::total).ok_or_else(|| Error::usage("the study trains nothing"))
}

/// What a study trains and scores, counted.
struct Counts<'a> {
    study: &'a Study,
    mixtures: &'a [Mixture],
    /// Tokens scored per model
    scored: u64,
}

impl Counts<'_> {
    /// Of one scale; `target` says whether the larger model has modules.
    fn stages(&self, config: &Config, seed: Option<&Settings>, module: &Settings, target: Option<bool>) -> TargetPlan {
        let train = |models: u64, windows: u64| {
            let tokens = windows * config.context as u64;
            Work { models, tokens, flops: tokens as f64 * config.training_flops_per_token() }
        };
        let has_modules = target != Some(false);
        let each = module.windows();
        let (models, units) = if has_modules { self.modules() } else { (0, 0) };
        let (again_models, again_units) = if target.is_none() { self.repeated_modules() } else { (0, 0) };
        let trained = |m: &&Mixture| target.is_none() || m.target;
        let repeats = |m: &Mixture| if target.is_none() { m.repeats } else { 1 };
        let seqs = || self.mixtures.iter().filter(trained);
        let merges = match target {
            None => self.merges(),
            Some(_) if has_modules => seqs().count() as u64,
            Some(_) => 0,
        };
        let tokens = merges.saturating_mul(self.scored);
        TargetPlan {
            parameters: 0,
            seed: seed.map_or(Work::default(), |s| train(1, s.windows())),
            modules: train(models + again_models, (units + again_units) * each),
            seq: train(
                seqs().map(repeats).sum(),
                seqs().map(|m| repeats(m) * seq_units(self.study, m)).sum::<u64>() * each,
            ),
            merged: Work { models: merges, tokens, flops: tokens as f64 * config.forward_flops_per_token() },
        }
    }

    /// Modules of whole partitions and of base units: how many, and of how many units in all.
    fn modules(&self) -> (u64, u64) {
        let each = self.study.partition.iter().map(Source::units).map(|u| if u > 1 { (1 + u, 2 * u) } else { (1, 1) });
        each.fold((0, 0), |(models, units), (m, u)| (models + m, units + u))
    }

    fn repeated_modules(&self) -> (u64, u64) {
        let most = self.mixtures.iter().map(|m| m.repeats).max().unwrap_or(1);
        let held = |repeat: u64| -> BTreeSet<&String> {
            self.mixtures.iter().filter(|m| m.repeats > repeat).flat_map(|m| m.members.keys()).collect()
        };
        let units = |names: BTreeSet<&String>| names.iter().map(|name| self.study.units(name)).sum::<u64>();
        (1..most).map(held).map(|names| (names.len() as u64, units(names))).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    /// Merges scored.
    fn merges(&self) -> u64 {
        // A lambda of 1 is MERGED.
        let lambdas = self.study.proxies.lambdas.iter().filter(|l| **l != 1.0).count();
        let per_mixture = |m: &Mixture| {
            let has_units = m.members.keys().any(|name| self.study.units(name) > 1);
            // Without copies, the two merges of base units are one.
            let of_units = if !has_units {
                0
            } else if self.study.mixtures.upsample {
                2
            } else {
                1
            };
            m.repeats + of_units + lambdas as u64
        };
        let connectivity = &self.study.connectivity;
        let (pairs, ends) = merges::connections(self.study);
        let inner = (connectivity.points - 2) * (pairs.len() + ends.len());
        self.mixtures.iter().map(per_mixture).sum::<u64>() + self.study.proxies.laws as u64 + inner as u64
    }
}

/// Base units, copies included, that SEQ on a mixture is trained on.
pub fn seq_units(study: &Study, mixture: &Mixture) -> u64 {
    let copies = |name: &String| mixture.copies.as_ref().map_or(1, |copies| copies[name]);
    mixture.members.keys().map(|name| copies(name) * study.units(name)).sum()
}

/// The study's cost by stage, and that of its mixtures both ways, with `scored` tokens scored per model.
pub fn cost(study: &Study, config: &Config, target: Option<&Config>, mixtures: &[Mixture], scored: u64) -> Cost {
    let counts = Counts { study, mixtures, scored };
    let small = counts.stages(config, study.seed.training.as_ref(), &study.module.training, None);
    // Modules of base units are merged, and not scored themselves.
    let units: u64 = study.partition.iter().map(Source::units).filter(|u| *u > 1).sum();
    let mut stages = stage_costs("", config, &small, scored, units);
    if let Some((t, config)) = study.target.as_ref().zip(target) {
        let large = counts.stages(config, Some(&t.seed.training), &t.module.training, Some(t.modules));
        stages.extend(stage_costs(TARGET, config, &large, scored, if t.modules { units } else { 0 }));
    }
    let unit = study.module.training.windows() as f64 * config.context as f64 * config.training_flops_per_token();
    let merges = mixtures.len() as f64 * scored as f64 * config.forward_flops_per_token();
    let naive: u64 = mixtures.iter().map(|m| seq_units(study, m)).sum();
    let at_target = study.target.as_ref().zip(target).map(|(t, config)| {
        t.module.training.windows() as f64 * config.context as f64 * config.training_flops_per_token()
    });
    Cost {
        modular_flops: counts.modules().1 as f64 * unit + merges,
        naive_flops: naive as f64 * unit,
        merging_flops: merges,
        target_naive_flops: at_target.map(|unit| naive as f64 * unit),
        stages,
        curves: (2..=30).map(|n| cost_point(n, unit)).collect(),
    }
}

/// `unscored` of the modules are not scored.
fn stage_costs(prefix: &str, config: &Config, plan: &TargetPlan, scored: u64, unscored: u64) -> Vec<StageCost> {
    let stage = |name: &str, work: Work| {
        let Work { models, tokens, flops } = work;
        StageCost { stage: format!("{prefix}{name}"), models, tokens, flops }
    };
    let models = 1 + plan.modules.models - unscored + plan.seq.models + plan.merged.models;
    let tokens = models.saturating_mul(scored);
    let scoring = Work { models, tokens, flops: tokens as f64 * config.forward_flops_per_token() };
    vec![stage("seed", plan.seed), stage("modules", plan.modules), stage("seq", plan.seq), stage("scoring", scoring)]
}

/// What n partitions of one base unit each take, in trainings of `unit` FLOPs a base unit; merges and scores left out.
fn cost_point(partitions: u64, unit: f64) -> CostPoint {
    let n = partitions as f64;
    CostPoint {
        partitions,
        modular: n * unit,
        pairs: n * (n - 1.0) / 2.0 * 2.0 * unit,
        triples: n * (n - 1.0) * (n - 2.0) / 6.0 * 3.0 * unit,
        // The sum of k times (n over k).
        subsets: n * (n - 1.0).exp2() * unit,
    }
}

/// The larger model, under a tokenizer of this size.
pub fn target_config(study: &Study, vocabulary: usize, eos: u32) -> Result<Option<Config>> {
    study.target.as_ref().map(|t| t.model.config(vocabulary, eos)).transpose()
}

/// The model that the study trains; a tokenizer that is yet to be trained is taken at its full size.
fn model_config(study: &Study) -> Result<Config> {
    if let Some(directory) = &study.seed.checkpoint {
        return super::prepare::checkpoint_config(study, directory);
    }
    let (model, tokenizer) = study.model_and_tokenizer()?;
    match (&tokenizer.file, tokenizer.vocabulary) {
        (Some(file), _) => {
            let tokenizer = Tokenizer::load(file, None)?;
            model.config(tokenizer.vocabulary(), tokenizer.eos())
        }
        (None, vocabulary) => model.config(vocabulary.unwrap_or(0), 0),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "study {}: {} partitions, {} domains", self.study, self.partitions, self.domains)?;
        let millions = self.parameters as f64 / 1e6;
        writeln!(f, "model: {millions:.2}M parameters, vocabulary {}, context {}", self.vocabulary, self.context)?;
        writeln!(f, "\n{:8}  {:>6}  {:>10}  {:>9}", "stage", "models", "tokens", "TFLOP")?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, work: Work| {
            let (tokens, tflop) = (work.tokens as f64 / 1e6, work.flops / 1e12);
            writeln!(f, "{name:8}  {:>6}  {tokens:>9.2}M  {tflop:>9.3}", work.models)
        };
        for (name, work) in [("seed", self.seed), ("modules", self.modules), ("SEQ", self.seq), ("MERGED", self.merged)]
        {
            row(f, name, work)?;
        }
        if let Some(t) = &self.target {
            writeln!(f, "\nlarger model: {:.2}M parameters", t.parameters as f64 / 1e6)?;
            for (name, work) in [("seed", t.seed), ("modules", t.modules), ("SEQ", t.seq), ("MERGED", t.merged)] {
                row(f, name, work)?;
            }
        }
        let mut groups: Vec<(&str, usize)> = Vec::new();
        for mixture in &self.mixtures {
            match groups.iter_mut().find(|(g, _)| *g == mixture.group) {
                Some((_, n)) => *n += 1,
                None => groups.push((&mixture.group, 1)),
            }
        }
        if self.merged.models > 0 && self.merged.tokens == 0 {
            writeln!(
                f,
                "\nscoring is not counted: how much text is scored is known once it is tokenized, or from `evaluation.tokens`"
            )?;
        }
        let groups: Vec<String> = groups.iter().map(|(group, n)| format!("{n} {group}")).collect();
        writeln!(
            f,
            "\nmixtures verified by SEQ: {}",
            if groups.is_empty() { "none".into() } else { groups.join(", ") }
        )?;
        let (modular, naive) = (self.cost.modular_flops / 1e12, self.cost.naive_flops / 1e12);
        writeln!(f, "to know them all: {modular:.3} TFLOP by modules and merges, {naive:.3} TFLOP by training each")?;
        writeln!(f, "about {:.2} hours in all on this machine's CPU", self.estimated_hours)?;
        write!(f, "memory of the largest training on the CPU: {}", self.cpu_memory)?;
        match &self.gpu_memory {
            Some(plan) => write!(f, "\n                         on a GPU: {plan}"),
            None => write!(f, "\n                         on a GPU: no kernels for heads of this width"),
        }
    }
}
