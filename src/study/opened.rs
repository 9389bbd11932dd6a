//! A study with its keys: what is trained, what is scored, and where each result lies.

use super::layout::Layout;
use super::merges::{self, Merges, Segment};
use super::mixtures::{Mixture, mixtures};
use super::prepare::Prepared;
use super::settings::{Count, Study};
use super::stages::{self, Subject, Trainings};
use crate::engine::eval::DomainScore;
use crate::engine::model::Config;
use crate::error::{Error, Result};
use crate::files;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A study with everything its trainings and scores depend on.
pub struct Opened {
    pub layout: Layout,
    pub mixtures: Vec<Mixture>,
    pub prepared: Prepared,
    pub small: Scale,
    /// The larger model, if the study has one.
    pub target: Option<Scale>,
    /// Weights of the merges that mixing laws are fitted to.
    pub samples: Vec<BTreeMap<String, f64>>,
    pub lambdas: Vec<f64>,
    /// Steps between resumable checkpoints.
    pub checkpoint_every: u64,
    /// The kind of device whose bits results are.
    pub device: String,
    connections: (Vec<(String, String)>, Vec<String>),
    points: usize,
}

/// One model size of a study.
pub struct Scale {
    pub config: Config,
    pub trainings: Trainings,
    /// Before the names of its trainings and merges.
    pub prefix: &'static str,
}

impl Opened {
    pub fn new(study: &Study, layout: Layout, prepared: Prepared, device: &str) -> Result<Opened> {
        let mixtures = mixtures(study);
        let scale = |scale: stages::Scale| -> Result<Scale> {
            let trainings = Trainings::new(study, scale, &mixtures, &prepared, device)?;
            Ok(Scale { config: scale.config.clone(), trainings, prefix: scale.prefix })
        };
        let (seed, module) = (study.seed.training.as_ref(), &study.module.training);
        let small = scale(stages::Scale { config: &prepared.config, seed, module, prefix: "", modules: true })?;
        let target = match &study.target {
            None => None,
            Some(target) => Some(scale(stages::Scale {
                config: &target.model.config(prepared.manifest.vocabulary, prepared.manifest.eos)?,
                seed: Some(&target.seed.training),
                module: &target.module.training,
                prefix: TARGET,
                modules: target.modules,
            })?),
        };
        let connected = study.connectivity.pairs != Count::Number(0);
        Ok(Opened {
            layout,
            mixtures,
            prepared,
            small,
            target,
            samples: merges::samples(study),
            lambdas: study.proxies.lambdas.clone(),
            checkpoint_every: study.checkpoint_every,
            device: device.to_string(),
            connections: if connected { merges::connections(study) } else { Default::default() },
            points: study.connectivity.points,
        })
    }

    pub fn scales(&self) -> impl Iterator<Item = &Scale> {
        std::iter::once(&self.small).chain(&self.target)
    }

    pub fn merges<'a>(&'a self, scale: &'a Scale) -> Merges<'a> {
        Merges { trainings: &scale.trainings, layout: &self.layout, prefix: scale.prefix }
    }

    pub fn segments(&self) -> Vec<Segment> {
        let merges = self.merges(&self.small);
        let (pairs, ends) = &self.connections;
        let between = pairs.iter().filter_map(|(a, b)| merges.segment(Some(a), b, self.points));
        between.chain(ends.iter().filter_map(|end| merges.segment(None, end, self.points))).collect()
    }

    /// Everything of a scale that is scored: the seed, modules of whole partitions, SEQ runs and merges. A model that is
    /// needed twice is listed twice.
    pub fn subjects(&self, scale: &Scale) -> Vec<Subject> {
        let (t, merges) = (&scale.trainings, self.merges(scale));
        let repeated = t.repeated_modules.iter().flat_map(|modules| modules.values());
        let trained = t.modules.values().chain(repeated).chain(t.all_seqs());
        let mut subjects = vec![merges::seed(t, &self.layout)];
        subjects.extend(trained.map(|training| Subject::trained(training, &self.layout)));
        let is_small = std::ptr::eq(scale, &self.small);
        for (mixture, seqs) in self.mixtures.iter().zip(&t.seqs).filter(|(_, seqs)| is_small || !seqs.is_empty()) {
            subjects.extend((0..seqs.len().max(1)).filter_map(|repeat| merges.merged(mixture, repeat)));
            if is_small {
                subjects.extend(merges.macro_of_merges(mixture));
                subjects.extend(merges.micro(mixture));
                subjects.extend(self.lambdas.iter().filter_map(|lambda| merges.scaled(mixture, *lambda)));
            }
        }
        if is_small {
            subjects.extend(self.samples.iter().filter_map(|weights| merges.weighted(weights)));
            subjects.extend(self.segments().into_iter().flat_map(|s| s.points).map(|(_, subject)| subject));
        }
        subjects
    }

    pub fn score(&self, scale: &Scale, subject: &Subject, domain: usize) -> Result<DomainScore> {
        let path = self.score_path(scale, subject, domain);
        let parse = |text: &str| {
            serde_json::from_str(text)
                .map_err(|e| Error::input(format!("not a score: {e}")).at(&path).fix("remove this file and run again"))
        };
        parse(&files::read_to_string(&path)?)
    }

    pub fn has_score(&self, scale: &Scale, subject: &Subject, domain: usize) -> bool {
        self.score_path(scale, subject, domain).exists()
    }

    pub fn score_path(&self, scale: &Scale, subject: &Subject, domain: usize) -> PathBuf {
        let shard = &self.prepared.manifest.domains[domain].shard;
        self.layout.score(&subject.score_key(shard, &scale.config, &self.device))
    }
}

/// Before the names of the larger model's trainings.
pub const TARGET: &str = "target ";
