//! The text of a recipe's training: its shards, the number of windows that each gives, and their
//! order.

use super::{MixtureRecipe, RecipePartition};
use crate::apportion::apportion;
use crate::engine::data::{Shard, Stream, Tokenizer, windows_in};
use crate::error::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// Epochs above the recipe's that come from rounding to whole steps and windows.
const MORE_EPOCHS: f64 = 1.02;
/// Epochs that a search allows unless it is given others, see `max_epochs`.
const USUAL_EPOCHS: f64 = 4.0;

impl MixtureRecipe {
    /// The tokenizer of the recipe's shards.
    pub fn tokenizer_path(&self) -> Result<PathBuf> {
        let Some(tokenizer) = &self.tokenizer else {
            return Err(Error::usage("the recipe has no `tokenizer`")
                .at(self.path())
                .fix("give `tokenizer` in the training's settings, or search again with this version"));
        };
        let path = self.directory.join(tokenizer);
        if path.exists() { Ok(path) } else { Err(self.missing(path, "tokenizer of the recipe")) }
    }

    /// The shards of all partitions, in their order.
    pub fn open_shards(&self) -> Result<Vec<Arc<Shard>>> {
        self.partition.iter().map(|p| self.open_shard(p)).collect()
    }

    fn open_shard(&self, partition: &RecipePartition) -> Result<Arc<Shard>> {
        let name = &partition.name;
        let Some(shard) = &partition.shard else {
            return Err(Error::usage(format!("partition `{name}` has no `shard`"))
                .at(self.path())
                .expected("the directory of its text as tokens, relative to the recipe")
                .fix("search again with this version, or write one with `stockpot tokenize`"));
        };
        let path = self.directory.join(shard);
        if !path.exists() {
            return Err(self.missing(path, &format!("text of partition `{name}`")));
        }
        let shard = Shard::open(&path)?;
        if shard.tokens_len() != partition.available_tokens {
            return Err(Error::input(format!("the shard of partition `{name}` is not the recipe's"))
                .at(path)
                .expected(format!("{} tokens, `available_tokens` of the recipe", partition.available_tokens))
                .got(format!("{} tokens", shard.tokens_len()))
                .fix("restore the shard, or correct `available_tokens` if the change is intended"));
        }
        Ok(Arc::new(shard))
    }

    /// The error of a path that does not exist: the recipe was moved, or its file was removed.
    fn missing(&self, path: PathBuf, what: &str) -> Error {
        if !self.directory.join("shards").exists() {
            return Error::input(format!("the {what} is not here: the recipe is not in its study's directory"))
                .at(path)
                .fix("move the recipe back, or make the paths in it (`tokenizer`, each `shard`) absolute");
        }
        Error::input(format!("the {what} is missing")).at(path).fix(
            "restore it, or remove `data` in the study's directory and run `stockpot run STUDY.toml --until tokens`, \
             which tokenizes the text again",
        )
    }

    /// Refuses shards that another tokenizer made.
    pub fn check_tokenizer(&self, shards: &[Arc<Shard>], tokenizer: &Tokenizer) -> Result<()> {
        let hash = tokenizer.hash();
        match self.partition.iter().zip(shards).find(|(_, shard)| shard.info().tokenizer != hash) {
            Some((partition, shard)) => Err(Error::input(format!(
                "the shard of partition `{}` was made with a different tokenizer than the training's",
                partition.name
            ))
            .at(shard.directory())
            .expected(hash)
            .got(shard.info().tokenizer.clone())
            .fix(
                "leave out `tokenizer` to use the recipe's; for a model with its own tokenizer, write shards of the \
                 recipe's `files` with `stockpot tokenize` and name them in a copy of the recipe, or use \
                 `stockpot export` for another trainer",
            )),
            None => Ok(()),
        }
    }

    /// Steps of a training of `batch` windows of `context` tokens: the recipe's tokens, rounded up,
    /// or those `given` (0 if none are).
    pub fn steps(&self, given: u64, batch: usize, context: usize) -> Result<u64> {
        let step = (batch as u64).saturating_mul(context as u64).max(1);
        let Some(tokens) = self.tokens else {
            return match given {
                0 => Err(Error::usage("the length of the training is not known: the recipe has no `tokens`")
                    .fix("give `training.steps`, or search again with --tokens")),
                given => Ok(given),
            };
        };
        let steps = tokens.div_ceil(step);
        if given != 0 && given != steps {
            return Err(Error::usage("`training.steps` is not the length of the recipe")
                .expected(format!("{steps} steps: {tokens} tokens of the recipe, {batch} * {context} a step"))
                .got(format!("{given} steps: {} tokens", given.saturating_mul(step)))
                .fix(
                    "leave out `training.steps`; for another length, search with its --tokens, or remove `tokens` and \
                     `epochs` everywhere in the recipe",
                ));
        }
        Ok(steps)
    }

    /// The number of windows of each partition: its share of `total` by largest remainders.
    pub fn windows(&self, total: u64) -> Vec<u64> {
        apportion(total as usize, &self.weights()).into_iter().map(|windows| windows as u64).collect()
    }

    /// These windows of each shard, mixed at random. A shard with fewer windows is repeated: each
    /// epoch is a new order of all its windows.
    pub fn stream(&self, shards: &[Arc<Shard>], windows: &[u64], context: usize, seed: u64) -> Result<Stream> {
        let each = shards.iter().zip(windows).enumerate().filter(|(_, (_, windows))| **windows > 0);
        let members = each.map(|(i, (shard, windows))| (shard.clone(), *windows, seed.wrapping_add(i as u64)));
        Stream::in_epochs(members.collect(), context, seed)
    }

    /// One line on each partition of a training, and what is unexpected about its epochs.
    pub fn plan(&self, shards: &[Arc<Shard>], windows: &[u64], context: usize) -> Vec<String> {
        let width = self.partition.iter().map(|p| p.name.chars().count()).max().unwrap_or(0);
        let mut lines = Vec::new();
        let mut warnings = Vec::new();
        for ((p, shard), windows) in self.partition.iter().zip(shards).zip(windows) {
            let available = windows_in(shard.tokens_len(), context).max(1);
            let (tokens, epochs) = (windows * context as u64, *windows as f64 / available as f64);
            lines.push(format!("{:width$}  {:.4}  {tokens} tokens, {epochs:.2} epochs", p.name, p.weight));
            match p.epochs {
                Some(planned) if epochs > planned.max(1.0) * MORE_EPOCHS => warnings.push(format!(
                    "`{}` is repeated {epochs:.2} times, more than the {planned:.2} of the recipe: it has only \
                     {available} windows of {context} tokens",
                    p.name
                )),
                None if epochs > USUAL_EPOCHS => warnings.push(format!(
                    "`{}` is repeated {epochs:.2} times; the search did not limit epochs, because it did not know the \
                     length of this training: search again with --tokens",
                    p.name
                )),
                _ => {}
            }
        }
        lines.extend(warnings);
        lines
    }
}
