//! The search of a study: its modules as a pool of merges, its SEQ runs of the search's budget as
//! the calibration, its text as caps; the result in `search.json` and `recipe.toml`.

mod answer;
mod earlier;
mod merges;
mod problem;
mod recipe;

use super::graph::{Graph, Role, Stage};
use super::mixtures::{Mixture, random_weights};
use super::objectives::{Objectives, objectives};
use super::scale::Scale;
use super::score::score_models;
use super::settings::{GivenMixture, MixtureSettings, SearchSettings, Study};
use super::store::{Store, key};
use super::train::{OpenStudy, train_stage};
use super::workers::Resources;
use crate::analysis::{ModuleEffects, RecipeBefore, SearchSummary};
use crate::engine::device::DeviceSpec;
use crate::error::{Error, Result};
use crate::files;
use crate::recipe::{ExpectedScores, MixtureRecipe};
use crate::search::{self, Calibration, Candidate, DocumentNats, FEWEST, Merges, Outcome, SeqRun, Verified};
use earlier::{EarlierSearch, PoolKeys};
use merges::{StudyMerges, document_nats};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Incremented when a code change alters what a search finds.
const SEARCH_VERSION: u32 = 2;
/// Lambdas that are tried, up to twice the budget.
const LAMBDAS: [f64; 10] = [0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0];

/// The extent of a search and its resources. What is searched for is the study's `[search]`.
pub struct SearchOptions<'a> {
    /// CPU threads, divided among the workers.
    pub threads: usize,
    /// The device to compute on.
    pub spec: DeviceSpec,
    /// SEQ runs to verify the search with, all together; 0 trains none.
    pub verify: usize,
    /// Mixtures whose score is asked for.
    pub asked: &'a [BTreeMap<String, f64>],
    /// Whether the settings are not those of the study file.
    pub overridden: bool,
}

/// The content of `search.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SearchReport {
    /// The study's name.
    pub study: String,
    /// Version of the program.
    pub version: String,
    /// The kind of device that computed.
    pub device: String,
    /// The models that it merged.
    pub pool: PoolKeys,
    /// The settings of the search.
    pub settings: SearchSettings,
    /// Whether options replaced settings of the study file.
    pub overridden: bool,
    /// Length of the SEQ runs that the answer is for, in trainings of one base unit.
    pub budget: u64,
    /// (n) Training tokens of each partition.
    pub partition_tokens: Vec<u64>,
    /// How merges follow SEQ runs of this budget; `None` with fewer than four of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Whether lambda is the calibrated one; otherwise it was given, or is 1.
    pub lambda_calibrated: bool,
    /// The SEQ runs of this budget.
    pub verified: Vec<Verified>,
    /// What was found.
    pub outcome: Outcome,
    /// Bits per byte of the best mixture, the baselines and those asked for on every domain of the
    /// study, by real merges: name of the mixture -> domain -> bits per byte.
    pub all_domains: BTreeMap<String, BTreeMap<String, f64>>,
    /// The mixtures that `--verify` trained, with what was predicted before.
    pub verification: Vec<Verification>,
    /// What a report shows of it.
    pub summary: SearchSummary,
    /// The chosen mixture.
    pub recipe: MixtureRecipe,
    /// Where it is.
    #[serde(skip)]
    pub recipe_path: String,
}

/// A mixture that a search chose to verify by SEQ. What is predicted was written before SEQ was
/// trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// `best`, `natural`, ...
    pub name: String,
    /// Partition -> weight.
    pub members: BTreeMap<String, f64>,
    /// Length of SEQ, in trainings of one base unit.
    pub budget: u64,
    /// The objective, as the study file or the command line gives it.
    pub objective: String,
    /// Lambda of the merge.
    pub lambda: f64,
    /// The merge's objective; absent for random mixtures, which no merge was scored of.
    pub merged: Option<f64>,
    /// SEQ's expected objective, where SEQ runs calibrated it.
    pub expected: Option<f64>,
    /// 95% interval of a single training.
    #[serde(default)]
    pub low: Option<f64>,
    /// The upper end of that interval.
    #[serde(default)]
    pub high: Option<f64>,
    /// What SEQ reached. Not kept in the file of predictions, but read from its scores.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub seq: Option<f64>,
}

