//! A study file: what to train on, what to score on, which mixtures to verify.

mod check;

use crate::engine::data::Tokenizer;
use crate::engine::model::ModelSettings;
use crate::engine::train;
use crate::error::{Error, Result};
use crate::settings_file;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A study file. Paths in it are relative to its directory, except that of `out`; unknown keys are
/// errors.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// The study's name, in the report and in the default of `out`. Required.
    pub name: String,
    /// Where results go, from the current directory; `runs/<name>` unless given here or by --out.
    pub out: Option<PathBuf>,
    /// Decides initial weights, the order of training windows and which mixtures are sampled.
    /// Default: 0.
    #[serde(default)]
    pub random_seed: u64,
    /// Steps of a training between the checkpoints that a run which was stopped goes on from.
    /// Default: 200.
    #[serde(default = "checkpoint_every")]
    pub checkpoint_every: u64,
    /// The small model: a preset, and the sizes that replace the preset's.
    /// Needed unless the seed is a given checkpoint.
    pub model: Option<ModelSettings>,
    /// Where the tokenizer comes from.
    /// Needed unless the seed is a given checkpoint.
    pub tokenizer: Option<TokenizerSettings>,
    /// How documents are split, and cleaned of evaluation text.
    #[serde(default)]
    pub data: DataSettings,
    /// The model that modules and SEQ start from. Required.
    pub seed: SeedSettings,
    /// The training of modules and of SEQ. Required.
    pub module: ModuleSettings,
    /// The partitions, a `[[partition]]` table for each; at least one. The held-out text of each is
    /// an in-distribution evaluation set.
    pub partition: Vec<Source>,
    /// Evaluation sets that are never trained on.
    /// A table for each. Default: none.
    #[serde(default)]
    pub ood: Vec<Source>,
    /// How much text of each evaluation set is scored.
    #[serde(default)]
    pub evaluation: EvaluationSettings,
    /// Which mixtures are verified by SEQ, and how often each is trained.
    #[serde(default)]
    pub mixtures: MixtureSettings,
    /// Mixtures given one by one.
    /// A `[[mixture]]` table for each; one that equals another mixture of the study is left out.
    /// Default: none.
    #[serde(default)]
    pub mixture: Vec<GivenMixture>,
    /// Scaled merges and mixing laws, the proxies beside MERGED and IND.
    #[serde(default)]
    pub proxies: ProxySettings,
    /// Losses along straight lines in weight space between modules. Default: none are scored.
    #[serde(default)]
    pub connectivity: ConnectivitySettings,
    /// A larger model, whose SEQ the pool is to predict.
    /// Needs a seed that is trained, not a given checkpoint. Default: none.
    pub target: Option<TargetSettings>,
}

/// The tokenizer; exactly one of its keys is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerSettings {
    /// Train a byte-level BPE of this size on the seed's text.
    /// At least 257 tokens: 256 bytes and the end of text.
    pub vocabulary: Option<usize>,
    /// Or use this `tokenizer.json`.
    pub file: Option<PathBuf>,
}

/// How documents are split, and which are dropped. A document's split depends on its id alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSettings {
    /// Documents whose ids agree before this are pieces of one original and stay in one split.
    /// With `"#"`, those are `book7#1` and `book7#2`. Default: none, each id is one original.
    pub separator: Option<String>,
    /// Share of each partition held out for validation.
    /// It is neither trained on nor scored. Default: 0.
    pub validation: f64,
    /// Share of each partition held out for scoring.
    /// Default: 0.1.
    pub test: f64,
    /// Training documents that share this many words in a row with an evaluation document are dropped; 0 keeps all.
    /// Default: 13.
    pub decontaminate: usize,
    /// The field of a document's metadata that holds its year or date, for `years` of partitions.
    /// A year is a whole number, or a string that begins with four digits ("1999-05-01") or has
    /// eight ("19990501"). Default: `"year"`.
    pub year: String,
}

impl Default for DataSettings {
    fn default() -> DataSettings {
        DataSettings { separator: None, validation: 0.0, test: 0.1, decontaminate: 13, year: "year".into() }
    }
}

/// The seed: either trained on `files`, or a given `checkpoint`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedSettings {
    /// General text that the seed model (and the tokenizer) is trained on.
    /// Files, directories or patterns. Needed unless `checkpoint` is given; not allowed beside it.
    #[serde(default)]
    pub files: Vec<String>,
    /// Or start from this checkpoint, as it is, with its own tokenizer.
    /// A Hugging Face directory of an `Olmo2ForCausalLM` or `LlamaForCausalLM`.
    pub checkpoint: Option<PathBuf>,
    /// Train and score at this context length, where it is to be shorter than the checkpoint's.
    /// In tokens; only beside `checkpoint`. Default: the checkpoint's.
    pub context: Option<usize>,
    /// Steps, batch and learning rate of the seed's training. Needed with `files`; not allowed
    /// beside `checkpoint`.
    pub training: Option<train::Settings>,
}

/// The training of modules, from which that of SEQ follows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleSettings {
    /// Of one base unit. A module on a partition of u units, and SEQ on mixtures of u units in all, run u times the steps.
    /// Steps, batch and learning rate; `steps` is at least 1.
    pub training: train::Settings,
}

