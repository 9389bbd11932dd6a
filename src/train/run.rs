//! The training loop: from a start, over a stream of windows, to a finished checkpoint directory. While it runs, a
//! resumable checkpoint stands at `<out>.partial`; a run that is killed anywhere goes on from it to the same bits.

use super::optimizer::Optimizer;
use super::settings::Settings;
use crate::checkpoint::{self, OptimizerState, StorageDType, TrainerState};
use crate::data::Stream;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files;
use crate::model::{Activations, Batch, Config, Model, Table};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Weights (and, to go on from them, the moments) that trainings begin with.
pub struct Start {
    /// (P)
    pub weights: Vec<f32>,
    /// Moments, and the number of updates behind them.
    pub optimizer: Option<(OptimizerState, u64)>,
}

pub struct Run<'a> {
    pub config: &'a Config,
    pub start: Arc<Start>,
    pub stream: &'a Stream,
    pub settings: &'a Settings,
    /// `tokenizer.json` that goes into the checkpoint.
    pub tokenizer: &'a Path,
    /// Stands for everything that made this run; a partial checkpoint of another run is refused. Where it is a JSON
    /// object, the refusal names the fields that differ.
    pub identity: &'a str,
    pub out: &'a Path,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// The finished checkpoint keeps the moments, so that other trainings can go on from it.
    pub keep_optimizer: bool,
}

/// One row of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// From 1.
    pub step: u64,
    /// Mean nats per target before the update.
    pub loss: f64,
    pub learning_rate: f64,
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: f32,
    /// The gradient was not finite and the step changed nothing.
    pub skipped: bool,
}

/// What `trainer.json` holds of a run besides its step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RunState {
    identity: String,
    updates: u64,
}

/// Consecutive steps without a finite gradient after which training gives up.
const MOST_SKIPPED: usize = 20;

/// Trains to the end, or goes on from the partial checkpoint of the same run. `progress` is told of every step. The
/// caller keeps other writers of `out` away.
pub fn train(device: &mut Device, run: &Run, progress: &mut dyn FnMut(&Metrics)) -> Result<()> {
    let partial = partial_path(run.out);
    let resumed = resume(run, &partial)?;
    let (start, mut metrics) = match &resumed {
        Some((start, metrics)) => (start, metrics.clone()),
        None => (&*run.start, Vec::new()),
    };
    let model = Model::new(device, run.config, &start.weights)?;
    let optimizer = start.optimizer.as_ref().map(|(state, updates)| (state, *updates));
    let mut optimizer = Optimizer::new(device, &model, optimizer)?;
    let micro = Batch { batch: run.settings.micro_batch(), context: run.config.context };
    let acts = Activations::for_training(device, run.config, micro.rows())?;
    drop(resumed);

    for step in metrics.len() as u64 + 1..=run.settings.steps {
        let row = one_step(device, run, &model, &mut optimizer, &acts, micro, step)?;
        progress(&row);
        metrics.push(row);
        if metrics.iter().rev().take_while(|m| m.skipped).count() >= MOST_SKIPPED {
            return Err(Error::numeric(format!("no finite gradient in the last {MOST_SKIPPED} steps, at step {step}"))
                .at(run.out)
                .fix("lower the learning rate, or start from an earlier checkpoint"));
        }
        if step % run.checkpoint_every == 0 && step < run.settings.steps {
            save(device, run, &model, &optimizer, &metrics, &partial, true)?;
        }
    }
    save(device, run, &model, &optimizer, &metrics, run.out, run.keep_optimizer)?;
    files::remove_directory(&partial)
}

fn one_step(
    device: &mut Device,
    run: &Run,
    model: &Model,
    optimizer: &mut Optimizer,
    acts: &Activations,
    micro: Batch,
    step: u64,
) -> Result<Metrics> {
    let targets_per_step = run.settings.batch * run.config.context;
    let (mut inputs, mut targets) = (vec![0; micro.rows()], vec![0; micro.rows()]);
    let mut nats = 0.0;
    optimizer.zero_gradients(device)?;
    for first in (0..run.settings.batch).step_by(micro.batch) {
        let window = (step - 1) * run.settings.batch as u64 + first as u64;
        run.stream.fill(window, &mut inputs, &mut targets);
        let scale = 1.0 / targets_per_step as f32;
        let losses = model.accumulate_gradient(device, acts, &optimizer.arena, micro, &inputs, &targets, scale)?;
        nats += losses.iter().map(|&l| l as f64).sum::<f64>();
    }
    let learning_rate = run.settings.learning_rate_at(step);
    let update = optimizer.update(device, model, run.settings, learning_rate)?;
    Ok(Metrics {
        step,
        loss: nats / targets_per_step as f64,
        learning_rate,
        grad_norm: update.grad_norm,
        skipped: update.skipped,
    })
}

