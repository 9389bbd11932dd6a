//! Weighted sums of checkpoints of a pool.

use super::pool::Pool;
use crate::error::{Error, Result};
use std::cmp::Reverse;
use std::path::PathBuf;

/// How far from 1 a sum of weights may lie.
const SUM_TOLERANCE: f64 = 1e-6;

/// One weighted sum: checkpoints by their position in the pool, each with its weight, in the order of summation. A
/// checkpoint may occur more than once.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    pub terms: Vec<(usize, f64)>,
}

impl Mixture {
    /// Refuses weights that [`check_weights`] refuses.
    pub fn new(terms: Vec<(usize, f64)>) -> Result<Mixture> {
        check_weights(&terms.iter().map(|term| term.1).collect::<Vec<_>>())?;
        Ok(Mixture { terms })
    }
}

/// Opens the checkpoints that several sums need. Each sum comes back as a mixture whose terms lie in the pool in the
/// order of the sum, since that is how the pool is read; so its bits do not depend on the sums beside it. A checkpoint
/// is in the pool once, however many name it (by whatever path), unless sums need it at two places: before another
/// checkpoint in one, behind it in the other.
pub fn open_for(sums: &[Vec<(PathBuf, f64)>]) -> Result<(Pool, Vec<Mixture>)> {
    // Checkpoints by number, in the order in which they are first named.
    let (mut names, mut paths) = (Vec::new(), Vec::new());
    let mut number = |path: &PathBuf| {
        // What does not exist is refused when it is opened.
        let name = path.canonicalize().unwrap_or_else(|_| path.clone());
        names.iter().position(|known| *known == name).unwrap_or_else(|| {
            names.push(name);
            paths.push(path.clone());
            names.len() - 1
        })
    };
    let sequences: Vec<Vec<usize>> =
        sums.iter().map(|sum| sum.iter().map(|(path, _)| number(path)).collect()).collect();
    let (order, positions) = reading_order(&sequences);
    let pool = Pool::open(&order.into_iter().map(|k| paths[k].clone()).collect::<Vec<_>>())?;
    let weights = |sum: &[(PathBuf, f64)]| sum.iter().map(|term| term.1).collect::<Vec<_>>();
    let mixtures = sums.iter().zip(positions);
    let mixtures = mixtures.map(|(sum, at)| Mixture { terms: at.into_iter().zip(weights(sum)).collect() }).collect();
    Ok((pool, mixtures))
}

/// A sequence that holds every given one in its order, and where. Next is always an element that no other sequence
/// needs further on, or, where there is none, the one that the others need last.
fn reading_order(sequences: &[Vec<usize>]) -> (Vec<usize>, Vec<Vec<usize>>) {
    let mut order = Vec::new();
    let mut positions: Vec<Vec<usize>> = vec![Vec::new(); sequences.len()];
    loop {
        let rest: Vec<&[usize]> = sequences.iter().zip(&positions).map(|(s, p)| &s[p.len()..]).collect();
        let needed = |k: usize| {
            let others = rest.iter().filter(|rest| rest.first() != Some(&k));
            others.filter_map(|rest| rest.iter().position(|other| *other == k)).min().unwrap_or(usize::MAX)
        };
        let heads = rest.iter().filter_map(|rest| rest.first().copied());
        let Some(next) = heads.min_by_key(|&k| Reverse(needed(k))) else { return (order, positions) };
        for (rest, positions) in rest.iter().zip(&mut positions) {
            let run = rest.iter().take_while(|k| **k == next).count();
            positions.extend(std::iter::repeat_n(order.len(), run));
        }
        order.push(next);
    }
}

/// Refuses no weights, weights that are not finite, and weights whose sum is not 1 within 1e-6. Negative weights are
/// fine (a scaled merge needs them).
pub fn check_weights(weights: &[f64]) -> Result<()> {
    let sum = finite_sum(weights)?;
    if (sum - 1.0).abs() <= SUM_TOLERANCE {
        return Ok(());
    }
    Err(Error::usage("the weights of a merge must sum to 1")
        .expected(format!("1 within {SUM_TOLERANCE:e}"))
        .got(format!("{sum}, from {weights:?}"))
        .fix("correct the weights; `stockpot merge --normalize` divides them by their sum"))
}

/// The weights divided by their sum; those of sum 1 come back as they are.
pub fn normalized(weights: &[f64]) -> Result<Vec<f64>> {
    let sum = finite_sum(weights)?;
    let divided: Vec<f64> = weights.iter().map(|w| w / sum).collect();
    // A sum near 0 (weights of both signs) gives quotients that do not sum to 1, or none.
    if divided.iter().all(|w| w.is_finite()) && (divided.iter().sum::<f64>() - 1.0).abs() <= SUM_TOLERANCE {
        return Ok(divided);
    }
    Err(Error::usage("these weights cannot be normalized").got(format!("a sum of {sum}, from {weights:?}")))
}

fn finite_sum(weights: &[f64]) -> Result<f64> {
    if weights.is_empty() {
        return Err(Error::usage("a merge needs at least one checkpoint"));
    }
    match weights.iter().find(|w| !w.is_finite()) {
        Some(w) => Err(Error::usage("a weight of a merge must be a finite number").got(w.to_string())),
        None => Ok(weights.iter().sum()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sequences: &[&[usize]]) -> Vec<usize> {
        let sequences: Vec<Vec<usize>> = sequences.iter().map(|s| s.to_vec()).collect();
        let (order, positions) = reading_order(&sequences);
        for (sequence, positions) in sequences.iter().zip(positions) {
            assert!(positions.is_sorted(), "{sequence:?} at {positions:?}");
            assert_eq!(positions.iter().map(|&i| order[i]).collect::<Vec<_>>(), *sequence);
        }
        order
    }

    #[test]
    fn a_checkpoint_is_read_once_where_one_order_fits_all() {
        assert!(read(&[]).is_empty());
        assert_eq!(read(&[&[0, 1, 2]]), [0, 1, 2]);
        assert_eq!(read(&[&[0, 0, 1]]), [0, 1]);
        assert_eq!(read(&[&[0, 2], &[1, 2], &[0, 1]]), [0, 1, 2]);
        assert_eq!(read(&[&[3], &[0, 1, 2, 3]]), [0, 1, 2, 3]);
        assert_eq!(read(&[&[4, 2], &[2, 0], &[1, 0], &[4, 1]]), [4, 2, 1, 0]);
    }

    #[test]
    fn and_again_where_orders_contradict() {
        assert_eq!(read(&[&[0, 1, 0]]), [0, 1, 0]);
        assert_eq!(read(&[&[0, 1], &[1, 0]]), [0, 1, 0]);
        assert_eq!(read(&[&[0, 1, 2], &[2, 0, 1], &[0, 1]]), [2, 0, 1, 2]);
        assert_eq!(read(&[&[0, 1, 2], &[2, 1, 0]]).len(), 5);
    }
}
