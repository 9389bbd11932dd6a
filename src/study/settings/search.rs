//! The table `[search]`: what the best mixture is best at, and which mixtures are allowed.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The search for the best of all mixtures. `stockpot search` has an option for each key except
/// `calibrate`, which is for `stockpot run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct SearchSettings {
    /// What is minimized, in bits per byte: a domain, `"ood"`, `"id"` or `"field:<field>"`, or a
    /// weighted mean of several, such as `{ ood = 2, law = 1 }`. Default: `"ood"`, or `"id"` in a
    /// study without OOD sets.
    pub objective: Option<DomainChoice>,
    /// Minimizes the largest bits per byte of the objective's domains instead of their mean.
    /// Default: false.
    pub worst: bool,
    /// A second objective: the search then also lists the best mixtures between the two. Default:
    /// none.
    pub against: Option<DomainChoice>,
    /// No domain may lose more than this share of its bits per byte against the natural mixture:
    /// 0.01 allows 1%. Default: no limit.
    pub no_worse: Option<f64>,
    /// Pull towards the natural mixture: bits per byte for each nat of Kullback-Leibler divergence
    /// from it. Default: 0.
    pub kl: f64,
    /// Tokens of the final training, for `max_epochs` and the recipe. Default: not known; nothing
    /// is then capped.
    pub tokens: Option<u64>,
    /// Most epochs over a partition in the final training: caps its weight at `max_epochs` times
    /// its tokens divided by `tokens`. Default: 4.
    pub max_epochs: f64,
    /// For each partition, a fixed weight, or `{ min = 0.1, max = 0.5 }` with either or both.
    /// Default: 0 to 1.
    pub weights: BTreeMap<String, WeightLimits>,
    /// Groups of partitions whose weights together are bounded. Default: none.
    pub group: Vec<GroupSettings>,
    /// Most partitions in the mixture. Default: all.
    pub at_most: Option<usize>,
    /// Also finds the best weights that are whole numbers of this many equal shares. Default: not
    /// asked for.
    pub units: Option<usize>,
    /// Length of the SEQ runs that verify a search, in trainings of one base unit, the same for
    /// every mixture. An answer is for this budget. Default: 4.
    pub budget: u64,
    /// Number of mixtures under random weights on which SEQ is trained at `budget`, to calibrate
    /// lambda and to say how well merges predict SEQ. Default: 0.
    pub calibrate: usize,
    /// The lambda of the merges, `seed + lambda (average - seed)`. Default: calibrated on SEQ runs
    /// of `budget` if there are at least four, otherwise 1.
    pub lambda: Option<f64>,
    /// Merges under random weights on which the error of the predicted losses is measured: 8 or
    /// more. Default: 40.
    pub held_out: usize,
    /// Number of subsets with equal weights that are listed, the best first. Default: 10.
    pub listed: usize,
}

impl Default for SearchSettings {
    fn default() -> SearchSettings {
        SearchSettings {
            objective: None,
            worst: false,
            against: None,
            no_worse: None,
            kl: 0.0,
            tokens: None,
            max_epochs: 4.0,
            weights: BTreeMap::new(),
            group: Vec::new(),
            at_most: None,
            units: None,
            budget: 4,
            calibrate: 0,
            lambda: None,
            held_out: 40,
            listed: 10,
        }
    }
}

/// One domain or average, or several with weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "expected a domain's name, or a table of names and weights")]
pub enum DomainChoice {
    /// `"ood"`
    One(String),
    /// `{ ood = 2, law = 1 }`
    Weighted(BTreeMap<String, f64>),
}

/// The weight of a partition, or its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "expected a weight, or a table with `min` and `max`")]
pub enum WeightLimits {
    /// `0.2`
    Fixed(f64),
    /// `{ min = 0.1, max = 0.5 }`
    Range(WeightRange),
}

/// Bounds of a weight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WeightRange {
    /// At least this. Default: 0.
    pub min: Option<f64>,
    /// At most this. Default: 1.
    pub max: Option<f64>,
}

/// Partitions whose weights together are bounded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GroupSettings {
    /// For messages. Default: the partitions joined by `+`.
    pub name: Option<String>,
    /// The partitions; each is in at most one group. Required.
    pub partitions: Vec<String>,
    /// Their weights together are at least this. Default: 0.
    #[serde(default)]
    pub min: f64,
    /// Their weights together are at most this. Default: 1.
    #[serde(default = "whole")]
    pub max: f64,
}

fn whole() -> f64 {
    1.0
}
