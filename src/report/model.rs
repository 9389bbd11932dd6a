//! report.json as a struct. Fields may be added, none renamed or removed: scripts read them.

use serde::Serialize;
use std::collections::BTreeMap;

/// Names in `MixtureInfo::scores` that are no domain but an average: over the in-distribution domains, over the
/// out-of-distribution ones, and over the mixture's own members' domains. Best first for choosing a mixture.
pub const AVERAGES: [&str; 3] = ["ood", "id", "members"];

/// The model really trained on the mixture, in `MixtureInfo::scores`.
pub const SEQ: &str = "seq";

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    pub study: String,
    /// Version of the program.
    pub version: String,
    /// When the report was made, if the caller wants that said; nothing else depends on the clock.
    pub generated: Option<String>,
    /// What computed, as in "cpu, 16 threads".
    pub device: Option<String>,
    pub domains: Vec<DomainInfo>,
    pub mixtures: Vec<MixtureInfo>,
    /// What [`answers`](super::answers) makes of the rest.
    pub answers: Vec<Answer>,
    /// What [`correlations`](fn@super::correlations) makes of the mixtures.
    pub correlations: Vec<Correlation>,
    pub cost: Cost,
    pub partitions: Vec<PartitionInfo>,
    /// `None` when the study does not decontaminate.
    pub decontamination: Option<Decontamination>,
    /// The study's TOML.
    pub settings: String,
    /// What went in and came out -> its hash.
    pub hashes: BTreeMap<String, String>,
    /// Stage -> seconds of this machine.
    pub elapsed_seconds: BTreeMap<String, f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainKind {
    /// In-distribution: the held-out part of a partition.
    Id,
    /// Out-of-distribution.
    Ood,
}

impl DomainKind {
    pub fn name(self) -> &'static str {
        match self {
            DomainKind::Id => "id",
            DomainKind::Ood => "ood",
        }
    }
}

/// An evaluation set. Must not be called by one of [`AVERAGES`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DomainInfo {
    pub name: String,
    pub kind: DomainKind,
    pub documents: u64,
    pub tokens: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MixtureInfo {
    pub id: String,
    /// Mixtures that are compared with each other: "pairs", "triples", ...
    pub group: String,
    /// Partition -> weight; sums to 1.
    pub members: BTreeMap<String, f64>,
    /// "seq" or a proxy ("merged", "ind", ...) -> domain or average -> score. A mixture without SEQ has no "seq".
    pub scores: BTreeMap<String, BTreeMap<String, Score>>,
}

impl MixtureInfo {
    pub fn score(&self, model: &str, domain: &str) -> Option<&Score> {
        self.scores.get(model)?.get(domain)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Score {
    /// Summed over the domain; absent in averages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nats: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// `exp(nats / tokens)`; of an average, the mean over its domains.
    pub perplexity: f64,
    /// `nats / (bytes ln 2)`; of an average, the mean over its domains.
    pub bits_per_byte: f64,
}

/// One proxy against SEQ on one domain or average, over the mixtures of a group that have both scores. Perplexities,
/// unless a field says otherwise. A statistic that is not defined is null, and `not_defined` says why.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Correlation {
    /// A group, or "all" for all groups together.
    pub group: String,
    pub domain: String,
    pub proxy: String,
    /// Mixtures with both scores.
    pub n: usize,
    pub pearson: Option<f64>,
    /// 95% percentile bootstrap over partitions (see `correlate::bootstrap`).
    pub pearson_low: Option<f64>,
    pub pearson_high: Option<f64>,
    /// Resamples that had an r.
    pub bootstrap_replicates: Option<usize>,
    /// 95% interval by Fisher's z, as if mixtures were independent.
    pub fisher_low: Option<f64>,
    pub fisher_high: Option<f64>,
    /// Pearson's r of bits per byte.
    pub pearson_bits_per_byte: Option<f64>,
    pub spearman: Option<f64>,
    pub kendall: Option<f64>,
    /// Relative: 0.01 is a SEQ perplexity 1% above the lowest.
    pub regret_at_1: Option<f64>,
    pub regret_at_3: Option<f64>,
    pub regret_at_5: Option<f64>,
    pub decision_accuracy: Option<f64>,
    pub seq_mean: Option<f64>,
    pub seq_standard_deviation: Option<f64>,
    pub seq_range: Option<f64>,
    /// SEQ's standard deviation is below 1% of its mean: these mixtures hardly differ here.
    pub hardly_differs: bool,
    /// Field -> why it is null.
    pub not_defined: BTreeMap<String, String>,
}

/// Which mixture to train on, by one proxy, for one group and average.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Answer {
    pub group: String,
    /// "ood" or "id".
    pub domain: String,
    pub proxy: String,
    /// Lowest perplexity by the proxy, over all mixtures of the group.
    pub best_by_proxy: Choice,
    /// Lowest perplexity of SEQ, over those that were trained.
    pub best_by_seq: Option<Choice>,
    /// As `Correlation::regret_at_1`.
    pub regret: Option<f64>,
    /// The answer in a sentence.
    pub text: String,
    /// How sure it is, in a sentence or two.
    pub confidence: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Choice {
    pub mixture: String,
    pub proxy_perplexity: Option<f64>,
    pub seq_perplexity: Option<f64>,
}

/// What the answer costs with proxies (seed, modules, merging, scoring) and with a training per mixture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Cost {
    pub modular_flops: f64,
    pub naive_flops: f64,
    /// Where a device was timed or is assumed.
    pub modular_hours: Option<f64>,
    pub naive_hours: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Size {
    pub documents: u64,
    pub tokens: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PartitionInfo {
    pub name: String,
    pub train: Size,
    pub validation: Size,
    pub test: Size,
}

/// Training documents dropped because they share an n-gram with an evaluation document.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Decontamination {
    /// Length of the shared run, in words, as in "13-gram".
    pub ngram: u64,
    pub partitions: Vec<DecontaminatedPartition>,
    /// Some of the documents dropped, with the reason.
    pub examples: Vec<Overlap>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DecontaminatedPartition {
    pub name: String,
    pub documents: u64,
    pub dropped_documents: u64,
    pub dropped_bytes: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Overlap {
    pub partition: String,
    pub document: String,
    pub domain: String,
    pub evaluation_document: String,
    /// The text they share.
    pub shared: String,
}
