//! A study file: what to train on, what to score on, which mixtures to verify.

use crate::data::{SplitRule, Tokenizer};
use crate::error::{Error, Result};
use crate::model::{Architecture, Config};
use crate::settings_file;
use crate::train;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    pub name: String,
    /// Where results go, from the current directory; `runs/<name>` unless given here or by --out.
    pub out: Option<PathBuf>,
    /// Decides initial weights, the order of training windows and which mixtures are sampled.
    #[serde(default)]
    pub random_seed: u64,
    /// Steps of a training between the checkpoints that a run which was stopped goes on from.
    #[serde(default = "checkpoint_every")]
    pub checkpoint_every: u64,
    /// Needed unless the seed is a given checkpoint.
    pub model: Option<ModelSettings>,
    /// Needed unless the seed is a given checkpoint.
    pub tokenizer: Option<TokenizerSettings>,
    #[serde(default)]
    pub data: DataSettings,
    pub seed: SeedSettings,
    pub module: ModuleSettings,
    pub partition: Vec<Source>,
    /// Evaluation sets that are never trained on.
    #[serde(default)]
    pub ood: Vec<Source>,
    #[serde(default)]
    pub evaluation: EvaluationSettings,
    #[serde(default)]
    pub mixtures: MixtureSettings,
    /// Mixtures given one by one.
    #[serde(default)]
    pub mixture: Vec<GivenMixture>,
}