fn save(
    device: &mut Device,
    run: &Run,
    model: &Model,
    optimizer: &Optimizer,
    metrics: &[Metrics],
    to: &Path,
    with_optimizer: bool,
) -> Result<()> {
    let weights = device.to_vec::<f32>(&model.master)?;
    let step = metrics.len() as u64;
    let run_state = RunState { identity: run.identity.to_string(), updates: optimizer.updates };
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

/// The start that the partial checkpoint of the same run stands for, with the metrics up to it.
fn resume(run: &Run, partial: &Path) -> Result<Option<(Start, Vec<Metrics>)>> {
    files::recover_directory(partial)?;
    if !partial.exists() {
        return Ok(None);
    }
    let anew = || format!("remove {} to train from the start", partial.display());
    let state = TrainerState::read(partial).map_err(|e| e.fix(anew()))?;
    let run_state = match serde_json::from_value::<RunState>(state.run.clone()) {
        Ok(run_state) if run_state.identity == run.identity => run_state,
        // Removing it here would throw away work because of a slip in a settings file.
        other => {
            let before = other.map_or("nothing that is known".into(), |s| difference(&s.identity, run.identity));
            return Err(Error::usage("the partial checkpoint is of other settings or other data")
                .at(partial)
                .got(before)
                .fix(format!("restore these to go on with it, choose another --out, or {}", anew())));
        }
    };
    let start = read_start(partial, run.config, Some(run_state.updates)).map_err(|e| e.fix(anew()))?;
    let metrics = read_metrics(partial).map_err(|e| e.fix(anew()))?;
    if metrics.len() as u64 != state.step || start.optimizer.is_none() {
        return Err(Error::input("the partial checkpoint is damaged")
            .at(partial)
            .expected(format!("moments, and {} rows in metrics.jsonl", state.step))
            .fix(anew()));
    }
    Ok(Some((start, metrics)))
}

/// The fields in which two identities differ, with the values that they had before.
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

/// The weights of a checkpoint of the model `config`.
pub fn read_weights(dir: &Path, config: &Config) -> Result<Vec<f32>> {
    let reader = checkpoint::Reader::open(dir)?;
    expect_same_model(config, reader.config(), dir)?;
    let mut weights = vec![0.0; reader.table().len];
    reader.read_weights(&mut weights)?;
    Ok(weights)
}

/// The same shapes and mathematics; the context may be shorter than the checkpoint's.
fn expect_same_model(config: &Config, found: &Config, dir: &Path) -> Result<()> {
    if *config == (Config { context: config.context, ..found.clone() }) {
        return Ok(());
    }
    Err(Error::input("this checkpoint is of another model")
        .at(dir)
        .expected(format!("{config:?}"))
        .got(format!("{found:?}")))
}

/// Weights, and the moments where the checkpoint has them. `updates` is what `trainer.json` says unless given.
pub fn read_start(dir: &Path, config: &Config, updates: Option<u64>) -> Result<Start> {
    let weights = read_weights(dir, config)?;
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
    // The replacement may fall between two looks; a file that is damaged stays so.
    for _ in 0..5 {
        match TrainerState::read(&partial).or_else(|e| TrainerState::read(&before).map_err(|_| e)) {
            Ok(state) => return Ok(Some(state.step)),
            Err(e) if partial.exists() && !out.exists() => failed = Some(e),
            Err(_) => return Ok(None),
        }
    }
    failed.map_or(Ok(None), Err)
}

/// Removes the resumable checkpoint of the run that made the finished checkpoint `out`: it was killed before it could.
/// One of another run stays.
pub fn remove_finished_partial(out: &Path) -> Result<()> {
    let run = |dir: &Path| TrainerState::read(dir).ok().map(|state| state.run["identity"].clone());
    let partial = partial_path(out);
    match (run(out), run(&partial)) {
        (Some(finished), Some(left)) if finished == left => files::remove_directory(&partial),
        _ => Ok(()),
    }
}

/// Where the resumable checkpoint of a run to `out` stands.
pub fn partial_path(out: &Path) -> PathBuf {
    files::suffixed(out, ".partial")
}