/// Searches, and writes `search.json` and `recipe.toml`. Trains the seed and the modules if they
/// are missing, and SEQ runs only for `verify`.
pub fn search(study: &Study, root: &Path, options: &SearchOptions) -> Result<SearchReport> {
    let (open, mut graph) = OpenStudy::new(study, root, options.threads, &options.spec)?;
    let resources = open.resources();
    // Names and bounds are refused before anything is trained.
    let mut search = StudySearch::new(study, &mut graph, &resources, options.asked)?;
    let small = search.graph.settings(Scale::Small).clone();
    for stage in [Stage::Seed, Stage::Modules] {
        train_stage(search.graph, &resources, &small, stage)?;
    }
    let mut report = search.once()?;
    if options.verify > 0 {
        let path = predictions_path(&search.graph.store);
        let mut list = read_predictions(&path)?;
        search.choose_verifications(&mut list, &report, options.verify);
        // Predictions are on disk before SEQ is trained.
        write_json(&path, &list)?;
        search.train(&list)?;
        report = search.once()?;
    }
    report.overridden = options.overridden;
    report.write(&search.graph.store)?;
    Ok(report)
}

/// Refuses a search that cannot be made.
pub fn check(study: &Study, graph: &mut Graph, resources: &Resources) -> Result<()> {
    StudySearch::new(study, graph, resources, &[]).map(|_| ())
}

/// The search of a run, whose models are all trained and scored. A search that was made with options
/// on the same models and data is kept: its recipe may be in use.
pub fn search_models(study: &Study, graph: &mut Graph, resources: &Resources) -> Result<()> {
    if earlier::is_overridden(&pool(study, graph), &graph.store) {
        let message = "the search that was made with options is kept; `stockpot search` without options replaces it";
        resources.progress.line(message);
        return Ok(());
    }
    StudySearch::new(study, graph, resources, &[])?.once()?.write(&graph.store)
}

struct StudySearch<'a> {
    study: &'a Study,
    graph: &'a mut Graph,
    resources: &'a Resources<'a>,
    objectives: Objectives,
    asked: Vec<Vec<f64>>,
}

