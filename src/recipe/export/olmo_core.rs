//! OLMo-core (github.com/allenai/OLMo-core, `src/olmo_core/data/source_mixture.py` of 3.0.0): the
//! YAML that `SourceMixtureList.from_yaml` reads. Its paths are headerless files of tokens, which
//! the `tokens.bin` of a shard is. `max_repetition_ratio` is the most epochs over a source, and
//! `requested_tokens` belongs to `SourceMixtureDatasetConfig`, which this file does not contain.

use super::{ExportedSource, MixtureRecipe, decimal, quoted};

pub(super) fn export(recipe: &MixtureRecipe, sources: &[ExportedSource], notes: &mut Vec<String>) -> String {
    notes.push(match recipe.tokens {
        Some(tokens) => format!("Set requested_tokens={tokens} in SourceMixtureDatasetConfig."),
        None => "The recipe has no tokens: where a partition must be repeated, raise max_repetition_ratio.".into(),
    });
    notes.push("The dtype of the dataset is uint16 for a vocabulary of up to 65,536 tokens, else uint32.".into());
    let mut text = recipe.head(notes) + "sources:\n";
    for source in sources {
        let tokens = quoted(&format!("{}/tokens.bin", source.shard));
        text += &format!(
            "  - source_name: {}\n    target_ratio: {}\n    paths:\n      - {tokens}\n",
            quoted(source.name),
            decimal(source.weight)
        );
        // Rounded up, since the reader refuses a source that falls short by one token of whole windows.
        if let Some(epochs) = source.epochs.filter(|epochs| *epochs > 0.98) {
            let ratio = (epochs.max(1.0) * 100.0 + 1.0).ceil() / 100.0;
            text += &format!("    max_repetition_ratio: {}\n", decimal(ratio));
        }
    }
    text
}
