//! `history.json`: for each version of the study, the trainings and scores that already existed
//! when it was first run. Written before any work, so a report states what a changed study reused,
//! and states the same however often its run was killed.

use super::graph::Graph;
use super::store::{Store, key};
use crate::analysis::Reuse;
use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    /// The study's [`name`].
    study: String,
    /// Keys of its trainings that already existed.
    trained: Vec<String>,
    /// Number of its scores that already existed.
    scored: u64,
}

fn read(store: &Store) -> Result<Vec<Entry>> {
    let path = store.history();
    if !path.exists() {
        return Ok(vec![]);
    }
    serde_json::from_str(&files::read_to_string(&path)?).map_err(|e| {
        Error::input(format!("not a study's history: {e}")).at(&path).fix("remove this file and run again")
    })
}

/// The keys of all trainings, and the names of all score files.
fn parts(graph: &Graph) -> (BTreeSet<String>, BTreeSet<String>) {
    let trainings = graph.trainings().map(|(task, _)| task.key.clone()).collect();
    let scores = graph.scorings().flat_map(|(task, _)| graph.results(task));
    (trainings, scores.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
}

/// The name of a version of a study: the hash of the keys of everything that it trains and scores.
pub fn name(graph: &Graph) -> String {
    name_of(&parts(graph))
}

fn name_of(parts: &(BTreeSet<String>, BTreeSet<String>)) -> String {
    key("study", 1, parts)
}

/// The state of a directory when a study is run in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriorModels {
    /// The same version was run here.
    SameStudy,
    /// Nothing was run here.
    Empty,
    /// Another study or version was run here, and some of its models are reusable.
    Reusable,
    /// Another study or version was run here, and none of its models is reusable.
    NotReusable,
}

/// Records what exists when this version of the study is first run here.
pub fn note(graph: &Graph) -> Result<PriorModels> {
    let mut entries = read(&graph.store)?;
    let parts = parts(graph);
    let study = name_of(&parts);
    let (trainings, scores) = parts;
    if entries.iter().any(|e| e.study == study) {
        return Ok(PriorModels::SameStudy);
    }
    let trained: Vec<String> = trainings.into_iter().filter(|key| graph.store.model(key).exists()).collect();
    let before = match (entries.is_empty(), trained.is_empty()) {
        (true, _) => PriorModels::Empty,
        (false, false) => PriorModels::Reusable,
        (false, true) => PriorModels::NotReusable,
    };
    let scored = scores.iter().filter(|name| graph.store.scores().join(name).exists()).count() as u64;
    entries.push(Entry { study, trained, scored });
    let json = serde_json::to_vec_pretty(&entries).expect("a struct of strings and numbers");
    files::write_atomic(&graph.store.history(), |f| f.write_all(&json))?;
    Ok(before)
}

/// What this study reused; `None` if its directory was empty or nothing was reusable.
pub fn reuse(graph: &Graph) -> Result<Option<Reuse>> {
    let parts = parts(graph);
    let study = name_of(&parts);
    let (_, scores) = parts;
    let entries = read(&graph.store)?;
    let Some(entry) = entries.iter().find(|e| e.study == study).filter(|e| !e.trained.is_empty() || e.scored > 0)
    else {
        return Ok(None);
    };
    let had: BTreeSet<&str> = entry.trained.iter().map(String::as_str).collect();
    let mut reuse =
        Reuse { reused_scores: entry.scored, made_scores: scores.len() as u64 - entry.scored, ..Reuse::default() };
    for (task, _) in graph.trainings() {
        let (names, sum) = match had.contains(task.key.as_str()) {
            true => (&mut reuse.reused, &mut reuse.reused_flops),
            false => (&mut reuse.trained, &mut reuse.trained_flops),
        };
        names.push(task.name.clone());
        *sum += task.flops;
    }
    reuse.text = sentence(&reuse);
    Ok(Some(reuse))
}

fn sentence(reuse: &Reuse) -> String {
    let all = reuse.reused_flops + reuse.trained_flops;
    let share = if all > 0.0 { 100.0 * reuse.reused_flops / all } else { 0.0 };
    let trained = match reuse.trained.len() {
        0 => "nothing was trained".to_string(),
        n if n <= 6 => format!("newly trained: {}", reuse.trained.join(", ")),
        n => format!("newly trained: {} and {} more", reuse.trained[..5].join(", "), n - 5),
    };
    format!(
        "{} of {} trainings ({share:.0}% of the training FLOPs) and {} of {} scores were reused from earlier \
         runs; {trained}.",
        reuse.reused.len(),
        reuse.reused.len() + reuse.trained.len(),
        reuse.reused_scores,
        reuse.reused_scores + reuse.made_scores,
    )
}
