//! The scores as input files of other tools, so that the laws these tools fit can be compared with
//! merging:
//!
//! * RegMix (github.com/sail-sg/regmix, `regression_fitting/regression.ipynb`,
//!   `data/train_mixture_1m.csv` and `data/train_pile_loss_1m.csv` at b004d3a): a file of mixtures
//!   `index,train_<partition>,...` and one of losses `index,metric/<domain>_val_loss,...`. The
//!   notebook reads every column after the first as a number and pairs rows by position, so both
//!   files have the same rows in the same order, and no row has an empty cell.
//! * Olmix (github.com/allenai/olmix, `olmix/fit/loaders.py` at 9586977): `ratios.csv` with
//!   `run,name,index` and a column per partition, `metrics.csv` with `run,name,index` and a column
//!   per metric, joined by `run`. Lower metrics are better; Olmix's own are bits per byte, named
//!   `<task>_bpb`.
//!
//! Both are written for SEQ and for each proxy, so a law fitted to merges can be judged on SEQ.

use super::csv::field;
use crate::analysis::proxies;
use crate::analysis::{DomainScores, MERGED, Report, SEQ, Score};
use crate::error::Result;
use crate::files;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Columns of Olmix's files that are not partitions or metrics.
const OLMIX_RESERVED: [&str; 4] = ["run", "run_id", "name", "index"];

/// A mixture with the scores of one model on every domain.
struct InterchangeRow<'a> {
    /// Its position, from 1, in the report's mixtures followed by its samples.
    index: usize,
    members: &'a BTreeMap<String, f64>,
    /// The scores, in the order of the report's domains.
    scores: Vec<&'a Score>,
}

impl Report {
    /// RegMix's files, name and text: `train_mixture.csv` and `val_loss.csv` of SEQ,
    /// `<proxy>_mixture.csv` and `<proxy>_val_loss.csv` of each proxy. Weights sum to 1; losses are
    /// nats per token. `index` counts the report's mixtures from 1, then its samples, so it joins
    /// rows of different files. A mixture without a score on every domain is left out; a model
    /// without any such mixture has no files.
    pub fn to_regmix(&self) -> Vec<(String, String)> {
        let partitions = self.partition_names();
        let names: Vec<String> = self.domains.iter().map(|d| format!("metric/{}_val_loss", d.name)).collect();
        let mut files = Vec::new();
        for model in self.models() {
            let rows = self.rows(&model);
            if rows.is_empty() {
                continue;
            }
            let mut mixtures = line("index", partitions.iter().map(|p| field(format!("train_{p}"))));
            let mut losses = line("index", names.iter().map(field));
            for row in &rows {
                let index = row.index.to_string();
                mixtures += &line(&index, weights(&partitions, row.members));
                losses += &line(&index, row.scores.iter().map(|s| nats_per_token(s).to_string()));
            }
            let prefix = if model == SEQ { String::new() } else { format!("{model}_") };
            let first = if model == SEQ { "train_mixture.csv".into() } else { format!("{prefix}mixture.csv") };
            files.extend([(first, mixtures), (format!("{prefix}val_loss.csv"), losses)]);
        }
        files
    }

    /// Olmix's files, name and text: `ratios.csv` of all mixtures and samples, `metrics.csv` of SEQ
    /// and `<proxy>_metrics.csv` of each proxy, bits per byte. A run is named by its index (as in
    /// [`Report::to_regmix`], but from 0 and with the prefix `m`), since mixtures of two groups may
    /// share an id. Runs without a score on every domain are in no metrics file; Olmix then drops
    /// them from the ratios, too.
    pub fn to_olmix(&self) -> Vec<(String, String)> {
        const HEAD: &str = "run,name,index";
        let start = |index: usize| format!("m{index},{},{index}", field(self.name_of(index)));
        let partitions = self.partition_names();
        let members = self.mixtures.iter().map(|m| &m.members).chain(self.samples.iter().map(|s| &s.members));
        let mut ratios = line(HEAD, not_reserved(&partitions).iter().map(field));
        for (index, members) in members.enumerate() {
            ratios += &line(&start(index), weights(&partitions, members));
        }
        let mut files = Vec::new();
        for model in self.models() {
            let rows = self.rows(&model);
            if rows.is_empty() {
                continue;
            }
            let mut metrics = line(HEAD, self.domains.iter().map(|d| field(format!("{}_bpb", d.name))));
            for row in &rows {
                metrics += &line(&start(row.index - 1), row.scores.iter().map(|s| s.bits_per_byte.to_string()));
            }
            let name = if model == SEQ { "metrics.csv".into() } else { format!("{model}_metrics.csv") };
            files.push((name, metrics));
        }
        if !files.is_empty() {
            files.insert(0, ("ratios.csv".into(), ratios));
        }
        files
    }

