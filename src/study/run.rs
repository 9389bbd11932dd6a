//! Runs a study: what is missing is made, phase by phase; what is there is used. Jobs of a phase are independent.

use super::clock::{Clock, Work};
use super::history::{self, Before};
use super::layout::Layout;
use super::leftovers;
use super::opened::{Opened, Scale};
use super::plan::Plan;
use super::prepare;
use super::report;
use super::settings::Study;
use super::stages::{Member, Role, Seed, Subject, Training};
use super::workers::Workers;
use crate::analysis::Report;
use crate::engine::data::{self, Shard, Stream};
use crate::engine::device::{Device, DeviceSpec};
use crate::engine::eval::{self, DomainScore};
use crate::engine::merge;
use crate::engine::model::{Activations, Config, Model, Table};
use crate::engine::train::{self, Start};
use crate::error::{Error, Result};
use crate::files;
use crate::lock::Lock;
use crate::progress::Progress;
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
    pub place: DeviceSpec,
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
    let clock = Clock::open(&opened.layout)?;
    let before = history::note(&opened)?;
    if before == Before::Useless {
        progress.line(
            "nothing that was trained here before is of use: the seed's text, tokenizer or settings are others (if a new \
             partition's held-out text made the seed's smaller, see above, `late = true` in its table leaves the seed's as it was)",
        );
    }
    // The CPU's speed says nothing of another device's.
    if before != Before::Known && place.name() == "cpu" {
        let (config, scored) = (&opened.prepared.config, opened.prepared.scored_tokens());
        let plan = pool.install(|| Plan::of(study, config, scored))?;
        clock.planned(history::name(&opened), plan.hours)?;
    }
    let work = Run { opened: &opened, options, progress: &progress, clock: &clock };
    for scale in opened.scales() {
        let (modules, seqs) =
            (scale.trainings.all_modules().collect::<Vec<_>>(), scale.trainings.all_seqs().collect::<Vec<_>>());
        if options.until >= Phase::Seed {
            pool.install(|| work.train_seed(scale))?;
        }
        if options.until >= Phase::Modules {
            work.train_all(scale, &modules)?;
        }
        if options.until >= Phase::Seq {
            work.train_all(scale, &seqs)?;
        }
        if options.until >= Phase::Scores {
            work.score_all(scale)?;
        }
    }
    if options.until < Phase::Report {
        return Ok(None);
    }
    let report = report::write(study, settings, &opened)?;
    progress.line(&format!("done in {:.0} s", begun.elapsed().as_secs_f64()));
    Ok(Some(report))
}

/// A run at work: what every stage needs.
struct Run<'a> {
    opened: &'a Opened,
    options: &'a Options,
    progress: &'a Progress,
    clock: &'a Clock,
}

impl Run<'_> {
    fn train_seed(&self, scale: &Scale) -> Result<()> {
        let Seed::Trained(training) = &scale.trainings.seed else { return Ok(()) };
        if self.opened.layout.model(&training.key).exists() {
            return Ok(());
        }
        let weights = crate::engine::model::initial_weights(&scale.config, training.shuffle_seed);
        self.train_one(scale, training, Arc::new(Start { weights, optimizer: None }), 1)
    }

    /// Trains those of `trainings` that are missing, all from the seed.
    fn train_all(&self, scale: &Scale, trainings: &[&Training]) -> Result<()> {
        // Partitions of equal text make trainings of one key, which is one training.
        let mut keys = BTreeSet::new();
        let wanted = |t: &&&Training| !self.opened.layout.model(&t.key).exists() && keys.insert(t.key.clone());
        let missing: Vec<&Training> = trainings.iter().filter(wanted).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let seed = scale.trainings.seed.directory(&self.opened.layout);
        let start = Arc::new(train::read_start(&seed, &scale.config, None)?);
        if start.optimizer.is_none() {
            self.progress.line(&format!(
                "{}: the seed has no optimizer state; modules and SEQ start with moments of zero",
                seed.display()
            ));
        }
        let workers = Workers::new(self.options, missing.len(), Table::new(&scale.config).len);
        let each = |(): &mut (), t: &&Training| self.train_one(scale, t, start.clone(), workers.workers);
        workers.run(&missing, || Ok(()), each)?;
        Ok(())
    }

    /// `side_by_side`: trainings that share the device with this one.
    fn train_one(&self, scale: &Scale, training: &Training, start: Arc<Start>, side_by_side: usize) -> Result<()> {
        let (opened, config) = (self.opened, &scale.config);
        let mut members = Vec::new();
        for Member { shard, windows, order_seed, first, copies } in &training.members {
            let (shard, order_seed) = (Arc::new(Shard::open(&opened.layout.shard(&shard.hash))?), *order_seed);
            let member = data::StreamMember { shard, windows: *first..first + windows, order_seed };
            members.extend(std::iter::repeat_n(member, *copies as usize));
        }
        let stream = Stream::from_members(members, config.context, training.shuffle_seed)?;
        let out = opened.layout.model(&training.key);
        let run = train::TrainingRun {
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
        let flops = (training.settings.batch * config.context) as f64 * config.training_flops_per_token();
        let mut lap = Lap { since: Instant::now(), steps: 0 };
        let spent = |lap: &mut Lap| {
            let (seconds, steps) = lap.take();
            let seconds = seconds / side_by_side as f64;
            let (stage, key) = (format!("{}{}", scale.prefix, training.role.stage()), training.key.clone());
            self.clock.spent(Work { stage, key, seconds, flops: steps as f64 * flops })
        };
        let mut told = Ok(());
        let spec = &self.options.place;
        train::train_observed(&training.name, spec, &run, self.progress, &mut |step| {
            lap.steps += 1;
            if step % opened.checkpoint_every == 0 && told.is_ok() {
                told = spent(&mut lap);
            }
        })?;
        told.and_then(|()| spent(&mut lap))
    }
}

