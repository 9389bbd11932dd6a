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
    #[serde(default)]
    pub proxies: ProxySettings,
    #[serde(default)]
    pub connectivity: ConnectivitySettings,
    /// A larger model, whose SEQ the pool is to predict.
    pub target: Option<TargetSettings>,
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

    /// Base units of a partition.
    pub fn units(&self, partition: &str) -> u64 {
        self.partition.iter().find(|p| p.name == partition).map_or(1, Source::units)
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
            if source.name.is_empty() || source.name.contains(['+', '/', '\\', ',', '\n']) || is_reserved(&source.name)
            {
                return fault(
                    format!("`{}` cannot name a partition or domain", source.name.escape_debug())
                        + ": names are not empty, hold none of + / \\ and , and do not begin with `field:`",
                );
            }
            if ["id", "ood", "members", "seed"].contains(&source.name.as_str()) {
                return fault(format!("`{}` has a meaning of its own in the report; choose another name", source.name));
            }
            check_selection(source)?;
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
        if let Some(source) = self.ood.iter().find(|s| s.units.is_some() || s.source.is_some()) {
            return fault(format!("`{}` is never trained on: `units` and `source` are for partitions", source.name));
        }
        self.check_mixtures()?;
        self.check_proxies()?;
        self.check_target()
    }

    fn check_mixtures(&self) -> Result<()> {
        let fault = |what: &str| Err(Error::usage(what));
        if !(1..=100).contains(&self.mixtures.repeats) {
            return fault("`mixtures.repeats` is how often a mixture is trained: 1 to 100");
        }
        let longest = self.partition.iter().map(Source::units).fold(0u64, u64::saturating_add);
        if self.module.training.steps.saturating_mul(longest) > 1 << 32 {
            return fault("the partitions' `units` times `module.training.steps` are more than 2^32 steps");
        }
        if self.mixtures.across_sources.is_some() {
            let sources: BTreeSet<_> = self.partition.iter().filter_map(|p| p.source.as_ref()).collect();
            if sources.len() < 2 {
                return fault("`mixtures.across_sources` needs partitions of at least two different `source`s");
            }
        }
        Ok(())
    }

    fn check_proxies(&self) -> Result<()> {
        let fault = |what: String| Err(Error::usage(what));
        let ProxySettings { lambdas, lambda, laws } = &self.proxies;
        if let Some(bad) = lambdas.iter().find(|l| !(**l > 0.0 && **l <= 100.0)) {
            return fault(format!("`proxies.lambdas` holds {bad}; expected numbers above 0, up to 100"));
        }
        if let Some(given) = lambda.filter(|given| !lambdas.contains(given)) {
            return fault(format!("`proxies.lambda` is {given}, which is none of `proxies.lambdas`: add it there"));
        }
        // Lambda multiplies what the weights miss.
        let most = lambdas.iter().copied().fold(1.0, f64::max);
        for given in &self.mixture {
            let sum: f64 = given.members.values().sum();
            if (sum - 1.0).abs() * most > 1e-6 {
                let names: Vec<&str> = given.members.keys().map(String::as_str).collect();
                return Err(Error::usage(format!(
                    "the weights of the mixture of {} are too inexact for a scaled merge",
                    names.join(", ")
                ))
                .expected(format!("a sum of 1 within 1e-6 / {most}, the largest of `proxies.lambdas`"))
                .got(sum.to_string())
                .fix("give the weights more digits"));
            }
        }
        if *laws > 0 && *laws < 2 * self.partition.len() + 4 {
            return fault(format!(
                "`proxies.laws` is {laws}; {} merges at least are needed to fit laws of {} weights",
                2 * self.partition.len() + 4,
                self.partition.len()
            ));
        }
        if *laws > 0 && self.partition.len() < 3 {
            return fault("`proxies.laws` needs at least three partitions".into());
        }
        if !(3..=101).contains(&self.connectivity.points) {
            return fault("`connectivity.points` is the number of points on a segment: 3 to 101".into());
        }
        Ok(())
    }

    fn check_target(&self) -> Result<()> {
        let Some(target) = &self.target else { return Ok(()) };
        if self.seed.checkpoint.is_some() {
            return Err(Error::usage(
                "[target] trains its own seed from `seed.files`; a study with a seed `checkpoint` has none",
            ));
        }
        target.seed.training.check("target.seed.training")?;
        target.module.training.check("target.module.training")?;
        if target.module.training.steps == 0 {
            return Err(Error::usage("`target.module.training.steps` must be at least 1"));
        }
        target.model.config(Tokenizer::SMALLEST, 0).map(|_| ())
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

/// Averages over a field's domains are called so.
fn is_reserved(name: &str) -> bool {
    name.starts_with("field:")
}

fn check_selection(source: &Source) -> Result<()> {
    let fault = |what: String| Err(Error::usage(what));
    let name = &source.name;
    if source.units == Some(0) {
        return fault(format!("`{name}` has `units = 0`; a partition has at least one base unit"));
    }
    if source.years.is_some_and(|[from, to]| from > to) {
        return fault(format!("the `years` of `{name}` end before they begin"));
    }
    if let Some((key, value)) = source.only.iter().find(|(_, v)| !(v.is_string() || v.is_number() || v.is_boolean())) {
        return fault(format!(
            "`where` of `{name}` asks for `{key} = {value}`; expected a string, a number or a boolean"
        ));
    }
    for (key, word) in [("field", &source.field), ("source", &source.source)] {
        if word.as_ref().is_some_and(|w| w.is_empty() || w.contains([',', '\n'])) {
            return fault(format!("the `{key}` of `{name}` is empty or holds a comma"));
        }
    }
    Ok(())
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
