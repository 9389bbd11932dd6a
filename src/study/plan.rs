//! Plans: the work of a study and its cost, summed over its tasks before anything runs.

use super::graph::{Graph, Role, Stage, SubjectWeights, Task, Work, stage_name};
use super::mixtures::Mixture;
use super::objectives::objectives;
use super::prepare::Prepared;
use super::scale::{Scale, ScaleSettings};
use super::settings::Study;
use super::speed;
use super::store::Store;
use crate::analysis::{Cost, CostPoint, MERGED, StageCost};
use crate::engine::device::DType;
use crate::engine::model::{MemoryPlan, Table};
use crate::engine::train::memory_plan;
use crate::error::{Error, Result};
use crate::search::MOST_PARTITIONS;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The sum of all trainings or scorings of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct StageWork {
    /// Models trained, or models and merges scored.
    pub models: u64,
    /// Tokens trained on, or scored.
    pub tokens: u64,
    /// FLOPs of these trainings or scorings.
    pub flops: f64,
}

impl StageWork {
    fn of<'a>(tasks: impl Iterator<Item = &'a Task>) -> StageWork {
        tasks.fold(StageWork::default(), |sum, task| StageWork {
            models: sum.models + 1,
            tokens: sum.tokens.saturating_add(task.tokens),
            flops: sum.flops + task.flops,
        })
    }
}

/// The trainings, merges and scores of a study, and their cost.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The study's name.
    pub study: String,
    /// Parameters of the small model.
    pub parameters: u64,
    /// The context length of the small model, in tokens.
    pub context: usize,
    /// Tokens of the tokenizer; the requested size if it is not trained yet.
    pub vocabulary: usize,
    /// Number of partitions.
    pub partitions: usize,
    /// Evaluation sets: the partitions' held-out text and the OOD sets.
    pub domains: usize,
    /// The mixtures verified by SEQ.
    pub mixtures: Vec<Mixture>,
    /// The seed's training; empty if the seed is a given checkpoint.
    pub seed: StageWork,
    /// Trainings on partitions and on their base units, repeats included.
    pub modules: StageWork,
    /// Trainings on mixtures, repeats included.
    pub seq: StageWork,
    /// Merges scored. Tokens are 0 if the amount of text is unknown: not tokenized yet, and
    /// `evaluation.tokens` is not set.
    pub merged: StageWork,
    /// The search: merges scored and gradients, about. Tokens are 0 where those of `merged` are.
    pub search: StageWork,
    /// The larger model, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetPlan>,
    /// FLOPs of each stage, and of scoring the mixtures both ways.
    pub cost: Cost,
    /// Total hours on this machine's CPU, at the speed of a training pass measured now.
    pub estimated_hours: f64,
    /// Hours of each stage of `cost`.
    pub hours: BTreeMap<String, f64>,
    /// Memory of the largest training on the CPU.
    pub cpu_memory: MemoryPlan,
    /// Memory of the largest training on a GPU; `None` if there are no kernels for the model.
    pub gpu_memory: Option<MemoryPlan>,
}

/// The work on the larger model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TargetPlan {
    /// Parameters of the larger model.
    pub parameters: u64,
    /// The training of its own seed.
    pub seed: StageWork,
    /// Trainings of its modules; empty unless the study has `target.modules`.
    pub modules: StageWork,
    /// Trainings on mixtures.
    pub seq: StageWork,
    /// Merges of its modules that are scored.
    pub merged: StageWork,
}

impl Plan {
    /// The plan of a study whose text need not be read.
    pub fn new(study: &Study) -> Result<Plan> {
        let store = Store { root: PathBuf::new() };
        Plan::of(study, &Graph::new(study, store, Prepared::expected(study)?, "")?)
    }

