//! The question of a search, and the real merges that it asks for.

use super::baselines::natural;
use super::confidence::{DocumentNats, SeqRun};
use super::constraints::Constraints;
use super::continuous::random_mixture;
use super::form::Point;
use super::objective::{Objective, Target};
use crate::error::{Error, Result};

/// Real merges `seed + lambda sum_i w_i (module_i - seed)` of the modules of n partitions. Losses
/// are in bits per byte.
pub trait Merges {
    /// The losses (D) of the merge under each weights (n).
    fn losses(&mut self, lambda: f64, mixtures: &[Vec<f64>]) -> Result<Vec<Vec<f64>>>;
    /// The losses and their gradients in the weights of the partitions `of`; NaN in all others.
    /// Weights need not sum to 1: all 0 is the seed.
    fn gradients(&mut self, lambda: f64, points: &[Vec<f64>], of: &[bool]) -> Result<Vec<Point>>;
    /// The nats of each document of each domain, for the merge under each weights.
    fn documents(&mut self, lambda: f64, mixtures: &[Vec<f64>]) -> Result<Vec<DocumentNats>>;
    /// Tells the user what comes next.
    fn say(&mut self, message: &str);
}

/// What is searched for.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Names of the n partitions.
    pub partitions: Vec<String>,
    /// (n) Training tokens of each, 1 or more.
    pub tokens: Vec<f64>,
    /// Names of the D domains.
    pub domains: Vec<String>,
    /// What is minimized.
    pub target: Target,
    /// A second objective, for a Pareto front.
    pub against: Option<Target>,
    /// Where mixtures may lie.
    pub constraints: Constraints,
    /// A domain may lose at most this share of bits per byte against the natural mixture.
    pub no_worse: Option<f64>,
    /// Strength of the pull towards the natural mixture, in bits per byte for each nat.
    pub kl: f64,
    /// Tokens of the final training, if given.
    pub total_tokens: Option<f64>,
    /// Merges are `seed + lambda (average - seed)`.
    pub lambda: f64,
    /// Random merges that the forms' error is measured on.
    pub held_out: usize,
    /// Equal shares of a mixture of whole base units, if asked for.
    pub units: Option<usize>,
    /// Subsets that are listed.
    pub listed: usize,
    /// Mixtures whose score was asked for.
    pub asked: Vec<(String, Vec<f64>)>,
    /// (n) the mixture at which an earlier search of some of these partitions expanded the losses,
    /// 0 for all others: this search continues that one.
    pub earlier: Option<Vec<f64>>,
    /// (D, documents) bytes of the documents that losses are on.
    pub documents: Vec<Vec<f64>>,
    /// SEQ runs of one budget, which say how far SEQ is from merges.
    pub runs: Vec<SeqRun>,
    /// Whether lambda was chosen on these runs.
    pub lambda_calibrated: bool,
    /// Standard deviation of the target between repeated SEQ trainings, where it is known.
    pub noise: Option<f64>,
    /// The mixture with the best SEQ run, if there is one.
    pub best_seq: Option<(String, Vec<f64>)>,
    /// Seed of random starting points and of the held-out merges.
    pub seed: u64,
}

/// Makes the held-out merges differ from starting points.
pub const HELD_OUT: u64 = 0x5eed_0e1d_0075;

/// Most partitions of a search.
pub const MOST_PARTITIONS: usize = 128;

impl Problem {
    /// Refuses what no mixture meets, and more partitions than are searched.
    pub fn check(&self) -> Result<()> {
        if self.n() > MOST_PARTITIONS {
            return Err(Error::usage(format!("a search is for at most {MOST_PARTITIONS} partitions"))
                .got(format!("{} partitions", self.n()))
                .fix("join partitions that belong together"));
        }
        self.constraints.check(&self.partitions, self.total_tokens)
    }

    /// n
    pub fn n(&self) -> usize {
        self.partitions.len()
    }

    /// Partition i alone.
    pub fn alone(&self, i: usize) -> Vec<f64> {
        (0..self.n()).map(|j| f64::from(u8::from(i == j))).collect()
    }

    /// Mixtures of random sizes: half under random weights of all partitions, half of a part of them.
    pub fn random_merges(&self) -> Vec<Vec<f64>> {
        let n = self.n();
        let one = |number: usize| {
            let mut w = random_mixture(n, self.seed ^ HELD_OUT, number as u64);
            if number % 2 == 1 && n > 2 {
                let size = 2 + number / 2 % (n - 1);
                let mut order: Vec<usize> = (0..n).collect();
                let keys = random_mixture(n, self.seed ^ HELD_OUT, (1 << 32) + number as u64);
                order.sort_by(|&a, &b| keys[a].total_cmp(&keys[b]));
                order.iter().skip(size).for_each(|&i| w[i] = 0.0);
                let sum: f64 = w.iter().sum();
                w.iter_mut().for_each(|w| *w /= sum);
            }
            w
        };
        (0..self.held_out).map(one).collect()
    }

    /// The objective, with these limits of the domains' losses.
    pub fn objective(&self, limits: Vec<f64>) -> Objective {
        Objective { target: self.target.clone(), limits, kl: self.kl, natural: natural(&self.tokens) }
    }

    /// The partitions of a mixture with their weights, in the order of the study.
    pub fn name_of(&self, w: &[f64]) -> String {
        let inside: Vec<usize> = (0..w.len()).filter(|&i| w[i] > 0.0).collect();
        if inside.iter().all(|&i| (w[i] - 1.0 / inside.len() as f64).abs() < 1e-12) {
            return inside.iter().map(|&i| self.partitions[i].as_str()).collect::<Vec<_>>().join("+");
        }
        let part = |i: &usize| format!("{:.4} {}", w[*i], self.partitions[*i]);
        inside.iter().map(part).collect::<Vec<_>>().join("+")
    }

    /// The error if no mixture was found that meets bounds and limits.
    pub fn infeasible(&self) -> Error {
        match self.no_worse {
            Some(share) => Error::usage("no mixture that meets the bounds keeps every domain within `no_worse`")
                .expected(format!("no domain above the natural mixture by more than {share}"))
                .fix("raise `no_worse`, or remove bounds that exclude mixtures near the natural one"),
            None => {
                Error::usage(format!("no mixture of at most {} partitions meets the bounds", self.constraints.at_most))
                    .fix("raise `at_most`, or widen the bounds of partitions and groups")
            }
        }
    }
}
