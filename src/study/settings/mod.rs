//! The study file: what to train on, what to score on, which mixtures to verify by SEQ. The doc
//! comments of the keys are the reference in docs/study.md.

mod check;
#[cfg(test)]
mod reference;
mod search;

pub use search::{DomainChoice, GroupSettings, SearchSettings, WeightLimits, WeightRange};

use crate::engine::data::Tokenizer;
use crate::engine::model::ModelSettings;
use crate::engine::train;
use crate::error::{Error, Result};
use crate::settings_file;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A study file. Paths are relative to its directory, except `out`. Unknown keys are errors.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// The study's name, used in the report and in the default of `out`. Required.
    pub name: String,
    /// Directory of the results, relative to the current directory; `--out` overrides it. Default:
    /// `runs/<name>`.
    pub out: Option<PathBuf>,
    /// Seed of the random numbers for initial weights, the order of training windows and the
    /// sample of mixtures. Default: 0.
    #[serde(default)]
    pub random_seed: u64,
    /// Steps between the checkpoints from which an interrupted training resumes. Default: 200.
    #[serde(default = "checkpoint_every")]
    pub checkpoint_every: u64,
    /// The small model: a preset, and sizes that override the preset's. Required unless
    /// `seed.checkpoint` is given.
    pub model: Option<ModelSettings>,
    /// The tokenizer: trained here, or a given file. Required unless `seed.checkpoint` is given.
    pub tokenizer: Option<TokenizerSettings>,
    /// Splits of the documents, and decontamination.
    #[serde(default)]
    pub data: DataSettings,
    /// The seed model, from which modules and SEQ start. Required.
    pub seed: SeedSettings,
    /// The training of modules and of SEQ. Required.
    pub module: ModuleSettings,
    /// The partitions. The held-out documents of each are an in-distribution (ID) domain. Required:
    /// at least one.
    pub partition: Vec<Source>,
    /// Out-of-distribution (OOD) domains, which are never trained on. Default: none.
    #[serde(default)]
    pub ood: Vec<Source>,
    /// The amount of text that is scored in each domain.
    #[serde(default)]
    pub evaluation: EvaluationSettings,
    /// The mixtures that are verified by SEQ, and the number of trainings of each.
    #[serde(default)]
    pub mixtures: MixtureSettings,
    /// Mixtures given one by one, beside those of `[mixtures]`. A mixture that occurs twice in the
    /// study counts once. Default: none.
    #[serde(default)]
    pub mixture: Vec<GivenMixture>,
    /// Scaled merges and mixing laws, the proxies beside MERGED and IND.
    #[serde(default)]
    pub proxies: ProxySettings,
    /// Losses along straight lines in weight space between modules. Default: none.
    #[serde(default)]
    pub connectivity: ConnectivitySettings,
    /// The search for the best of all mixtures, and the SEQ runs that it is calibrated on.
    #[serde(default)]
    pub search: SearchSettings,
    /// A larger model, whose SEQ scores the small modules should predict. Not allowed with
    /// `seed.checkpoint`. Default: none.
    pub target: Option<TargetSettings>,
}

/// The tokenizer; exactly one of the two keys is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenizerSettings {
    /// Trains a byte-level BPE with this number of tokens on the seed's text. At least 257: 256
    /// bytes and the end of text.
    pub vocabulary: Option<usize>,
    /// Uses this `tokenizer.json`.
    pub file: Option<PathBuf>,
}

/// Splits and decontamination. The split of a document depends only on its id.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DataSettings {
    /// Documents whose ids agree up to this text are pieces of one original and stay in one split.
    /// With `"#"`, `book7#1` and `book7#2` are such pieces. Default: none, every id is separate.
    pub separator: Option<String>,
    /// Share of each partition held out for validation: neither trained on nor scored. Default: 0.
    pub validation: f64,
    /// Share of each partition held out for scoring. Default: 0.1.
    pub test: f64,
    /// Drops each training document that shares this many consecutive words with an evaluation
    /// document; 0 drops none. Default: 13.
    pub decontaminate: usize,
    /// The metadata field with a document's year or date, for `years` of partitions. A year is an
    /// integer, or a string that begins with four digits ("1999-05-01") or has eight ("19990501").
    /// Default: `"year"`.
    pub year: String,
}

