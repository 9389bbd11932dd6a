//! How well a proxy stands for SEQ: statistics of lists of scores, each a number or the reason why there is none; the
//! noise between repeated trainings; mixing laws. Pure functions on `&[f64]`; what is scored, and how results are
//! shown, is left to `study` and `report`.

pub mod bootstrap;
pub mod correlation;
pub mod law;
pub mod linear;
pub mod pairs;
pub mod variance;

use std::fmt;

/// A statistic: its value, or why it has none. A value is always finite.
pub type Statistic = Result<f64, Reason>;

/// The two ends of an interval, `low <= high`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Which list of scores a reason is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Those of the proxy.
    Proxy,
    /// Those of SEQ, the models that were trained.
    Seq,
    /// Of merges that mixing laws are fitted to.
    Samples,
}

/// Why a statistic is not defined; `Display` says it in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Fewer mixtures than the statistic needs.
    TooFewMixtures {
        /// Mixtures that have both scores.
        got: usize,
        /// The least number that the statistic is defined for.
        needed: usize,
    },
    /// All scores of one side are equal, up to rounding (see [`correlation::is_constant`]).
    Constant(Side),
    /// A score is infinite or not a number, as after a training that diverged.
    NotFinite(Side),
    /// A ratio to SEQ needs scores above zero.
    NotPositive,
    /// Resampling so few units gives a handful of different results, and no interval.
    TooFewUnits {
        /// Units that can be resampled: partitions, those that only occur together counted once.
        got: usize,
        /// [`bootstrap::LEAST_UNITS`]
        needed: usize,
    },
    /// Most resamples left fewer than three mixtures, or mixtures that do not vary.
    TooFewReplicates {
        /// Resamples for which the statistic is defined.
        valid: usize,
        /// [`bootstrap::REPLICATES`]
        drawn: usize,
    },
    /// Fewer mixtures that were trained several times than an analysis of variance needs.
    TooFewRepeated {
        /// Mixtures with two trainings or more.
        got: usize,
        /// The least number that an analysis of variance needs.
        needed: usize,
    },
    /// Fewer merges than a mixing law has parameters to fit.
    TooFewSamples {
        /// Merges that were scored.
        got: usize,
        /// The least number that the law is fitted to.
        needed: usize,
    },
    /// No start of a fit led to finite parameters.
    NoFit,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Proxy => "the proxy's scores",
            Side::Seq => "SEQ's scores",
            Side::Samples => "the sampled merges' scores",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not defined: ")?;
        match self {
            Reason::TooFewMixtures { got, needed } => {
                write!(f, "mixtures scored both ways: {got}; needed: at least {needed}")
            }
            Reason::Constant(side) => write!(f, "{side} are all equal"),
            Reason::NotFinite(side) => write!(f, "one of {side} is not a finite number"),
            Reason::NotPositive => f.write_str("one of SEQ's scores is not above zero"),
            Reason::TooFewUnits { got, needed } => {
                write!(f, "partitions that can be resampled: {got}; needed: at least {needed}")
            }
            Reason::TooFewReplicates { valid, drawn } => {
                write!(f, "only {valid} of {drawn} resamples have an r")
            }
            Reason::TooFewRepeated { got, needed } => {
                write!(f, "mixtures trained more than once: {got}; needed: at least {needed}")
            }
            Reason::TooFewSamples { got, needed } => {
                write!(f, "merges to fit to: {got}; needed: at least {needed}")
            }
            Reason::NoFit => f.write_str("no fit has finite parameters"),
        }
    }
}
