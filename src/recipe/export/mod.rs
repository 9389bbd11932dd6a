//! A recipe in the form that another trainer's own tool reads. Each form is a pure function in its
//! own file, whose header names the version that it was held against. What a form cannot express is
//! a note: a comment in the text where the form has comments, and a message in any case.

mod datasets;
mod litgpt;
mod megatron;
mod olmo_core;
mod regmix;

use super::{MixtureRecipe, RecipePartition};
use crate::error::{Error, Result};

/// The trainers that a recipe is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TrainerForm {
    /// OLMo-core: the YAML of a `SourceMixtureList`
    OlmoCore,
    /// Megatron-LM: the blend in a file for --data-args-path
    Megatron,
    /// LitGPT: a Python file with a data module
    Litgpt,
    /// RegMix: the YAML of a training's mixture
    Regmix,
    /// Hugging Face datasets: a Python file that interleaves the partitions
    Datasets,
}

/// An exported recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// The file for the trainer.
    pub text: String,
    /// What the form does not express.
    pub notes: Vec<String>,
}

/// A partition as the forms need it.
struct ExportedSource<'a> {
    name: &'a str,
    /// Share of the tokens; all sum to 1 within rounding errors of f64.
    weight: f64,
    epochs: Option<f64>,
    /// Directory of the tokens.
    shard: String,
    /// Files, directories and patterns.
    files: Vec<String>,
}

impl MixtureRecipe {
    /// The recipe in one trainer's form. Paths in it begin with the recipe's directory, so that
    /// should be absolute.
    pub fn export(&self, form: TrainerForm) -> Result<Exported> {
        let sources = self.exported_sources()?;
        let mut notes = self.common_notes();
        let text = match form {
            TrainerForm::OlmoCore => olmo_core::export(self, &sources, &mut notes),
            TrainerForm::Megatron => megatron::export(self, &sources, &mut notes)?,
            TrainerForm::Litgpt => litgpt::export(self, &sources, &mut notes),
            TrainerForm::Regmix => regmix::export(self, &sources, &mut notes),
            TrainerForm::Datasets => datasets::export(self, &sources, &mut notes),
        };
        Ok(Exported { text, notes })
    }

    fn exported_sources<'a>(&'a self) -> Result<Vec<ExportedSource<'a>>> {
        let sum: f64 = self.weights().iter().sum();
        let path = |path: &str| self.directory.join(path).to_string_lossy().into_owned();
        let one = |p: &'a RecipePartition| -> Result<ExportedSource<'a>> {
            let shard = p.shard.as_deref().ok_or_else(|| {
                Error::usage(format!("partition `{}` has no `shard`", p.name))
                    .at(self.path())
                    .fix("search again with this version, or write one with `stockpot tokenize`")
            })?;
            let weight = if is_one(sum) { p.weight } else { p.weight / sum };
            let files = p.files.iter().map(|file| path(file)).collect();
            Ok(ExportedSource { name: &p.name, weight, epochs: p.epochs, shard: path(shard), files })
        };
        self.partition.iter().map(one).collect()
    }

    /// What no form expresses.
    fn common_notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let sum: f64 = self.weights().iter().sum();
        if !is_one(sum) {
            notes.push(format!("The recipe's weights sum to {sum}; here they are divided by that."));
        }
        for p in self.partition.iter().filter(|p| !p.determined) {
            let (low, high) = (p.weight_low, p.weight_high);
            notes.push(format!(
                "The weight of {} is not determined: mixtures with {low:.3} to {high:.3} are not told apart.",
                p.name
            ));
        }
        notes
    }

    /// The first line of a form, and its notes, as comments.
    fn head(&self, notes: &[String]) -> String {
        let first =
            format!("Mixture of the study {}, best for {}; written by stockpot export.", self.study, self.objective);
        // A name may contain a line break, which would end the comment.
        let plain = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        [first].iter().chain(notes).map(|line| format!("# {}\n", plain(line))).collect()
    }

    /// A Python file: the head, the recipe as constants, and the form's code.
    fn python(&self, sources: &[ExportedSource], notes: &[String], code: &str) -> String {
        let tokens = self.tokens.map_or("None".into(), |tokens| tokens.to_string());
        let row =
            |s: &ExportedSource| format!("    ({}, {}, {}),\n", quoted(s.name), decimal(s.weight), quoted(&s.shard));
        let rows: String = sources.iter().map(row).collect();
        let files: String = sources.iter().map(|s| format!("#   {}: {}\n", quoted(s.name), quoted(&s.files))).collect();
        format!(
            "{}#\n# Documents of the partitions:\n{files}\n\
             # Tokens of the training.\nTOKENS = {tokens}\n\
             # Name, share of the tokens, directory of the training text as tokens.\nPARTITIONS = [\n{rows}]\n\n{code}",
            self.head(notes)
        )
    }
}

/// Whether a sum of weights is 1 to the precision that every reader accepts (numpy's `choice`
/// allows 1.5e-8).
fn is_one(sum: f64) -> bool {
    (sum - 1.0).abs() < 1e-9
}

/// The shortest decimal that reads back as `x`, with a point and without an exponent, which YAML 1.1
/// would read as text.
fn decimal(x: f64) -> String {
    let text = x.to_string();
    if text.contains('.') { text } else { text + ".0" }
}

/// A string, or a list of strings, as JSON, YAML and Python read it.
fn quoted(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("strings")
}
