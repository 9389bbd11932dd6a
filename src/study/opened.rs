//! A study with its keys: what is trained, what is scored, and where each result lies.

use super::layout::Layout;
use super::mixtures::{Mixture, mixtures};
use super::prepare::Prepared;
use super::settings::Study;
use super::stages::{Subject, Trainings};
use crate::error::{Error, Result};
use crate::eval::DomainScore;
use crate::files;
use std::path::PathBuf;

/// A study with everything its trainings and scores depend on.
pub struct Opened {
    pub layout: Layout,
    pub mixtures: Vec<Mixture>,
    pub prepared: Prepared,
    pub trainings: Trainings,
    /// Steps between resumable checkpoints.
    pub checkpoint_every: u64,
    /// The kind of device whose bits results are.
    device: String,
}

impl Opened {
    pub fn new(study: &Study, layout: Layout, prepared: Prepared, device: &str) -> Result<Opened> {
        let mixtures = mixtures(study);
        let trainings = Trainings::new(study, &mixtures, &prepared, device)?;
        let (checkpoint_every, device) = (study.checkpoint_every, device.to_string());
        Ok(Opened { layout, mixtures, prepared, trainings, checkpoint_every, device })
    }

    /// Everything that is scored: the seed, the modules, the SEQ runs and the merges.
    pub fn subjects(&self) -> Vec<Subject> {
        let t = &self.trainings;
        let seed = Subject::Checkpoint {
            name: "seed".into(),
            key: t.seed.key().to_string(),
            directory: t.seed.directory(&self.layout),
        };
        let trained = t.modules.values().chain(&t.seqs).map(|training| Subject::trained(training, &self.layout));
        let merged = self.mixtures.iter().map(|m| Subject::merged(m, t, &self.layout));
        std::iter::once(seed).chain(trained).chain(merged).collect()
    }

    pub fn score(&self, subject: &Subject, domain: usize) -> Result<DomainScore> {
        let path = self.score_path(subject, domain);
        let parse = |text: &str| {
            serde_json::from_str(text)
                .map_err(|e| Error::input(format!("not a score: {e}")).at(&path).fix("remove this file and run again"))
        };
        parse(&files::read_to_string(&path)?)
    }

    pub fn has_score(&self, subject: &Subject, domain: usize) -> bool {
        self.score_path(subject, domain).exists()
    }

    pub fn score_path(&self, subject: &Subject, domain: usize) -> PathBuf {
        let shard = &self.prepared.manifest.domains[domain].shard;
        self.layout.score(&subject.score_key(shard, &self.prepared.config, &self.device))
    }
}
