//! report.json as a struct. Fields may be added, none renamed or removed: scripts read them.

use super::search_summary::SearchSummary;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names in `MixtureInfo::scores` that are averages instead of domains: over the
/// out-of-distribution domains, over the in-distribution ones, and over the domains of the
/// mixture's members. The best for choosing a mixture comes first.
pub const AVERAGES: [&str; 3] = ["ood", "id", "members"];

/// The model really trained on the mixture, in `MixtureInfo::scores`.
pub const SEQ: &str = "seq";

/// The results of a study: the content of report.json, and the source of its tables, charts and
/// page.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// The study's name.
    pub study: String,
    /// Version of the program.
    pub version: String,
    /// The device that computed, as in "cpu, 16 threads".
    pub device: Option<String>,
    /// The evaluation sets: partitions' held-out text in the study file's order, then the OOD sets.
    pub domains: Vec<DomainInfo>,
    /// Every mixture of the study with its scores.
    pub mixtures: Vec<MixtureInfo>,
    /// What `stockpot search` found, if it has searched with the present modules and settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchSummary>,
    /// Merges scored to fit mixing laws; none of them is in `mixtures`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<SampleInfo>,
    /// The results of [`answers`](super::answers).
    pub answers: Vec<Answer>,
    /// The results of [`correlations`](fn@super::correlations).
    pub correlations: Vec<Correlation>,
    /// Where trainings were repeated: the variation between repeats and between mixtures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub noise: Vec<Noise>,
    /// How well a mixture is chosen by each proxy, and without one.
    pub picking: Vec<SelectionQuality>,
    /// r against lambda, where scaled merges were scored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scaled: Vec<ScaledScan>,
    /// Mixing laws, one per form and domain, where merges were sampled for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub laws: Vec<Law>,
    /// Losses along segments in weight space.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<Segment>,
    /// The larger model of the study, and how well the small pool predicts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_scale: Option<CrossScale>,
    /// If the study was changed after a run: the work that was reused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reuse: Option<Reuse>,
    /// Every model that was trained, including those of the larger model.
    pub trainings: Vec<TrainingInfo>,
    /// Training and scoring FLOPs, by stage and both ways.
    pub cost: Cost,
    /// Measured times. They are in cost.json and not in report.json, so that equal scores give
    /// equal bytes.
    #[serde(skip)]
    pub spent: Option<Spent>,
    /// Sizes of the text of each partition, each OOD set and the seed, by split.
    pub partitions: Vec<PartitionInfo>,
    /// `None` when the study does not decontaminate.
    pub decontamination: Option<Decontamination>,
    /// The study's TOML.
    pub settings: String,
    /// Each input and output -> its hash.
    pub hashes: BTreeMap<String, String>,
}

/// The origin of an evaluation set's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainKind {
    /// In-distribution: the held-out part of a partition.
    Id,
    /// Out-of-distribution.
    Ood,
}

impl DomainKind {
    /// The name used in files and for the average.
    pub fn name(self) -> &'static str {
        match self {
            DomainKind::Id => "id",
            DomainKind::Ood => "ood",
        }
    }
}

/// Scores of one model: domain or average -> score.
pub type DomainScores = BTreeMap<String, Score>;

/// Domain -> nats of each of its documents.
pub type DomainDocuments = BTreeMap<String, Vec<f64>>;

/// Scores of several models: "seq", a proxy, ... -> its scores.
pub type ModelScores = BTreeMap<String, DomainScores>;

/// An evaluation set. Its name must not be one of [`AVERAGES`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DomainInfo {
    /// The partition or OOD set that the text comes from; unique.
    pub name: String,
    /// In-distribution or out-of-distribution.
    pub kind: DomainKind,
    /// Its field of study, if the study gives one; `field:<field>` is then an average, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Documents scored.
    pub documents: u64,
    /// Tokens scored by each model, without the EOS after each document.
    pub tokens: u64,
    /// Bytes (UTF-8) of the scored documents: the denominator of bits per byte.
    pub bytes: u64,
    /// Tokens of each document.
    #[serde(skip)]
    pub document_tokens: Vec<f64>,
}