impl Default for DataSettings {
    fn default() -> DataSettings {
        DataSettings { separator: None, validation: 0.0, test: 0.1, decontaminate: 13, year: "year".into() }
    }
}

/// The seed model: trained on `files`, or a given `checkpoint`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SeedSettings {
    /// General text for the training of the seed and of the tokenizer: files, directories or
    /// patterns. Required unless `checkpoint` is given.
    #[serde(default)]
    pub files: Vec<String>,
    /// A checkpoint to use as the seed, unchanged and with its tokenizer: a Hugging Face directory
    /// of an `Olmo2ForCausalLM` or `LlamaForCausalLM`. Excludes `files`, `[seed.training]`,
    /// `[model]` and `[tokenizer]`.
    pub checkpoint: Option<PathBuf>,
    /// Context length in tokens for training and scoring, if shorter than the checkpoint's. Only
    /// with `checkpoint`. Default: the checkpoint's.
    pub context: Option<usize>,
    /// The training of the seed. Required with `files`.
    pub training: Option<train::Settings>,
}

/// The training of modules and of SEQ.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ModuleSettings {
    /// The training of a module on one base unit. A module on a partition of u units, and SEQ on a
    /// mixture of u units in total, run u times as many steps. Required; `steps` is at least 1.
    pub training: train::Settings,
}

/// A partition (`[[partition]]`), or a domain that is never trained on (`[[ood]]`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name in mixtures, in the report and in files. Unique; without `+`, `/`, `\` and commas; not
    /// `id`, `ood`, `members` or `seed`; not beginning with `field:`. Required.
    pub name: String,
    /// Files, directories or patterns, relative to the study file: `.jsonl` (also `.gz` and
    /// `.zst`), `.parquet`, `.txt`. Required.
    pub files: Vec<String>,
    /// Number of base units, each with the budget of one module. A partition of several units has
    /// a module for each unit and one for the whole. Partitions only. Default: 1.
    pub units: Option<u64>,
    /// The collection that the partition belongs to, for `mixtures.across_sources`. Partitions
    /// only. Default: none.
    pub source: Option<String>,
    /// Field of study; the report averages over the domains of each field. Default: none.
    pub field: Option<String>,
    /// Added after the other models were trained. Held-out documents that overlap their training
    /// text are not scored, so nothing is retrained. Default: false.
    #[serde(default)]
    pub late: bool,
    /// First and last year of the documents to use, such as `[2000, 2009]`; `data.year` names the
    /// metadata field. Default: all documents.
    pub years: Option<[i64; 2]>,
    /// Metadata values (or the `source`) of the documents to use, such as `{ lang = "en" }`:
    /// strings, numbers or booleans. Default: all documents.
    #[serde(default, rename = "where")]
    pub only: BTreeMap<String, serde_json::Value>,
}

impl Source {
    /// Base units of the partition: 1 unless given.
    pub fn units(&self) -> u64 {
        self.units.unwrap_or(1)
    }
}

/// The amount of text that is scored in each domain.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationSettings {
    /// Maximum number of documents per domain, chosen by a hash of their ids. Default: 1000.
    pub documents: usize,
    /// Maximum number of tokens per domain. Documents are scored whole, so the last may exceed it.
    /// Default: no limit.
    pub tokens: u64,
}

impl Default for EvaluationSettings {
    fn default() -> EvaluationSettings {
        EvaluationSettings { documents: 1000, tokens: u64::MAX }
    }
}

/// A number of mixtures, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "expected a number of mixtures, or \"all\"")]
pub enum Count {
    /// This number, or all if there are fewer.
    Number(usize),
    /// `"all"`
    All(All),
}

impl Count {
    /// The number out of `all` mixtures.
    pub fn of(self, all: usize) -> usize {
        match self {
            Count::All(_) => all,
            Count::Number(n) => n.min(all),
        }
    }
}

/// The word `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum All {
    /// `"all"`
    All,
}

