//! What of a study is done.

use super::layout::Layout;
use super::opened::Opened;
use super::prepare;
use super::settings::Study;
use super::stages::Training;
use crate::engine::train;
use crate::error::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub study: String,
    pub directory: String,
    /// The text is tokenized under the present settings and files.
    pub tokens: bool,
    /// Empty while the text is not tokenized: what follows is named by it.
    pub trainings: Vec<TrainingStatus>,
    pub scores_done: usize,
    pub scores: usize,
    pub report: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct TrainingStatus {
    pub name: String,
    /// Its directory's name under `models/`.
    pub key: String,
    /// `done`, `partial` or `missing`
    pub state: &'static str,
    /// Steps that are safe on the disk.
    pub steps_done: u64,
    pub steps: u64,
}

impl Status {
    pub fn new(study: &Study, layout: Layout) -> Result<Status> {
        let directory = layout.root.display().to_string();
        let report_exists = layout.root.join("report.json").exists();
        let mut status = Status {
            study: study.name.clone(),
            directory,
            tokens: false,
            trainings: vec![],
            scores_done: 0,
            scores: 0,
            report: false,
        };
        let Some(prepared) = prepare::find(study, &layout)? else { return Ok(status) };
        let device = layout.device()?;
        let opened = Opened::new(study, layout, prepared, &device)?;
        status.tokens = true;
        status.trainings = opened
            .scales()
            .flat_map(|scale| scale.trainings.all())
            .map(|training| TrainingStatus::new(training, &opened.layout))
            .collect::<Result<_>>()?;
        // A model that is needed twice is scored once.
        let mut scores = BTreeMap::new();
        for scale in opened.scales() {
            for subject in opened.subjects(scale) {
                for d in 0..opened.prepared.manifest.domains.len() {
                    let path = opened.score_path(scale, &subject, d);
                    scores.entry(path).or_insert_with_key(|path| path.exists());
                }
            }
        }
        (status.scores, status.scores_done) = (scores.len(), scores.values().filter(|done| **done).count());
        // With scores missing, the report that lies there is of earlier settings or text.
        status.report = report_exists && status.scores_done == status.scores;
        Ok(status)
    }
}

impl TrainingStatus {
    fn new(training: &Training, layout: &Layout) -> Result<TrainingStatus> {
        let directory = layout.model(&training.key);
        let (state, steps_done) = match train::partial_steps(&directory)? {
            // Asked last: a run may finish it in the meantime.
            _ if directory.exists() => ("done", training.settings.steps),
            Some(steps) => ("partial", steps),
            None => ("missing", 0),
        };
        let (name, key) = (training.name.clone(), training.key.clone());
        Ok(TrainingStatus { name, key, state, steps_done, steps: training.settings.steps })
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