impl<'a> StudySearch<'a> {
    fn new(
        study: &'a Study,
        graph: &'a mut Graph,
        resources: &'a Resources<'a>,
        asked: &[BTreeMap<String, f64>],
    ) -> Result<StudySearch<'a>> {
        let objectives = objectives(study, graph)?;
        let asked = asked.iter().map(|members| problem::weights(study, members)).collect::<Result<Vec<_>>>()?;
        problem::problem(study, graph, &objectives, 1.0, vec![])?.check()?;
        Ok(StudySearch { study, graph, resources, objectives, asked })
    }

    /// One search with everything that is known now.
    fn once(&mut self) -> Result<SearchReport> {
        let settings = self.study.search.clone();
        let list = read_predictions(&predictions_path(&self.graph.store))?;
        let mut verified = self.verified(&list)?;
        let calibration = self.calibration(&verified)?;
        let calibrated = settings.lambda.is_none() && calibration.as_ref().is_some_and(|c| c.pearson.is_some());
        let lambda = match &calibration {
            Some(c) => c.lambda,
            None => settings.lambda.unwrap_or(1.0),
        };
        let asked = self.asked.iter().map(|weights| (String::new(), weights.clone())).collect();
        let mut problem = problem::problem(self.study, self.graph, &self.objectives, lambda, asked)?;
        let names: Vec<String> = problem.asked.iter().map(|(_, weights)| problem.name_of(weights)).collect();
        problem.asked.iter_mut().zip(names).for_each(|(asked, name)| asked.0 = name);
        let target = |v: &&Verified| self.objectives.target.of(&v.losses);
        let best = verified.iter().min_by(|a, b| target(a).total_cmp(&target(b)));
        problem.best_seq = best.map(|best| (best.name.clone(), best.weights.clone()));
        (problem.noise, problem.lambda_calibrated) = (self.noise()?, calibrated);
        let earlier = EarlierSearch::read(&self.graph.store);
        let pool = pool(self.study, self.graph);
        let before = earlier.as_ref().and_then(|e| e.before(&problem.partitions, &self.objective_name()));
        if let Some(before) = &before {
            problem.asked.push((BEFORE.into(), problem::weights(self.study, &before.members)?));
        }
        problem.earlier = earlier.as_ref().and_then(|e| e.base(&pool, &problem.partitions, &self.graph.device, lambda));
        let mut merges = StudyMerges::new(self.study, self.graph, self.resources, &self.objectives.domains);
        problem.runs = seq_runs(&mut merges, &mut verified, &self.objectives, lambda)?;
        let outcome = search::search(&problem, &mut merges)?;
        let all_domains = self.on_all_domains(lambda, &outcome)?;
        let effects = self.effects()?;
        let verification = self.with_seq(list)?;
        // Its score now: domains, lambda and seed may be others than they were.
        let merged = outcome.find("asked", BEFORE).map_or(f64::NAN, |c| c.merged);
        let before = before.map(|before| RecipeBefore { merged, ..before });
        let expected = expected(&outcome);
        let mut recipe = MixtureRecipe {
            directory: self.graph.store.root.clone(),
            study: self.study.name.clone(),
            study_hash: self.hash(&settings, lambda, &outcome.expanded_at),
            objective: self.objective_name(),
            budget: settings.budget,
            lambda,
            tokens: None,
            tokenizer: Some(format!("tokenizers/{}.json", self.graph.prepared.manifest.tokenizer)),
            expected,
            partition: recipe::partitions(self.study, self.graph, &outcome)?,
        };
        recipe.set_tokens(settings.tokens);
        let mut report = SearchReport {
            study: self.study.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            device: self.graph.device.clone(),
            pool,
            overridden: false,
            budget: settings.budget,
            partition_tokens: problem.tokens.iter().map(|tokens| *tokens as u64).collect(),
            settings,
            calibration,
            lambda_calibrated: calibrated,
            verified,
            outcome,
            all_domains,
            verification,
            recipe_path: recipe.path().display().to_string(),
            recipe,
            summary: SearchSummary { effects, before, ..SearchSummary::default() },
        };
        report.summarize();
        Ok(report)
    }

    /// The standard deviation of the objective between repeated SEQ trainings of this budget, pooled
    /// over the mixtures that were repeated; `None` if none was.
    fn noise(&self) -> Result<Option<f64>> {
        let (mut squares, mut freedom) = (0.0, 0usize);
        for (i, mixture) in self.graph.mixtures.iter().enumerate() {
            if mixture.units(self.study) != self.study.search.budget {
                continue;
            }
            let mut values = Vec::new();
            for repeat in 0..mixture.repeats {
                if let Some((losses, _)) = self.seq_scores(self.graph, i, repeat)? {
                    values.push(self.objectives.target.of(&losses));
                }
            }
            let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
            squares += values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
            freedom += values.len().saturating_sub(1);
        }
        Ok((freedom > 0).then(|| (squares / freedom as f64).sqrt()))
    }

    /// What each module does to each domain, in bits per byte against the seed.
    fn effects(&self) -> Result<Vec<ModuleEffects>> {
        let graph = &*self.graph;
        let module = |name: &String| Role::Module { partition: name.clone(), repeat: 0 };
        let subject = |role: &Role| graph.subject(Scale::Small, role);
        let Some(seed) = subject(&Role::Seed) else { return Ok(Vec::new()) };
        let modules: Vec<(&String, usize)> =
            self.study.partition.iter().filter_map(|p| Some((&p.name, subject(&module(&p.name))?))).collect();
        let subjects: BTreeSet<usize> = modules.iter().map(|(_, subject)| *subject).chain([seed]).collect();
        let subjects: Vec<usize> = subjects.into_iter().collect();
        let domains = &graph.prepared.manifest.domains;
        let all: Vec<usize> = (0..domains.len()).collect();
        score_models(graph, Scale::Small, &subjects, &all, self.resources)?;
        let change = |subject: usize, d: usize| -> Result<(String, f64)> {
            let difference = graph.score(subject, d)?.bits_per_byte() - graph.score(seed, d)?.bits_per_byte();
            Ok((domains[d].name.clone(), difference))
        };
        let of = |(name, subject): (&String, usize)| {
            let change = all.iter().map(|&d| change(subject, d)).collect::<Result<_>>()?;
            Ok(ModuleEffects { partition: name.clone(), change })
        };
        modules.into_iter().map(of).collect()
    }

    /// Scores of the best mixture, the baselines and those asked for on every domain.
    fn on_all_domains(&mut self, lambda: f64, outcome: &Outcome) -> Result<BTreeMap<String, BTreeMap<String, f64>>> {
        let names: Vec<String> = self.graph.prepared.manifest.domains.iter().map(|d| d.name.clone()).collect();
        let all: Vec<usize> = (0..names.len()).collect();
        let is_shown =
            |(i, c): &(usize, &Candidate)| *i == outcome.best || ["baseline", "asked"].contains(&c.kind.as_str());
        let shown: Vec<&Candidate> = outcome.candidates.iter().enumerate().filter(is_shown).map(|(_, c)| c).collect();
        let weights: Vec<Vec<f64>> = shown.iter().map(|c| c.weights.clone()).collect();
        let losses = StudyMerges::new(self.study, self.graph, self.resources, &all).losses(lambda, &weights)?;
        let named = |losses: Vec<f64>| names.iter().cloned().zip(losses).collect();
        Ok(shown.iter().map(|c| c.name.clone()).zip(losses.into_iter().map(named)).collect())
    }

    /// Hash of the data, the models, the settings, lambda, and the mixture that forms are expanded at.
    fn hash(&self, settings: &SearchSettings, lambda: f64, base: &[f64]) -> String {
        let modules = self.study.partition.iter().map(|p| Role::Module { partition: p.name.clone(), repeat: 0 });
        let roles = std::iter::once(Role::Seed).chain(modules);
        let keys: Vec<&str> = roles
            .filter_map(|role| self.graph.subject(Scale::Small, &role))
            .map(|subject| self.graph.subjects[subject].key.as_str())
            .collect();
        key("search", SEARCH_VERSION, &(&self.graph.prepared.key, keys, settings, lambda, base))
    }

    /// SEQ runs of the budget that are scored on every domain: those of the study, and those of
    /// earlier verifications.
    fn verified(&self, list: &[Verification]) -> Result<Vec<Verified>> {
        let budget = self.study.search.budget;
        let mut verified: Vec<Verified> = Vec::new();
        let extended = self.extended(list)?;
        for graph in [&*self.graph, &extended] {
            self.score_trained(graph)?;
            for (i, mixture) in graph.mixtures.iter().enumerate().filter(|(_, m)| m.units(self.study) == budget) {
                let Some((losses, documents)) = self.seq_scores(graph, i, 0)? else { continue };
                let weights = problem::weights(self.study, &mixture.members)?;
                if !verified.iter().any(|v| v.weights == weights) {
                    verified.push(Verified { name: mixture.id.clone(), weights, losses, documents, merged: None });
                }
            }
        }
        Ok(verified)
    }

    /// Scores the SEQ runs of the budget that are trained.
    fn score_trained(&self, graph: &Graph) -> Result<()> {
        let is_of_budget = |role: &Role| match role {
            Role::Seq { mixture, .. } => graph.mixtures[*mixture].units(self.study) == self.study.search.budget,
            _ => false,
        };
        let is_trained = |subject: usize| graph.store.model(&graph.subjects[subject].key).exists();
        let trained: BTreeSet<usize> = graph
            .roles
            .iter()
            .filter(|(scale, role, subject)| *scale == Scale::Small && is_of_budget(role) && is_trained(*subject))
            .map(|(.., subject)| *subject)
            .collect();
        let trained: Vec<usize> = trained.into_iter().collect();
        score_models(graph, Scale::Small, &trained, &self.objectives.domains, self.resources)
    }

    /// How merges follow SEQ: under the given lambda, or under that which follows it best.
    fn calibration(&mut self, verified: &[Verified]) -> Result<Option<Calibration>> {
        if verified.len() < FEWEST {
            return Ok(None);
        }
        let search = &self.study.search;
        let lambdas: Vec<f64> = match search.lambda {
            Some(lambda) => vec![lambda],
            None => LAMBDAS.into_iter().filter(|lambda| *lambda <= 2.0 * search.budget as f64).collect(),
        };
        let weights: Vec<Vec<f64>> = verified.iter().map(|v| v.weights.clone()).collect();
        let mut merges = StudyMerges::new(self.study, self.graph, self.resources, &self.objectives.domains);
        merges.say(&format!("merges of {} SEQ runs under {} lambdas", verified.len(), lambdas.len()));
        let merged = lambdas.iter().map(|lambda| merges.losses(*lambda, &weights)).collect::<Result<Vec<_>>>()?;
        Ok(Some(search::calibrate(&self.objectives.target, verified, &lambdas, &merged)))
    }

    /// The study with nothing but these mixtures to verify.
    fn extended(&self, list: &[Verification]) -> Result<Graph> {
        let study = self.verifying(list);
        Graph::new(&study, self.graph.store.clone(), self.graph.prepared.clone(), &self.graph.device)
    }

    fn verifying(&self, list: &[Verification]) -> Study {
        // Predictions outlive the partitions that they are of.
        let is_here =
            |v: &&Verification| v.members.keys().all(|name| self.study.partition.iter().any(|p| p.name == *name));
        let given = |v: &Verification| GivenMixture { members: v.members.clone(), budget: Some(v.budget) };
        let mut study = self.study.clone();
        study.mixture = list.iter().filter(is_here).map(given).collect();
        (study.mixtures, study.target) = (MixtureSettings::default(), None);
        study.search.calibrate = 0;
        (study.proxies.laws, study.proxies.lambdas, study.connectivity.pairs) =
            (0, vec![], super::settings::Count::Number(0));
        study
    }

    /// Trains and scores the SEQ runs of these mixtures that are missing.
    fn train(&self, list: &[Verification]) -> Result<()> {
        let graph = self.extended(list)?;
        let small = graph.settings(Scale::Small).clone();
        train_stage(&graph, self.resources, &small, Stage::Seq)?;
        let seq = graph.roles.iter().filter(|(_, role, _)| matches!(role, Role::Seq { .. }));
        let seq: Vec<usize> = seq.map(|(.., subject)| *subject).collect();
        let domains: Vec<usize> = (0..graph.prepared.manifest.domains.len()).collect();
        score_models(&graph, Scale::Small, &seq, &domains, self.resources)
    }

    /// What SEQ reached, where it is trained.
    fn with_seq(&self, list: Vec<Verification>) -> Result<Vec<Verification>> {
        let graph = self.extended(&list)?;
        let with = |mut v: Verification| {
            if v.objective != self.objective_name() {
                return Ok(v);
            }
            let same = |m: &Mixture| m.members == v.members && m.budget == Some(v.budget);
            let mixture = graph.mixtures.iter().position(same);
            let scores = mixture.map(|i| self.seq_scores(&graph, i, 0)).transpose()?.flatten();
            v.seq = scores.map(|(losses, _)| self.objectives.target.of(&losses));
            Ok(v)
        };
        list.into_iter().map(with).collect()
    }

    /// The objective, as predictions name it.
    fn objective_name(&self) -> String {
        let target = &self.objectives.target;
        if target.worst { format!("worst of {}", target.name) } else { target.name.clone() }
    }

    /// The scores of SEQ on a mixture on the objectives' domains, if they exist: bits per byte, and
    /// the nats of each document.
    fn seq_scores(&self, graph: &Graph, mixture: usize, repeat: u64) -> Result<Option<(Vec<f64>, DocumentNats)>> {
        let Some(seq) = graph.subject(Scale::Small, &Role::Seq { mixture, repeat }) else { return Ok(None) };
        let domains = &self.objectives.domains;
        if !domains.iter().all(|&d| graph.score_path(seq, d).exists()) {
            return Ok(None);
        }
        let losses = domains.iter().map(|&d| Ok(graph.score(seq, d)?.bits_per_byte())).collect::<Result<_>>()?;
        Ok(Some((losses, document_nats(graph, seq, domains)?)))
    }

    /// Adds mixtures to `list` until it has `wanted` of this budget: the best, baselines, the best of
    /// other kinds, then random ones.
    fn choose_verifications(&self, list: &mut Vec<Verification>, report: &SearchReport, wanted: usize) {
        let budget = self.study.search.budget;
        let outcome = &report.outcome;
        let kinds = ["baseline", "subset", "unconstrained", "units", "front", "path"];
        let named = |c: &Candidate| match c.kind.as_str() {
            "baseline" => c.name.clone(),
            kind => format!("{kind}: {}", c.name),
        };
        let mut options: Vec<(String, Vec<f64>, Option<usize>)> =
            vec![("best".into(), outcome.best().weights.clone(), Some(outcome.best))];
        for kind in kinds {
            let all = outcome.candidates.iter().enumerate().filter(|(_, c)| c.kind == kind);
            let all = all.take(if kind == "baseline" { usize::MAX } else { 1 });
            options.extend(all.map(|(at, c)| (named(c), c.weights.clone(), Some(at))));
        }
        let names: Vec<&str> = self.study.partition.iter().map(|p| p.name.as_str()).collect();
        let named_weights = |weights: &[f64]| -> BTreeMap<String, f64> {
            let inside = names.iter().zip(weights).filter(|(_, w)| **w > 0.0);
            inside.map(|(name, w)| (name.to_string(), *w)).collect()
        };
        let verified: Vec<BTreeMap<String, f64>> = report.verified.iter().map(|v| named_weights(&v.weights)).collect();
        let objective = self.objective_name();
        let is_own = |v: &&Verification| v.budget == budget && v.objective == objective;
        let count = |list: &[Verification]| list.iter().filter(is_own).count();
        let mut add = |name: String, members: BTreeMap<String, f64>, candidate: Option<usize>| {
            let listed = list.iter().filter(is_own).map(|v| &v.members);
            let is_new = !listed.chain(&verified).any(|known| distance(known, &members) < NEARLY_EQUAL);
            if count(list) < wanted && is_new {
                let estimate = candidate.map(|c| &outcome.confidence.estimates[c]);
                let estimate = estimate.filter(|_| outcome.confidence.expects_seq);
                list.push(Verification {
                    name,
                    members,
                    budget,
                    objective: objective.clone(),
                    lambda: outcome.lambda,
                    merged: candidate.map(|c| outcome.candidates[c].merged),
                    expected: estimate.map(|e| e.expected),
                    low: estimate.map(|e| e.low),
                    high: estimate.map(|e| e.high),
                    seq: None,
                });
            }
        };
        for (name, weights, candidate) in options {
            add(name, named_weights(&weights), candidate);
        }
        // A single partition has no other mixture.
        let random = if names.len() < 2 { 0 } else { wanted as u64 };
        for number in 0..random {
            let members = random_weights(&names, self.study.random_seed ^ VERIFICATION, number);
            add(format!("random {}", number + 1), members, None);
        }
    }
}