/// A mixture with the scores of SEQ and of the proxies.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MixtureInfo {
    /// Its members joined by `+`, with their weights unless these are uniform; unique.
    pub id: String,
    /// Mixtures that are compared with each other: "pairs", "triples", ...
    pub group: String,
    /// Partition -> weight; sums to 1.
    pub members: BTreeMap<String, f64>,
    /// Tokens that SEQ is trained on.
    pub tokens: u64,
    /// Tokens of its members' training text, each text counted once; the measure for "largest".
    pub available_tokens: u64,
    /// "seq" or a proxy ("merged", "ind", ...) -> domain or average -> score. A mixture without SEQ
    /// has no "seq".
    pub scores: ModelScores,
    /// The scores of each repeat ("seq", "merged", "ind"), trained on the data in another order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repeats: Vec<ModelScores>,
    /// The scores of the study's larger model ("seq", and "merged" and "ind" if it has modules).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub target: ModelScores,
    /// "seq" or a proxy that is a merge -> domain -> nats of each document.
    #[serde(skip)]
    pub documents: BTreeMap<String, DomainDocuments>,
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

/// The score of one model on one domain, or its average over several; lower is better.
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

/// One proxy against SEQ on one domain or average, over the mixtures of a group that have both
/// scores. Statistics are of perplexities unless a field says otherwise. An undefined statistic is
/// null, and `not_defined` has the reason.
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
    /// 95% interval by a bootstrap over the documents of the domains, placed at r (see
    /// `document_bootstrap`); null
    /// where a domain has fewer than five, and for proxies that are no merge.
    pub documents_low: Option<f64>,
    /// The upper end of that interval.
    pub documents_high: Option<f64>,
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
    /// Regret of the mixture that the proxy ranks first, relative: 0.01 is a SEQ perplexity 1%
    /// above the lowest.
    pub regret_at_1: Option<f64>,
    /// As `regret_at_1`, for the best by SEQ among the three mixtures that the proxy ranks first.
    pub regret_at_3: Option<f64>,
    /// As `regret_at_3`, for five mixtures.
    pub regret_at_5: Option<f64>,
    /// Pairwise accuracy: the share of pairs of mixtures that the proxy orders as SEQ does. A pair
    /// that the proxy ties counts one half.
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

/// A merge that was scored; its mixture was never trained.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SampleInfo {
    /// Partition -> weight; sums to 1.
    pub members: BTreeMap<String, f64>,
    /// Domain or average -> score.
    pub scores: DomainScores,
}

/// The noise of SEQ, trained several times on the same mixtures: perplexities on one domain or
/// average.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Noise {
    /// The mixtures' group.
    pub group: String,
    /// A domain or an average.
    pub domain: String,
    /// Mixtures that were trained more than once.
    pub n: usize,
    /// Trainings of each, including the first.
    pub repeats: usize,
    /// Mean perplexity over all trainings of the n mixtures.
    pub seq_mean: Option<f64>,
    /// Standard deviation between repeats of one mixture, pooled over the mixtures.
    pub within: Option<f64>,
    /// Standard deviation between mixtures, with the noise removed.
    pub between: Option<f64>,
    /// Share of the variance of single trainings that is between mixtures: the expected r between
    /// two repeats.
    pub reliability: Option<f64>,
    /// The r with single trainings of a proxy that knows each mixture's true mean:
    /// `sqrt(reliability)`.
    pub ceiling: Option<f64>,
    /// 95% interval of the ceiling: the square roots of the reliability's interval.
    pub ceiling_low: Option<f64>,
    /// The upper end of that interval.
    pub ceiling_high: Option<f64>,
    /// Mean Pearson's r between SEQ of two repeats.
    pub pearson_between_repeats: Option<f64>,
    /// Mean Pearson's r between MERGED of one repeat and SEQ of another.
    pub pearson_merged_across_repeats: Option<f64>,
    /// Field -> why it is null.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub not_defined: BTreeMap<String, String>,
    /// The noise in a sentence.
    pub text: String,
}

/// The quality of each selection rule within one group, judged by SEQ on one domain or average.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SelectionQuality {
    /// The mixtures' group.
    pub group: String,
    /// A domain or an average; never "members".
    pub domain: String,
    /// A row for each proxy, then "largest" if the mixtures' text differs in size, then "random".
    pub rows: Vec<SelectionQualityRow>,
    /// A sentence that names the proxies that select worse than always taking the mixture with the
    /// most text, if any.
    pub warning: Option<String>,
}

