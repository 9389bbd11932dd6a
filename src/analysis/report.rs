//! report.json as a struct. Fields may be added, none renamed or removed: scripts read them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names in `MixtureInfo::scores` that are no domain but an average: over the in-distribution domains, over the
/// out-of-distribution ones, and over the mixture's own members' domains. Best first for choosing a mixture.
pub const AVERAGES: [&str; 3] = ["ood", "id", "members"];

/// The model really trained on the mixture, in `MixtureInfo::scores`.
pub const SEQ: &str = "seq";

/// The results of a study: what report.json holds, and what its tables, charts and page are made
/// from.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// The study's name.
    pub study: String,
    /// Version of the program.
    pub version: String,
    /// What computed, as in "cpu, 16 threads".
    pub device: Option<String>,
    /// The evaluation sets: partitions' held-out text in the study file's order, then the OOD sets.
    pub domains: Vec<DomainInfo>,
    /// Every mixture of the study with its scores.
    pub mixtures: Vec<MixtureInfo>,
    /// Merges that were scored for mixing laws to be fitted to; none of them is one of `mixtures`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<SampleInfo>,
    /// What [`answers`](super::answers) makes of the rest.
    pub answers: Vec<Answer>,
    /// What [`correlations`](fn@super::correlations) makes of the mixtures.
    pub correlations: Vec<Correlation>,
    /// Where trainings were repeated: the spread between repeats beside that between mixtures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub noise: Vec<Noise>,
    /// How well each proxy, and none at all, picks.
    pub picking: Vec<SelectionQuality>,
    /// r against lambda, where scaled merges were scored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scaled: Vec<ScaledScan>,
    /// Mixing laws, one of each form and domain, where merges were sampled for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub laws: Vec<Law>,
    /// Losses along segments in weight space.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<Segment>,
    /// The larger model of the study, and how well the small pool predicts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_scale: Option<CrossScale>,
    /// Of a study that was changed after it had been run: what was used again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reuse: Option<Reuse>,
    /// Every model that was trained, those of the larger model included.
    pub trainings: Vec<TrainingInfo>,
    /// Training and scoring FLOPs, by stage and both ways.
    pub cost: Cost,
    /// What clocks saw; cost.json, and no part of report.json, so that equal scores give equal bytes.
    #[serde(skip)]
    pub spent: Option<Spent>,
    /// Sizes of the text of each partition and OOD set, and of the seed's, by split.
    pub partitions: Vec<PartitionInfo>,
    /// `None` when the study does not decontaminate.
    pub decontamination: Option<Decontamination>,
    /// The study's TOML.
    pub settings: String,
    /// What went in and came out -> its hash.
    pub hashes: BTreeMap<String, String>,
}

/// Where the text of an evaluation set is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainKind {
    /// In-distribution: the held-out part of a partition.
    Id,
    /// Out-of-distribution.
    Ood,
}

impl DomainKind {
    /// As files and averages name it.
    pub fn name(self) -> &'static str {
        match self {
            DomainKind::Id => "id",
            DomainKind::Ood => "ood",
        }
    }
}

/// Scores of one model: domain or average -> score.
pub type DomainScores = BTreeMap<String, Score>;

/// Scores of several models: "seq", a proxy, ... -> its scores.
pub type ModelScores = BTreeMap<String, DomainScores>;

/// An evaluation set. Must not be called by one of [`AVERAGES`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DomainInfo {
    /// The partition or OOD set that the text is from; unique.
    pub name: String,
    /// In-distribution or out-of-distribution.
    pub kind: DomainKind,
    /// The field of study that it belongs to, if the study says so: `field:<field>` is then an average, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Documents scored.
    pub documents: u64,
    /// Tokens scored by each model, without the EOS after each document.
    pub tokens: u64,
    /// Bytes (UTF-8) of the scored documents, which bits per byte are taken over.
    pub bytes: u64,
}

