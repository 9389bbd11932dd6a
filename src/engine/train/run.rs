//! The training loop: from initial weights, over a stream of windows, to a finished checkpoint
//! directory. While it runs, a resumable checkpoint is at `<out>.partial`; a run that is killed at
//! any point resumes from it with bit-identical results.

use super::optimizer::{Optimizer, Update};
use super::settings::Settings;
use crate::engine::checkpoint::{self, OptimizerState, StorageDType, TrainerState};
use crate::engine::data::Stream;
use crate::engine::device::{Buffer, DType, Device, Pending, Repeat};
use crate::engine::model::{Activations, Batch, Config, Inputs, MemoryPlan, Model, Table};
use crate::engine::ops::LossSum;
use crate::error::{Error, Kind, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Initial weights of trainings, with the moments if they continue an earlier training.
pub struct Start {
    /// (P)
    pub weights: Vec<f32>,
    /// Moments, and the number of updates that made them.
    pub optimizer: Option<(OptimizerState, u64)>,
}

/// One training: its start, its data and its output.
pub struct TrainingRun<'a> {
    /// Must fit the weights of `start`.
    pub config: &'a Config,
    /// Used unless a partial checkpoint of this run exists.
    pub start: Arc<Start>,
    /// Windows in the order of training; step s, from 1, takes `batch` windows from (s-1)*batch on.
    pub stream: &'a Stream,
    /// Must have passed [`Settings::check`].
    pub settings: &'a Settings,
    /// `tokenizer.json` that goes into the checkpoint.
    pub tokenizer: &'a Path,
    /// Identifies everything that determines this run; a partial checkpoint of another run is
    /// refused. If it is a JSON object, the error names the fields that differ.
    pub identity: &'a str,
    /// The finished checkpoint's directory; the resumable one is beside it, see [`partial_path`].
    pub out: &'a Path,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// The finished checkpoint keeps the moments, so that other trainings can continue from it.
    pub keep_optimizer: bool,
}

/// One row of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// From 1.
    pub step: u64,
    /// Mean nats per target before the update.
    pub loss: f64,
    /// Learning rate of this step's update.
    pub learning_rate: f64,
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: f32,
    /// The gradient was not finite and the step changed nothing.
    pub skipped: bool,
}

/// The contents of `run` in `trainer.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RunState {
    identity: String,
    updates: u64,
}

/// Consecutive steps without a finite gradient after which training gives up.
const MOST_SKIPPED: usize = 20;

/// Trains to the end; resumes from the partial checkpoint of the same run if there is one.
/// `progress` is called after every step. The caller ensures that no one else writes to `out`.
pub fn train(device: &mut Device, run: &TrainingRun, progress: &mut dyn FnMut(&Metrics)) -> Result<()> {
    let partial = partial_path(run.out);
    let resumed = resume(run, &partial)?;
    let (start, metrics) = match &resumed {
        Some((start, metrics)) => (start, metrics.clone()),
        None => (&*run.start, Vec::new()),
    };
    check_memory(device, run)?;
    let mut trainer = Trainer::new(device, run, start, metrics)?;
    drop(resumed);
    for step in trainer.metrics.len() as u64 + 1..=run.settings.steps {
        device.range("step", |device| trainer.queue_step(device, step))?;
        let ahead = if device.is_asynchronous() { STEPS_AHEAD } else { 0 };
        trainer.read_back(ahead, progress)?;
        if step % run.checkpoint_every == 0 && step < run.settings.steps {
            trainer.read_back(0, progress)?;
            device.range("checkpoint", |device| trainer.save(device, &partial, true))?;
        }
    }
    trainer.read_back(0, progress)?;
    trainer.save(device, run.out, run.keep_optimizer)?;
    files::remove_directory(&partial)
}

/// Steps that may be queued before the results of the first are read.
const STEPS_AHEAD: usize = 2;

/// Windows of one forward and backward pass.
fn micro_batch(run: &TrainingRun) -> Batch {
    Batch { batch: run.settings.micro_batch(), context: run.config.context }
}

