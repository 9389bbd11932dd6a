//! `export`: a recipe for another trainer.

use super::print_now;
use crate::error::{Error, Result};
use crate::files;
use crate::progress::say;
use crate::recipe::{MixtureRecipe, TrainerForm};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `export`.
#[derive(Args)]
pub struct ExportArgs {
    /// The recipe of `stockpot search`
    #[arg(value_name = "RECIPE.toml")]
    recipe: PathBuf,
    /// The trainer
    #[arg(long = "for", value_name = "TRAINER")]
    form: TrainerForm,
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl ExportArgs {
    /// Writes the recipe in the trainer's form; what the form cannot express goes to stderr.
    pub fn run(&self) -> Result<()> {
        let mut recipe = MixtureRecipe::read(&self.recipe)?;
        // The trainer may run in any directory.
        recipe.directory = std::path::absolute(&self.recipe)
            .map_err(|e| Error::io("find", &self.recipe, &e))?
            .parent()
            .map(PathBuf::from)
            .unwrap_or_default();
        recipe.open_shards()?;
        let exported = recipe.export(self.form)?;
        if self.form == TrainerForm::Megatron {
            recipe.write_megatron_indices()?;
        }
        exported.notes.iter().for_each(|note| say(note));
        match &self.out {
            Some(path) => files::write_atomic(path, |f| f.write_all(exported.text.as_bytes())),
            None => print_now(exported.text.trim_end_matches('\n')),
        }
    }
}
