//! What a study will train, merge and score, and what that costs, before anything is run.

use super::mixtures::{Mixture, mixtures};
use super::settings::Study;
use crate::data::Tokenizer;
use crate::device::{DType, Device};
use crate::error::Result;
use crate::model::{Config, MemoryPlan, Table};
use crate::ops::matmul_rate;
use crate::train::memory_plan;
use serde::Serialize;
use std::fmt;

/// Trainings of one kind, together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Work {
    pub models: u64,
    pub tokens: u64,
    pub flops: f64,
}

/// The two ways to know all of a study's mixtures. The seed is needed by both and counted in neither.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// One module per partition, and a merge of each mixture scored.
    pub modular_flops: f64,
    /// One training per mixture.
    pub naive_flops: f64,
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
    /// Merges scored; their flops are bounded by `evaluation.tokens` per domain where that is set.
    pub merged: Work,
    pub cost: Cost,
    /// Hours of all of the above on this machine's CPU, from the speed of a matrix product measured just now and
    /// half of it reached.
    pub estimated_hours: f64,
    /// What the largest training takes of the memory of the CPU's machine.
    pub cpu_memory: MemoryPlan,
    /// And of a GPU's; none where there are no kernels for the model.
    pub gpu_memory: Option<MemoryPlan>,
}

/// The share of a plain matrix product's speed that training reaches.
const REACHED: f64 = 0.5;

impl Plan {
    pub fn new(study: &Study) -> Result<Plan> {
        let config = model_config(study)?;
        let mixtures = mixtures(study);
        let domains = study.partition.len() + study.ood.len();
        let seed = study.seed.training.as_ref().map_or(Work::default(), |s| train_work(&config, 1, s.windows()));
        let budget = study.module.training.windows();
        let members: u64 = mixtures.iter().map(|m| m.members.len() as u64).sum();
        let modules = train_work(&config, study.partition.len() as u64, study.partition.len() as u64 * budget);
        let seq = train_work(&config, mixtures.len() as u64, members * budget);
        let merged = score_work(&config, mixtures.len() as u64, domains, study.evaluation.tokens);
        let cost = Cost { modular_flops: modules.flops + merged.flops, naive_flops: seq.flops };
        let scored =
            score_work(&config, 1 + modules.models + seq.models + merged.models, domains, study.evaluation.tokens);
        let flops = seed.flops + modules.flops + seq.flops + scored.flops;
        Ok(Plan {
            study: study.name.clone(),
            parameters: Table::new(&config).len as u64,
            context: config.context,
            vocabulary: config.vocabulary,
            partitions: study.partition.len(),
            domains,
            mixtures,
            seed,
            modules,
            seq,
            merged,
            cost,
            estimated_hours: flops / (REACHED * matmul_rate(&mut Device::cpu())?) / 3600.0,
            cpu_memory: largest_training(study, &config, DType::F32)?,
            gpu_memory: largest_training(study, &config, DType::Bf16).ok(),
        })
    }
}

/// The memory of the seed's training or of a module's, whichever is more.
fn largest_training(study: &Study, config: &Config, compute: DType) -> Result<MemoryPlan> {
    let module = memory_plan(config, &study.module.training, compute)?;
    let Some(seed) = &study.seed.training else { return Ok(module) };
    let seed = memory_plan(config, seed, compute)?;
    Ok(if seed.total() > module.total() { seed } else { module })
}

/// The cost of the study's mixtures both ways, with `tokens` scored per model.
pub fn cost(study: &Study, config: &Config, mixtures: &[Mixture], tokens: u64) -> Cost {
    let budget = study.module.training.windows();
    let members: u64 = mixtures.iter().map(|m| m.members.len() as u64).sum();
    let modules = train_work(config, study.partition.len() as u64, study.partition.len() as u64 * budget);
    let scoring = mixtures.len() as f64 * tokens as f64 * config.forward_flops_per_token();
    let naive_flops = train_work(config, mixtures.len() as u64, members * budget).flops;
    Cost { modular_flops: modules.flops + scoring, naive_flops }
}

fn train_work(config: &Config, models: u64, windows: u64) -> Work {
    let tokens = windows * config.context as u64;
    Work { models, tokens, flops: tokens as f64 * config.training_flops_per_token() }
}

fn score_work(config: &Config, models: u64, domains: usize, tokens_per_domain: u64) -> Work {
    // Without a bound the tokens are known only once the text is tokenized.
    let per_model = if tokens_per_domain == u64::MAX { 0 } else { tokens_per_domain.saturating_mul(domains as u64) };
    let tokens = models.saturating_mul(per_model);
    Work { models, tokens, flops: tokens as f64 * config.forward_flops_per_token() }
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
        for (name, work) in [("seed", self.seed), ("modules", self.modules), ("SEQ", self.seq), ("MERGED", self.merged)]
        {
            let (tokens, tflop) = (work.tokens as f64 / 1e6, work.flops / 1e12);
            writeln!(f, "{name:8}  {:>6}  {tokens:>9.2}M  {tflop:>9.3}", work.models)?;
        }
        let mut groups: Vec<(&str, usize)> = Vec::new();
        for mixture in &self.mixtures {
            match groups.iter_mut().find(|(g, _)| *g == mixture.group) {
                Some((_, n)) => *n += 1,
                None => groups.push((&mixture.group, 1)),
            }
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