    /// The plan of all tasks of `graph`.
    pub fn of(study: &Study, graph: &Graph) -> Result<Plan> {
        let config = &graph.settings(Scale::Small).config;
        let cost = cost(study, graph);
        let search = search(study, graph)?;
        let hours = hours(&cost, &search, graph)?;
        let trained = |scale, stage| StageWork::of(graph.stage(scale, stage));
        let merged = |scale| StageWork::of(graph.stage(scale, Stage::Scoring).filter(|task| is_merge(graph, task)));
        let target = graph.scales.iter().find(|s| s.scale == Scale::Target).map(|s| TargetPlan {
            parameters: Table::new(&s.config).len as u64,
            seed: trained(s.scale, Stage::Seed),
            modules: trained(s.scale, Stage::Modules),
            seq: trained(s.scale, Stage::Seq),
            merged: merged(s.scale),
        });
        Ok(Plan {
            study: study.name.clone(),
            parameters: Table::new(config).len as u64,
            context: config.context,
            vocabulary: config.vocabulary,
            partitions: study.partition.len(),
            domains: study.partition.len() + study.ood.len(),
            mixtures: graph.mixtures.clone(),
            seed: trained(Scale::Small, Stage::Seed),
            modules: trained(Scale::Small, Stage::Modules),
            seq: trained(Scale::Small, Stage::Seq),
            merged: merged(Scale::Small),
            search,
            target,
            cost,
            estimated_hours: hours.values().sum(),
            hours,
            cpu_memory: largest_training(graph, DType::F32)?,
            gpu_memory: largest_training(graph, DType::Bf16).ok(),
        })
    }
}

fn is_merge(graph: &Graph, task: &Task) -> bool {
    let Work::Score(subject) = task.work else { return false };
    matches!(graph.subjects[subject].weights, SubjectWeights::Merge(_))
}

/// Hours of each stage on this machine's CPU.
fn hours(cost: &Cost, search: &StageWork, graph: &Graph) -> Result<BTreeMap<String, f64>> {
    let mut hours = BTreeMap::new();
    for settings in &graph.scales {
        let rate = speed::training_rate(&settings.config)?;
        if settings.scale == Scale::Small {
            hours.insert("search".to_string(), search.flops / rate / 3600.0);
        }
        for stage in Stage::ALL.map(|stage| stage_name(settings.scale, stage)) {
            let flops = cost.stages.iter().find(|s| s.stage == stage).map_or(0.0, |s| s.flops);
            hours.insert(stage, flops / rate / 3600.0);
        }
    }
    Ok(hours)
}

/// Merges that a search lists besides subsets, and scores to find them, about.
const OTHER_MERGES: usize = 40;

/// The work of a search: about 3 (n + 1) gradients, and merges that are held out, listed, or tried
/// under each lambda of the calibration.
fn search(study: &Study, graph: &Graph) -> Result<StageWork> {
    let (n, settings) = (study.partition.len(), &study.search);
    if n > MOST_PARTITIONS {
        return Ok(StageWork::default());
    }
    let domains = objectives(study, graph)?.domains;
    let scored = |d: &usize| &graph.prepared.manifest.domains[*d].shard;
    let tokens: u64 = domains.iter().map(scored).map(|shard| shard.tokens - shard.documents).sum();
    let gradients = 3 * (n + 1);
    let merges = settings.held_out + settings.listed + OTHER_MERGES + 10 * settings.calibrate;
    // A gradient is a forward and a backward pass, of twice the work.
    let passes = (3 * gradients + merges) as f64;
    Ok(StageWork {
        models: (gradients + merges) as u64,
        tokens: tokens.saturating_mul((gradients + merges) as u64),
        flops: passes * tokens as f64 * graph.settings(Scale::Small).config.forward_flops_per_token(),
    })
}

/// Memory of the training that needs the most.
fn largest_training(graph: &Graph, compute: DType) -> Result<MemoryPlan> {
    let trainings = |s: &ScaleSettings| -> Vec<_> {
        let settings = s.seed.iter().chain(std::iter::once(&s.module));
        settings.map(|settings| memory_plan(&s.config, settings, compute)).collect()
    };
    let plans: Vec<MemoryPlan> = graph.scales.iter().flat_map(trainings).collect::<Result<_>>()?;
    plans.into_iter().max_by_key(MemoryPlan::total).ok_or_else(|| Error::usage("the study trains nothing"))
}