/// A mixture with the scores of SEQ and of the proxies.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MixtureInfo {
    /// Its members joined by `+`, with their weights where these are not uniform; unique.
    pub id: String,
    /// Mixtures that are compared with each other: "pairs", "triples", ...
    pub group: String,
    /// Partition -> weight; sums to 1.
    pub members: BTreeMap<String, f64>,
    /// Tokens that SEQ is trained on.
    pub tokens: u64,
    /// Tokens of different text that its members have for training: what "the largest" means.
    pub available_tokens: u64,
    /// "seq" or a proxy ("merged", "ind", ...) -> domain or average -> score. A mixture without SEQ has no "seq".
    pub scores: ModelScores,
    /// `scores` once more for each repeat ("seq", "merged", "ind"), trained under another order of the data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repeats: Vec<ModelScores>,
    /// `scores` of the study's larger model ("seq", and "merged" and "ind" where it has modules).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub target: ModelScores,
    /// Scaled merges: each lambda with domain or average -> score. In scores.csv only.
    #[serde(skip)]
    pub by_lambda: Vec<(f64, DomainScores)>,
}

impl MixtureInfo {
    /// The score of SEQ or a proxy on a domain or average; `None` where it was not scored there.
    pub fn score(&self, model: &str, domain: &str) -> Option<&Score> {
        self.scores.get(model)?.get(domain)
    }
}

/// How well one model predicts the text of one domain, or the average over several; lower is
/// better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Score {
    /// Summed over the domain; absent in averages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nats: Option<f64>,
    /// Tokens scored; absent in averages and in proxies that score no model (IND, mixing laws).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Bytes (UTF-8) of the text scored; absent where `tokens` is.
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
    /// A domain or an average.
    pub domain: String,
    /// The proxy's name, as in `MixtureInfo::scores`.
    pub proxy: String,
    /// Mixtures with both scores.
    pub n: usize,
    /// Pearson's r.
    pub pearson: Option<f64>,
    /// 95% percentile bootstrap over partitions (see `statistics::bootstrap`).
    pub pearson_low: Option<f64>,
    /// The upper end of that interval.
    pub pearson_high: Option<f64>,
    /// Resamples that had an r.
    pub bootstrap_replicates: Option<usize>,
    /// 95% interval by Fisher's z, as if mixtures were independent.
    pub fisher_low: Option<f64>,
    /// The upper end of that interval.
    pub fisher_high: Option<f64>,
    /// Pearson's r of bits per byte.
    pub pearson_bits_per_byte: Option<f64>,
    /// Its 95% bootstrap interval.
    pub pearson_bits_per_byte_low: Option<f64>,
    /// The upper end of that interval.
    pub pearson_bits_per_byte_high: Option<f64>,
    /// Spearman's rank correlation.
    pub spearman: Option<f64>,
    /// Kendall's tau-b.
    pub kendall: Option<f64>,
    /// Relative: 0.01 is a SEQ perplexity 1% above the lowest.
    pub regret_at_1: Option<f64>,
    /// As `regret_at_1`, of the best by SEQ of the three mixtures that the proxy ranks first.
    pub regret_at_3: Option<f64>,
    /// As `regret_at_3`, of five mixtures.
    pub regret_at_5: Option<f64>,
    /// The share of pairs of mixtures that the proxy orders as SEQ does; a pair that the proxy ties
    /// counts one half.
    pub decision_accuracy: Option<f64>,
    /// Mean perplexity of SEQ over the n mixtures.
    pub seq_mean: Option<f64>,
    /// Standard deviation of those perplexities, with n - 1 in the denominator.
    pub seq_standard_deviation: Option<f64>,
    /// Highest minus lowest of those perplexities.
    pub seq_range: Option<f64>,
    /// SEQ's standard deviation is below 1% of its mean: these mixtures hardly differ here.
    pub hardly_differs: bool,
    /// Field -> why it is null.
    pub not_defined: BTreeMap<String, String>,
}

/// A merge that was scored and never trained.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SampleInfo {
    /// Partition -> weight; sums to 1.
    pub members: BTreeMap<String, f64>,
    /// Domain or average -> score.
    pub scores: DomainScores,
}

