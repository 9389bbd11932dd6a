//! The real merges of a search: scored as every other merge of a study, and with gradients, on the
//! domains that the search needs. Both are kept as files, one per merge and domain, so a search
//! that is repeated or changed computes only what is new.

use crate::engine::data::Shard;
use crate::engine::eval::{DomainScore, GradientScorer, MergeGradient};
use crate::engine::merge::{Pool, WeightedSum};
use crate::engine::model::Table;
use crate::error::{Error, Result};
use crate::files;
use crate::search::{DocumentNats, Merges, Point};
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
const GRADIENT_VERSION: u32 = 2;

/// The merges of a study's modules.
pub struct StudyMerges<'a> {
    study: &'a Study,
    graph: &'a mut Graph,
    resources: &'a Resources<'a>,
    /// Places of the domains in the study's list
    domains: &'a [usize],
}

/// A gradient's file: the score of a merge on a domain, and the derivative of its nats in the
/// weights of checkpoints.
#[derive(Serialize, Deserialize)]
struct StoredGradient {
    score: DomainScore,
    /// Key of the seed or a module -> derivative
    gradient: BTreeMap<String, f64>,
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
    /// Of a study whose modules are trained, on these of its domains.
    pub fn new(
        study: &'a Study,
        graph: &'a mut Graph,
        resources: &'a Resources<'a>,
        domains: &'a [usize],
    ) -> StudyMerges<'a> {
        StudyMerges { study, graph, resources, domains }
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

    fn gradient_path(&self, subject: usize, domain: usize) -> PathBuf {
        let shard = &self.graph.prepared.manifest.domains[domain].shard.hash;
        let context = self.graph.settings(Scale::Small).config.context;
        let inputs = (&self.graph.subjects[subject].key, shard, context, &self.graph.device);
        self.graph.store.gradient(&key("gradient", GRADIENT_VERSION, &inputs))
    }