/// A partition (`[[partition]]`), or an evaluation set that is never trained on (`[[ood]]`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name in mixtures, in the report and in files: unique, without `+`, `/`, `\` and commas;
    /// not `id`, `ood`, `members` or `seed`, and not beginning with `field:`. Required.
    pub name: String,
    /// Files, directories or patterns, from the study file's directory.
    /// Read are `.jsonl` (also `.gz` and `.zst`), `.parquet` and `.txt`. Required.
    pub files: Vec<String>,
    /// Base units, each of one module's budget; a partition of several has a module for each and one for the whole.
    /// For partitions only. Default: 1.
    pub units: Option<u64>,
    /// The collection that it is a part of, for mixtures across sources.
    /// For partitions only. Default: none.
    pub source: Option<String>,
    /// The field of study; the report has an average over each field's domains.
    /// Default: none.
    pub field: Option<String>,
    /// Came after models were trained on what is there: where its held-out text is in theirs, it is not scored on that,
    /// instead of them being cleaned of it and trained anew.
    /// Default: false.
    #[serde(default)]
    pub late: bool,
    /// Only documents whose year lies between these, both included.
    /// Such as `[2000, 2009]`; `data.year` names the field that holds the year. Default: all
    /// documents.
    pub years: Option<[i64; 2]>,
    /// Only documents whose metadata (or `source`) has these values.
    /// Such as `where = { lang = "en" }`, of strings, numbers or booleans. Default: all documents.
    #[serde(default, rename = "where")]
    pub only: BTreeMap<String, serde_json::Value>,
}

impl Source {
    /// Base units of the partition: 1 unless given.
    pub fn units(&self) -> u64 {
        self.units.unwrap_or(1)
    }
}

/// How much of each evaluation set is scored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationSettings {
    /// Most documents of a domain; which ones is decided by a hash of their ids.
    /// Default: 1000.
    pub documents: usize,
    /// Documents are taken until they hold this many tokens.
    /// They are whole ones, so the last may go beyond it. Default: no limit.
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
    /// So many, or all where there are fewer.
    Number(usize),
    /// `"all"`
    All(All),
}

impl Count {
    /// Of `all` mixtures.
    pub fn of(self, all: usize) -> usize {
        match self {
            Count::All(_) => all,
            Count::Number(n) => n.min(all),
        }
    }
}

/// The word `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum All {
    /// Every one there is.
    All,
}

/// Which mixtures are verified by SEQ, beside those given one by one, and how often each is
/// trained.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MixtureSettings {
    /// Uniform mixtures of two partitions: a number of them, or "all".
    /// Default: none.
    pub pairs: Option<Count>,
    /// Of three.
    /// A number of them, or "all". Default: none.
    pub triples: Option<Count>,
    /// Pairs of two partitions of different sources, in a group of their own.
    /// A number of them, or "all"; `pairs` then has none of these. Partitions name their `source`.
    /// Default: none.
    pub across_sources: Option<Count>,
    /// Whether members of few base units are repeated in whole copies until all weigh the same; else each weighs as many
    /// units as it has.
    /// Default: true.
    pub upsample: bool,
    /// Trainings of one mixture, and of the modules in it, each under another order and choice of windows.
    /// From 1 to 100. Default: 1.
    pub repeats: u64,
    /// How many mixtures of each group are repeated.
    /// A number, or "all". Default: `"all"`.
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
#[serde(deny_unknown_fields, default)]
pub struct ProxySettings {
    /// Scaled merges `seed + lambda (average - seed)` that are scored.
    /// Lambdas above 0, up to 100; 1 is MERGED. Default: none.
    pub lambdas: Vec<f64>,
    /// The one of them that the proxy `scaled` is; calibrated, each mixture without itself, unless given.
    pub lambda: Option<f64>,
    /// Merges under random weights that mixing laws are fitted to; 0 for no laws.
    /// At least 2p + 4 of them for p partitions, of which there must be three or more. Default: 0.
    pub laws: usize,
}

/// Segments in weight space along which losses are taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectivitySettings {
    /// Pairs of modules, and each of their modules with the seed.
    /// A number of pairs, or "all". Default: 0.
    pub pairs: Count,
    /// Points on a segment, its ends included.
    /// From 3 to 101. Default: 9.
    pub points: usize,
}

impl Default for ConnectivitySettings {
    fn default() -> ConnectivitySettings {
        ConnectivitySettings { pairs: Count::Number(0), points: 9 }
    }
}

/// A larger model in the same study, on the same shards.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetSettings {
    /// A preset, and the sizes that replace the preset's; the vocabulary is the small model's.
    /// Required.
    pub model: ModelSettings,
    /// The training of its own seed, on the text of `seed.files`. Required.
    pub seed: TargetTraining,
    /// Of SEQ, and of modules if there are any; as `module` is for the small model.
    /// Required.
    pub module: TargetTraining,
    /// How many mixtures of each group it is trained on.
    /// A number, or "all". Default: `"all"`.
    #[serde(default = "all")]
    pub mixtures: Count,
    /// Whether it has modules of its own, so that MERGED is known at its scale too.
    /// Default: false.
    #[serde(default)]
    pub modules: bool,
}

/// The table that holds a training's settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetTraining {
    /// Steps, batch and learning rate.
    pub training: train::Settings,
}

fn all() -> Count {
    Count::All(All::All)
}

/// A mixture under given weights.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenMixture {
    /// Weights of partitions, summing to 1.
    /// By partition, each above 0; they are never rescaled. Required.
    pub members: BTreeMap<String, f64>,
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

    /// Both tables, which a study without a seed checkpoint has.
    pub fn model_and_tokenizer(&self) -> Result<(&ModelSettings, &TokenizerSettings)> {
        match (&self.model, &self.tokenizer) {
            (Some(model), Some(tokenizer)) => Ok((model, tokenizer)),
            _ => Err(Error::usage("a study needs [model] and [tokenizer], unless [seed] names a `checkpoint`")),
        }
    }
}