/// The study's cost by stage, and the cost of scoring its mixtures both ways.
pub fn cost(study: &Study, graph: &Graph) -> Cost {
    let small = graph.settings(Scale::Small);
    let per_token = small.config.training_flops_per_token();
    let small_roles = graph.roles.iter().filter(|(scale, ..)| *scale == Scale::Small);
    // Only first trainings and merges count: repeats measure noise and belong to neither way.
    let modules: u64 = (small_roles.clone())
        .filter(|(_, role, _)| matches!(role, Role::Module { repeat: 0, .. } | Role::Unit { .. }))
        .filter_map(|(.., subject)| Some(graph.training(*subject)?.tokens))
        .sum();
    let merges = small_roles.filter(|(_, role, _)| matches!(role, Role::Merged { proxy: MERGED, repeat: 0, .. }));
    let merging_flops = (merges.count() as u64).saturating_mul(graph.prepared.scored_tokens()) as f64
        * small.config.forward_flops_per_token();
    let naive = |s: &ScaleSettings| {
        let tokens: u64 = graph.mixtures.iter().map(|m| s.unit_tokens(m.units(study))).sum();
        tokens as f64 * s.config.training_flops_per_token()
    };
    let stages = |s: &ScaleSettings| {
        let scale = s.scale;
        Stage::ALL.map(|stage| {
            let StageWork { models, tokens, flops } = StageWork::of(graph.stage(scale, stage));
            StageCost { stage: stage_name(scale, stage), models, tokens, flops }
        })
    };
    Cost {
        modular_flops: modules as f64 * per_token + merging_flops,
        naive_flops: naive(small),
        merging_flops,
        target_naive_flops: graph.scales.iter().find(|s| s.scale == Scale::Target).map(naive),
        stages: graph.scales.iter().flat_map(stages).collect(),
        curves: (2..=30).map(|n| cost_point(n, small.unit_tokens(1) as f64 * per_token)).collect(),
    }
}

/// Training cost of n partitions of one base unit each, at `unit` FLOPs per base unit, without
/// merges and scores.
fn cost_point(partitions: u64, unit: f64) -> CostPoint {
    let n = partitions as f64;
    CostPoint {
        partitions,
        modular: n * unit,
        pairs: n * (n - 1.0) / 2.0 * 2.0 * unit,
        triples: n * (n - 1.0) * (n - 2.0) / 6.0 * 3.0 * unit,
        // The sum of k times (n choose k).
        subsets: n * (n - 1.0).exp2() * unit,
    }
}

/// A duration in the unit that suits it.
fn duration(hours: f64) -> String {
    match hours {
        h if h < 1.0 / 60.0 => format!("{:.0} s", h * 3600.0),
        h if h < 1.0 => format!("{:.0} min", h * 60.0),
        h if h < 100.0 => format!("{h:.1} h"),
        h if h < 2.0 * 8766.0 => format!("{:.0} days", h / 24.0),
        h => format!("{:.0} years", h / 8766.0),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "study {}: {} partitions, {} domains", self.study, self.partitions, self.domains)?;
        let millions = self.parameters as f64 / 1e6;
        writeln!(f, "model: {millions:.2}M parameters, vocabulary {}, context {}", self.vocabulary, self.context)?;
        writeln!(f, "\n{:8}  {:>6}  {:>10}  {:>9}", "stage", "models", "tokens", "TFLOP")?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, work: StageWork| {
            let (tokens, tflop) = (work.tokens as f64 / 1e6, work.flops / 1e12);
            writeln!(f, "{name:8}  {:>6}  {tokens:>9.2}M  {tflop:>9.3}", work.models)
        };
        for (name, work) in [
            ("seed", self.seed),
            ("modules", self.modules),
            ("SEQ", self.seq),
            ("MERGED", self.merged),
            ("search", self.search),
        ] {
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
                "\nscoring is not counted: the amount of text is unknown until it is tokenized, unless \
                 `evaluation.tokens` is set"
            )?;
        }
        let name = |group: &str, n: usize| match (group, n) {
            ("pairs" | "triples", 1) => group.trim_end_matches('s').to_string(),
            (budget, _) if budget.starts_with("budget ") => format!("of {budget}"),
            _ => group.to_string(),
        };
        let groups: Vec<String> = groups.iter().map(|(group, n)| format!("{n} {}", name(group, *n))).collect();
        writeln!(
            f,
            "\nmixtures verified by SEQ: {}",
            if groups.is_empty() { "none".into() } else { groups.join(", ") }
        )?;
        let (modular, naive) = (self.cost.modular_flops / 1e12, self.cost.naive_flops / 1e12);
        writeln!(
            f,
            "cost of scoring all of them: {modular:.3} TFLOP by training modules and merging, \
             {naive:.3} TFLOP by training each"
        )?;
        writeln!(f, "estimated time on this machine's CPU: {}", duration(self.estimated_hours))?;
        write!(f, "memory of the largest training on the CPU: {}", self.cpu_memory)?;
        match &self.gpu_memory {
            Some(plan) => write!(f, "\n                         on a GPU: {plan}"),
            None => write!(f, "\n                         on a GPU: no kernels for heads of this width"),
        }
    }
}
