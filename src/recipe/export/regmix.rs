//! RegMix (github.com/sail-sg/regmix, `model_training/pretrain/tinyllama.py` at b004d3a): the YAML
//! that its training reads as `--data_yaml_file`, a weight for each prefix of files in
//! `--train_data_dir`. The reader fails without `valid`.

use super::{ExportedSource, MixtureRecipe, decimal, quoted};

pub(super) fn export(recipe: &MixtureRecipe, sources: &[ExportedSource], notes: &mut Vec<String>) -> String {
    notes.push(
        "The files of a partition in --train_data_dir begin with its key (train_<partition>). RegMix leaves out a \
         partition with fewer files than devices, and divides the other weights by their sum."
            .into(),
    );
    notes.push(match recipe.tokens {
        Some(tokens) => format!(
            "{tokens} tokens are max_step * global_batch_size * the model's block size; RegMix repeats partitions as \
             that needs."
        ),
        None => "The recipe has no tokens; RegMix repeats partitions as the training needs.".into(),
    });
    for source in sources {
        let longer = |other: &&ExportedSource| other.name != source.name && other.name.starts_with(source.name);
        if let Some(other) = sources.iter().find(longer) {
            notes.push(format!(
                "RegMix takes the files of {} for files of {} too, whose name {} begins with: rename one of them.",
                other.name, source.name, other.name
            ));
        }
    }
    let key = |s: &ExportedSource| quoted(&format!("train_{}", s.name));
    let rows: String = sources.iter().map(|s| format!("  {}: {}\n", key(s), decimal(s.weight))).collect();
    format!("{}train:\n{rows}valid: {{}}\n", recipe.head(notes))
}