/// The seed and the modules of a study.
fn pool(study: &Study, graph: &Graph) -> PoolKeys {
    let key = |role: Role| {
        let subject = graph.subject(Scale::Small, &role);
        subject.map(|subject| graph.subjects[subject].key.clone()).unwrap_or_default()
    };
    let module = |name: &String| key(Role::Module { partition: name.clone(), repeat: 0 });
    let modules = study.partition.iter().map(|p| (p.name.clone(), module(&p.name))).collect();
    PoolKeys { data: graph.prepared.key.clone(), seed: key(Role::Seed), modules }
}

/// What the report shows of the last search of a study's present models.
pub fn summary(study: &Study, graph: &Graph) -> Option<SearchSummary> {
    earlier::summary(&pool(study, graph), &graph.store)
}

/// Mixtures that differ by less teach nothing new: the sum of the differences between their weights.
const NEARLY_EQUAL: f64 = 0.02;

/// The sum of the differences between the weights of two mixtures.
fn distance(a: &BTreeMap<String, f64>, b: &BTreeMap<String, f64>) -> f64 {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let weight = |mixture: &BTreeMap<String, f64>, name: &String| mixture.get(name).copied().unwrap_or(0.0);
    names.into_iter().map(|name| (weight(a, name) - weight(b, name)).abs()).sum()
}

