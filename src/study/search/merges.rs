//! The real merges of a search: scored as every other merge of a study, and with gradients. Both are
//! kept as files, so a search that is repeated or extended computes only what is new.

use crate::engine::data::Shard;
use crate::engine::eval::{DomainScore, GradientScorer, MergeGradient};
use crate::engine::merge::{Pool, WeightedSum};
use crate::engine::model::Table;
use crate::error::{Error, Result};
use crate::files;
use crate::search::{Merges, Point};
use crate::study::graph::{Graph, Role, SubjectWeights};
use crate::study::scale::Scale;
use crate::study::score::score_models;
use crate::study::settings::Study;
use crate::study::store::key;
use crate::study::workers::Resources;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// Incremented when a code change alters a gradient.
const GRADIENT_VERSION: u32 = 1;

/// The merges of a study's modules.
pub struct StudyMerges<'a> {
    study: &'a Study,
    graph: &'a mut Graph,
    resources: &'a Resources<'a>,
}

/// A gradient's file: the score on each domain, and the derivative of its nats in the weight of
/// each checkpoint of the pool, the seed first.
#[derive(Serialize, Deserialize)]
struct StoredGradient {
    scores: Vec<DomainScore>,
    gradients: Vec<Vec<f64>>,
}

/// The seed and the modules of a study.
struct Modules {
    paths: Vec<PathBuf>,
    /// Keys, in the order of `paths`
    keys: Vec<String>,
    /// Place in `paths` of a subject
    place: BTreeMap<usize, usize>,
    /// Place in `paths` of each partition's module, in the order of the study file
    of_partition: Vec<usize>,
}

impl<'a> StudyMerges<'a> {
    /// Of a study whose modules are trained.
    pub fn new(study: &'a Study, graph: &'a mut Graph, resources: &'a Resources<'a>) -> StudyMerges<'a> {
        StudyMerges { study, graph, resources }
    }

    fn members(&self, weights: &[f64]) -> BTreeMap<String, f64> {
        let named = self.study.partition.iter().zip(weights);
        named.filter(|(_, weight)| **weight > 0.0).map(|(p, weight)| (p.name.clone(), *weight)).collect()
    }

    /// The subject of each merge.
    fn subjects(&mut self, lambda: f64, mixtures: &[Vec<f64>]) -> Result<Vec<usize>> {
        let study = self.study;
        mixtures.iter().map(|w| self.graph.weighted_merge(study, &self.members(w), lambda)).collect()
    }

    fn modules(&self) -> Result<Modules> {
        let graph = &*self.graph;
        let mut modules = Modules { paths: vec![], keys: vec![], place: BTreeMap::new(), of_partition: vec![] };
        let module = |p: &String| Role::Module { partition: p.clone(), repeat: 0 };
        let roles = std::iter::once(Role::Seed).chain(self.study.partition.iter().map(|p| module(&p.name)));
        for role in roles {
            let subject = graph.subject(Scale::Small, &role);
            let subject =
                subject.ok_or_else(|| Error::usage("a search needs a seed and a module of every partition"))?;
            let SubjectWeights::Checkpoint(path) = &graph.subjects[subject].weights else {
                unreachable!("seeds and modules are checkpoints")
            };
            // Partitions of equal text have one module.
            let next = modules.paths.len();
            let place = *modules.place.entry(subject).or_insert(next);
            if place == next {
                modules.paths.push(path.clone());
                modules.keys.push(graph.subjects[subject].key.clone());
            }
            if role != Role::Seed {
                modules.of_partition.push(place);
            }
        }
        Ok(modules)
    }

    fn gradient_path(&self, subject: usize, modules: &Modules) -> PathBuf {
        let domains: Vec<&str> = self.graph.prepared.manifest.domains.iter().map(|d| d.shard.hash.as_str()).collect();
        let context = self.graph.settings(Scale::Small).config.context;
        let inputs = (&self.graph.subjects[subject].key, &modules.keys, domains, context, &self.graph.device);
        self.graph.store.gradient(&key("gradient", GRADIENT_VERSION, &inputs))
    }

    /// Computes the gradients of these subjects that have no file yet.
    fn compute(&self, subjects: &[usize], modules: &Modules) -> Result<()> {
        let missing: BTreeSet<usize> =
            subjects.iter().copied().filter(|&s| !self.gradient_path(s, modules).exists()).collect();
        let missing: Vec<usize> = missing.into_iter().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let graph = &*self.graph;
        let term = |&(subject, weight): &(usize, f64)| (modules.place[&subject], weight);
        let sum = |&subject: &usize| match &graph.subjects[subject].weights {
            SubjectWeights::Checkpoint(_) => WeightedSum { terms: vec![(modules.place[&subject], 1.0)] },
            SubjectWeights::Merge(terms) => WeightedSum { terms: terms.iter().map(term).collect() },
        };
        let sums: Vec<WeightedSum> = missing.iter().map(sum).collect();
        let pool = Pool::open_of_any_context(&modules.paths)?;
        let domains = &graph.prepared.manifest.domains;
        let shards: Vec<Shard> =
            domains.iter().map(|d| Shard::open(&graph.store.shard(&d.shard.hash))).collect::<Result<_>>()?;
        let shards: Vec<&Shard> = shards.iter().collect();
        let config = &graph.settings(Scale::Small).config;
        let workers = self.resources.workers(missing.len(), Table::new(config).len);
        let (task, done) = (self.resources.progress.task("gradients", missing.len() as u64), AtomicU64::new(0));
        let begin = || GradientScorer::new(self.resources.spec, config, &pool, &sums, shards.len());
        let positions: Vec<usize> = (0..missing.len()).collect();
        workers.run(&positions, begin, |scorer, &position| {
            let subject = missing[scorer.load_merge(position)?];
            let all: Vec<MergeGradient> = scorer.gradients(&shards)?;
            let (scores, gradients) = all.into_iter().map(|g| (g.score, g.gradient)).unzip();
            let json = serde_json::to_vec(&StoredGradient { scores, gradients }).expect("a struct of finite numbers");
            files::write_atomic(&self.gradient_path(subject, modules), |f| f.write_all(&json))?;
            task.update(done.fetch_add(1, Ordering::Relaxed) + 1, "merges");
            Ok(())
        })?;
        task.finish(&format!("{} merges on {} domains", missing.len(), domains.len()));
        Ok(())
    }
}

