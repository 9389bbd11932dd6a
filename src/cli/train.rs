//! `train`: one model, from TRAIN.toml.

use super::DeviceArg;
use crate::data::{Shard, Stream, Tokenizer, expand, for_each_document};
use crate::error::{Error, Result};
use crate::files;
use crate::model::{Config, initial_weights};
use crate::settings_file;
use crate::study::{ModelSettings, Progress};
use crate::train::{self, Start};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Args)]
pub struct Train {
    /// What to train, on what, and how
    #[arg(long, value_name = "TRAIN.toml")]
    config: PathBuf,
    /// Start from this checkpoint: its weights, and its optimizer state if it has one
    #[arg(long, value_name = "DIR")]
    init: Option<PathBuf>,
    /// The finished checkpoint; a run that was stopped goes on from DIR.partial
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArg,
}

/// TRAIN.toml
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Documents to train on; from the file's directory.
    #[serde(default)]
    files: Vec<PathBuf>,
    /// Or shards that `stockpot tokenize` wrote, of which each gives windows in proportion to its size.
    #[serde(default)]
    shards: Vec<PathBuf>,
    /// Not needed with --init, which brings its own.
    tokenizer: Option<PathBuf>,
    /// Not needed with --init.
    model: Option<ModelSettings>,
    /// Decides initial weights and the order of windows.
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

impl Train {
    pub fn run(&self) -> Result<()> {
        self.device.check()?;
        if self.out.exists() {
            return Err(Error::usage("the output exists already")
                .at(&self.out)
                .fix("remove it or choose another --out"));
        }
        let settings = self.settings()?;
        let tokenizer_path = match (&self.init, &settings.tokenizer) {
            (_, Some(path)) => path.clone(),
            (Some(init), None) => init.join("tokenizer.json"),
            (None, None) => return Err(Error::usage("`tokenizer` is missing").at(&self.config)),
        };
        let tokenizer = Tokenizer::load(&tokenizer_path, None)?;
        let (config, start) = self.start(&settings, &tokenizer)?;
        let stream = self.stream(&settings, &tokenizer, &config)?;
        let identity = serde_json::to_string(&(&settings, &self.init, tokenizer.hash())).expect("plain settings");
        let run = train::Run {
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
        Progress::new().training("train", &run)?;
        files::remove_directory(&self.shard_path())?;
        eprintln!("checkpoint: {}", self.out.display());
        Ok(())
    }

    fn settings(&self) -> Result<Settings> {
        let mut settings: Settings = settings_file::read(&self.config)?;
        settings.training.check("training").map_err(|e| e.at(&self.config))?;
        if settings.files.is_empty() == settings.shards.is_empty() {
            return Err(Error::usage("either `files` or `shards` says what to train on").at(&self.config));
        }
        let base = self.config.parent().unwrap_or(Path::new(""));
        for path in settings.files.iter_mut().chain(&mut settings.shards).chain(&mut settings.tokenizer) {
            *path = base.join(&*path);
        }
        Ok(settings)
    }

    fn start(&self, settings: &Settings, tokenizer: &Tokenizer) -> Result<(Config, Start)> {
        if let Some(init) = &self.init {
            if settings.model.is_some() {
                return Err(Error::usage("--init brings its own model: leave [model] out").at(&self.config));
            }
            let config = crate::checkpoint::read_config(init)?;
            let start = train::read_start(init, &config, None)?;
            return Ok((config, start));
        }
        let Some(model) = &settings.model else {
            return Err(Error::usage("[model] is missing; it is needed without --init").at(&self.config));
        };
        let config = model.config(tokenizer.vocabulary(), tokenizer.eos())?;
        let weights = initial_weights(&config, settings.random_seed);
        Ok((config, Start { weights, optimizer: None }))
    }

    /// Windows of all shards, each in proportion to its size.
    fn stream(&self, settings: &Settings, tokenizer: &Tokenizer, config: &Config) -> Result<Stream> {
        let mut shards = Vec::new();
        for directory in &settings.shards {
            shards.push(Arc::new(Shard::open(directory)?));
        }
        if !settings.files.is_empty() {
            let files = expand(&settings.files)?;
            let fill = |shard: &mut crate::data::ShardWriter| for_each_document(&files, |d| shard.add(d)).map(|_| ());
            shards.push(Arc::new(Shard::write(&self.shard_path(), tokenizer, fill)?));
        }
        for shard in &shards {
            let info = shard.info();
            if info.vocabulary > config.vocabulary || info.eos != config.eos {
                return Err(Error::input("the shard was made for another tokenizer")
                    .at(shard.directory())
                    .expected(format!("vocabulary up to {}, EOS {}", config.vocabulary, config.eos))
                    .got(format!("vocabulary {}, EOS {}", info.vocabulary, info.eos)));
            }
        }
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

    /// Where the tokens of `files` lie while the training runs.
    fn shard_path(&self) -> PathBuf {
        let mut name = self.out.file_name().unwrap_or_default().to_os_string();
        name.push(".tokens");
        self.out.with_file_name(name)
    }
}