    /// Computes the gradients of these subjects whose files lack a derivative in the weight of a
    /// checkpoint that is needed.
    fn compute(&self, subjects: &[usize], modules: &Modules, needed: &BTreeSet<&String>) -> Result<()> {
        let lacks = |subject: usize, domain: usize| -> Result<bool> {
            if !self.gradient_path(subject, domain).exists() {
                return Ok(true);
            }
            let stored = self.stored(subject, domain)?;
            Ok(!needed.iter().all(|&key| stored.gradient.contains_key(key)))
        };
        let mut missing: Vec<(usize, Vec<usize>)> = Vec::new();
        for subject in subjects.iter().copied().collect::<BTreeSet<usize>>() {
            let mut domains = Vec::new();
            for &domain in self.domains {
                if lacks(subject, domain)? {
                    domains.push(domain);
                }
            }
            if !domains.is_empty() {
                missing.push((subject, domains));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let graph = &*self.graph;
        let term = |&(subject, weight): &(usize, f64)| (modules.place[&subject], weight);
        let sum = |(subject, _): &(usize, Vec<usize>)| match &graph.subjects[*subject].weights {
            SubjectWeights::Checkpoint(_) => WeightedSum { terms: vec![(modules.place[subject], 1.0)] },
            SubjectWeights::Merge(terms) => WeightedSum { terms: terms.iter().map(term).collect() },
        };
        let sums: Vec<WeightedSum> = missing.iter().map(sum).collect();
        let pool = Pool::open_of_any_context(&modules.paths)?;
        let domains = &graph.prepared.manifest.domains;
        let shards: Vec<Shard> =
            domains.iter().map(|d| Shard::open(&graph.store.shard(&d.shard.hash))).collect::<Result<_>>()?;
        let config = &graph.settings(Scale::Small).config;
        let workers = self.resources.workers(missing.len(), Table::new(config).len);
        let (task, done) = (self.resources.progress.task("gradients", missing.len() as u64), AtomicU64::new(0));
        let begin = || GradientScorer::new(self.resources.spec, config, &pool, &sums, self.domains.len());
        let positions: Vec<usize> = (0..missing.len()).collect();
        workers.run(&positions, begin, |scorer, &position| {
            let (subject, domains) = &missing[scorer.load_merge(position)?];
            let texts: Vec<&Shard> = domains.iter().map(|&domain| &shards[domain]).collect();
            for (&domain, MergeGradient { score, gradient }) in domains.iter().zip(scorer.gradients(&texts)?) {
                let gradient = modules.keys.iter().cloned().zip(gradient).collect();
                let stored = StoredGradient { score, gradient };
                let json = serde_json::to_vec(&stored).expect("a struct of finite numbers");
                files::write_atomic(&self.gradient_path(*subject, domain), |f| f.write_all(&json))?;
            }
            task.update(done.fetch_add(1, Ordering::Relaxed) + 1, "merges");
            Ok(())
        })?;
        task.finish(&format!("{} merges on {} domains", missing.len(), self.domains.len()));
        Ok(())
    }

    fn stored(&self, subject: usize, domain: usize) -> Result<StoredGradient> {
        let path = self.gradient_path(subject, domain);
        serde_json::from_str(&files::read_to_string(&path)?).map_err(|e| {
            Error::input(format!("not the gradient of a merge: {e}")).at(&path).fix("remove this file and search again")
        })
    }
}

impl Merges for StudyMerges<'_> {
    fn losses(&mut self, lambda: f64, mixtures: &[Vec<f64>]) -> Result<Vec<Vec<f64>>> {
        let subjects = self.subjects(lambda, mixtures)?;
        let distinct: BTreeSet<usize> = subjects.iter().copied().collect();
        let distinct: Vec<usize> = distinct.into_iter().collect();
        score_models(self.graph, Scale::Small, &distinct, self.domains, self.resources)?;
        let losses = |&subject: &usize| -> Result<Vec<f64>> {
            self.domains.iter().map(|&d| Ok(self.graph.score(subject, d)?.bits_per_byte())).collect()
        };
        subjects.iter().map(losses).collect()
    }

    fn gradients(&mut self, lambda: f64, points: &[Vec<f64>], of: &[bool]) -> Result<Vec<Point>> {
        let subjects = self.subjects(lambda, points)?;
        let modules = self.modules()?;
        // The seed's weight is 1 - lambda.
        let seed = &modules.keys[0];
        let needed = modules.of_partition.iter().zip(of).filter(|(_, of)| **of).map(|(&place, _)| &modules.keys[place]);
        self.compute(&subjects, &modules, &needed.chain([seed]).collect())?;
        let point = |(weights, &subject): (&Vec<f64>, &usize)| -> Result<Point> {
            let (mut losses, mut gradients) = (Vec::new(), Vec::new());
            for &domain in self.domains {
                let StoredGradient { score, gradient } = self.stored(subject, domain)?;
                // d/dw_i of the loss at seed + lambda sum_i w_i (module_i - seed), in bits per byte.
                let factor = lambda / std::f64::consts::LN_2 / score.bytes as f64;
                let of_module = |(&module, &of): (&usize, &bool)| match gradient.get(&modules.keys[module]) {
                    Some(value) if of => factor * (value - gradient[seed]),
                    _ => f64::NAN,
                };
                losses.push(score.bits_per_byte());
                gradients.push(modules.of_partition.iter().zip(of).map(of_module).collect());
            }
            Ok(Point { weights: weights.clone(), losses, gradients })
        };
        points.iter().zip(&subjects).map(point).collect()
    }

    fn documents(&mut self, lambda: f64, mixtures: &[Vec<f64>]) -> Result<Vec<DocumentNats>> {
        self.losses(lambda, mixtures)?;
        let subjects = self.subjects(lambda, mixtures)?;
        subjects.iter().map(|&subject| document_nats(self.graph, subject, self.domains)).collect()
    }

    fn say(&mut self, message: &str) {
        self.resources.progress.line(message);
    }
}

/// The nats of each document of these domains, for a model that is scored.
pub fn document_nats(graph: &Graph, subject: usize, domains: &[usize]) -> Result<DocumentNats> {
    domains.iter().map(|&domain| Ok(graph.score(subject, domain)?.document_nats)).collect()
}
