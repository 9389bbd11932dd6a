//! `train`: one model, from TRAIN.toml.

use super::DeviceArg;
use crate::engine::checkpoint::content_key;
use crate::engine::data::{Shard, Stream, Tokenizer, expand, for_each_document};
use crate::engine::model::ModelSettings;
use crate::engine::model::{Config, initial_weights};
use crate::engine::train::{self, Start, partial_path};
use crate::error::{Error, Result};
use crate::files;
use crate::lock::Lock;
use crate::progress::Progress;
use crate::progress::say;
use crate::settings_file;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Arguments of `train`.
#[derive(Args)]
pub struct TrainArgs {
    /// Settings: the model, its documents and its training
    #[arg(long, value_name = "TRAIN.toml")]
    config: PathBuf,
    /// Start from this checkpoint's weights, and its optimizer state if it has one
    #[arg(long, value_name = "DIR")]
    init: Option<PathBuf>,
    /// The finished checkpoint; an interrupted run resumes from DIR.partial
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArg,
}

/// TRAIN.toml
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainFile {
    /// Documents to train on; paths are relative to this file's directory.
    #[serde(default)]
    files: Vec<PathBuf>,
    /// Or shards written by `stockpot tokenize`; each gives windows in proportion to its size.
    #[serde(default)]
    shards: Vec<PathBuf>,
    /// Not needed with --init, which has its own.
    tokenizer: Option<PathBuf>,
    /// Not needed with --init.
    model: Option<ModelSettings>,
    /// Determines the initial weights and the order of windows.
    #[serde(default)]
    random_seed: u64,
    training: train::Settings,
    /// Steps between resumable checkpoints.
    #[serde(default = "checkpoint_every")]
    checkpoint_every: u64,
}

fn checkpoint_every() -> u64 {
    200
}

impl TrainArgs {
    /// Trains the model and writes the finished checkpoint. Resumes from the partial checkpoint if
    /// there is one.
    pub fn run(&self) -> Result<()> {
        let spec = self.device.spec()?;
        let settings = self.settings()?;
        let _lock = Lock::beside(&self.out)?;
        self.remove_leftovers()?;
        self.expect_no_output()?;
        let tokenizer_path = match (&self.init, &settings.tokenizer) {
            (_, Some(path)) => path.clone(),
            (Some(init), None) => init.join("tokenizer.json"),
            (None, None) => return Err(Error::usage("`tokenizer` is missing").at(&self.config)),
        };
        let tokenizer = Tokenizer::load(&tokenizer_path, None)?;
        let (config, start) = self.start(&settings, &tokenizer)?;
        let shards = self.shards(&settings, &tokenizer, &config)?;
        let identity = Identity {
            device: spec.name(),
            training: &settings.training,
            random_seed: settings.random_seed,
            model: &config,
            tokenizer: tokenizer.hash(),
            text: shards.iter().map(|s| s.info().content.as_str()).collect(),
            init: self.init.as_deref().map(content_key).transpose()?,
        };
        let identity = serde_json::to_string(&identity).expect("plain settings");
        let stream = stream(&settings, shards.clone(), &config)?;
        let run = train::TrainingRun {
            config: &config,
            start: Arc::new(start),
            stream: &stream,
            settings: &settings.training,
            tokenizer: &tokenizer_path,
            identity: &identity,
            out: &self.out,
            checkpoint_every: settings.checkpoint_every.max(1),
            keep_optimizer: true,
        };
        let trained = train::train_observed("train", &spec, &run, &Progress::new(), &mut |_| {});
        files::remove_directory(&self.shard_path())?;
        trained?;
        say(&format!("checkpoint: {}", self.out.display()));
        Ok(())
    }

    fn expect_no_output(&self) -> Result<()> {
        if self.out.exists() {
            return Err(Error::usage("the output already exists")
                .at(&self.out)
                .fix("remove it or choose another --out"));
        }
        Ok(())
    }

    /// Removes what killed runs to the same output left.
    fn remove_leftovers(&self) -> Result<()> {
        let tokens = self.shard_path();
        files::remove_directory(&files::suffixed(&tokens, ".old"))?;
        files::remove_directory(&tokens)?;
        train::remove_finished_partial(&self.out)?;
        let ours = [self.out.clone(), partial_path(&self.out), tokens];
        let is_ours = |name: &str| ours.iter().any(|path| path.file_name().is_some_and(|n| n == name));
        files::remove_abandoned(self.out.parent().unwrap_or(Path::new("")), is_ours)
    }