/// A preset, any of whose sizes can be overridden.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    #[serde(default = "olmo2")]
    pub architecture: Architecture,
    pub preset: String,
    pub width: Option<usize>,
    pub layers: Option<usize>,
    pub heads: Option<usize>,
    pub kv_heads: Option<usize>,
    pub feed_forward: Option<usize>,
    pub context: Option<usize>,
    pub tied: Option<bool>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerSettings {
    /// Train a byte-level BPE of this size on the seed's text.
    pub vocabulary: Option<usize>,
    /// Or use this `tokenizer.json`.
    pub file: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSettings {
    /// Documents whose ids agree before this are pieces of one original and stay in one split.
    pub separator: Option<String>,
    /// Share of each partition held out for validation.
    pub validation: f64,
    /// Share of each partition held out for scoring.
    pub test: f64,
    /// Training documents that share this many words in a row with an evaluation document are dropped; 0 keeps all.
    pub decontaminate: usize,
}

impl Default for DataSettings {
    fn default() -> DataSettings {
        DataSettings { separator: None, validation: 0.0, test: 0.1, decontaminate: 13 }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedSettings {
    /// General text that the seed model (and the tokenizer) is trained on.
    #[serde(default)]
    pub files: Vec<String>,
    /// Or start from this checkpoint, as it is, with its own tokenizer.
    pub checkpoint: Option<PathBuf>,
    /// Train and score at this context length, where it is to be shorter than the checkpoint's.
    pub context: Option<usize>,
    pub training: Option<train::Settings>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleSettings {
    /// Of one module. SEQ on k partitions runs k times the steps.
    pub training: train::Settings,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub name: String,
    /// Files, directories or patterns, from the study file's directory.
    pub files: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationSettings {
    /// Most documents of a domain; which ones is decided by a hash of their ids.
    pub documents: usize,
    /// Documents are taken until they hold this many tokens.
    pub tokens: u64,
}

impl Default for EvaluationSettings {
    fn default() -> EvaluationSettings {
        EvaluationSettings { documents: 1000, tokens: u64::MAX }
    }
}

/// How many mixtures of a size are verified by SEQ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of mixtures, or \"all\"")]
pub enum Count {
    Number(usize),
    All(All),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum All {
    All,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MixtureSettings {
    /// Uniform mixtures of two partitions: a number of them, or "all".
    pub pairs: Option<Count>,
    /// Of three.
    pub triples: Option<Count>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenMixture {
    /// Weights of partitions, summing to 1.
    pub members: BTreeMap<String, f64>,
}

fn checkpoint_every() -> u64 {
    200
}
fn olmo2() -> Architecture {
    Architecture::Olmo2
}

impl Study {
    /// Reads and checks a study file. Paths in it become relative to the current directory.
    pub fn read(path: &Path) -> Result<Study> {
        let mut study: Study = settings_file::read(path)?;
        study.check().map_err(|e| e.at(path))?;
        let base = path.parent().unwrap_or(Path::new(""));
        let from_here = |file: &mut String| *file = base.join(&*file).to_string_lossy().into_owned();
        study.seed.files.iter_mut().for_each(from_here);
        for source in study.partition.iter_mut().chain(&mut study.ood) {
            source.files.iter_mut().for_each(from_here);
        }
        let tokenizer = study.tokenizer.as_mut().and_then(|t| t.file.as_mut());
        for file in [tokenizer, study.seed.checkpoint.as_mut()].into_iter().flatten() {
            *file = base.join(&*file);
        }
        Ok(study)
    }

    fn check(&self) -> Result<()> {
        let fault = |what: String| Err(Error::usage(what));
        if self.partition.is_empty() {
            return fault("a study needs at least one [[partition]]".into());
        }
        if self.checkpoint_every == 0 {
            return fault("`checkpoint_every` must be at least 1".into());
        }
        let mut names = BTreeSet::new();
        for source in self.partition.iter().chain(&self.ood) {
            if source.files.is_empty() {
                return fault(format!("`{}` names no `files`", source.name));
            }
            if source.name.is_empty() || source.name.contains(['+', '/', '\\', ',', '\n']) {
                return fault(
                    format!("`{}` cannot name a partition or domain", source.name.escape_debug())
                        + ": names are not empty and hold none of + / \\ and ,",
                );
            }
            if ["id", "ood", "members"].contains(&source.name.as_str()) {
                return fault(format!("`{}` names an average in the report; choose another name", source.name));
            }
            if !names.insert(&source.name) {
                return fault(format!("two partitions or domains are named `{}`", source.name));
            }
        }
        self.check_seed()?;
        self.module.training.check("module.training")?;
        if self.module.training.steps == 0 {
            return fault("`module.training.steps` must be at least 1".into());
        }
        let share = |x: f64| (0.0..1.0).contains(&x);
        if !share(self.data.validation) || !share(self.data.test) || self.data.validation + self.data.test >= 1.0 {
            return fault("`data.validation` and `data.test` are shares of the data, together below 1".into());
        }
        SplitRule::new(self.data.separator.clone(), self.data.validation, self.data.test)?;
        if self.evaluation.documents == 0 || self.evaluation.tokens == 0 {
            return fault("`evaluation.documents` and `evaluation.tokens` must be at least 1".into());
        }
        for given in &self.mixture {
            self.check_members(&given.members)?;
        }
        Ok(())
    }

    fn check_seed(&self) -> Result<()> {
        let fault = |what: &str| Err(Error::usage(what));
        let Some(training) = &self.seed.training else {
            if self.seed.checkpoint.is_none() {
                return fault("[seed] needs either `checkpoint`, or `files` and [seed.training]");
            }
            if self.model.is_some() || self.tokenizer.is_some() || !self.seed.files.is_empty() {
                return fault(
                    "a seed `checkpoint` brings its own model and tokenizer: leave out [model], [tokenizer] and `seed.files`",
                );
            }
            return Ok(());
        };
        if self.seed.checkpoint.is_some() {
            return fault("[seed] has both `checkpoint` and [seed.training]; a seed checkpoint is used as it is");
        }
        if self.seed.context.is_some() {
            return fault("`seed.context` goes with `seed.checkpoint`; use `model.context`");
        }
        if self.seed.files.is_empty() {
            return fault("[seed] needs `files`: the text that the seed and the tokenizer are trained on");
        }
        let Some(model) = &self.model else {
            return fault("a study needs [model] with a `preset`, unless [seed] names a `checkpoint`");
        };
        let vocabulary = match &self.tokenizer {
            Some(t) if t.vocabulary.is_some() != t.file.is_some() => t.vocabulary.unwrap_or(Tokenizer::SMALLEST),
            _ => return fault("a study needs [tokenizer] with either `vocabulary` (to train one) or `file`"),
        };
        if vocabulary < Tokenizer::SMALLEST {
            return Err(Error::usage("`tokenizer.vocabulary` is too small for a byte-level BPE")
                .expected(format!("at least {}: 256 bytes and the end of text", Tokenizer::SMALLEST))
                .got(vocabulary.to_string()));
        }
        model.config(vocabulary, 0)?;
        training.check("seed.training")
    }

    /// Both tables, which a study without a seed checkpoint has.
    pub fn model_and_tokenizer(&self) -> Result<(&ModelSettings, &TokenizerSettings)> {
        match (&self.model, &self.tokenizer) {
            (Some(model), Some(tokenizer)) => Ok((model, tokenizer)),
            _ => Err(Error::usage("a study needs [model] and [tokenizer], unless [seed] names a `checkpoint`")),
        }
    }

    fn check_members(&self, members: &BTreeMap<String, f64>) -> Result<()> {
        let listed = members.keys().cloned().collect::<Vec<_>>().join(", ");
        if let Some(name) = members.keys().find(|name| !self.partition.iter().any(|p| p.name == **name)) {
            return Err(Error::usage(format!("a [[mixture]] has the unknown partition `{name}`"))
                .fix("name one of the [[partition]] tables"));
        }
        if let Some((name, weight)) = members.iter().find(|(_, w)| !(**w > 0.0 && w.is_finite())) {
            return Err(Error::usage(format!("the weight of `{name}` in the mixture of {listed} is {weight}"))
                .expected("weights above 0"));
        }
        let sum: f64 = members.values().sum();
        if (sum - 1.0).abs() > 1e-6 {
            return Err(Error::usage(format!("the weights of the mixture of {listed} do not sum to 1"))
                .expected("a sum of 1 within 1e-6")
                .got(format!("{sum}"))
                .fix("change the weights; they are never changed silently"));
        }
        Ok(())
    }
}

impl ModelSettings {
    /// The model's sizes under a tokenizer of `vocabulary` tokens.
    pub fn config(&self, vocabulary: usize, eos: u32) -> Result<Config> {
        let Some(mut config) = Config::preset(&self.preset, self.architecture, vocabulary, eos) else {
            return Err(Error::usage(format!("there is no model preset `{}`", self.preset))
                .expected(format!("one of {}", Config::PRESETS.join(", "))));
        };
        config.width = self.width.unwrap_or(config.width);
        config.layers = self.layers.unwrap_or(config.layers);
        config.heads = self.heads.unwrap_or(config.heads);
        config.kv_heads = self.kv_heads.unwrap_or(config.heads);
        if config.heads == 0 || !config.width.is_multiple_of(config.heads) {
            return Err(Error::usage(format!("a width of {} cannot be cut into {} heads", config.width, config.heads)));
        }
        config.head_width = config.width / config.heads;
        config.feed_forward = self.feed_forward.unwrap_or((config.width * 8 / 3).next_multiple_of(64));
        config.context = self.context.unwrap_or(config.context);
        config.tied = self.tied.unwrap_or(config.tied);
        config.check().map_err(Error::into_usage)?;
        Ok(config)
    }
}
