//! LitGPT (github.com/Lightning-AI/litgpt 0.5.13): its settings have no mixtures, so this is a
//! Python file with a `DataModule` (`litgpt/data/base.py`) for `litgpt pretrain --data`. It reads the
//! shards' tokens and gives the same number of windows of each partition as `stockpot train`.

use super::{ExportedSource, MixtureRecipe};

pub(super) fn export(recipe: &MixtureRecipe, sources: &[ExportedSource], notes: &mut Vec<String>) -> String {
    notes.push("litgpt pretrain --data FILE.Mixture, with the directory of FILE.py in PYTHONPATH.".into());
    notes.push(match recipe.tokens {
        Some(tokens) => format!("Set --train.max_tokens {tokens}; partitions are repeated as that needs."),
        None => "The recipe has no tokens: give --data.tokens, and the same number as --train.max_tokens.".into(),
    });
    notes.push("Validation is on the first windows of the training, since shards hold no other text.".into());
    recipe.python(sources, notes, include_str!("litgpt.py"))
}
