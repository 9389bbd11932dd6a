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
use crate::eval::{self, DomainScore};
use crate::files;
use crate::merge;
use crate::model::{Activations, Config, Model, Table};
use crate::report::Report;
use crate::train::{self, Start};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
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
    let each = |(): &mut (), training: &&Training| train_one(opened, training, start.clone(), &options.place, progress);
    workers.run(&missing, || Ok(()), each)?;
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

/// What is to be scored: a trained model, or the merge at a position of its merger's order.
enum Job {
    Checkpoint(usize),
    Merge(usize),
}

/// One worker's device, and what lies on it for all of its jobs.
struct Scorer<'a> {
    device: Device,
    model: Model,
    acts: Activations,
    merger: Option<merge::Merger<'a>>,
}

impl<'a> Scorer<'a> {
    /// `merges` and the pool they are of, if there are any.
    fn new(
        place: &Place,
        config: &Config,
        pool: Option<&'a merge::Pool>,
        merges: &'a [merge::Mixture],
    ) -> Result<Scorer<'a>> {
        let mut device = place.open()?;
        let model = Model::without_weights(&mut device, config)?;
        let rows = eval::rows(config.context, device.compute_dtype());
        let acts = Activations::for_evaluation(&mut device, config, rows)?;
        let set_aside = merge::memory_set_aside(&device);
        let merger = pool.map(|pool| merge::Merger::new(&mut device, pool, merges, set_aside)).transpose()?;
        Ok(Scorer { device, model, acts, merger })
    }

    /// The score of what was loaded last; meanwhile the next merge's modules come in.
    fn score(&mut self, shard: &Shard) -> Result<DomainScore> {
        let Scorer { device, model, acts, merger } = self;
        let mut after_pass = |device: &mut Device, _, _| {
            if let Some(merger) = merger {
                merger.prefetch(device);
            }
        };
        device.range("score", |device| eval::score(device, model, acts, shard, &mut after_pass))
    }
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
    let subjects: Vec<(Subject, Vec<usize>)> =
        each_once.map(|s| (s.clone(), missing(&s))).filter(|(_, m)| !m.is_empty()).collect();
    if subjects.is_empty() {
        return Ok(());
    }
    let is_merge = |i: &usize| matches!(subjects[*i].0, Subject::Merge { .. });
    let (merged, trained): (Vec<usize>, Vec<usize>) = (0..subjects.len()).partition(is_merge);
    let (pool, mixtures) = pool_of(merged.iter().map(|&i| &subjects[i].0))?;
    let jobs: Vec<Job> = trained.into_iter().map(Job::Checkpoint).chain((0..merged.len()).map(Job::Merge)).collect();
    let (task, done) = (progress.task("scoring", jobs.len() as u64), AtomicU64::new(0));
    let workers = Workers::new(options, jobs.len(), Table::new(config).len);
    let begin = || Scorer::new(&options.place, config, pool.as_ref(), &mixtures);
    workers.run(&jobs, begin, |scorer, job| {
        let Scorer { device, model, merger, .. } = scorer;
        let subject = match (job, merger) {
            (Job::Merge(position), Some(merger)) => {
                merger.load(device, *position, model)?;
                merged[merger.order()[*position]]
            }
            (Job::Merge(_), None) => unreachable!("merges have a pool"),
            (Job::Checkpoint(i), _) => *i,
        };
        let (subject, missing) = &subjects[subject];
        if let Subject::Checkpoint { directory, .. } = subject {
            model.load(device, &train::read_weights(directory, config)?)?;
        }
        for &d in missing {
            let score = scorer
                .score(&shards[d])
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

/// The modules of these merges, opened once, and the merges as mixtures of them.
fn pool_of<'a>(merges: impl Iterator<Item = &'a Subject>) -> Result<(Option<merge::Pool>, Vec<merge::Mixture>)> {
    let members = |subject: &Subject| match subject {
        Subject::Merge { members, .. } => Some(members.clone()),
        Subject::Checkpoint { .. } => None,
    };
    let sums: Vec<Vec<(PathBuf, f64)>> = merges.filter_map(members).collect();
    if sums.is_empty() {
        return Ok((None, vec![]));
    }
    for sum in &sums {
        merge::check_weights(&sum.iter().map(|member| member.1).collect::<Vec<_>>())?;
    }
    let (pool, mixtures) = merge::Pool::of_sums(&sums)?;
    Ok((Some(pool), mixtures))
}