/// SEQ trained several times on the same mixtures, in perplexity on one domain or average.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Noise {
    /// The mixtures' group.
    pub group: String,
    /// A domain or an average.
    pub domain: String,
    /// Mixtures that were trained more than once.
    pub n: usize,
    /// Trainings of each, the first included.
    pub repeats: usize,
    /// Mean perplexity over all trainings of the n mixtures.
    pub seq_mean: Option<f64>,
    /// Standard deviation between repeats of one mixture, pooled over the mixtures.
    pub within: Option<f64>,
    /// Standard deviation between mixtures, of what would be left without noise.
    pub between: Option<f64>,
    /// Share of the variance of single trainings that is between mixtures: the r to expect between two repeats.
    pub reliability: Option<f64>,
    /// The r that a proxy which knew each mixture's true mean would have with single trainings: `sqrt(reliability)`.
    pub ceiling: Option<f64>,
    /// 95% interval of the ceiling: the square roots of that of the reliability.
    pub ceiling_low: Option<f64>,
    /// The upper end of that interval.
    pub ceiling_high: Option<f64>,
    /// Mean Pearson's r between the SEQ of two repeats.
    pub pearson_between_repeats: Option<f64>,
    /// Mean Pearson's r of MERGED of one repeat with SEQ of another.
    pub pearson_merged_across_repeats: Option<f64>,
    /// Field -> why it is null.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub not_defined: BTreeMap<String, String>,
    /// In a sentence.
    pub text: String,
}

/// How well each way to choose picks a mixture of one group, by SEQ on one domain or average.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SelectionQuality {
    /// The mixtures' group.
    pub group: String,
    /// A domain or an average; never "members".
    pub domain: String,
    /// A row for each proxy, then "largest" where the mixtures' text differs in size, then
    /// "random".
    pub rows: Vec<SelectionQualityRow>,
    /// Proxies that pick worse than always taking the mixture of the most text, in a sentence; else nothing.
    pub warning: Option<String>,
}

/// How well one way to choose picks a mixture.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SelectionQualityRow {
    /// A proxy; "largest": the mixture of the most text first; "random": what chance gives on average.
    pub by: String,
    /// Mixtures that were trained and that this way ranks.
    pub n: usize,
    /// Pearson's r with SEQ's perplexity.
    pub pearson: Option<f64>,
    /// 95%, as `Correlation::pearson_low`
    pub pearson_low: Option<f64>,
    /// The upper end of that interval.
    pub pearson_high: Option<f64>,
    /// As `Correlation::decision_accuracy`.
    pub decision_accuracy: Option<f64>,
    /// regret@k for k = 1, 2, ..., at most 10 and below n.
    pub regret_at: Vec<f64>,
}

/// The scaled merges of one group on one domain or average.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ScaledScan {
    /// The mixtures' group.
    pub group: String,
    /// A domain or an average.
    pub domain: String,
    /// Mixtures that have both SEQ and the proxy `scaled`.
    pub n: usize,
    /// r at each lambda that all of the group's mixtures were scored at, lambdas ascending.
    pub points: Vec<ScaledPoint>,
    /// The lambda that the study gives; else the one calibrated on all of the group's SEQ runs, for use on others.
    pub lambda: Option<f64>,
    /// Whether `lambda` was calibrated; else the study gives it.
    pub calibrated: bool,
    /// The r of the proxy `scaled`, each mixture judged under a lambda that was calibrated without it, or the one given.
    pub pearson: Option<f64>,
    /// 95%, as `Correlation::pearson_low`.
    pub pearson_low: Option<f64>,
    /// The upper end of that interval.
    pub pearson_high: Option<f64>,
    /// That r minus MERGED's, over the same resamples.
    pub gain: Option<f64>,
    /// 95% bootstrap interval of the gain.
    pub gain_low: Option<f64>,
    /// The upper end of that interval.
    pub gain_high: Option<f64>,
    /// Field -> why it is null.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub not_defined: BTreeMap<String, String>,
    /// Whether it helps here, in a sentence.
    pub text: String,
}

/// The scaled merges of one lambda against SEQ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ScaledPoint {
    /// Of `seed + lambda (average - seed)`: 0 is the seed, 1 is MERGED.
    pub lambda: f64,
    /// Pearson's r of the merges' perplexities with SEQ's; null where it is not defined.
    pub pearson: Option<f64>,
    /// 95%, as `Correlation::pearson_low`.
    pub pearson_low: Option<f64>,
    /// The upper end of that interval.
    pub pearson_high: Option<f64>,
    /// Mean of |ln(scaled / SEQ)| of the perplexities: how far off in value.
    pub log_error: f64,
}

