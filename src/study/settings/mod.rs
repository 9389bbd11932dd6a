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
    #[serde(default)]
    pub proxies: ProxySettings,
    #[serde(default)]
    pub connectivity: ConnectivitySettings,
    /// A larger model, whose SEQ the pool is to predict.
    pub target: Option<TargetSettings>,
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
    /// The field of a document's metadata that holds its year or date, for `years` of partitions.
    #[serde(skip_serializing_if = "is_year")]
    pub year: String,
}

fn is_year(field: &String) -> bool {
    field == "year"
}

impl Default for DataSettings {
    fn default() -> DataSettings {
        DataSettings { separator: None, validation: 0.0, test: 0.1, decontaminate: 13, year: "year".into() }
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
    /// Of one base unit. A module on a partition of u units, and SEQ on mixtures of u units in all, run u times the steps.
    pub training: train::Settings,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub name: String,
    /// Files, directories or patterns, from the study file's directory.
    pub files: Vec<String>,
    /// Base units, each of one module's budget; a partition of several has a module for each and one for the whole.
    pub units: Option<u64>,
    /// The collection that it is a part of, for mixtures across sources.
    pub source: Option<String>,
    /// The field of study; the report has an average over each field's domains.
    pub field: Option<String>,
    /// Came after models were trained on what is there: where its held-out text is in theirs, it is not scored on that,
    /// instead of them being cleaned of it and trained anew.
    #[serde(default)]
    pub late: bool,
    /// Only documents whose year lies between these, both included.
    pub years: Option<[i64; 2]>,
    /// Only documents whose metadata (or `source`) has these values.
    #[serde(default, rename = "where")]
    pub only: BTreeMap<String, serde_json::Value>,
}

impl Source {
    pub fn units(&self) -> u64 {
        self.units.unwrap_or(1)
    }
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

impl Count {
    /// Of `all` mixtures.
    pub fn of(self, all: usize) -> usize {
        match self {
            Count::All(_) => all,
            Count::Number(n) => n.min(all),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum All {
    All,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MixtureSettings {
    /// Uniform mixtures of two partitions: a number of them, or "all".
    pub pairs: Option<Count>,
    /// Of three.
    pub triples: Option<Count>,
    /// Pairs of two partitions of different sources, in a group of their own.
    pub across_sources: Option<Count>,
    /// Whether members of few base units are repeated in whole copies until all weigh the same; else each weighs as many
    /// units as it has.
    pub upsample: bool,
    /// Trainings of one mixture, and of the modules in it, each under another order and choice of windows.
    pub repeats: u64,
    /// How many mixtures of each group are repeated.
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
    pub lambdas: Vec<f64>,
    /// The one of them that the proxy `scaled` is; calibrated, each mixture without itself, unless given.
    pub lambda: Option<f64>,
    /// Merges under random weights that mixing laws are fitted to; 0 for no laws.
    pub laws: usize,
}

/// Segments in weight space along which losses are taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectivitySettings {
    /// Pairs of modules, and each of their modules with the seed.
    pub pairs: Count,
    /// Points on a segment, its ends included.
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
    pub model: ModelSettings,
    pub seed: TargetTraining,
    /// Of SEQ, and of modules if there are any; as `module` is for the small model.
    pub module: TargetTraining,
    /// How many mixtures of each group it is trained on.
    #[serde(default = "all")]
    pub mixtures: Count,
    /// Whether it has modules of its own, so that MERGED is known at its scale too.
    #[serde(default)]
    pub modules: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetTraining {
    pub training: train::Settings,
}

fn all() -> Count {
    Count::All(All::All)
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