    fn settings(&self) -> Result<TrainFile> {
        let mut settings: TrainFile = settings_file::read(&self.config)?;
        settings.training.check("training").map_err(|e| e.at(&self.config))?;
        if settings.files.is_empty() == settings.shards.is_empty() {
            return Err(Error::usage("give either `files` or `shards` to train on").at(&self.config));
        }
        let base = self.config.parent().unwrap_or(Path::new(""));
        for path in settings.files.iter_mut().chain(&mut settings.shards).chain(&mut settings.tokenizer) {
            *path = base.join(&*path);
        }
        Ok(settings)
    }

    fn start(&self, settings: &TrainFile, tokenizer: &Tokenizer) -> Result<(Config, Start)> {
        if let Some(init) = &self.init {
            if settings.model.is_some() {
                return Err(Error::usage("--init has its own model: remove [model]").at(&self.config));
            }
            let config = crate::engine::checkpoint::read_config(&init.join("config.json"))?;
            let start = train::read_start(init, &config, None)?;
            if start.optimizer.is_none() {
                say(&format!("{}: no optimizer state; the moments start at zero", init.display()));
            }
            return Ok((config, start));
        }
        let Some(model) = &settings.model else {
            return Err(Error::usage("[model] is missing; it is needed without --init").at(&self.config));
        };
        let config = model.config(tokenizer.vocabulary(), tokenizer.eos()).map_err(|e| e.at(&self.config))?;
        let weights = initial_weights(&config, settings.random_seed);
        Ok((config, Start { weights, optimizer: None }))
    }

    fn shards(&self, settings: &TrainFile, tokenizer: &Tokenizer, config: &Config) -> Result<Vec<Arc<Shard>>> {
        let mut shards = Vec::new();
        for directory in &settings.shards {
            shards.push(Arc::new(Shard::open(directory)?));
        }
        if !settings.files.is_empty() {
            let files = expand(&settings.files)?;
            let fill =
                |shard: &mut crate::engine::data::ShardWriter| for_each_document(&files, |d| shard.add(d)).map(|_| ());
            shards.push(Arc::new(Shard::write(&self.shard_path(), tokenizer, fill)?));
        }
        for shard in &shards {
            let info = shard.info();
            if info.vocabulary > config.vocabulary || info.eos != config.eos {
                return Err(Error::input("the shard was made with a different tokenizer")
                    .at(shard.directory())
                    .expected(format!("vocabulary up to {}, EOS {}", config.vocabulary, config.eos))
                    .got(format!("vocabulary {}, EOS {}", info.vocabulary, info.eos)));
            }
        }
        Ok(shards)
    }

    /// The directory of the tokens of `files` during the training.
    fn shard_path(&self) -> PathBuf {
        files::suffixed(&self.out, ".tokens")
    }
}

/// Everything that determines a training's bits, by content. Paths, threads and `checkpoint_every`
/// do not.
#[derive(Serialize)]
struct Identity<'a> {
    /// Bits differ between kinds of device.
    device: &'a str,
    training: &'a train::Settings,
    random_seed: u64,
    model: &'a Config,
    tokenizer: String,
    text: Vec<&'a str>,
    init: Option<String>,
}

/// The windows of all shards, each in proportion to its size.
fn stream(settings: &TrainFile, shards: Vec<Arc<Shard>>, config: &Config) -> Result<Stream> {
    let total: u64 = shards.iter().map(|s| s.tokens_len()).sum();
    let wanted = settings.training.windows();
    let mut members = Vec::new();
    let mut given = 0;
    let mut seen = 0;
    for (i, shard) in shards.into_iter().enumerate() {
        seen += shard.tokens_len();
        // Cumulative shares, so that rounding never changes their sum.
        let upto = (wanted as u128 * seen as u128 / total.max(1) as u128) as u64;
        members.push((shard, upto - given, settings.random_seed.wrapping_add(i as u64)));
        given = upto;
    }
    Stream::new(members, config.context, settings.random_seed)
}