impl Merges for StudyMerges<'_> {
    fn losses(&mut self, lambda: f64, mixtures: &[Vec<f64>]) -> Result<Vec<Vec<f64>>> {
        let subjects = self.subjects(lambda, mixtures)?;
        let distinct: BTreeSet<usize> = subjects.iter().copied().collect();
        score_models(self.graph, Scale::Small, &distinct.into_iter().collect::<Vec<_>>(), self.resources)?;
        let domains = 0..self.graph.prepared.manifest.domains.len();
        let losses = |&subject: &usize| -> Result<Vec<f64>> {
            domains.clone().map(|d| Ok(self.graph.score(subject, d)?.bits_per_byte())).collect()
        };
        subjects.iter().map(losses).collect()
    }

    fn gradients(&mut self, lambda: f64, points: &[Vec<f64>]) -> Result<Vec<Point>> {
        let subjects = self.subjects(lambda, points)?;
        let modules = self.modules()?;
        self.compute(&subjects, &modules)?;
        let point = |(weights, &subject): (&Vec<f64>, &usize)| -> Result<Point> {
            let path = self.gradient_path(subject, &modules);
            let stored: StoredGradient = serde_json::from_str(&files::read_to_string(&path)?).map_err(|e| {
                Error::input(format!("not the gradients of a merge: {e}"))
                    .at(&path)
                    .fix("remove this file and search again")
            })?;
            // d/dw_i of the loss at seed + lambda sum_i w_i (module_i - seed), in bits per byte.
            let of_domain = |(score, g): (&DomainScore, &Vec<f64>)| {
                let factor = lambda / std::f64::consts::LN_2 / score.bytes as f64;
                modules.of_partition.iter().map(|&module| factor * (g[module] - g[0])).collect()
            };
            Ok(Point {
                weights: weights.clone(),
                losses: stored.scores.iter().map(DomainScore::bits_per_byte).collect(),
                gradients: stored.scores.iter().zip(&stored.gradients).map(of_domain).collect(),
            })
        };
        points.iter().zip(&subjects).map(point).collect()
    }

    fn say(&mut self, message: &str) {
        self.resources.progress.line(message);
    }
}
