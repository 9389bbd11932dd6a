//! `train`: one model, from TRAIN.toml; with `--recipe`, on the mixture that a search found.

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
use crate::recipe::MixtureRecipe;
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
    /// Train on this recipe of `stockpot search`: its partitions by weight, and its tokens
    #[arg(long, value_name = "RECIPE.toml")]
    recipe: Option<PathBuf>,
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
    /// Documents to train on; paths are relative to this file's directory. Not with --recipe.
    #[serde(default)]
    files: Vec<PathBuf>,
    /// Or shards written by `stockpot tokenize`; each gives windows in proportion to its size.
    #[serde(default)]
    shards: Vec<PathBuf>,
    /// Not needed with --init or --recipe, which have their own.
    tokenizer: Option<PathBuf>,
    /// Not needed with --init.
    model: Option<ModelSettings>,
    /// Determines the initial weights and the order of windows.
    #[serde(default)]
    random_seed: u64,
    /// With a --recipe that has `tokens`, `steps` may be left out.
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
        let recipe = self.recipe.as_deref().map(MixtureRecipe::read).transpose()?;
        let mut settings = self.settings(recipe.is_some())?;
        let _lock = Lock::beside(&self.out)?;
        self.remove_leftovers()?;
        self.expect_no_output()?;
        let tokenizer_path = self.tokenizer(&settings, recipe.as_ref())?;
        let tokenizer = Tokenizer::load(&tokenizer_path, None)?;
        let config = self.model(&settings, &tokenizer)?;
        if let Some(recipe) = &recipe {
            let training = &mut settings.training;
            let steps = recipe.steps(training.steps, training.batch, config.context).map_err(|e| e.at(&self.config))?;
            training.steps = steps;
            training.check("training").map_err(|e| e.at(&self.config))?;
        }
        let start = self.start(&settings, &config)?;
        let (shards, stream) = match &recipe {
            Some(recipe) => recipe_text(recipe, &settings, &tokenizer, &config)?,
            None => self.text(&settings, &tokenizer, &config)?,
        };
        let identity = Identity {
            device: spec.name(),
            training: &settings.training,
            random_seed: settings.random_seed,
            model: &config,
            tokenizer: tokenizer.hash(),
            text: shards.iter().map(|s| s.info().content.as_str()).collect(),
            weights: recipe.as_ref().map(MixtureRecipe::weights),
            init: self.init.as_deref().map(content_key).transpose()?,
        };
        let identity = serde_json::to_string(&identity).expect("plain settings");
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

    fn settings(&self, has_recipe: bool) -> Result<TrainFile> {
        let mut settings: TrainFile = settings_file::read(&self.config)?;
        // The length of a training on a recipe is known later; everything else is checked now.
        let steps = if has_recipe { settings.training.steps.max(1) } else { settings.training.steps };
        let known = train::Settings { steps, ..settings.training.clone() };
        known.check("training").map_err(|e| e.at(&self.config))?;
        if has_recipe && !(settings.files.is_empty() && settings.shards.is_empty()) {
            return Err(Error::usage("--recipe has its own text: remove `files` and `shards`").at(&self.config));
        }
        if !has_recipe && settings.files.is_empty() == settings.shards.is_empty() {
            return Err(Error::usage("give either `files` or `shards` to train on, or --recipe").at(&self.config));
        }
        let base = self.config.parent().unwrap_or(Path::new(""));
        for path in settings.files.iter_mut().chain(&mut settings.shards).chain(&mut settings.tokenizer) {
            *path = base.join(&*path);
        }
        Ok(settings)
    }

    /// The tokenizer of the settings, of --init or of the recipe, whichever comes first.
    fn tokenizer(&self, settings: &TrainFile, recipe: Option<&MixtureRecipe>) -> Result<PathBuf> {
        match (&settings.tokenizer, &self.init, recipe) {
            (Some(path), ..) => Ok(path.clone()),
            (None, Some(init), _) => Ok(init.join("tokenizer.json")),
            (None, None, Some(recipe)) => recipe.tokenizer_path(),
            (None, None, None) => Err(Error::usage("`tokenizer` is missing").at(&self.config)),
        }
    }

    fn model(&self, settings: &TrainFile, tokenizer: &Tokenizer) -> Result<Config> {
        match (&self.init, &settings.model) {
            (Some(_), Some(_)) => Err(Error::usage("--init has its own model: remove [model]").at(&self.config)),
            (Some(init), None) => crate::engine::checkpoint::read_config(&init.join("config.json")),
            (None, Some(model)) => {
                model.config(tokenizer.vocabulary(), tokenizer.eos()).map_err(|e| e.at(&self.config))
            }
            (None, None) => Err(Error::usage("[model] is missing; it is needed without --init").at(&self.config)),
        }
    }

    fn start(&self, settings: &TrainFile, config: &Config) -> Result<Start> {
        let Some(init) = &self.init else {
            return Ok(Start { weights: initial_weights(config, settings.random_seed), optimizer: None });
        };
        let start = train::read_start(init, config, None)?;
        if start.optimizer.is_none() {
            say(&format!("{}: no optimizer state; the moments start at zero", init.display()));
        }
        Ok(start)
    }

    /// The shards of `files` or `shards`, and the order of their windows.
    fn text(&self, settings: &TrainFile, tokenizer: &Tokenizer, config: &Config) -> Result<(Vec<Arc<Shard>>, Stream)> {
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
        check_vocabulary(&shards, config)?;
        let stream = stream(settings, shards.clone(), config)?;
        Ok((shards, stream))
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
    /// Of the recipe's partitions, in the order of `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<Vec<f64>>,
    init: Option<String>,
}

/// The shards of a recipe, and the order of their windows. Prints how much each partition gives.
fn recipe_text(
    recipe: &MixtureRecipe,
    settings: &TrainFile,
    tokenizer: &Tokenizer,
    config: &Config,
) -> Result<(Vec<Arc<Shard>>, Stream)> {
    let shards = recipe.open_shards()?;
    recipe.check_tokenizer(&shards, tokenizer)?;
    check_vocabulary(&shards, config)?;
    let windows = recipe.windows(settings.training.windows());
    let stream = recipe.stream(&shards, &windows, config.context, settings.random_seed)?;
    say(&format!("mixture of the study `{}`, best for {}:", recipe.study, recipe.objective));
    for line in recipe.plan(&shards, &windows, config.context) {
        say(&line);
    }
    Ok((shards, stream))
}

fn check_vocabulary(shards: &[Arc<Shard>], config: &Config) -> Result<()> {
    for shard in shards {
        let info = shard.info();
        if info.vocabulary > config.vocabulary || info.eos != config.eos {
            return Err(Error::input("the shard was made with a different tokenizer")
                .at(shard.directory())
                .expected(format!("vocabulary up to {}, EOS {}", config.vocabulary, config.eos))
                .got(format!("vocabulary {}, EOS {}", info.vocabulary, info.eos)));
        }
    }
    Ok(())
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
