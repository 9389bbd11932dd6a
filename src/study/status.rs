//! What of a study is done.

use super::graph::{Graph, Task, Train};
use super::prepare;
use super::settings::Study;
use super::store::Store;
use crate::engine::train;
use crate::error::Result;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

/// How much of a study is done under its present settings and files.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The study's name.
    pub study: String,
    /// Where its results are.
    pub directory: String,
    /// The text is tokenized under the present settings and files.
    pub tokens: bool,
    /// Empty while the text is not tokenized: what follows is named by it.
    pub trainings: Vec<TrainingStatus>,
    /// Those of `scores` that are there.
    pub scores_done: usize,
    /// Scores (a model or merge on a domain) that the study needs; 0 while the text is not
    /// tokenized.
    pub scores: usize,
    /// report.json is there, and so is every score that it is made from.
    pub report: bool,
}

/// How far one training is.
#[derive(Debug, Clone, Serialize)]
pub struct TrainingStatus {
    /// Such as `module law`.
    pub name: String,
    /// Its directory's name under `models/`.
    pub key: String,
    /// `done`, `partial` or `missing`
    pub state: &'static str,
    /// Steps that are safe on the disk.
    pub steps_done: u64,
    /// Steps of the whole training.
    pub steps: u64,
}

impl Status {
    /// Looks at what `store` holds; trains and scores nothing.
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
            report: false,
        };
        let Some(prepared) = prepare::find(study, &store)? else { return Ok(status) };
        let device = store.device()?;
        let graph = Graph::new(study, store, prepared, &device)?;
        status.tokens = true;
        let trainings = graph.trainings().map(|(task, train)| TrainingStatus::new(task, train, &graph.store));
        status.trainings = trainings.collect::<Result<_>>()?;
        // Domains of equal text have one score.
        let scores: BTreeSet<PathBuf> = graph.scorings().flat_map(|(task, _)| graph.results(task)).collect();
        (status.scores, status.scores_done) = (scores.len(), scores.iter().filter(|path| path.exists()).count());
        // With scores missing, the report that lies there is of earlier settings or text.
        status.report = report_exists && status.scores_done == status.scores;
        Ok(status)
    }
}

impl TrainingStatus {
    fn new(task: &Task, train: &Train, store: &Store) -> Result<TrainingStatus> {
        let (directory, steps) = (store.model(&task.key), train.settings.steps);
        let (state, steps_done) = match train::partial_steps(&directory)? {
            // Asked last: a run may finish it in the meantime.
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
        write!(f, "report: {}", yes(self.report))
    }
}