/// The quality of one selection rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SelectionQualityRow {
    /// A proxy; "largest": the mixture with the most text first; "random": the expectation of a
    /// random choice.
    pub by: String,
    /// Mixtures that were trained and that this rule ranks.
    pub n: usize,
    /// Pearson's r with SEQ's perplexity.
    pub pearson: Option<f64>,
    /// 95%, as `Correlation::pearson_low`.
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
    /// r at each lambda that all of the group's mixtures were scored at, in ascending order of
    /// lambda.
    pub points: Vec<ScaledPoint>,
    /// The lambda that the study gives; else the one calibrated on all of the group's SEQ runs, to
    /// use on other mixtures.
    pub lambda: Option<f64>,
    /// Whether `lambda` was calibrated; otherwise the study gives it.
    pub calibrated: bool,
    /// The r of the proxy `scaled`. Each mixture uses the given lambda, or one that was calibrated
    /// without that mixture.
    pub pearson: Option<f64>,
    /// 95%, as `Correlation::pearson_low`.
    pub pearson_low: Option<f64>,
    /// The upper end of that interval.
    pub pearson_high: Option<f64>,
    /// That r minus MERGED's.
    pub gain: Option<f64>,
    /// 95% bootstrap interval of the gain; both r use the same resamples.
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
    /// The lambda of `seed + lambda (average - seed)`: 0 is the seed, 1 is MERGED.
    pub lambda: f64,
    /// Pearson's r of the merges' perplexities with SEQ's; null where it is not defined.
    pub pearson: Option<f64>,
    /// 95%, as `Correlation::pearson_low`.
    pub pearson_low: Option<f64>,
    /// The upper end of that interval.
    pub pearson_high: Option<f64>,
    /// Mean of |ln(scaled / SEQ)| of the perplexities: the error in value.
    pub log_error: f64,
}

/// A mixing law of one domain, fitted to the scores of sampled merges: nats per token as a function
/// of the weights.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Law {
    /// The domain whose loss it predicts; averages have no law.
    pub domain: String,
    /// "law": `c + k exp(sum_j t_j w_j)`; "ridge": `c + sum_j t_j w_j` under an L2 penalty.
    pub form: String,
    /// Number of merges that it was fitted to.
    pub n: usize,
    /// The constant term, nats per token.
    pub c: f64,
    /// The factor of the exponential, below 0 where the loss bends the other way; 1 for "ridge".
    pub k: f64,
    /// Partition -> t. They sum to 0: weights sum to 1, so adding a constant to all t equals
    /// changing k (or c).
    pub t: BTreeMap<String, f64>,
    /// The L2 penalty of "ridge", chosen by leave-one-out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty: Option<f64>,
    /// Root mean square of the residuals, nats per token.
    pub residual: f64,
    /// 1 - residual variance / variance, over the merges that it was fitted to.
    pub r_squared: Option<f64>,
}

/// Losses of the models `(1 - at) from + at to`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Segment {
    /// "seed", or the partition of a module.
    pub from: String,
    /// The partition of a module.
    pub to: String,
    /// The models scored, from `at` 0 to 1, including both ends.
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

/// The highest rise of the loss on a segment above the straight line between its ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Barrier {
    /// Largest difference between the loss and the line between the ends, nats per token (for an
    /// average, the mean loss of its domains); below 0 if the whole inside of the segment is below
    /// the line.
    pub height: f64,
    /// Its position, as `SegmentPoint::at`.
    pub at: f64,
}

/// Two models in one study: the pool of the small one against SEQ of the larger one.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CrossScale {
    /// Parameters of the small model.
    pub parameters: u64,
    /// Parameters of the larger model.
    pub target_parameters: u64,
    /// Correlations with the larger model's SEQ. The proxies are the small pool's ("merged", "ind",
    /// ...), the small model's own trainings ("seq"), and the larger pool's, if there is one
    /// ("target_merged", "target_ind").
    pub correlations: Vec<Correlation>,
}

/// The work that a changed study reused from earlier runs in the same directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Reuse {
    /// Names of the trainings that existed when the changed study was first run.
    pub reused: Vec<String>,
    /// Names of the trainings that the changed study ran.
    pub trained: Vec<String>,
    /// FLOPs of the reused trainings.
    pub reused_flops: f64,
    /// FLOPs of the new trainings.
    pub trained_flops: f64,
    /// Scores (of a model or merge on a domain) that already existed.
    pub reused_scores: u64,
    /// Scores that the changed study computed.
    pub made_scores: u64,
    /// The reuse in a sentence.
    pub text: String,
}

/// One model that was trained.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TrainingInfo {
    /// `seed`, `module law`, `seq law+physics`
    pub name: String,
    /// "seed", "module" or "seq"; for the larger model with the prefix "target ".
    pub role: String,
    /// The hash of all its inputs and settings, and the name of its directory under `models/`.
    pub key: String,
    /// Optimizer steps.
    pub steps: u64,
    /// Tokens trained on, counting repeated text.
    pub tokens: u64,
    /// Training FLOPs.
    pub flops: f64,
    /// At most 200 evenly spaced points, each the mean over the steps since the previous point.
    pub curve: Vec<CurvePoint>,
}

/// One point of a loss curve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CurvePoint {
    /// The last step of the mean.
    pub step: u64,
    /// Nats per token.
    pub loss: f64,
}

