//! Merges of partitions: the weight of every model in them. Base units, micro and scaled merges are
//! defined only here; `stockpot merge`, mixtures of a study and its proxies all take their weights
//! from here, so they have the same bits.
//!
//! A partition that was split into base units has a module for each of them. A macro merge over
//! merges gives each module its partition's weight divided by the number of units (a partition's
//! own average is never rounded in between); a micro merge gives every base unit of all partitions
//! the same weight.

/// A partition in a merge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// The partition's weight.
    pub weight: f64,
    /// The number of its base units: 1 if it has one module.
    pub units: usize,
}

/// A model in a merge, by the position of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolModel {
    /// The seed of all modules.
    Seed,
    /// The module trained on all of a partition.
    Module(usize),
    /// The module trained on one base unit of a partition; if there is only one unit, the
    /// partition's module.
    Unit(usize, usize),
}

/// Models and their weights, in the order of summation.
pub type Terms = Vec<(PoolModel, f64)>;

/// Each partition's module with the partition's weight.
pub fn macro_merge(shares: &[Share]) -> Terms {
    (0..).zip(shares).map(|(i, share)| (PoolModel::Module(i), share.weight)).collect()
}

/// Each partition's weight divided equally among its base units.
pub fn macro_of_merges(shares: &[Share]) -> Terms {
    units(shares, |share| share.weight / share.units as f64)
}

/// The same weight for all base units of all partitions.
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

/// `seed + lambda (merge - seed)`: the seed with weight `1 - lambda`, then the merge's terms with
/// their weights times lambda.
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