/// Steps since a moment.
struct Lap {
    since: Instant,
    steps: u64,
}

impl Lap {
    /// Seconds and steps until now, from where the next lap counts.
    fn take(&mut self) -> (f64, u64) {
        let now = Instant::now();
        (std::mem::replace(&mut self.since, now).elapsed().as_secs_f64(), std::mem::take(&mut self.steps))
    }
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
        place: &DeviceSpec,
        config: &Config,
        pool: Option<&'a merge::Pool>,
        merges: &'a [merge::WeightedSum],
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

impl Run<'_> {
    /// Scores every subject on the domains on which it has no score yet.
    fn score_all(&self, scale: &Scale) -> Result<()> {
        let Run { opened, options, progress, clock } = *self;
        let config = &scale.config;
        let domains = &opened.prepared.manifest.domains;
        let shards: Vec<Shard> =
            domains.iter().map(|d| Shard::open(&opened.layout.shard(&d.shard.hash))).collect::<Result<_>>()?;
        let missing = |subject: &Subject| {
            (0..domains.len()).filter(|&d| !opened.has_score(scale, subject, d)).collect::<Vec<_>>()
        };
        let mut keys = BTreeSet::new();
        let each_once = opened.subjects(scale).into_iter().filter(|s| keys.insert(s.key().to_string()));
        let subjects: Vec<(Subject, Vec<usize>)> =
            each_once.map(|s| (s.clone(), missing(&s))).filter(|(_, m)| !m.is_empty()).collect();
        if subjects.is_empty() {
            return Ok(());
        }
        let is_merge = |i: &usize| matches!(subjects[*i].0, Subject::Merge { .. });
        let (merged, trained): (Vec<usize>, Vec<usize>) = (0..subjects.len()).partition(is_merge);
        let (pool, mixtures) = pool_of(merged.iter().map(|&i| &subjects[i].0))?;
        let jobs: Vec<Job> =
            trained.into_iter().map(Job::Checkpoint).chain((0..merged.len()).map(Job::Merge)).collect();
        let (task, done) = (progress.task("scoring", jobs.len() as u64), AtomicU64::new(0));
        let workers = Workers::new(options, jobs.len(), Table::new(config).len);
        let begin = || Scorer::new(&options.place, config, pool.as_ref(), &mixtures);
        workers.run(&jobs, begin, |scorer, job| {
            let begun = Instant::now();
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
            let mut tokens = 0;
            for &d in missing {
                let score = scorer
                    .score(&shards[d])
                    .map_err(|e| Error::numeric(format!("scoring {} on {}: {e}", subject.name(), domains[d].name)))?;
                tokens += score.tokens;
                let json = serde_json::to_vec(&score).expect("a struct of numbers");
                files::write_atomic(&opened.score_path(scale, subject, d), |f| f.write_all(&json))?;
            }
            let (stage, key) = (format!("{}scoring", scale.prefix), subject.key().to_string());
            let seconds = begun.elapsed().as_secs_f64() / workers.workers as f64;
            clock.spent(Work { stage, key, seconds, flops: tokens as f64 * config.forward_flops_per_token() })?;
            task.update(done.fetch_add(1, Ordering::Relaxed) + 1, subject.name());
            Ok(())
        })?;
        task.finish(&format!("{} models on {} domains", jobs.len(), domains.len()));
        Ok(())
    }
}

/// The modules of these merges, opened once, and the merges as mixtures of them.
fn pool_of<'a>(merges: impl Iterator<Item = &'a Subject>) -> Result<(Option<merge::Pool>, Vec<merge::WeightedSum>)> {
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
    // A given seed may be longer than its modules: `seed.context`.
    let (pool, mixtures) = merge::Pool::of_sums_of_any_context(&sums)?;
    Ok((Some(pool), mixtures))
}