/// The mixture to train on according to one proxy, for one group and average.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Answer {
    /// The mixtures' group; never "all".
    pub group: String,
    /// "ood" or "id".
    pub domain: String,
    /// The proxy that chooses: the study's first.
    pub proxy: String,
    /// The lowest perplexity by the proxy, over all mixtures of the group.
    pub best_by_proxy: Choice,
    /// The lowest perplexity by SEQ, over the mixtures that were trained.
    pub best_by_seq: Option<Choice>,
    /// As `Correlation::regret_at_1`.
    pub regret: Option<f64>,
    /// The answer in a sentence.
    pub text: String,
    /// How far to trust it, in a few sentences.
    pub confidence: String,
}

/// The best mixture by one score.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Choice {
    /// Its `MixtureInfo::id`.
    pub mixture: String,
    /// Its perplexity by the proxy; null if it is missing or not finite.
    pub proxy_perplexity: Option<f64>,
    /// Its perplexity by SEQ; null if it was not trained or its training diverged.
    pub seq_perplexity: Option<f64>,
}

/// The cost of the answer by proxies (modules, merging, scoring), and by training each mixture.
/// Both need the seed, so neither counts it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Training the modules, including base units, and scoring one merge per mixture.
    pub modular_flops: f64,
    /// One SEQ training per mixture.
    pub naive_flops: f64,
    /// The part of `modular_flops` that scores merges; the rest trains modules.
    pub merging_flops: f64,
    /// One training of the larger model per mixture, if the study has one: the cost that the small
    /// pool replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_naive_flops: Option<f64>,
    /// The study's work, stage by stage.
    pub stages: Vec<StageCost>,
    /// The cost of both ways for 2, 3, ... partitions with this study's budgets.
    pub curves: Vec<CostPoint>,
}

/// The work of one stage of the study, done or not.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StageCost {
    /// "seed", "modules", "seq" or "scoring"; for the larger model with the prefix "target ".
    pub stage: String,
    /// Models trained, or models and merges scored.
    pub models: u64,
    /// Tokens trained on, or scored.
    pub tokens: u64,
    /// FLOPs of the training or scoring.
    pub flops: f64,
}

/// FLOPs to evaluate the mixtures of n partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CostPoint {
    /// n; each partition has one base unit.
    pub partitions: u64,
    /// n modules; any mixture is then a merge: O(n).
    pub modular: f64,
    /// One training per pair: O(n^2).
    pub pairs: f64,
    /// One training per triple: O(n^3).
    pub triples: f64,
    /// One training per subset: O(2^n).
    pub subsets: f64,
}

/// Hours planned and hours spent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Spent {
    /// The hours of each stage.
    pub stages: Vec<SpentStage>,
    /// Hours for the modules and for scoring the merges; null until both kinds of work were timed.
    pub modular_hours: Option<f64>,
    /// Hours for one training per mixture. Both use the average speed of the study's modules and
    /// SEQ runs.
    pub naive_hours: Option<f64>,
}

/// Hours of one stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SpentStage {
    /// As `StageCost::stage`.
    pub stage: String,
    /// The estimate of `stockpot plan` when the study was first run on a CPU; null if it ran on
    /// another device.
    pub planned_hours: Option<f64>,
    /// Hours of one device, counting parallel workers once. Work reused from earlier runs counts
    /// with its hours there.
    pub hours: f64,
    /// FLOPs of the work that was done.
    pub flops: f64,
}

/// An amount of text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Size {
    /// Documents, without dropped ones.
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
    /// The training text, after decontamination.
    pub train: Size,
    /// The text held out for validation.
    pub validation: Size,
    /// The text that is scored: the held-out documents within the limits of `[evaluation]`.
    pub test: Size,
}

/// Training documents dropped because they share an n-gram with an evaluation document.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Decontamination {
    /// Length of the shared run, in words, as in "13-gram".
    pub ngram: u64,
    /// Each source of training text, with its dropped documents.
    pub partitions: Vec<DecontaminatedPartition>,
    /// Late domain -> its held-out documents that are not scored, because training text of earlier
    /// sources overlaps them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
    /// Some of the documents dropped, with the reason.
    pub examples: Vec<Overlap>,
}

/// The documents that decontamination dropped from one source.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DecontaminatedPartition {
    /// A partition, or "seed".
    pub name: String,
    /// Its training documents before decontamination.
    pub documents: u64,
    /// Its dropped documents.
    pub dropped_documents: u64,
    /// Bytes (UTF-8) of the text dropped.
    pub dropped_bytes: u64,
}

/// A dropped training document, with the evaluation document that it shares text with.
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