/// A mixing law of one domain, fitted to the scores of sampled merges: nats per token as a function of the weights.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Law {
    /// The domain whose loss it is; a law has no averages.
    pub domain: String,
    /// "law": `c + k exp(sum_j t_j w_j)`; "ridge": `c + sum_j t_j w_j` under an L2 penalty.
    pub form: String,
    /// Merges fitted to.
    pub n: usize,
    /// The constant term, nats per token.
    pub c: f64,
    /// 1 for "ridge"; below 0 where the loss bends the other way.
    pub k: f64,
    /// Partition -> t. They sum to 0: weights sum to 1, so a constant in all t would be another k (or c).
    pub t: BTreeMap<String, f64>,
    /// The L2 penalty that leave-one-out chose, for "ridge".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty: Option<f64>,
    /// Root mean square of what is left over, nats per token.
    pub residual: f64,
    /// 1 - residual variance / variance; of the merges fitted to.
    pub r_squared: Option<f64>,
}

/// Losses of `(1 - at) from + at to`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Segment {
    /// "seed", or a partition, whose module it is.
    pub from: String,
    /// A partition, whose module it is.
    pub to: String,
    /// The models scored, from `at` 0 to 1, both ends included.
    pub points: Vec<SegmentPoint>,
    /// Domain or average -> how far the loss rises above the straight line between the ends.
    pub barriers: BTreeMap<String, Barrier>,
}

/// One model on a segment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SegmentPoint {
    /// The weight of the end `to`, from 0 to 1.
    pub at: f64,
    /// Its scores.
    pub scores: DomainScores,
}

/// Where the loss on a segment is highest against the straight line between the ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Barrier {
    /// Largest of loss minus the line between the ends, nats per token (of an average: its mean over the domains); below
    /// 0 where the whole inside of the segment lies lower than the line.
    pub height: f64,
    /// The point where that is, as `SegmentPoint::at`.
    pub at: f64,
}

/// Two models in one study: the pool of the small one against SEQ of the larger one.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CrossScale {
    /// Parameters of the small model.
    pub parameters: u64,
    /// Parameters of the larger model.
    pub target_parameters: u64,
    /// Against the larger model's SEQ. The proxies are the small pool's ("merged", "ind", ...), the small model's own
    /// trainings ("seq"), and those of the larger pool where there is one ("target_merged", "target_ind").
    pub correlations: Vec<Correlation>,
}

/// What a changed study took from earlier runs in the same directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Reuse {
    /// Names of trainings that were there when the changed study was first run.
    pub reused: Vec<String>,
    /// And of those that it made.
    pub trained: Vec<String>,
    /// FLOPs of the trainings that were reused.
    pub reused_flops: f64,
    /// FLOPs of those that were made.
    pub trained_flops: f64,
    /// Scores (a model or merge on a domain) that were there, and that were made.
    pub reused_scores: u64,
    /// Scores that this study made.
    pub made_scores: u64,
    /// In a sentence.
    pub text: String,
}

/// One model that was trained.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TrainingInfo {
    /// `seed`, `module law`, `seq law+physics`
    pub name: String,
    /// "seed", "module" or "seq"; of the larger model with "target " before
    pub role: String,
    /// The hash of all that makes it, and its directory's name under `models/`.
    pub key: String,
    /// Optimizer steps.
    pub steps: u64,
    /// Tokens trained on, repeats of a text included.
    pub tokens: u64,
    /// Training FLOPs.
    pub flops: f64,
    /// At most 200 points, evenly spaced, each the mean of the steps since the one before.
    pub curve: Vec<CurvePoint>,
}

/// One point of a loss curve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CurvePoint {
    /// The last of the steps that the mean is over.
    pub step: u64,
    /// Nats per token.
    pub loss: f64,
}

/// Which mixture to train on, by one proxy, for one group and average.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Answer {
    /// The mixtures' group; never "all".
    pub group: String,
    /// "ood" or "id".
    pub domain: String,
    /// The proxy that chooses: the first of the study's.
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

/// The best mixture by one score.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Choice {
    /// Its `MixtureInfo::id`.
    pub mixture: String,
    /// Its perplexity by the proxy; null where that is missing or not finite.
    pub proxy_perplexity: Option<f64>,
    /// Its perplexity by SEQ; null where it was not trained or its training diverged.
    pub seq_perplexity: Option<f64>,
}

