//! What a study's directory held when the study as it is now was first run there: `history.json`, an entry for each
//! set of trainings and scores that was asked for, written before any work on it. So a report can say what a changed study
//! used again, and says the same however often its run was killed.

use super::layout::{Layout, key};
use super::opened::Opened;
use crate::analysis::Reuse;
use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    /// Its [`name`].
    study: String,
    /// Keys of those of its trainings that were there.
    trained: Vec<String>,
    /// Scores that were there.
    scored: u64,
}

fn read(layout: &Layout) -> Result<Vec<Entry>> {
    let path = layout.history();
    if !path.exists() {
        return Ok(vec![]);
    }
    serde_json::from_str(&files::read_to_string(&path)?).map_err(|e| {
        Error::input(format!("not a study's history: {e}")).at(&path).fix("remove this file and run again")
    })
}

/// Everything that a study is made of, by key.
fn parts(opened: &Opened) -> (BTreeSet<String>, BTreeSet<String>) {
    let trainings = opened.scales().flat_map(|s| s.trainings.all()).map(|t| t.key.clone()).collect();
    let mut scores = BTreeSet::new();
    for scale in opened.scales() {
        for subject in opened.subjects(scale) {
            let domains = 0..opened.prepared.manifest.domains.len();
            let names = domains.map(|d| opened.score_path(scale, &subject, d).to_string_lossy().into_owned());
            scores.extend(names.filter_map(|n| n.rsplit('/').next().map(String::from)));
        }
    }
    (trainings, scores)
}

/// The name of a study: the hash of the keys of everything that it trains and scores.
pub fn name(opened: &Opened) -> String {
    name_of(&parts(opened))
}

fn name_of(parts: &(BTreeSet<String>, BTreeSet<String>)) -> String {
    key("study", 1, parts)
}

/// What a directory is to a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It was run here as it is.
    Known,
    /// It was not, nor was any other.
    Empty,
    /// Another was, or this one before it was changed; some of its trainings are of use.
    Useful,
    /// And none is.
    Useless,
}

/// Notes what is there, when this study is run here for the first time.
pub fn note(opened: &Opened) -> Result<Before> {
    let mut entries = read(&opened.layout)?;
    let parts = parts(opened);
    let study = name_of(&parts);
    let (trainings, scores) = parts;
    if entries.iter().any(|e| e.study == study) {
        return Ok(Before::Known);
    }
    let trained: Vec<String> = trainings.into_iter().filter(|key| opened.layout.model(key).exists()).collect();
    let before = match (entries.is_empty(), trained.is_empty()) {
        (true, _) => Before::Empty,
        (false, false) => Before::Useful,
        (false, true) => Before::Useless,
    };
    let scored = scores.iter().filter(|name| opened.layout.scores().join(name).exists()).count() as u64;
    entries.push(Entry { study, trained, scored });
    let json = serde_json::to_vec_pretty(&entries).expect("a struct of strings and numbers");
    files::write_atomic(&opened.layout.history(), |f| f.write_all(&json))?;
    Ok(before)
}

/// What this study used again; none where its directory was empty, or nothing of it was of use.
pub fn reuse(opened: &Opened) -> Result<Option<Reuse>> {
    let parts = parts(opened);
    let study = name_of(&parts);
    let (_, scores) = parts;
    let entries = read(&opened.layout)?;
    let Some(entry) = entries.iter().find(|e| e.study == study).filter(|e| !e.trained.is_empty() || e.scored > 0)
    else {
        return Ok(None);
    };
    let had: BTreeSet<&str> = entry.trained.iter().map(String::as_str).collect();
    let mut reuse =
        Reuse { reused_scores: entry.scored, made_scores: scores.len() as u64 - entry.scored, ..Reuse::default() };
    for scale in opened.scales() {
        let per_token = scale.config.training_flops_per_token() * scale.config.context as f64;
        for training in scale.trainings.all() {
            let flops = training.settings.windows() as f64 * per_token;
            let (names, sum) = match had.contains(training.key.as_str()) {
                true => (&mut reuse.reused, &mut reuse.reused_flops),
                false => (&mut reuse.trained, &mut reuse.trained_flops),
            };
            names.push(training.name.clone());
            *sum += flops;
        }
    }
    reuse.text = sentence(&reuse);
    Ok(Some(reuse))
}

fn sentence(reuse: &Reuse) -> String {
    let all = reuse.reused_flops + reuse.trained_flops;
    let share = if all > 0.0 { 100.0 * reuse.reused_flops / all } else { 0.0 };
    let trained = match reuse.trained.len() {
        0 => "nothing was trained anew".to_string(),
        n if n <= 6 => format!("trained anew: {}", reuse.trained.join(", ")),
        n => format!("trained anew: {} and {} more", reuse.trained[..5].join(", "), n - 5),
    };
    format!(
        "Of the {} trainings, {} were there from earlier runs ({share:.0}% of the training FLOPs), and {} of {} scores; {trained}.",
        reuse.reused.len() + reuse.trained.len(),
        reuse.reused.len(),
        reuse.reused_scores,
        reuse.reused_scores + reuse.made_scores,
    )
}
