//! The proxies: every score that stands for SEQ without training it, in one table. Studies compute
//! the table's proxies, and reports show them in its order under its titles; a new proxy is one
//! row.

use super::statistics::Reason;
use super::statistics::law::{self, Fit};
use crate::engine::merge::{Share, Terms, macro_merge, macro_of_merges, micro_merge, scaled_merge};

/// A score that stands for SEQ.
pub struct Proxy {
    /// Its name in report.json, scores.csv and file names.
    pub name: &'static str,
    /// Its display name.
    pub title: &'static str,
    /// Where its scores come from.
    pub source: ProxySource,
}

/// The source of a proxy's score of a mixture.
#[derive(Clone, Copy)]
pub enum ProxySource {
    /// The score of a merge.
    Merge {
        /// The merge of the mixture's partitions; `None` where it would equal another proxy's.
        terms: fn(&[Share]) -> Option<Terms>,
        /// Whether it is also scored for repeated trainings and for the study's larger model.
        of_repeats: bool,
    },
    /// The mean of the members' own scores, under the mixture's weights.
    Members,
    /// The score of a scaled merge. One is scored for each of the study's lambdas; `scaled.rs`
    /// selects the lambda.
    Scaled(fn(&[Share], f64) -> Terms),
    /// The prediction of a law: the loss as a function of the weights, fitted to sampled merges.
    Law(Fitter),
}

/// Fits losses as a function of weights.
pub type Fitter = fn(&[Vec<f64>], &[f64]) -> Result<Fit, Reason>;

/// The average of the members' modules.
pub const MERGED: &str = "merged";
/// The mean of the members' own scores.
pub const IND: &str = "ind";
/// `seed + lambda (average - seed)`
pub const SCALED: &str = "scaled";

/// Every proxy, in display order.
pub const PROXIES: [Proxy; 7] = [
    merge(MERGED, "MERGED", |s| Some(macro_merge(s)), true),
    Proxy { name: IND, title: "IND", source: ProxySource::Members },
    merge("micro", "MICRO-MERGED", |s| has_units(s).then(|| micro_merge(s)), false),
    merge("macro_of_merges", "MACRO OF MERGES", |s| has_units(s).then(|| macro_of_merges(s)), false),
    Proxy { name: SCALED, title: "SCALED", source: ProxySource::Scaled(|s, l| scaled_merge(macro_merge(s), l)) },
    Proxy { name: "law", title: "MIXING LAW", source: ProxySource::Law(law::exponential) },
    Proxy { name: "ridge", title: "RIDGE", source: ProxySource::Law(law::linear) },
];

const fn merge(
    name: &'static str,
    title: &'static str,
    terms: fn(&[Share]) -> Option<Terms>,
    of_repeats: bool,
) -> Proxy {
    Proxy { name, title, source: ProxySource::Merge { terms, of_repeats } }
}

/// Whether any partition has several base units; if none has, merges of base units equal MERGED.
fn has_units(shares: &[Share]) -> bool {
    shares.iter().any(|share| share.units > 1)
}

impl Proxy {
    /// The row of this name.
    pub fn find(name: &str) -> Option<&'static Proxy> {
        const { &PROXIES }.iter().find(|proxy| proxy.name == name)
    }

    /// The index of this name's row; the number of rows if it has none.
    pub fn place(name: &str) -> usize {
        PROXIES.iter().position(|proxy| proxy.name == name).unwrap_or(PROXIES.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_titles_are_unique() {
        let names: BTreeSet<&str> = PROXIES.iter().map(|p| p.name).collect();
        let titles: BTreeSet<&str> = PROXIES.iter().map(|p| p.title).collect();
        assert_eq!((names.len(), titles.len()), (PROXIES.len(), PROXIES.len()));
        assert_eq!(Proxy::find("micro").map(|p| p.title), Some("MICRO-MERGED"));
    }
}
