//! Hugging Face datasets (5.2.0): a Python file that calls `interleave_datasets` with the weights.
//! It interleaves windows of equal length, cut from the shards' tokens: with documents, which have
//! different lengths, `probabilities` would not be shares of the tokens.

use super::{ExportedSource, MixtureRecipe};

pub(super) fn export(recipe: &MixtureRecipe, sources: &[ExportedSource], notes: &mut Vec<String>) -> String {
    notes.push("Partitions are drawn at random: their shares differ from the weights by chance.".into());
    notes.push(
        "The files of the partitions also contain held-out documents, and weights are shares of tokens, not of \
         documents."
            .into(),
    );
    notes.push(match recipe.tokens {
        Some(_) => "Partitions are repeated as the tokens need, each time in a new order.".into(),
        None => "The recipe has no tokens: the mixture is endless, end the training by its steps.".into(),
    });
    recipe.python(sources, notes, include_str!("datasets.py"))
}