/// What the answer costs with proxies (modules, merging, scoring) and with a training per mixture. The seed is needed by
/// both and counted in neither.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Modules, base units included, and the scoring of a merge for each mixture.
    pub modular_flops: f64,
    /// A training of SEQ for each mixture.
    pub naive_flops: f64,
    /// The part of `modular_flops` that scores merges; the rest trains modules.
    pub merging_flops: f64,
    /// A training per mixture of the larger model, where the study has one: what the small pool stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_naive_flops: Option<f64>,
    /// What the study computes, stage by stage.
    pub stages: Vec<StageCost>,
    /// Both ways for 2, 3, ... partitions with this study's budgets.
    pub curves: Vec<CostPoint>,
}

/// What one stage of the study computes, whether it is done or not.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StageCost {
    /// "seed", "modules", "seq", "scoring", and those of the larger model with "target " before
    pub stage: String,
    /// Models that it trains, or models and merges that it scores.
    pub models: u64,
    /// Tokens that it trains on, or scores.
    pub tokens: u64,
    /// FLOPs of these trainings or scores.
    pub flops: f64,
}

/// FLOPs to know mixtures of n partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CostPoint {
    /// n, each partition of one base unit.
    pub partitions: u64,
    /// n modules; any mixture is then a merge
    pub modular: f64,
    /// A training for each pair: O(n^2)
    pub pairs: f64,
    /// For each triple: O(n^3)
    pub triples: f64,
    /// For each subset: O(2^n)
    pub subsets: f64,
}

/// Hours, planned and really spent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Spent {
    /// As in `stockpot plan`, when the study was first run
    pub stages: Vec<SpentStage>,
    /// Hours of the modules and of the scoring of merges; null until both kinds of work were timed.
    pub modular_hours: Option<f64>,
    /// Both at the speed that the study's modules and SEQ runs had together
    pub naive_hours: Option<f64>,
}

/// Hours of one stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SpentStage {
    /// As `StageCost::stage`.
    pub stage: String,
    /// As estimated when the study was first run on a CPU; null where it ran on another device.
    pub planned_hours: Option<f64>,
    /// Of one device, all workers together counted once; what was reused from earlier runs counts where it was made
    pub hours: f64,
    /// Of what was made
    pub flops: f64,
}

/// How much text there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Size {
    /// Documents, those that were dropped not included.
    pub documents: u64,
    /// Tokens, with the EOS after each document.
    pub tokens: u64,
    /// Bytes (UTF-8) of the documents' text.
    pub bytes: u64,
}

/// The text of one source, by split.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PartitionInfo {
    /// A partition or an OOD set; "seed" is the seed's text.
    pub name: String,
    /// What is trained on, after decontamination.
    pub train: Size,
    /// What is held out for validation.
    pub validation: Size,
    /// What is scored: the held-out documents within the limits of `[evaluation]`.
    pub test: Size,
}

/// Training documents dropped because they share an n-gram with an evaluation document.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Decontamination {
    /// Length of the shared run, in words, as in "13-gram".
    pub ngram: u64,
    /// Each source that is trained on, with what it lost.
    pub partitions: Vec<DecontaminatedPartition>,
    /// Held-out documents that are not scored, by domain that came late: earlier sources' training text has theirs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
    /// Some of the documents dropped, with the reason.
    pub examples: Vec<Overlap>,
}

/// What decontamination dropped of one source.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DecontaminatedPartition {
    /// A partition, or "seed".
    pub name: String,
    /// Its training documents before any was dropped.
    pub documents: u64,
    /// How many of them were dropped.
    pub dropped_documents: u64,
    /// Bytes (UTF-8) of the text dropped.
    pub dropped_bytes: u64,
}

/// A training document that was dropped, with the evaluation document that it shares text with.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Overlap {
    /// The training document's partition, or "seed".
    pub partition: String,
    /// The training document's id.
    pub document: String,
    /// The evaluation document's domain.
    pub domain: String,
    /// The evaluation document's id.
    pub evaluation_document: String,
    /// The text they share.
    pub shared: String,
}