/// The device memory that the training will take.
pub fn memory_plan(config: &Config, settings: &Settings, compute: DType) -> Result<MemoryPlan> {
    let micro = Batch { batch: settings.micro_batch(), context: config.context };
    MemoryPlan::of_training(config, compute, micro, settings.batch, settings.recompute)
}

/// Refuses a training that does not fit the device's memory; the error names settings that would.
fn check_memory(device: &Device, run: &TrainingRun) -> Result<()> {
    let Some(free) = device.free_memory() else { return Ok(()) };
    let (settings, compute) = (run.settings, device.compute_dtype());
    let plan = memory_plan(run.config, settings, compute)?;
    if plan.total() <= free {
        return Ok(());
    }
    let mut ways = (1..=settings.micro_batch())
        .rev()
        .filter(|n| settings.batch.is_multiple_of(*n))
        .flat_map(|n| [false, true].map(|recompute| Settings { micro_batch: Some(n), recompute, ..settings.clone() }));
    let fits = |s: &Settings| memory_plan(run.config, s, compute).is_ok_and(|plan| plan.total() <= free);
    let fix = match ways.find(fits) {
        Some(s) if s.recompute => format!("set micro_batch = {} and recompute = true", s.micro_batch()),
        Some(s) => format!("set micro_batch = {}, or try recompute = true", s.micro_batch()),
        None => "use a smaller model or context, or a larger device".into(),
    };
    Err(Error::new(Kind::Io, "the training does not fit the device's memory")
        .at(run.out)
        .expected(format!("at most {:.2} GB, the free memory", free as f64 / 1e9))
        .got(plan.to_string())
        .fix(fix))
}

/// A training on its device: its memory, and the steps whose results are not read yet.
struct Trainer<'a> {
    run: &'a TrainingRun<'a>,
    model: Model,
    optimizer: Optimizer,
    acts: Activations,
    inputs: Inputs,
    /// (1) f64: sum of the step's nats
    nats: Buffer,
    repeat: Repeat,
    queued: VecDeque<Queued>,
    /// Metrics of the steps whose results were read.
    metrics: Vec<Metrics>,
}

/// A queued step whose results are not read yet.
struct Queued {
    step: u64,
    learning_rate: f64,
    nats: Pending<f64>,
    norm: Pending<f32>,
}

