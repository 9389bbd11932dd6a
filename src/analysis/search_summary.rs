//! The results of a search, as a report shows them. Scores are in bits per byte, lower is better.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The first screen of a report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SearchSummary {
    /// The answer in at most ten lines; the first names the mixture to train on.
    pub lines: Vec<String>,
    /// What is minimized, as in "ood" or "worst of id".
    pub objective: String,
    /// The second objective, if there is one.
    pub against: Option<String>,
    /// Length of the SEQ runs that the answer is for, in trainings of one base unit.
    pub budget: u64,
    /// Lambda of the merges.
    pub lambda: f64,
    /// Whether `expected` of the mixtures is the score of SEQ, by the calibration on SEQ runs;
    /// otherwise it is that of the merge.
    pub expects_seq: bool,
    /// Warnings about the evidence, as sentences.
    pub warnings: Vec<String>,
    /// The ten best mixtures, the best first.
    pub best: Vec<MixtureEstimate>,
    /// Natural, uniform, UniMax, the best and the worst partition alone, and the best SEQ run.
    pub baselines: Vec<MixtureEstimate>,
    /// SEQ runs of this budget against their merges.
    pub verified: Vec<VerifiedPoint>,
    /// Pearson's r of these, with its 95% interval.
    pub pearson: Option<f64>,
    /// The lower end of that interval.
    pub pearson_low: Option<f64>,
    /// The upper end of that interval.
    pub pearson_high: Option<f64>,
    /// What each module does to each domain.
    pub effects: Vec<ModuleEffects>,
    /// The best mixtures under a growing pull towards the natural one, the strongest pull last.
    pub path: Vec<PathEstimate>,
    /// The best mixtures between the two objectives.
    pub front: Vec<FrontEstimate>,
    /// Partitions whose weight the evidence does not determine: name, lowest and highest weight.
    pub undetermined: Vec<(String, f64, f64)>,
    /// The recipe of the search before this one, if its partitions were others.
    pub before: Option<RecipeBefore>,
}

/// A mixture with what is expected of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MixtureEstimate {
    /// For people: `best weights`, `natural`, `law+physics`, ...
    pub name: String,
    /// Partition -> weight; weights sum to 1.
    pub members: BTreeMap<String, f64>,
    /// The score of its merge.
    pub merged: f64,
    /// The expected score; see `SearchSummary::expects_seq`.
    pub expected: f64,
    /// 95% interval of `expected`: of a single SEQ training, or, for merges, over documents.
    pub low: f64,
    /// The upper end of that interval.
    pub high: f64,
    /// The probability that it is the best of all mixtures listed.
    pub probability_best: f64,
    /// Whether it is told apart from the best mixture; the best is not told apart from itself.
    pub told_apart: bool,
    /// What SEQ reached, where it was trained on this mixture.
    pub seq: Option<f64>,
}

/// A mixture's merge and SEQ.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VerifiedPoint {
    /// The mixture's name.
    pub name: String,
    /// The score of the merge.
    pub merged: f64,
    /// What SEQ reached.
    pub seq: f64,
}

/// The change of each domain's score from the seed to one module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModuleEffects {
    /// The module's partition.
    pub partition: String,
    /// Domain -> bits per byte of the module minus those of the seed.
    pub change: BTreeMap<String, f64>,
}

/// A mixture on the path to the natural one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PathEstimate {
    /// Kullback-Leibler divergence from the natural mixture, in nats.
    pub divergence: f64,
    /// The score of its merge.
    pub merged: f64,
    /// Partition -> weight.
    pub members: BTreeMap<String, f64>,
}

/// A mixture between two objectives.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FrontEstimate {
    /// The first objective of its merge.
    pub objective: f64,
    /// The second objective of its merge.
    pub against: f64,
    /// Partition -> weight.
    pub members: BTreeMap<String, f64>,
}

/// The recipe of an earlier search over other partitions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RecipeBefore {
    /// Partition -> weight.
    pub members: BTreeMap<String, f64>,
    /// The score of its merge, with the present models on the present domains.
    pub merged: f64,
    /// Partitions that the study had not at that time.
    pub added: Vec<String>,
}