    /// Writes both into `regmix/` and `olmix/` below `dir`. Each directory is replaced as a whole,
    /// so that no file of earlier mixtures and proxies remains. Errors: the file system's.
    pub(super) fn write_interchange(&self, dir: &Path) -> Result<()> {
        for (name, texts) in [("regmix", self.to_regmix()), ("olmix", self.to_olmix())] {
            let path = dir.join(name);
            if texts.is_empty() {
                files::remove_directory(&path)?;
                continue;
            }
            files::recover_directory(&path)?;
            files::write_directory_atomic(&path, |temporary| {
                texts.iter().try_for_each(|(file, text)| {
                    files::write_atomic(&temporary.join(file), |out| out.write_all(text.as_bytes()))
                })
            })?;
        }
        Ok(())
    }

    /// SEQ and the proxies.
    fn models(&self) -> Vec<String> {
        std::iter::once(SEQ.to_string()).chain(proxies(&self.mixtures)).collect()
    }

    /// The partitions that are in any mixture, in the study's order. (`self.partitions` also has
    /// the seed's text and the OOD sets.)
    fn partition_names(&self) -> Vec<&str> {
        let members = self.mixtures.iter().map(|m| &m.members).chain(self.samples.iter().map(|s| &s.members));
        let mixed: BTreeSet<&str> = members.flat_map(|m| m.keys()).map(String::as_str).collect();
        self.partitions.iter().map(|p| p.name.as_str()).filter(|name| mixed.contains(name)).collect()
    }

    /// The mixtures, then the samples, for which `model` has a score on every domain. Samples are
    /// merges, so only MERGED has scores of them.
    fn rows(&self, model: &str) -> Vec<InterchangeRow<'_>> {
        let mixtures = self.mixtures.iter().map(|m| (&m.members, m.scores.get(model)));
        let samples = self.samples.iter().map(|s| (&s.members, (model == MERGED).then_some(&s.scores)));
        let mut rows = Vec::new();
        for (index, (members, scores)) in (1..).zip(mixtures.chain(samples)) {
            let scores = scores.and_then(|scores| self.complete(scores));
            rows.extend(scores.map(|scores| InterchangeRow { index, members, scores }));
        }
        rows
    }

    /// The score on each domain, if there are domains and all scores are finite.
    fn complete<'a>(&self, scores: &'a DomainScores) -> Option<Vec<&'a Score>> {
        let finite = |s: &&Score| s.bits_per_byte.is_finite() && nats_per_token(s).is_finite();
        let all: Option<Vec<_>> = self.domains.iter().map(|d| scores.get(&d.name).filter(finite)).collect();
        all.filter(|all| !all.is_empty())
    }

    /// A mixture's id; "sample 1", ... for the samples after the mixtures.
    fn name_of(&self, index: usize) -> String {
        let sample = || format!("sample {}", index + 1 - self.mixtures.len());
        self.mixtures.get(index).map_or_else(sample, |m| m.id.clone())
    }
}

fn nats_per_token(score: &Score) -> f64 {
    match (score.nats, score.tokens) {
        (Some(nats), Some(tokens)) => nats / tokens as f64,
        // A mean of scores (IND) has no sums.
        _ => score.perplexity.ln(),
    }
}

fn weights(partitions: &[&str], members: &BTreeMap<String, f64>) -> impl Iterator<Item = String> {
    partitions.iter().map(|p| members.get(*p).copied().unwrap_or(0.0).to_string())
}

/// The names; those that Olmix's loader would not read as partitions get the prefix `partition_`.
fn not_reserved(names: &[&str]) -> Vec<String> {
    let taken = |name: &str| OLMIX_RESERVED.contains(&name) || name.starts_with("Unnamed");
    let free = |name: &str| {
        let mut new = format!("partition_{name}");
        while names.contains(&new.as_str()) {
            new.push('_');
        }
        new
    };
    names.iter().map(|name| if taken(name) { free(name) } else { name.to_string() }).collect()
}

fn line(first: &str, cells: impl Iterator<Item = String>) -> String {
    let mut line = first.to_string();
    for cell in cells {
        line.push(',');
        line += &cell;
    }
    line.push('\n');
    line
}
