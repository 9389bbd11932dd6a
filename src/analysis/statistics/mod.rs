//! Statistics of lists of scores: the agreement of a proxy with SEQ, the noise between repeated
//! trainings, and mixing laws. Each is a number, or the reason why it is undefined. Pure functions
//! on `&[f64]`: scoring belongs to `study`, presentation to `report`.

pub mod bootstrap;
pub mod correlation;
pub mod law;
pub mod linear;
pub mod pairs;
pub mod variance;

use std::fmt;

/// A statistic: its value, which is always finite, or the reason why it is undefined.
pub type Statistic = Result<f64, Reason>;

/// The two ends of an interval, `low <= high`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The list of scores that a reason is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The proxy's scores.
    Proxy,
    /// The scores of SEQ, the trained models.
    Seq,
    /// The scores of the merges that mixing laws are fitted to.
    Samples,
}

/// The reason why a statistic is not defined; `Display` writes it in words.
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
    /// A score is infinite or NaN, for example because a training diverged.
    NotFinite(Side),
    /// A ratio to SEQ needs scores above zero.
    NotPositive,
    /// Too few units for an interval: resampling gives only a handful of different results.
    TooFewUnits {
        /// Units that can be resampled: partitions, counting those that only occur together once.
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
    /// Fewer repeatedly trained mixtures than an analysis of variance needs.
    TooFewRepeated {
        /// Mixtures with two trainings or more.
        got: usize,
        /// The least number that an analysis of variance needs.
        needed: usize,
    },
    /// Fewer merges than a mixing law needs.
    TooFewSamples {
        /// Merges that were scored.
        got: usize,
        /// The least number that the law is fitted to.
        needed: usize,
    },
    /// No starting point of the fit led to finite parameters.
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