impl<'a> Trainer<'a> {
    fn new(device: &mut Device, run: &'a TrainingRun, start: &Start, metrics: Vec<Metrics>) -> Result<Trainer<'a>> {
        let model = Model::new(device, run.config, &start.weights)?;
        let optimizer = start.optimizer.as_ref().map(|(state, updates)| (state, *updates));
        let (batch, settings) = (run.settings.batch * run.config.context, run.settings);
        Ok(Trainer {
            run,
            optimizer: Optimizer::new(device, &model, optimizer)?,
            model,
            acts: Activations::for_training(device, run.config, micro_batch(run).rows(), settings.recompute)?,
            inputs: Inputs::new(device, batch)?,
            nats: device.alloc(DType::F64, 1)?,
            repeat: Repeat::default(),
            queued: VecDeque::new(),
            metrics,
        })
    }

    /// Uploads a step's inputs and queues its work.
    fn queue_step(&mut self, device: &mut Device, step: u64) -> Result<()> {
        let settings = self.run.settings;
        let rows = settings.batch * self.run.config.context;
        let (mut tokens, mut targets) = (vec![0; rows], vec![0; rows]);
        self.run.stream.fill((step - 1) * settings.batch as u64, &mut tokens, &mut targets);
        self.inputs.upload(device, &tokens, &targets)?;
        let learning_rate = settings.learning_rate_at(step);
        self.optimizer.set_learning_rate(device, learning_rate)?;
        let Trainer { run, model, optimizer, acts, inputs, nats, repeat, .. } = self;
        device.repeat(repeat, |device| one_step(device, run, model, optimizer, acts, inputs, nats))?;
        let (nats, norm) = (device.fetch(&self.nats)?, device.fetch(&self.optimizer.arena.norm)?);
        self.queued.push_back(Queued { step, learning_rate, nats, norm });
        Ok(())
    }

    /// Reads the results of all queued steps except the last `keep`.
    fn read_back(&mut self, keep: usize, progress: &mut dyn FnMut(&Metrics)) -> Result<()> {
        let targets = (self.run.settings.batch * self.run.config.context) as f64;
        while self.queued.len() > keep {
            let Some(queued) = self.queued.pop_front() else { break };
            let Queued { step, learning_rate, nats, norm } = queued;
            let Update { grad_norm, skipped } = Update::of(&norm.wait()?);
            let row = Metrics { step, loss: nats.wait()?[0] / targets, learning_rate, grad_norm, skipped };
            progress(&row);
            self.metrics.push(row);
            if self.metrics.iter().rev().take_while(|m| m.skipped).count() >= MOST_SKIPPED {
                return Err(Error::numeric(format!(
                    "no finite gradient in the last {MOST_SKIPPED} steps, at step {step}"
                ))
                .at(self.run.out)
                .fix("lower the learning rate, or start from an earlier checkpoint"));
            }
        }
        Ok(())
    }

    fn save(&self, device: &mut Device, to: &Path, with_optimizer: bool) -> Result<()> {
        let Trainer { run, model, optimizer, metrics, .. } = self;
        let weights = device.to_vec::<f32>(&model.master)?;
        let step = metrics.len() as u64;
        let run_state = RunState { identity: run.identity.to_string(), updates: optimizer.updates(device)? };
        let state = TrainerState {
            step,
            tokens: step * (run.settings.batch * run.config.context) as u64,
            run: serde_json::to_value(&run_state).expect("a struct of strings and numbers"),
        };
        let rows =
            metrics.iter().map(|m| serde_json::to_string(m).expect("a struct of numbers") + "\n").collect::<String>();
        let moments = with_optimizer.then(|| optimizer.state(device)).transpose()?;
        files::write_directory_atomic(to, |dir| {
            checkpoint::write_model(dir, run.config, &weights, StorageDType::F32, Some(run.tokenizer))?;
            if let Some(moments) = &moments {
                moments.write(dir, &model.table)?;
            }
            state.write(dir)?;
            files::write_atomic(&dir.join("metrics.jsonl"), |f| f.write_all(rows.as_bytes()))
        })
    }
}

/// Gradients of all micro-batches, and the update: the same ops on the same memory at every step.
fn one_step(
    device: &mut Device,
    run: &TrainingRun,
    model: &Model,
    optimizer: &Optimizer,
    acts: &Activations,
    inputs: &Inputs,
    nats: &Buffer,
) -> Result<()> {
    let micro = micro_batch(run);
    let (rows, batch) = (micro.rows(), run.settings.batch * run.config.context);
    optimizer.zero_gradients(device)?;
    for first in (0..batch).step_by(rows) {
        let inputs = inputs.rows(first..first + rows);
        model.accumulate_gradient(device, acts, &optimizer.arena.grads, micro, &inputs, 1.0 / batch as f32)?;
        device.run(&LossSum { losses: acts.losses(rows).vector(), out: nats.vector(), accumulate: first > 0 })?;
    }
    device.range("update", |device| optimizer.update(device, model, run.settings))
}

/// The start and the metrics of the partial checkpoint of the same run, if there is one.
fn resume(run: &TrainingRun, partial: &Path) -> Result<Option<(Start, Vec<Metrics>)>> {
    files::recover_directory(partial)?;
    if !partial.exists() {
        return Ok(None);
    }
    let remove = || format!("remove {} to train from the start", partial.display());
    let state = TrainerState::read(partial).map_err(|e| e.fix(remove()))?;
    let run_state = match serde_json::from_value::<RunState>(state.run.clone()) {
        Ok(run_state) if run_state.identity == run.identity => run_state,
        // Removing it here would discard work because of a mistake in a settings file.
        other => {
            let before = other.map_or("an unknown state".into(), |s| difference(&s.identity, run.identity));
            return Err(Error::usage("the partial checkpoint was made with other settings or other data")
                .at(partial)
                .got(before)
                .fix(format!("restore these to resume it, choose another --out, or {}", remove())));
        }
    };
    let start = read_start(partial, run.config, Some(run_state.updates)).map_err(|e| e.fix(remove()))?;
    let metrics = read_metrics(partial).map_err(|e| e.fix(remove()))?;
    if metrics.len() as u64 != state.step || start.optimizer.is_none() {
        return Err(Error::input("the partial checkpoint is damaged")
            .at(partial)
            .expected(format!("moments, and {} rows in metrics.jsonl", state.step))
            .fix(remove()));
    }
    Ok(Some((start, metrics)))
}

/// The fields in which two identities differ, with their previous values.
fn difference(before: &str, now: &str) -> String {
    let parse = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    let mut fields = Vec::new();
    differing("", &parse(before), &parse(now), &mut fields);
    format!("a training with {}", fields.join(", "))
}

fn differing(name: &str, before: &Value, now: &Value, fields: &mut Vec<String>) {
    match (before, now) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                differing(&name, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), fields);
            }
        }
        _ if before != now => fields.push(format!("{name} = {before}")),
        _ => {}
    }
}

