//! A study's status: how much of it is done.

use super::graph::{Graph, Task, Train};
use super::prepare;
use super::search;
use super::settings::Study;
use super::store::Store;
use crate::engine::train;
use crate::error::Result;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

/// How much of a study is done with its current settings and files.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The study's name.
    pub study: String,
    /// The directory of its results.
    pub directory: String,
    /// Whether the text is tokenized with the current settings and files.
    pub tokens: bool,
    /// Empty until the text is tokenized, because keys depend on it.
    pub trainings: Vec<TrainingStatus>,
    /// How many of `scores` exist.
    pub scores_done: usize,
    /// Scores (one model or merge on one domain) that the study needs; 0 until the text is
    /// tokenized.
    pub scores: usize,
    /// Whether there is a search of the present models.
    pub search: bool,
    /// Whether report.json and every score that it uses exist.
    pub report: bool,
}

/// Progress of one training.
#[derive(Debug, Clone, Serialize)]
pub struct TrainingStatus {
    /// Such as `module law`.
    pub name: String,
    /// Its directory's name under `models/`.
    pub key: String,
    /// `done`, `partial` or `missing`
    pub state: &'static str,
    /// Steps saved on disk.
    pub steps_done: u64,
    /// Steps of the whole training.
    pub steps: u64,
}

impl Status {
    /// Reads the status from `store`; trains and scores nothing.
    pub fn new(study: &Study, store: Store) -> Result<Status> {
        let directory = store.root.display().to_string();
        let report_exists = store.root.join("report.json").exists();
        let mut status = Status {
            study: study.name.clone(),
            directory,
            tokens: false,
            trainings: vec![],
            scores_done: 0,
            scores: 0,
            search: false,
            report: false,
        };
        let Some(prepared) = prepare::find(study, &store)? else { return Ok(status) };
        let device = store.device()?;
        let graph = Graph::new(study, store, prepared, &device)?;
        status.tokens = true;
        let trainings = graph.trainings().map(|(task, train)| TrainingStatus::new(task, train, &graph.store));
        status.trainings = trainings.collect::<Result<_>>()?;
        // Domains of equal text share one score.
        let scores: BTreeSet<PathBuf> = graph.scorings().flat_map(|(task, _)| graph.results(task)).collect();
        (status.scores, status.scores_done) = (scores.len(), scores.iter().filter(|path| path.exists()).count());
        status.search = search::summary(study, &graph).is_some();
        // If scores are missing, an existing report is of earlier settings or text.
        status.report = report_exists && status.scores_done == status.scores;
        Ok(status)
    }
}

impl TrainingStatus {
    fn new(task: &Task, train: &Train, store: &Store) -> Result<TrainingStatus> {
        let (directory, steps) = (store.model(&task.key), train.settings.steps);
        let (state, steps_done) = match train::partial_steps(&directory)? {
            // Checked after the partial checkpoint: a run may finish the training in between.
            _ if directory.exists() => ("done", steps),
            Some(steps) => ("partial", steps),
            None => ("missing", 0),
        };
        Ok(TrainingStatus { name: task.name.clone(), key: task.key.clone(), state, steps_done, steps })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |done: bool| if done { "done" } else { "missing" };
        writeln!(f, "study {} in {}", self.study, self.directory)?;
        writeln!(f, "tokens: {}", yes(self.tokens))?;
        for t in &self.trainings {
            writeln!(f, "{}: {} ({} of {} steps) {}", t.name, t.state, t.steps_done, t.steps, t.key)?;
        }
        writeln!(f, "scores: {} of {}", self.scores_done, self.scores)?;
        writeln!(f, "search: {}", yes(self.search))?;
        write!(f, "report: {}", yes(self.report))
    }
}
