//! `clock.jsonl`: the time of each piece of work, written when it ends, and the hours planned when
//! a study is first run. No result depends on it. It is the only file that is appended to, so a
//! kill may leave half a line, which is skipped. The time of a killed training since its last
//! checkpoint is not counted.

use super::store::Store;
use crate::analysis::{Spent, SpentStage};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Mutex;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Plan(Planned),
    Spent(SpentWork),
}

/// Planned hours of each stage of a study; [`history`](super::history) names the study.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Planned {
    study: String,
    hours: BTreeMap<String, f64>,
}

/// Work on one model: its training, from one checkpoint to the next, or its scoring.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SpentWork {
    /// "seed", "modules", "seq" or "scoring"; for the larger model, prefixed by "target ".
    pub stage: String,
    /// The key of the training, or of the model that was scored.
    pub key: String,
    /// Device time: if n jobs shared the device, each is charged an n-th of the time.
    pub seconds: f64,
    /// Training or scoring FLOPs of the work.
    pub flops: f64,
}

/// A study's open `clock.jsonl`; all workers append to it.
pub struct Clock {
    file: Mutex<File>,
    path: PathBuf,
}

impl Clock {
    /// Opens or creates the file and terminates a line that a kill cut off.
    pub fn open(store: &Store) -> Result<Clock> {
        let path = store.clock();
        let open = || -> std::io::Result<File> {
            let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            if file.seek(SeekFrom::End(0))? > 0 {
                file.seek(SeekFrom::End(-1))?;
                let mut last = [0];
                file.read_exact(&mut last)?;
                if last != *b"\n" {
                    file.write_all(b"\n")?;
                }
            }
            Ok(file)
        };
        let file = open().map_err(|e| Error::io("write", &path, &e))?;
        Ok(Clock { file: Mutex::new(file), path })
    }

    /// Records the hours planned for each stage of the study named `study` (see
    /// [`history::name`](super::history::name)).
    pub fn planned(&self, study: String, hours: BTreeMap<String, f64>) -> Result<()> {
        self.write(&Line::Plan(Planned { study, hours }))
    }

    /// Records a finished piece of work.
    pub fn spent(&self, work: SpentWork) -> Result<()> {
        self.write(&Line::Spent(work))
    }

    fn write(&self, line: &Line) -> Result<()> {
        let text = serde_json::to_string(line).expect("a struct of strings and numbers") + "\n";
        let mut file = self.file.lock().unwrap_or_else(|e| e.into_inner());
        file.write_all(text.as_bytes()).map_err(|e| Error::io("write", &self.path, &e))
    }
}

/// Hours by stage of the work whose keys are in `keys`; work that no longer belongs to the study
/// does not count. `None` if there is no `clock.jsonl`.
pub fn spent(store: &Store, study: &str, stages: &[String], keys: &BTreeSet<&str>) -> Result<Option<Spent>> {
    let path = store.clock();
    if !path.exists() {
        return Ok(None);
    }
    let bytes = std::fs::read(&path).map_err(|e| Error::io("read", &path, &e))?;
    let text = String::from_utf8_lossy(&bytes);
    let mut planned = BTreeMap::new();
    let mut done: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for line in text.lines() {
        match serde_json::from_str(line) {
            Ok(Line::Plan(plan)) if plan.study == study => planned = plan.hours,
            Ok(Line::Spent(work)) if keys.contains(work.key.as_str()) => {
                let (hours, flops) = done.entry(work.stage).or_default();
                *hours += work.seconds / 3600.0;
                *flops += work.flops;
            }
            Ok(Line::Plan(_) | Line::Spent(_)) | Err(_) => {}
        }
    }
    let stage = |stage: &String| {
        let (hours, flops) = done.get(stage).copied().unwrap_or_default();
        SpentStage { stage: stage.clone(), planned_hours: planned.get(stage).copied(), hours, flops }
    };
    Ok(Some(Spent { stages: stages.iter().map(stage).collect(), ..Spent::default() }))
}
