//! Mixing laws: the loss on one domain as a function of the mixture's weights, fitted by least
//! squares to n scored merges. `weights[i][j]` is the weight of partition j in merge i; each row
//! sums to 1 (p partitions). `losses[i]` is in nats per token.
//!
//! * exponential: `L = c + k exp(sum_j t_j w_j)`, the law of Ye et al., "Data Mixing Laws", arXiv
//!   2403.16952;
//! * linear: `L = c + sum_j t_j w_j` under an L2 penalty on t (ridge regression).
//!
//! Because the weights sum to 1, adding a constant to all t gives the same law with another k (or
//! c). Here t sums to 0, so the loss at equal weights is `c + k` (exponential) or `c` (linear).

use super::correlation::is_constant;
use super::linear::{Cholesky, dot, largest_diagonal, normal_equations, with_diagonal};
use super::{Reason, Side, Statistic};

/// The form of a mixing law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LawForm {
    /// `L = c + k exp(sum_j t_j w_j)`
    Exponential,
    /// `L = c + sum_j t_j w_j`
    Linear,
}

/// A mixing law fitted to the losses of merges.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The form that `c`, `k` and `t` belong to.
    pub form: LawForm,
    /// The constant term, nats per token.
    pub c: f64,
    /// The exponential's factor, of either sign; 0 if all losses are equal. 1 for the linear form.
    pub k: f64,
    /// One per partition; sums to 0.
    pub t: Vec<f64>,
    /// The linear form's L2 penalty: it minimises
    /// `sum_i (L_i - c - t w_i)^2 + penalty sum_j t_j^2`.
    pub penalty: Option<f64>,
    /// Root mean square of the residuals.
    pub residual: f64,
    /// 1 - residual variance / variance.
    pub r_squared: Statistic,
}

impl Fit {
    /// Nats per token at these weights (one per partition, summing to 1).
    pub fn loss(&self, weights: &[f64]) -> f64 {
        match self.form {
            LawForm::Exponential => self.c + self.k * dot(&self.t, weights).exp(),
            LawForm::Linear => self.c + dot(&self.t, weights),
        }
    }

    /// Fills `residual` and `r_squared`, over the merges that the law was fitted to.
    fn judged(mut self, weights: &[Vec<f64>], losses: &[f64]) -> Fit {
        let n = losses.len() as f64;
        let squares = weights.iter().zip(losses).map(|(w, l)| (self.loss(w) - l).powi(2)).sum::<f64>();
        let mean = losses.iter().sum::<f64>() / n;
        let total = losses.iter().map(|l| (l - mean).powi(2)).sum::<f64>();
        self.residual = (squares / n).sqrt();
        self.r_squared =
            if is_constant(losses) { Err(Reason::Constant(Side::Samples)) } else { Ok(1.0 - squares / total) };
        self
    }
}

/// Weights and losses minus their means, and losses divided by their scale.
struct Centred {
    mean_weights: Vec<f64>,
    mean_loss: f64,
    /// Root mean square of the losses around their mean.
    scale: f64,
    /// n x p
    weights: Vec<Vec<f64>>,
    /// n, of variance 1
    losses: Vec<f64>,
}

impl Centred {
    /// `None` if all losses are equal.
    fn new(weights: &[Vec<f64>], losses: &[f64]) -> Option<Centred> {
        if is_constant(losses) {
            return None;
        }
        let n = losses.len() as f64;
        let p = weights[0].len();
        let mean_weights: Vec<f64> = (0..p).map(|j| weights.iter().map(|w| w[j] / n).sum()).collect();
        let mean_loss = losses.iter().map(|l| l / n).sum::<f64>();
        let scale = (losses.iter().map(|l| (l - mean_loss).powi(2)).sum::<f64>() / n).sqrt();
        let centre = |w: &Vec<f64>| w.iter().zip(&mean_weights).map(|(w, mean)| w - mean).collect();
        Some(Centred {
            weights: weights.iter().map(centre).collect(),
            losses: losses.iter().map(|l| (l - mean_loss) / scale).collect(),
            mean_weights,
            mean_loss,
            scale,
        })
    }
}

fn check(weights: &[Vec<f64>], losses: &[f64], needed: usize) -> Result<(), Reason> {
    assert_eq!(weights.len(), losses.len(), "a loss per merge");
    if losses.len() < needed {
        return Err(Reason::TooFewSamples { got: losses.len(), needed });
    }
    if losses.iter().any(|l| !l.is_finite()) {
        return Err(Reason::NotFinite(Side::Samples));
    }
    Ok(())
}

