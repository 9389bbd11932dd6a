//! One weighted sum of checkpoints of a pool.

use crate::error::{Error, Result};

/// The largest accepted difference of a sum of weights from 1.
const SUM_TOLERANCE: f64 = 1e-6;

/// One weighted sum: checkpoints by their position in the pool, each with its weight, in the order
/// of summation. A checkpoint may occur more than once.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedSum {
    /// (index in the pool, weight)
    pub terms: Vec<(usize, f64)>,
}

/// Refuses an empty list, weights that are not finite, and weights whose sum is not 1 within 1e-6.
/// Negative weights are allowed (a scaled merge needs them).
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

/// The weights divided by their sum; weights of sum 1 are returned unchanged.
pub fn normalized(weights: &[f64]) -> Result<Vec<f64>> {
    let sum = finite_sum(weights)?;
    let divided: Vec<f64> = weights.iter().map(|w| w / sum).collect();
    // With a sum near 0 (weights of both signs), quotients do not sum to 1 or are not finite.
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