/// Weights, and the moments if the checkpoint has them. `updates` is read from `trainer.json`
/// unless given.
pub fn read_start(dir: &Path, config: &Config, updates: Option<u64>) -> Result<Start> {
    let weights = checkpoint::read_weights(dir, config)?;
    if !dir.join("optimizer.safetensors").exists() {
        return Ok(Start { weights, optimizer: None });
    }
    let moments = OptimizerState::read(dir, &Table::new(config))?;
    let updates = match updates {
        Some(n) => n,
        None => {
            let state = TrainerState::read(dir)?;
            serde_json::from_value::<RunState>(state.run).map_or(state.step, |run| run.updates)
        }
    };
    Ok(Start { weights, optimizer: Some((moments, updates)) })
}

/// The rows of a checkpoint's `metrics.jsonl`.
pub fn read_metrics(dir: &Path) -> Result<Vec<Metrics>> {
    let path = dir.join("metrics.jsonl");
    let text = files::read_to_string(&path)?;
    let parse = |(i, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|e| Error::input(format!("not a row of metrics: {e}")).at(&path).line(i as u64 + 1))
    };
    text.lines().enumerate().map(parse).collect()
}

/// Steps in the resumable checkpoint of a run to `out`, if there is one. A run may be replacing it.
pub fn partial_steps(out: &Path) -> Result<Option<u64>> {
    let partial = partial_path(out);
    let before = files::suffixed(&partial, ".old");
    let mut failed = None;
    // The checkpoint may be replaced between two reads, so try again; a damaged file stays damaged.
    for _ in 0..5 {
        match TrainerState::read(&partial).or_else(|e| TrainerState::read(&before).map_err(|_| e)) {
            Ok(state) => return Ok(Some(state.step)),
            Err(e) if partial.exists() && !out.exists() => failed = Some(e),
            Err(_) => return Ok(None),
        }
    }
    failed.map_or(Ok(None), Err)
}

/// Removes the resumable checkpoint of the run that made the finished checkpoint `out` and was
/// killed before it could remove it. One of another run is kept.
pub fn remove_finished_partial(out: &Path) -> Result<()> {
    let run = |dir: &Path| TrainerState::read(dir).ok().map(|state| state.run["identity"].clone());
    let partial = partial_path(out);
    match (run(out), run(&partial)) {
        (Some(finished), Some(left)) if finished == left => files::remove_directory(&partial),
        _ => Ok(()),
    }
}

/// The path of the resumable checkpoint of a run to `out`.
pub fn partial_path(out: &Path) -> PathBuf {
    files::suffixed(out, ".partial")
}
