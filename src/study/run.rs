//! Runs a study: does its missing tasks stage by stage and reuses existing results. Tasks of a
//! stage are independent.

use super::graph::Stage;
use super::report;
use super::score::score_all;
use super::search;
use super::settings::Study;
use super::train::{OpenStudy, train_stage};
use crate::analysis::Report;
use crate::engine::device::DeviceSpec;
use crate::error::Result;
use crate::search::MOST_PARTITIONS;
use std::path::Path;
use std::time::Instant;

/// The phases of a run, in order; `--until` names the last one to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Phase {
    /// Documents to tokens
    Tokens,
    /// The seed model
    Seed,
    /// One module per partition
    Modules,
    /// SEQ runs: trainings on the mixtures
    Seq,
    /// Scores of every model and merge on every domain
    Scores,
    /// The best of all mixtures, from the modules
    Search,
    /// Correlations and the report
    Report,
}

impl Phase {
    /// The phase that contains a stage.
    fn of(stage: Stage) -> Phase {
        match stage {
            Stage::Seed => Phase::Seed,
            Stage::Modules => Phase::Modules,
            Stage::Seq => Phase::Seq,
            Stage::Scoring => Phase::Scores,
        }
    }
}

/// The extent of a run and its resources.
pub struct Options {
    /// The last phase to run.
    pub until: Phase,
    /// CPU threads, divided among the workers.
    pub threads: usize,
    /// The device to compute on.
    pub spec: DeviceSpec,
}

/// Runs everything missing up to `options.until`. Returns the report if that is reached.
pub fn run(study: &Study, settings: &str, root: &Path, options: &Options) -> Result<Option<Report>> {
    let begun = Instant::now();
    let (open, mut graph) = OpenStudy::new(study, root, options.threads, &options.spec)?;
    let resources = open.resources();
    let is_small = study.partition.len() <= MOST_PARTITIONS;
    let searches = options.until >= Phase::Search && is_small;
    if options.until >= Phase::Search && !is_small {
        open.progress.line(&format!("no search: it is for at most {MOST_PARTITIONS} partitions"));
    }
    if searches {
        // Refused now, and not after days of training.
        search::check(study, &mut graph, &resources)?;
    }
    for settings in &graph.scales {
        for stage in Stage::ALL.into_iter().filter(|stage| Phase::of(*stage) <= options.until) {
            match stage {
                Stage::Scoring => score_all(&graph, settings.scale, &resources)?,
                _ => train_stage(&graph, &resources, settings, stage)?,
            }
        }
    }
    let searched = if searches { search::search_models(study, &mut graph, &resources) } else { Ok(()) };
    if options.until < Phase::Report {
        return searched.map(|()| None);
    }
    // Written also if the search fails.
    let report = report::write(study, settings, &graph)?;
    searched?;
    open.progress.line(&format!("done in {:.0} s", begun.elapsed().as_secs_f64()));
    Ok(Some(report))
}
