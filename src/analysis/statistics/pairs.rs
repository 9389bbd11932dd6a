//! One proxy against SEQ on one domain: the M mixtures that have both scores, and all their
//! statistics.

use super::bootstrap::{self, Bootstrap};
use super::correlation::{self, Spread};
use super::{Interval, Reason, Statistic};

/// The M mixtures that have a score of both the proxy and SEQ; lower scores are better.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pairs {
    /// Scores by the proxy.
    pub proxy: Vec<f64>,
    /// SEQ's scores of the same mixtures in the same order.
    pub seq: Vec<f64>,
    /// The partitions of each mixture, in any numbering.
    pub members: Vec<Vec<usize>>,
}

/// The k of regret@k, in the order of [`Summary::regret_at`].
pub const REGRET_K: [usize; 3] = [1, 3, 5];

/// Every statistic of one proxy against SEQ.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Number of mixtures, M.
    pub n: usize,
    /// Pearson's r.
    pub pearson: Statistic,
    /// The interval to quote: it accounts for partitions shared between mixtures.
    pub bootstrap: Result<Bootstrap, Reason>,
    /// As if mixtures were independent; for comparison with other reports.
    pub fisher: Result<Interval, Reason>,
    /// Spearman's rank correlation.
    pub spearman: Statistic,
    /// Kendall's tau-b.
    pub kendall: Statistic,
    /// regret@k for each k of [`REGRET_K`].
    pub regret_at: [Statistic; 3],
    /// See [`correlation::decision_accuracy`].
    pub decision_accuracy: Statistic,
    /// Spread of SEQ's scores.
    pub spread: Result<Spread, Reason>,
}

impl Pairs {
    /// All statistics of these mixtures; `seed` seeds the bootstrap.
    pub fn summary(&self, seed: u64) -> Summary {
        let (proxy, seq) = (&self.proxy, &self.seq);
        let pearson = correlation::pearson(proxy, seq);
        Summary {
            n: seq.len(),
            pearson,
            bootstrap: bootstrap::bootstrap(proxy, seq, &self.members, seed),
            fisher: pearson.and_then(|r| correlation::fisher_interval(r, seq.len())),
            spearman: correlation::spearman(proxy, seq),
            kendall: correlation::kendall(proxy, seq),
            regret_at: REGRET_K.map(|k| correlation::regret_at(k, proxy, seq)),
            decision_accuracy: correlation::decision_accuracy(proxy, seq),
            spread: correlation::spread(seq),
        }
    }
}
