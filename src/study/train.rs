//! A study's open directory, and the trainings of its graph: those that are missing, stage by stage.

use super::clock::{Clock, SpentWork};
use super::graph::{Graph, Member, Stage, Task, Train, stage_name};
use super::history::{self, PriorModels};
use super::plan::Plan;
use super::prepare;
use super::scale::ScaleSettings;
use super::settings::Study;
use super::store::Store;
use super::workers::Resources;
use crate::engine::data::{self, Shard, Stream};
use crate::engine::device::DeviceSpec;
use crate::engine::model::{Table, initial_weights};
use crate::engine::train::{self, Start};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::lock::Lock;
use crate::progress::Progress;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// A study whose text is tokenized and whose directory is locked, ready for its tasks.
pub struct OpenStudy<'a> {
    /// The output to the user.
    pub progress: Progress,
    clock: Clock,
    threads: usize,
    spec: &'a DeviceSpec,
    _lock: Lock,
}

impl<'a> OpenStudy<'a> {
    /// Locks the directory, tokenizes what is not tokenized yet, and lists all tasks.
    pub fn new(study: &Study, root: &Path, threads: usize, spec: &'a DeviceSpec) -> Result<(OpenStudy<'a>, Graph)> {
        let progress = Progress::new();
        let store = Store { root: root.to_path_buf() };
        let lock = Lock::take(root)?;
        open_store(&store, spec, &progress)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| Error::new(Kind::Io, format!("cannot start threads: {e}")))?;
        let prepared = pool.install(|| prepare::prepare(study, &store, &progress))?;
        progress.line(&prepared.summary());
        let graph = Graph::new(study, store, prepared, spec.name())?;
        let clock = Clock::open(&graph.store)?;
        let prior = history::note(&graph)?;
        if prior == PriorModels::NotReusable {
            progress.line(
                "No existing model can be reused: the seed's text, the tokenizer or the settings changed. If \
                 decontaminating against a new partition changed the seed's text (see above), set `late = true` on \
                 that partition to keep the seed.",
            );
        }
        // Plans use the CPU's speed, so only CPU runs record one.
        if prior != PriorModels::SameStudy && spec.name() == "cpu" {
            let plan = pool.install(|| Plan::of(study, &graph))?;
            clock.planned(history::name(&graph), plan.hours)?;
        }
        Ok((OpenStudy { progress, clock, threads, spec, _lock: lock }, graph))
    }

    /// What its tasks are run with.
    pub fn resources(&self) -> Resources<'_> {
        Resources { threads: self.threads, spec: self.spec, progress: &self.progress, clock: &self.clock }
    }
}

/// Runs the missing trainings of a stage of one scale.
pub fn train_stage(graph: &Graph, resources: &Resources, scale: &ScaleSettings, stage: Stage) -> Result<()> {
    Run { graph, resources }.train_all(scale, stage)
}

/// Creates a study's directories, removes what killed runs left and records the kind of device.
fn open_store(store: &Store, spec: &DeviceSpec, progress: &Progress) -> Result<()> {
    for directory in store.directories() {
        files::create_directory(&directory)?;
    }
    store.remove_leftovers()?;
    let before = store.device()?;
    store.set_device(spec.name())?;
    if before != spec.name() && files::names_in(&store.models())?.iter().any(|name| !name.contains('.')) {
        progress.line(&format!(
            "Existing models were trained on {before}; retraining on {}, because results differ between devices. \
             The old models are kept.",
            spec.name()
        ));
    }
    Ok(())
}

/// The trainings of a run.
struct Run<'a> {
    graph: &'a Graph,
    resources: &'a Resources<'a>,
}

impl Run<'_> {
    /// Runs the missing trainings of a scale's stage: the seed from initial weights, all others
    /// from the seed.
    fn train_all(&self, scale: &ScaleSettings, stage: Stage) -> Result<()> {
        let is_missing = |task: &Task| {
            (task.scale, task.stage) == (scale.scale, stage) && !self.graph.store.model(&task.key).exists()
        };
        let missing: Vec<(&Task, &Train)> = self.graph.trainings().filter(|(task, _)| is_missing(task)).collect();
        let Some((_, first)) = missing.first() else { return Ok(()) };
        let start = Arc::new(match stage {
            Stage::Seed => Start { weights: initial_weights(&scale.config, first.shuffle_seed), optimizer: None },
            _ => self.seed(scale)?,
        });
        let workers = self.resources.workers(missing.len(), Table::new(&scale.config).len);
        let each = |(): &mut (), (task, train): &(&Task, &Train)| {
            self.train_one(scale, task, train, start.clone(), workers.workers)
        };
        workers.run(&missing, || Ok(()), each)?;
        Ok(())
    }

    /// The starting point of modules and SEQ: the seed.
    fn seed(&self, scale: &ScaleSettings) -> Result<Start> {
        let directory = self.graph.seed_directory(scale.scale)?;
        let start = train::read_start(directory, &scale.config, None)?;
        if start.optimizer.is_none() {
            self.resources.progress.line(&format!(
                "{}: the seed has no optimizer state; modules and SEQ start with zero moments",
                directory.display()
            ));
        }
        Ok(start)
    }

    /// Trains one model; `side_by_side` is the number of trainings that share the device.
    fn train_one(
        &self,
        scale: &ScaleSettings,
        task: &Task,
        train: &Train,
        start: Arc<Start>,
        side_by_side: usize,
    ) -> Result<()> {
        let (graph, config) = (self.graph, &scale.config);
        let mut members = Vec::new();
        for Member { shard, windows, order_seed, first, copies } in &train.members {
            let (shard, order_seed) = (Arc::new(Shard::open(&graph.store.shard(&shard.hash))?), *order_seed);
            let member = data::StreamMember { shard, windows: *first..first + windows, order_seed };
            members.extend(std::iter::repeat_n(member, *copies as usize));
        }
        let stream = Stream::from_members(members, config.context, train.shuffle_seed)?;
        let out = graph.store.model(&task.key);
        let run = train::TrainingRun {
            config,
            start,
            stream: &stream,
            settings: &train.settings,
            tokenizer: &graph.store.tokenizer(&graph.prepared.manifest.tokenizer),
            identity: &task.key,
            out: &out,
            checkpoint_every: graph.checkpoint_every,
            keep_optimizer: task.stage == Stage::Seed,
        };
        let flops = (train.settings.batch * config.context) as f64 * config.training_flops_per_token();
        let mut lap = Lap { since: Instant::now(), steps: 0 };
        let spent = |lap: &mut Lap| {
            let (seconds, steps) = lap.take();
            let seconds = seconds / side_by_side as f64;
            let (stage, key) = (stage_name(task.scale, task.stage), task.key.clone());
            self.resources.clock.spent(SpentWork { stage, key, seconds, flops: steps as f64 * flops })
        };
        let mut written = Ok(());
        let Resources { spec, progress, .. } = self.resources;
        train::train_observed(&task.name, spec, &run, progress, &mut |step| {
            lap.steps += 1;
            if step % graph.checkpoint_every == 0 && written.is_ok() {
                written = spent(&mut lap);
            }
        })?;
        written.and_then(|()| spent(&mut lap))
    }
}

/// A stopwatch that also counts steps.
struct Lap {
    since: Instant,
    steps: u64,
}

impl Lap {
    /// Returns the lap's seconds and steps and starts the next lap.
    fn take(&mut self) -> (f64, u64) {
        let now = Instant::now();
        (std::mem::replace(&mut self.since, now).elapsed().as_secs_f64(), std::mem::take(&mut self.steps))
    }
}