/// The law that predicts the mean everywhere.
fn flat(form: LawForm, weights: &[Vec<f64>], losses: &[f64]) -> Fit {
    let c = losses.iter().sum::<f64>() / losses.len() as f64;
    let k = if form == LawForm::Linear { 1.0 } else { 0.0 };
    let t = vec![0.0; weights[0].len()];
    let fit = Fit { form, c, k, t, penalty: None, residual: 0.0, r_squared: Err(Reason::Constant(Side::Samples)) };
    fit.judged(weights, losses)
}

/// The penalties tried: four per decade, from no visible effect to a fit of only the mean.
fn penalties() -> impl Iterator<Item = f64> {
    (-32..=16).rev().map(|quarter| 10f64.powf(quarter as f64 / 4.0))
}

/// Ridge regression in the weights; the constant is not penalised. The penalty minimises the
/// leave-one-out mean squared error, computed exactly as `residual_i / (1 - h_ii)` with the hat
/// matrix's diagonal `h_ii = 1/n + x_i (X^T X + penalty)^-1 x_i` over centred weights; ties go to
/// the larger penalty. Needs three merges.
pub fn linear(weights: &[Vec<f64>], losses: &[f64]) -> Result<Fit, Reason> {
    check(weights, losses, 3)?;
    let Some(centred) = Centred::new(weights, losses) else {
        return Ok(flat(LawForm::Linear, weights, losses));
    };
    let (square, right) = normal_equations(&centred.weights, &centred.losses);
    let mut best: Option<(f64, f64, Vec<f64>)> = None;
    for penalty in penalties() {
        let Some(factors) = Cholesky::new(&with_diagonal(&square, |_| penalty)) else {
            continue;
        };
        let t = factors.solve(&right);
        let mut error = 0.0;
        for (x, y) in centred.weights.iter().zip(&centred.losses) {
            let half = factors.forward(x);
            let leverage = 1.0 / losses.len() as f64 + dot(&half, &half);
            error += ((y - dot(&t, x)) / (1.0 - leverage)).powi(2);
        }
        if error.is_finite() && best.as_ref().is_none_or(|(least, _, _)| error < *least) {
            best = Some((error, penalty, t));
        }
    }
    let (_, penalty, t) = best.ok_or(Reason::NoFit)?;
    let t: Vec<f64> = t.iter().map(|t| t * centred.scale).collect();
    let c = centred.mean_loss - dot(&t, &centred.mean_weights);
    let fit = Fit { penalty: Some(penalty), c, t, ..flat(LawForm::Linear, weights, losses) };
    Ok(fit.judged(weights, losses))
}

/// The exponential law. Fitted as `a + (exp(q z) - 1) / q` with `z = sum_j b_j (w_j - mean w_j)`
/// and the last partition's b equal to 0: the same laws, but no constant can move between
/// parameters, and the form is smooth where the bend q passes zero (the law is then linear and c
/// and k are infinite, so q is kept 1e-6 away from zero). Levenberg-Marquardt runs from several
/// starts; the best result is kept. Needs p + 2 merges, one more than parameters.
pub fn exponential(weights: &[Vec<f64>], losses: &[f64]) -> Result<Fit, Reason> {
    let p = weights.first().map_or(0, Vec::len);
    check(weights, losses, p + 2)?;
    let Some(centred) = Centred::new(weights, losses) else {
        return Ok(flat(LawForm::Exponential, weights, losses));
    };
    let mut best: Option<(f64, Fit)> = None;
    for start in starts(&centred) {
        let (squares, curve) = levenberg_marquardt(&centred, start);
        let (c, k, t) = curve.law(&centred);
        let finite = [c, k].iter().chain(&t).all(|v| v.is_finite());
        if finite && best.as_ref().is_none_or(|(least, _)| squares < *least) {
            best = Some((squares, Fit { c, k, t, ..flat(LawForm::Exponential, weights, losses) }));
        }
    }
    Ok(best.ok_or(Reason::NoFit)?.1.judged(weights, losses))
}

/// The law's parameters over centred, scaled data: a, q, and b of all partitions except the last.
#[derive(Debug, Clone)]
struct Curve(Vec<f64>);

