//! The 95% interval of Pearson's r between proxy and SEQ when mixtures share partitions. M mixtures
//! over U partitions are not M independent observations (28 pairs of 8 partitions are 8), so
//! partitions are resampled instead of mixtures: the vertex bootstrap of Snijders and Borgatti,
//! "Non-parametric standard errors and tests for network statistics", Connections 22(2), 1999, with
//! mixtures as (hyper)edges.
//!
//! One replicate draws U partitions with replacement and weights each mixture by the product of its
//! members' multiplicities; its r is the weighted Pearson r. The interval runs from the 2.5% to the
//! 97.5% point.
//!
//! Assumptions: the partitions are independent draws from a larger family of such partitions, and
//! scores are correlated through shared members, whatever the weights within a mixture. The
//! interval does not cover the noise of retraining with another seed. Replicates without an r
//! (fewer than three different mixtures, or no variance) are redrawn, so the interval is
//! conditional on r being defined. With few partitions it is coarse.

use super::correlation::{deviations, is_constant, weighted_pearson};
use super::{Interval, Reason, Side};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Number of resamples for an interval.
pub const REPLICATES: usize = 2000;

/// Draws before a replicate is given up.
const ATTEMPTS: usize = 50;

/// The least number of units. Fewer give too few different resamples for a meaningful 2.5% point:
/// the pairs of four units have 13 with an r.
pub const LEAST_UNITS: usize = 5;

/// The least number of replicates with an r: half of them.
const LEAST_VALID: usize = REPLICATES / 2;

/// A bootstrap interval and its sample sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// 95%, by the percentiles of the replicates.
    pub interval: Interval,
    /// Replicates with an r, of [`REPLICATES`].
    pub valid: usize,
    /// Units resampled: partitions, counting those that only occur together once.
    pub units: usize,
}

/// The units to resample, and those of each mixture.
struct Units {
    count: usize,
    /// Per mixture, the units it holds.
    of_mixture: Vec<Vec<usize>>,
}

impl Units {
    /// `members[m]` lists the partitions of mixture m. Partitions in exactly the same mixtures are
    /// indistinguishable and form one unit. Mixtures that share no partition are therefore one unit
    /// each, and the vertex bootstrap is then the ordinary one over mixtures.
    fn new(members: &[Vec<usize>]) -> Units {
        let mut mixtures_of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (m, partitions) in members.iter().enumerate() {
            for &partition in partitions {
                let list = mixtures_of.entry(partition).or_default();
                // A partition listed twice in a mixture counts once.
                if list.last() != Some(&m) {
                    list.push(m);
                }
            }
        }
        let units: BTreeSet<&Vec<usize>> = mixtures_of.values().collect();
        let mut of_mixture = vec![Vec::new(); members.len()];
        for (unit, mixtures) in units.iter().enumerate() {
            mixtures.iter().for_each(|&m| of_mixture[m].push(unit));
        }
        Units { count: units.len(), of_mixture }
    }
}

/// The interval of Pearson's r of `proxy` and `seq` (M each), where mixture m consists of the
/// partitions `members[m]`. Replicate i draws from stream i of ChaCha8 under `seed`, so the result
/// depends only on the arguments, not on threads, and one seed gives different proxies the same
/// resamples.
pub fn bootstrap(proxy: &[f64], seq: &[f64], members: &[Vec<usize>], seed: u64) -> Result<Bootstrap, Reason> {
    check(&[proxy], seq, members)?;
    let (x, y) = (deviations(proxy), deviations(seq));
    resampled(members, seed, |weight| weighted_pearson(&x, &y, weight))
}

/// The interval of r(proxy, seq) - r(other, seq), with both r of the same resamples. The variation
/// that the two share through the same mixtures cancels, so this can distinguish proxies whose own
/// intervals overlap. A resample counts when both have an r.
pub fn paired(
    proxy: &[f64],
    other: &[f64],
    seq: &[f64],
    members: &[Vec<usize>],
    seed: u64,
) -> Result<Bootstrap, Reason> {
    check(&[proxy, other], seq, members)?;
    let (x, z, y) = (deviations(proxy), deviations(other), deviations(seq));
    resampled(members, seed, |weight| Some(weighted_pearson(&x, &y, weight)? - weighted_pearson(&z, &y, weight)?))
}

fn check(proxies: &[&[f64]], seq: &[f64], members: &[Vec<usize>]) -> Result<(), Reason> {
    assert!(proxies.iter().all(|p| p.len() == seq.len()) && seq.len() == members.len(), "one score of each kind");
    if seq.len() < 3 {
        return Err(Reason::TooFewMixtures { got: seq.len(), needed: 3 });
    }
    for (side, values) in [(Side::Seq, seq)].into_iter().chain(proxies.iter().map(|p| (Side::Proxy, *p))) {
        if values.iter().any(|v| !v.is_finite()) {
            return Err(Reason::NotFinite(side));
        }
        if is_constant(values) {
            return Err(Reason::Constant(side));
        }
    }
    Ok(())
}

/// The interval of a statistic of the mixtures' weights (M) over [`REPLICATES`] resamples.
fn resampled(
    members: &[Vec<usize>],
    seed: u64,
    statistic: impl Fn(&[f64]) -> Option<f64> + Sync,
) -> Result<Bootstrap, Reason> {
    let units = Units::new(members);
    if units.count < LEAST_UNITS {
        return Err(Reason::TooFewUnits { got: units.count, needed: LEAST_UNITS });
    }
    let drawn: Vec<Option<f64>> =
        (0..REPLICATES).into_par_iter().map(|i| replicate(&units, seed, i as u64, &statistic)).collect();
    let mut valid: Vec<f64> = drawn.into_iter().flatten().collect();
    if valid.len() < LEAST_VALID {
        return Err(Reason::TooFewReplicates { valid: valid.len(), drawn: REPLICATES });
    }
    valid.sort_by(f64::total_cmp);
    let interval = Interval { low: quantile(&valid, 0.025), high: quantile(&valid, 0.975) };
    Ok(Bootstrap { interval, valid: valid.len(), units: units.count })
}

/// The statistic of one resample; `None` if no draw within [`ATTEMPTS`] has one.
fn replicate(units: &Units, seed: u64, stream: u64, statistic: impl Fn(&[f64]) -> Option<f64>) -> Option<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    let mut multiplicity = vec![0.0; units.count];
    let mut weight = vec![0.0; units.of_mixture.len()];
    (0..ATTEMPTS).find_map(|_| {
        multiplicity.fill(0.0);
        for _ in 0..units.count {
            // A u32 range draws the same numbers on 32-bit and 64-bit machines.
            multiplicity[random.random_range(0..units.count as u32) as usize] += 1.0;
        }
        for (weight, held) in weight.iter_mut().zip(&units.of_mixture) {
            *weight = held.iter().map(|&u| multiplicity[u]).product();
        }
        statistic(&weight)
    })
}

/// How often each of n units is drawn in n draws with replacement.
pub fn draw_counts(n: usize, random: &mut ChaCha8Rng) -> Vec<f64> {
    let mut counts = vec![0.0; n];
    (0..n).for_each(|_| counts[random.random_range(0..n as u64) as usize] += 1.0);
    counts
}

/// The quantile `q` of at least one sorted value, interpolated linearly (numpy's default).
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let position = q * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}