/// The name of the recipe of the earlier search, as a mixture.
const BEFORE: &str = "recipe before";

/// Makes random verifications differ from other random mixtures.
const VERIFICATION: u64 = 0x7e51_f1ca_7100;

fn expected(outcome: &Outcome) -> ExpectedScores {
    let estimate = outcome.best_estimate();
    let merged = outcome.best().merged;
    let natural = outcome.find("baseline", "natural").map_or(merged, |c| c.merged);
    let seq = outcome.confidence.expects_seq.then_some(estimate);
    ExpectedScores {
        merged,
        natural,
        seq: seq.map(|e| e.expected),
        seq_low: seq.map(|e| e.low),
        seq_high: seq.map(|e| e.high),
        probability_best: Some(estimate.probability_best),
        not_told_apart: Some(outcome.confidence.not_told_apart.len().saturating_sub(1)),
    }
}

/// SEQ runs with their merges, document by document. Also sets the objective of each merge.
fn seq_runs(
    merges: &mut StudyMerges,
    verified: &mut [Verified],
    objectives: &Objectives,
    lambda: f64,
) -> Result<Vec<SeqRun>> {
    let weights: Vec<Vec<f64>> = verified.iter().map(|v| v.weights.clone()).collect();
    for (v, losses) in verified.iter_mut().zip(merges.losses(lambda, &weights)?) {
        v.merged = Some(objectives.target.of(&losses));
    }
    let merged = merges.documents(lambda, &weights)?;
    let run = |(v, merged): (&Verified, DocumentNats)| SeqRun {
        weights: v.weights.clone(),
        merged,
        seq: v.documents.clone(),
    };
    Ok(verified.iter().zip(merged).map(run).collect())
}

fn predictions_path(store: &Store) -> std::path::PathBuf {
    store.root.join("predictions.json")
}

fn read_predictions(path: &Path) -> Result<Vec<Verification>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&files::read_to_string(path)?).map_err(|e| {
        Error::input(format!("not the predictions of a search: {e}")).at(path).fix("remove this file and search again")
    })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec_pretty(value).expect("plain structs");
    files::write_atomic(path, |f| f.write_all(&json))
}

impl SearchReport {
    fn write(&self, store: &Store) -> Result<()> {
        write_json(&store.root.join("search.json"), self)?;
        self.recipe.write()
    }
}