impl Curve {
    /// The value at centred weights `w` (p), and its derivatives by each parameter.
    fn value(&self, w: &[f64], slope: &mut [f64]) -> f64 {
        let (a, q, b) = (self.0[0], self.0[1], &self.0[2..]);
        let z = dot(b, w);
        let x = q * z;
        let grown = if x == 0.0 { 1.0 } else { x.exp_m1() / x };
        slope[0] = 1.0;
        // d/dq of (exp(q z) - 1) / q = z^2 (x exp(x) - (exp(x) - 1)) / x^2; by its series near 0,
        // where that cancels.
        slope[1] = z
            * z
            * if x.abs() < 1e-3 {
                0.5 + x * (1.0 / 3.0 + x * (0.125 + x / 30.0))
            } else {
                (x * x.exp() - x.exp_m1()) / (x * x)
            };
        for (slope, w) in slope[2..].iter_mut().zip(w) {
            *slope = x.exp() * w;
        }
        a + z * grown
    }

    /// Sum of squares over the data, the slopes (n x parameters) and the residuals (n).
    fn squares(&self, data: &Centred) -> (f64, Vec<Vec<f64>>, Vec<f64>) {
        let mut slopes = vec![vec![0.0; self.0.len()]; data.losses.len()];
        let left: Vec<f64> = (data.weights.iter().zip(&mut slopes).zip(&data.losses))
            .map(|((w, slope), loss)| loss - self.value(w, slope))
            .collect();
        (dot(&left, &left), slopes, left)
    }

    /// (c, k, t) in the units of the original data.
    fn law(&self, data: &Centred) -> (f64, f64, Vec<f64>) {
        let (a, q) = (self.0[0], self.0[1]);
        let q = if q.abs() < 1e-6 { 1e-6f64.copysign(q) } else { q };
        let mut t: Vec<f64> = self.0[2..].iter().map(|b| q * b).chain([0.0]).collect();
        let mean = t.iter().sum::<f64>() / t.len() as f64;
        t.iter_mut().for_each(|t| *t -= mean);
        let k = data.scale / q * (-dot(&t, &data.mean_weights)).exp();
        (data.mean_loss + data.scale * (a - 1.0 / q), k, t)
    }
}

/// The starting points: for limits c at several distances below all losses (and above them, for
/// `k < 0`), the line fitted to `ln |L - c|`, which is exact if that c is.
fn starts(data: &Centred) -> Vec<Curve> {
    let p = data.mean_weights.len();
    let free: Vec<Vec<f64>> = data.weights.iter().map(|w| w[..p - 1].to_vec()).collect();
    let low = data.losses.iter().copied().fold(f64::INFINITY, f64::min);
    let high = data.losses.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut list = Vec::new();
    for distance in [0.03, 0.3, 3.0, 30.0] {
        for (sign, limit) in [(1.0, low - distance * (high - low)), (-1.0, high + distance * (high - low))] {
            let logs: Vec<f64> = data.losses.iter().map(|l| (sign * (l - limit)).ln()).collect();
            let height = logs.iter().sum::<f64>() / logs.len() as f64;
            let (square, right) = normal_equations(&free, &logs);
            let least = 1e-10 * largest_diagonal(&square).max(f64::MIN_POSITIVE);
            let Some(factors) = Cholesky::new(&with_diagonal(&square, |_| least)) else {
                continue;
            };
            // c + sign exp(height + t w) = (c + 1/q) + (exp(t w) - 1) / q
            let q = sign / height.exp();
            let b = factors.solve(&right).into_iter().map(|t| t / q);
            list.push(Curve([limit + 1.0 / q, q].into_iter().chain(b).collect()));
        }
    }
    list
}

/// The most steps that lower the sum of squares.
const STEPS: usize = 300;

/// Levenberg-Marquardt with damping by the diagonal, and a floor for parameters without influence
/// (of a partition in no merge). Returns the sum of squares and the final parameters.
fn levenberg_marquardt(data: &Centred, start: Curve) -> (f64, Curve) {
    let mut at = start;
    let (mut least, mut slopes, mut left) = at.squares(data);
    let mut damping = 1e-3;
    for _ in 0..STEPS {
        let (square, right) = normal_equations(&slopes, &left);
        let floor = 1e-12 * largest_diagonal(&square);
        let before = least;
        while damping < 1e12 {
            let damped = with_diagonal(&square, |i| damping * square[i][i] + floor);
            if let Some(factors) = Cholesky::new(&damped) {
                let step = factors.solve(&right);
                let next = Curve(at.0.iter().zip(step).map(|(at, step)| at + step).collect());
                let (squares, next_slopes, next_left) = next.squares(data);
                // False for NaN.
                if squares < least {
                    (at, least, slopes, left) = (next, squares, next_slopes, next_left);
                    damping = (damping / 10.0).max(1e-12);
                    break;
                }
            }
            damping *= 10.0;
        }
        if before - least <= 1e-14 * before {
            break;
        }
    }
    (least, at)
}
