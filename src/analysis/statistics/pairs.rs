//! One proxy against SEQ on one domain: M mixtures that have both scores, and every statistic of them at once.

use super::bootstrap::{self, Bootstrap};
use super::correlation::{self, Spread};
use super::{Interval, Reason, Statistic};

/// The mixtures that have a score of the proxy and of SEQ, M of each list; lower scores are better.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pairs {
    /// Scores by the proxy.
    pub proxy: Vec<f64>,
    /// Scores of SEQ, of the same mixtures in the same order.
    pub seq: Vec<f64>,
    /// The partitions of each mixture, by any numbering.
    pub members: Vec<Vec<usize>>,
}

/// The k of regret@k, in the order of [`Summary::regret_at`].
pub const REGRET_K: [usize; 3] = [1, 3, 5];

/// Every statistic of one proxy against SEQ.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// M
    pub n: usize,
    /// Pearson's r.
    pub pearson: Statistic,
    /// The interval to quote: it knows that mixtures share partitions.
    pub bootstrap: Result<Bootstrap, Reason>,
    /// As if mixtures were independent; for comparison with other reports.
    pub fisher: Result<Interval, Reason>,
    /// Spearman's rank correlation.
    pub spearman: Statistic,
    /// Kendall's tau-b.
    pub kendall: Statistic,
    /// For each k of [`REGRET_K`].
    pub regret_at: [Statistic; 3],
    /// See [`correlation::decision_accuracy`].
    pub decision_accuracy: Statistic,
    /// Of SEQ's scores.
    pub spread: Result<Spread, Reason>,
}

impl Pairs {
    /// All statistics of these mixtures; `seed` is that of the bootstrap.
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