/// The mixtures that are verified by SEQ, beside those given one by one, and the number of
/// trainings of each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct MixtureSettings {
    /// Number of uniform mixtures of two partitions, or `"all"`. Default: none.
    pub pairs: Option<Count>,
    /// Number of uniform mixtures of three partitions, or `"all"`. Default: none.
    pub triples: Option<Count>,
    /// Number of pairs from two different sources, or `"all"`: a separate group, whose pairs
    /// `pairs` then leaves out. Partitions name their `source`. Default: none.
    pub across_sources: Option<Count>,
    /// Whether small members are repeated in whole copies until all members have the same number of
    /// base units. If false, each member's weight is its number of units. Default: true.
    pub upsample: bool,
    /// Trainings of each mixture and of its modules, each with another order and choice of
    /// windows: 1 to 100. Default: 1.
    pub repeats: u64,
    /// Number of mixtures of each group that are repeated, or `"all"`. Default: `"all"`.
    pub repeated: Count,
}

impl Default for MixtureSettings {
    fn default() -> MixtureSettings {
        let (repeats, repeated) = (1, Count::All(All::All));
        MixtureSettings { pairs: None, triples: None, across_sources: None, upsample: true, repeats, repeated }
    }
}

/// Proxies beyond MERGED and IND.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ProxySettings {
    /// Lambdas of the scaled merges `seed + lambda (average - seed)` that are scored: above 0, up
    /// to 100; 1 is MERGED. Default: none.
    pub lambdas: Vec<f64>,
    /// The lambda of the proxy `scaled`, one of `lambdas`. Default: calibrated for each mixture on
    /// the other mixtures.
    pub lambda: Option<f64>,
    /// Number of merges under random weights to fit mixing laws to: 0 for no laws, otherwise at
    /// least 2p + 4 for p partitions, and p at least 3. Default: 0.
    pub laws: usize,
}

/// Segments in weight space along which losses are measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ConnectivitySettings {
    /// Number of pairs of modules, or `"all"`; each of their modules is also paired with the seed.
    /// Default: 0.
    pub pairs: Count,
    /// Points per segment, both ends included: 3 to 101. Default: 9.
    pub points: usize,
}

impl Default for ConnectivitySettings {
    fn default() -> ConnectivitySettings {
        ConnectivitySettings { pairs: Count::Number(0), points: 9 }
    }
}

/// A larger model on the same shards.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TargetSettings {
    /// A preset, and sizes that override the preset's; the vocabulary is the small model's.
    /// Required.
    pub model: ModelSettings,
    /// The training of the larger model's seed, on `seed.files`. Required.
    pub seed: TargetTraining,
    /// The training of the larger model's SEQ and modules, as `[module]` for the small model.
    /// Required.
    pub module: TargetTraining,
    /// Number of mixtures of each group to train it on, or `"all"`. Default: `"all"`.
    #[serde(default = "all")]
    pub mixtures: Count,
    /// Whether to train modules of the larger model too, for MERGED at its scale. Default: false.
    #[serde(default)]
    pub modules: bool,
}

/// The table of a training's settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TargetTraining {
    /// The training. Required.
    pub training: train::Settings,
}

fn all() -> Count {
    Count::All(All::All)
}

/// A mixture with given weights.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GivenMixture {
    /// Weight of each partition, such as `{ law = 0.7, physics = 0.3 }`: above 0, with the sum 1;
    /// they are never rescaled. Required.
    pub members: BTreeMap<String, f64>,
    /// Length of SEQ's training, in trainings of one base unit. Default: the sum of its members'
    /// base units.
    pub budget: Option<u64>,
}

fn checkpoint_every() -> u64 {
    200
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

    /// Base units of a partition.
    pub fn units(&self, partition: &str) -> u64 {
        self.partition.iter().find(|p| p.name == partition).map_or(1, Source::units)
    }

    /// `[model]` and `[tokenizer]`, which a study without a seed checkpoint has.
    pub fn model_and_tokenizer(&self) -> Result<(&ModelSettings, &TokenizerSettings)> {
        match (&self.model, &self.tokenizer) {
            (Some(model), Some(tokenizer)) => Ok((model, tokenizer)),
            _ => Err(Error::usage("a study needs [model] and [tokenizer], unless [seed] names a `checkpoint`")),
        }
    }
}
