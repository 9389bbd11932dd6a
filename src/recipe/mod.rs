//! `recipe.toml`: the mixture to train on, as a search writes it and a training reads it. `check`
//! refuses a file that contradicts itself, `text` finds the tokenized text and divides a training's
//! windows among the partitions, `export` writes the mixture for other trainers.

mod check;
mod export;
mod paths;
mod text;

pub use export::{Exported, TrainerForm};
pub use paths::relative_to;

use crate::apportion::apportion;
use crate::error::Result;
use crate::{files, settings_file};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The mixture to train on. Paths are relative to the recipe's directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixtureRecipe {
    /// The directory of the recipe's file.
    #[serde(skip)]
    pub directory: PathBuf,
    /// The study's name.
    pub study: String,
    /// Hash of everything that determines the search: data, modules, settings.
    pub study_hash: String,
    /// What the mixture is best at.
    pub objective: String,
    /// Length of the SEQ runs that the answer is for, in trainings of one base unit.
    pub budget: u64,
    /// Lambda of the merges.
    pub lambda: f64,
    /// Tokens of the final training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// The `tokenizer.json` of all shards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// Expected scores.
    pub expected: ExpectedScores,
    /// The partitions with a weight, the largest first.
    pub partition: Vec<RecipePartition>,
}

/// Scores of the recipe, in bits per byte.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedScores {
    /// The objective of the merge.
    pub merged: f64,
    /// The objective of the merge of the natural mixture.
    pub natural: f64,
    /// The objective that SEQ of this budget is expected to reach, if SEQ runs calibrate it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<f64>,
    /// 95% interval of that for a single training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_low: Option<f64>,
    /// The upper end of that interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_high: Option<f64>,
    /// The probability that it is the best of the mixtures that the search listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability_best: Option<f64>,
    /// Number of other mixtures that are not told apart from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_told_apart: Option<usize>,
}

/// One partition of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipePartition {
    /// Its name in the study.
    pub name: String,
    /// Share of the training's tokens; above 0.
    pub weight: f64,
    /// Mixtures that are not told apart from this one have at least this weight.
    pub weight_low: f64,
    /// And at most this.
    pub weight_high: f64,
    /// Whether the evidence determines the weight.
    pub determined: bool,
    /// Tokens in the shard.
    pub available_tokens: u64,
    /// Tokens to train on, if the training's tokens are known; see [`MixtureRecipe::set_tokens`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Times that the partition is repeated then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// Directory of the partition's training text as tokens, decontaminated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// The partition's files, directories or patterns. They also contain its held-out documents.
    #[serde(default)]
    pub files: Vec<String>,
}

impl MixtureRecipe {
    /// Reads and checks a recipe. Weights are never changed: those that do not sum to 1 are an
    /// error.
    pub fn read(path: &Path) -> Result<MixtureRecipe> {
        let mut recipe: MixtureRecipe = settings_file::read(path)?;
        recipe.directory = path.parent().unwrap_or(Path::new("")).to_path_buf();
        recipe.check().map_err(|e| e.at(path))?;
        Ok(recipe)
    }

    /// Writes `recipe.toml` to the recipe's directory.
    pub fn write(&self) -> Result<()> {
        let text = toml::to_string_pretty(self).expect("a struct of strings and numbers");
        files::write_atomic(&self.path(), |f| f.write_all(text.as_bytes()))
    }

    /// Where [`MixtureRecipe::write`] writes.
    pub fn path(&self) -> PathBuf {
        self.directory.join("recipe.toml")
    }

    /// The weights, in the order of the partitions.
    pub fn weights(&self) -> Vec<f64> {
        self.partition.iter().map(|p| p.weight).collect()
    }

    /// Sets the length of the final training. The partitions' tokens are their shares by largest
    /// remainders, so they sum to `tokens`.
    pub fn set_tokens(&mut self, tokens: Option<u64>) {
        self.tokens = tokens;
        let shares = tokens.map(|tokens| apportion(tokens as usize, &self.weights()));
        for (i, partition) in self.partition.iter_mut().enumerate() {
            partition.tokens = shares.as_ref().map(|shares| shares[i] as u64);
            partition.epochs = partition.tokens.map(|tokens| tokens as f64 / partition.available_tokens as f64);
        }
    }
}
