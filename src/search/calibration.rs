//! What SEQ runs of one budget say about merges: the lambda under which merges follow them best,
//! and how well.

use super::confidence::DocumentNats;
use super::objective::Target;
use crate::analysis::statistics::correlation::{fisher_interval, pearson};
use crate::analysis::statistics::linear::LineFit;
use serde::Serialize;

/// A mixture with the losses that SEQ really reached on it, in bits per byte.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// The mixture's name.
    pub name: String,
    /// (n)
    pub weights: Vec<f64>,
    /// (D)
    pub losses: Vec<f64>,
    /// The target of the merge, under the lambda in use.
    pub merged: Option<f64>,
    /// The nats of each document.
    #[serde(skip)]
    pub documents: DocumentNats,
}

/// How merges under one lambda follow SEQ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LambdaFit {
    /// The merges are `seed + lambda (average - seed)`.
    pub lambda: f64,
    /// Mean of Pearson's r over the target's domains; the criterion.
    pub mean_pearson: Option<f64>,
    /// Pearson's r of the target itself.
    pub pearson: Option<f64>,
}

/// The relation of merges to SEQ at one budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// SEQ runs compared.
    pub n: usize,
    /// Each lambda that was tried.
    pub lambdas: Vec<LambdaFit>,
    /// The one in use.
    pub lambda: f64,
    /// Pearson's r of the target under that lambda.
    pub pearson: Option<f64>,
    /// Its 95% interval by Fisher's z.
    pub pearson_low: Option<f64>,
    /// The upper end of that interval.
    pub pearson_high: Option<f64>,
    /// SEQ's target as `intercept + slope * merged`, by least squares.
    pub slope: Option<f64>,
    /// See `slope`.
    pub intercept: Option<f64>,
    /// Standard deviation of SEQ around that line, with n - 2 in the denominator.
    pub residual: Option<f64>,
}

/// The lambda with the highest mean r over the target's domains; the lowest of a tie. `merged` has,
/// for each lambda, the losses (D) of each verified mixture's merge.
pub fn calibrate(target: &Target, verified: &[Verified], lambdas: &[f64], merged: &[Vec<Vec<f64>>]) -> Calibration {
    let domains: Vec<usize> = (0..target.weights.len()).filter(|&d| target.weights[d] > 0.0).collect();
    let of_domain = |losses: &[Vec<f64>], d: usize| losses.iter().map(|losses| losses[d]).collect::<Vec<f64>>();
    let seq: Vec<Vec<f64>> = verified.iter().map(|v| v.losses.clone()).collect();
    let fit = |(&lambda, merged): (&f64, &Vec<Vec<f64>>)| {
        let all: Option<Vec<f64>> =
            domains.iter().map(|&d| pearson(&of_domain(merged, d), &of_domain(&seq, d)).ok()).collect();
        let mean_pearson = all.map(|all| all.iter().sum::<f64>() / all.len().max(1) as f64);
        let targets = |losses: &[Vec<f64>]| losses.iter().map(|losses| target.of(losses)).collect::<Vec<f64>>();
        LambdaFit { lambda, mean_pearson, pearson: pearson(&targets(merged), &targets(&seq)).ok() }
    };
    let lambdas: Vec<LambdaFit> = lambdas.iter().zip(merged).map(fit).collect();
    let mean = |fit: &LambdaFit| fit.mean_pearson.unwrap_or(f64::NEG_INFINITY);
    // Without any r, the plain average.
    let plain = lambdas.iter().position(|fit| fit.lambda == 1.0).unwrap_or(0);
    let best = (0..lambdas.len()).reduce(|a, b| if mean(&lambdas[b]) > mean(&lambdas[a]) { b } else { a }).unwrap_or(0);
    let best = if lambdas.iter().all(|fit| fit.mean_pearson.is_none()) { plain } else { best };
    let x: Vec<f64> = merged.get(best).map_or(Vec::new(), |merged| merged.iter().map(|l| target.of(l)).collect());
    let y: Vec<f64> = seq.iter().map(|losses| target.of(losses)).collect();
    let (n, r) = (y.len(), lambdas.get(best).and_then(|fit| fit.pearson));
    let interval = r.and_then(|r| fisher_interval(r, n).ok());
    let line = LineFit::of(&x, &y).filter(|_| n > 2);
    Calibration {
        n,
        lambda: lambdas.get(best).map_or(1.0, |fit| fit.lambda),
        lambdas,
        pearson: r,
        pearson_low: interval.map(|i| i.low),
        pearson_high: interval.map(|i| i.high),
        slope: line.map(|line| line.slope),
        intercept: line.map(|line| line.at(0.0)),
        residual: line.map(|line| (line.squares / (n as f64 - 2.0)).sqrt()),
    }
}

impl Calibration {
    /// Whether merges say anything about SEQ: r is above 0 with its whole interval.
    pub fn is_informative(&self) -> bool {
        self.pearson_low.is_some_and(|low| low > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target { name: "t".into(), weights: vec![0.5, 0.5, 0.0], worst: false }
    }

    /// Losses at lambda l that follow SEQ exactly at 2.
    fn merged(lambda: f64, i: usize) -> Vec<f64> {
        let bend = (lambda - 2.0) * ((i * 5) % 7) as f64;
        vec![i as f64 * 0.1 + bend, i as f64 * 0.2 - bend * 0.5, ((i * 3) % 5) as f64]
    }

    fn verified(order: impl Fn(usize) -> usize) -> Vec<Verified> {
        let one = |i: usize| {
            let losses = merged(2.0, order(i)).iter().map(|x| 3.0 + 0.5 * x).collect();
            Verified { name: i.to_string(), weights: vec![], losses, merged: None, documents: vec![] }
        };
        (0..12).map(one).collect()
    }

    fn fit(verified: &[Verified]) -> Calibration {
        let lambdas = [1.0, 1.5, 2.0, 3.0];
        let all: Vec<Vec<Vec<f64>>> = lambdas.iter().map(|l| (0..12).map(|i| merged(*l, i)).collect()).collect();
        calibrate(&target(), verified, &lambdas, &all)
    }

    #[test]
    fn the_lambda_that_seq_follows_is_found() {
        let fit = fit(&verified(|i| i));
        assert_eq!((fit.lambda, fit.n), (2.0, 12));
        assert!(fit.pearson.expect("r") > 0.999_999 && fit.is_informative());
        assert!((fit.slope.expect("a line") - 0.5).abs() < 1e-9 && fit.residual.expect("a line") < 1e-9);
        assert!((fit.intercept.expect("a line") - 3.0).abs() < 1e-9);
    }

    #[test]
    fn shuffled_scores_are_not_informative() {
        let fit = fit(&verified(|i| (i * 7 + 3) % 12));
        assert!(!fit.is_informative(), "{fit:?}");
    }
}
