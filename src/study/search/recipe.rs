//! The partitions of `recipe.toml`: the best mixture with its text.

use crate::error::Result;
use crate::recipe::{RecipePartition, relative_to};
use crate::search::Outcome;
use crate::study::graph::Graph;
use crate::study::settings::Study;
use std::path::Path;

/// The partitions of the best mixture, the largest first, without tokens.
pub fn partitions(study: &Study, graph: &Graph, outcome: &Outcome) -> Result<Vec<RecipePartition>> {
    let weights = &outcome.best().weights;
    let mut order: Vec<usize> = (0..weights.len()).filter(|&i| weights[i] > 0.0).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
    let root = &graph.store.root;
    let from_root = |file: &String| relative_to(Path::new(file), root).to_string_lossy().into_owned();
    let one = |i: usize| {
        let text = &graph.prepared.partition(&outcome.partitions[i])?.train;
        Ok(RecipePartition {
            name: outcome.partitions[i].clone(),
            weight: weights[i],
            weight_low: outcome.ranges[i].min,
            weight_high: outcome.ranges[i].max,
            determined: !outcome.undetermined.contains(&i),
            available_tokens: text.tokens,
            tokens: None,
            epochs: None,
            shard: Some(format!("shards/{}", text.hash)),
            files: study.partition[i].files.iter().map(from_root).collect(),
        })
    };
    order.into_iter().map(one).collect()
}
