//! `recipe.toml`: the chosen mixture in a file for a trainer.

use crate::search::Outcome;
use crate::study::settings::Study;
use serde::Serialize;

/// The mixture to train on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MixtureRecipe {
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
    /// Expected scores.
    pub expected: ExpectedScores,
    /// The partitions with a weight, the largest first.
    pub partition: Vec<RecipePartition>,
}

/// Scores of the recipe, in bits per byte.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    pub probability_best: f64,
    /// Number of other mixtures that are not told apart from it.
    pub not_told_apart: usize,
}

/// One partition of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecipePartition {
    /// Its name in the study.
    pub name: String,
    /// Share of the training's tokens.
    pub weight: f64,
    /// Mixtures that are not told apart from this one have at least this weight.
    pub weight_low: f64,
    /// And at most this.
    pub weight_high: f64,
    /// Whether the evidence determines the weight.
    pub determined: bool,
    /// Training tokens of the partition, by the study's tokenizer.
    pub available_tokens: u64,
    /// Tokens to train on, if the training's tokens are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Times that the partition is repeated then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// As in the study file.
    pub files: Vec<String>,
}

/// The partitions of the best mixture.
pub fn partitions(study: &Study, outcome: &Outcome, available: &[f64]) -> Vec<RecipePartition> {
    let weights = &outcome.best().weights;
    let mut order: Vec<usize> = (0..weights.len()).filter(|&i| weights[i] > 0.0).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
    let one = |i: usize| {
        let tokens = study.search.tokens.map(|total| (weights[i] * total as f64).round() as u64);
        RecipePartition {
            name: outcome.partitions[i].clone(),
            weight: weights[i],
            weight_low: outcome.ranges[i].min,
            weight_high: outcome.ranges[i].max,
            determined: !outcome.undetermined.contains(&i),
            available_tokens: available[i] as u64,
            tokens,
            epochs: tokens.map(|tokens| tokens as f64 / available[i]),
            files: study.partition[i].files.clone(),
        }
    };
    order.into_iter().map(one).collect()
}
