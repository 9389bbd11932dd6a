//! What a merge of partitions is: the weight of every model in it. The one place that knows base units, micro and scaled
//! merges; `stockpot merge`, mixtures of a study and its proxies all take their weights from here, so they have the same
//! bits.
//!
//! A partition that was cut into base units has a module for each of them. A macro merge over merges gives each module
//! its partition's weight divided by their number (a partition's own average is never rounded on the way); a micro merge
//! gives every base unit of all partitions the same weight.

/// A partition in a merge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// The partition's weight.
    pub weight: f64,
    /// Its base units: 1 where it has one module.
    pub units: usize,
}

/// A model that a merge takes, by the position of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolModel {
    /// The seed of all modules.
    Seed,
    /// The module on all of a partition.
    Module(usize),
    /// The module on one base unit of a partition; of a partition of one unit, its module.
    Unit(usize, usize),
}

/// Models and their weights, in the order of summation.
pub type Terms = Vec<(PoolModel, f64)>;

/// Each partition's module under the partition's weight.
pub fn macro_merge(shares: &[Share]) -> Terms {
    (0..).zip(shares).map(|(i, share)| (PoolModel::Module(i), share.weight)).collect()
}

/// Each partition's weight shared equally by its base units.
pub fn macro_of_merges(shares: &[Share]) -> Terms {
    units(shares, |share| share.weight / share.units as f64)
}

/// All base units of all partitions equally.
pub fn micro_merge(shares: &[Share]) -> Terms {
    let all: usize = shares.iter().map(|share| share.units).sum();
    units(shares, |_| 1.0 / all as f64)
}

fn units(shares: &[Share], weight: impl Fn(&Share) -> f64) -> Terms {
    let of = |(i, share): (usize, &Share)| {
        let weight = weight(share);
        (0..share.units).map(move |unit| (PoolModel::Unit(i, unit), weight))
    };
    (0..).zip(shares).flat_map(of).collect()
}

/// `seed + lambda (merge - seed)`: the seed, of weight `1 - lambda`, before the merge's terms, each times lambda.
pub fn scaled_merge(merge: Terms, lambda: f64) -> Terms {
    let terms = merge.into_iter().map(|(model, weight)| (model, lambda * weight));
    std::iter::once((PoolModel::Seed, 1.0 - lambda)).chain(terms).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one() {
        let shares = [Share { weight: 0.25, units: 3 }, Share { weight: 0.75, units: 1 }];
        for terms in [macro_merge(&shares), macro_of_merges(&shares), micro_merge(&shares)] {
            assert!((terms.iter().map(|(_, weight)| weight).sum::<f64>() - 1.0).abs() < 1e-15);
            let scaled = scaled_merge(terms.clone(), 1.5);
            assert_eq!(scaled[0], (PoolModel::Seed, -0.5));
            assert!((scaled.iter().map(|(_, weight)| weight).sum::<f64>() - 1.0).abs() < 1e-15);
        }
        let last = (PoolModel::Unit(1, 0), 0.75);
        assert_eq!(macro_of_merges(&shares)[3], last);
        assert_eq!(micro_merge(&shares)[3], (PoolModel::Unit(1, 0), 0.25));
    }
}
