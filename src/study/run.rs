//! Runs a study: what is missing is made, phase by phase; what is there is used. Jobs of a phase are independent.

use super::layout::Layout;
use super::leftovers;
use super::lock::Lock;
use super::opened::Opened;
use super::prepare;
use super::progress::Progress;
use super::report;
use super::settings::Study;
use super::stages::{Role, Seed, Subject, Training};
use super::workers::Workers;
use crate::data::{Shard, Stream};
use crate::device::{Device, Place};
use crate::error::{Error, Result};
use crate::eval;
use crate::files;
use crate::merge;
use crate::model::{Activations, Model, Table};
use crate::report::Report;
use crate::train::{self, Start};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// The mixtures, really trained
    Seq,
    /// Every model and merge on every domain
    Scores,
    /// Correlations and report
    Report,
}

pub struct Options {
    pub until: Phase,
    pub threads: usize,
    pub place: Place,
}

/// Does what is missing up to `options.until`. The report, when it was reached.
pub fn run(study: &Study, settings: &str, root: &Path, options: &Options) -> Result<Option<Report>> {
    let layout = Layout { root: root.to_path_buf() };
    let _lock = Lock::take(root)?;
    for directory in layout.directories() {
        files::create_directory(&directory)?;
    }
    leftovers::remove(&layout)?;
    let (before, place) = (layout.device()?, &options.place);
    layout.set_device(place.name())?;
    let (begun, progress) = (Instant::now(), Progress::new());
    if before != place.name() && files::names_in(&layout.models())?.iter().any(|name| !name.contains('.')) {
        progress.line(&format!(
            "models here were trained on {before}; on {} they are trained anew, since its bits differ (those stay)",
            place.name()
        ));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
    let pool = pool.map_err(|e| Error::new(crate::error::Kind::Io, format!("cannot start threads: {e}")))?;
    let prepared = pool.install(|| prepare::prepare(study, &layout, &progress))?;
    progress.line(&prepared.summary());
    let opened = Opened::new(study, layout, prepared, place.name())?;
    if options.until >= Phase::Seed {
        pool.install(|| train_seed(&opened, place, &progress))?;
    }
    let (modules, seqs) =
        (opened.trainings.modules.values().collect::<Vec<_>>(), opened.trainings.seqs.iter().collect::<Vec<_>>());
    if options.until >= Phase::Modules {
        train_all(&opened, &modules, options, &progress)?;
    }
    if options.until >= Phase::Seq {
        train_all(&opened, &seqs, options, &progress)?;
    }
    if options.until >= Phase::Scores {
        score_all(&opened, options, &progress)?;
    }
    if options.until < Phase::Report {
        return Ok(None);
    }
    let report = report::assemble(study, settings, &opened)?;
    report.write(&opened.layout.root)?;
    progress.line(&format!("done in {:.0} s", begun.elapsed().as_secs_f64()));
    Ok(Some(report))
}

fn train_seed(opened: &Opened, place: &Place, progress: &Progress) -> Result<()> {
    let Seed::Trained(training) = &opened.trainings.seed else { return Ok(()) };
    if opened.layout.model(&training.key).exists() {
        return Ok(());
    }
    let weights = crate::model::initial_weights(&opened.prepared.config, training.shuffle_seed);
    train_one(opened, training, Arc::new(Start { weights, optimizer: None }), place, progress)
}

/// Trains those of `trainings` that are missing, all from the seed.
fn train_all(opened: &Opened, trainings: &[&Training], options: &Options, progress: &Progress) -> Result<()> {
    // Partitions of equal text make trainings of one key, which is one training.
    let mut keys = BTreeSet::new();
    let wanted = |t: &&&Training| !opened.layout.model(&t.key).exists() && keys.insert(t.key.clone());
    let missing: Vec<&Training> = trainings.iter().filter(wanted).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let config = &opened.prepared.config;
    let seed = opened.trainings.seed.directory(&opened.layout);
    let start = Arc::new(train::read_start(&seed, config, None)?);
    if start.optimizer.is_none() {
        progress.line(&format!(
            "{}: the seed has no optimizer state; modules and SEQ start with moments of zero",
            seed.display()
        ));
    }
    let workers = Workers::new(options, missing.len(), Table::new(config).len);
    workers.run(&missing, |training| train_one(opened, training, start.clone(), &options.place, progress))?;
    Ok(())
}

fn train_one(
    opened: &Opened,
    training: &Training,
    start: Arc<Start>,
    place: &Place,
    progress: &Progress,
) -> Result<()> {
    let config = &opened.prepared.config;
    let mut members = Vec::new();
    for member in &training.members {
        let shard = Arc::new(Shard::open(&opened.layout.shard(&member.shard.hash))?);
        members.push((shard, member.windows, member.order_seed));
    }
    let stream = Stream::new(members, config.context, training.shuffle_seed)?;
    let out = opened.layout.model(&training.key);
    let run = train::Run {
        config,
        start,
        stream: &stream,
        settings: &training.settings,
        tokenizer: &opened.layout.tokenizer(&opened.prepared.manifest.tokenizer),
        identity: &training.key,
        out: &out,
        checkpoint_every: opened.checkpoint_every,
        keep_optimizer: training.role == Role::Seed,
    };
    progress.training(&training.name, place, &run)
}

/// Scores every subject on the domains on which it has no score yet.
fn score_all(opened: &Opened, options: &Options, progress: &Progress) -> Result<()> {
    let config = &opened.prepared.config;
    let domains = &opened.prepared.manifest.domains;
    let shards: Vec<Shard> =
        domains.iter().map(|d| Shard::open(&opened.layout.shard(&d.shard.hash))).collect::<Result<_>>()?;
    let missing = |subject: &Subject| (0..domains.len()).filter(|&d| !opened.has_score(subject, d)).collect::<Vec<_>>();
    let mut keys = BTreeSet::new();
    let each_once = opened.subjects().into_iter().filter(|s| keys.insert(s.key().to_string()));
    let jobs: Vec<(Subject, Vec<usize>)> =
        each_once.map(|s| (s.clone(), missing(&s))).filter(|(_, m)| !m.is_empty()).collect();
    if jobs.is_empty() {
        return Ok(());
    }
    let (task, done) = (progress.task("scoring", jobs.len() as u64), AtomicU64::new(0));
    let workers = Workers::new(options, jobs.len(), Table::new(config).len);
    workers.run(&jobs, |(subject, missing)| {
        let mut device = options.place.open()?;
        let model = Model::without_weights(&mut device, config)?;
        load(&mut device, subject, &model)?;
        let rows = eval::rows(config.context, device.compute_dtype());
        let acts = Activations::for_evaluation(&mut device, config, rows)?;
        for &d in missing {
            let score = device
                .range("score", |device| eval::score(device, &model, &acts, &shards[d], &mut |_, _| ()))
                .map_err(|e| Error::numeric(format!("scoring {} on {}: {e}", subject.name(), domains[d].name)))?;
            let json = serde_json::to_vec(&score).expect("a struct of numbers");
            files::write_atomic(&opened.score_path(subject, d), |f| f.write_all(&json))?;
        }
        task.update(done.fetch_add(1, Ordering::Relaxed) + 1, subject.name());
        Ok(())
    })?;
    task.finish(&format!("{} models on {} domains", jobs.len(), domains.len()));
    Ok(())
}

/// Gives `model` a checkpoint's weights, or the average of several.
fn load(device: &mut Device, subject: &Subject, model: &Model) -> Result<()> {
    match subject {
        Subject::Checkpoint { directory, .. } => model.load(device, &train::read_weights(directory, &model.config)?),
        Subject::Merge { members, .. } => {
            let (pool, mixture) = merge::Pool::of_one(members)?;
            merge::load_average(device, &pool, &mixture, model)
        }
    }
}
