//! The share of noise in the variance between trainings: one-way random-effects analysis of
//! variance of mixtures that were trained several times. `trainings[m]` are the scores of mixture
//! m's repeats, whose number may differ.

use super::correlation::is_constant;
use super::{Interval, Reason, Side};

/// Variance components of the trainings, in the unit of the scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Components {
    /// Mixtures with two trainings or more.
    pub n: usize,
    /// Mean over all their trainings.
    pub mean: f64,
    /// Standard deviation between repeats of one mixture, pooled.
    pub within: f64,
    /// Standard deviation between mixtures without the noise of repeats; 0 if the estimate of its
    /// square is negative.
    pub between: f64,
    /// `between^2 / (between^2 + within^2)`: the intraclass correlation ICC(1), the expected r of
    /// two repeats.
    pub reliability: f64,
    /// 95% interval of the reliability, clamped to 0 and 1. The F interval (Shrout and Fleiss,
    /// "Intraclass correlations", Psychological Bulletin 86(2), 1979) rather than the bootstrap: it
    /// is exact for normal scores with equal numbers of repeats, and does not lose the few repeated
    /// mixtures to resampling. It assumes independent mixtures, so it is a little too narrow where
    /// they share partitions.
    pub interval: Interval,
}

/// The components over the mixtures with at least two trainings; needs two such mixtures.
pub fn components(trainings: &[Vec<f64>]) -> Result<Components, Reason> {
    let repeated: Vec<&Vec<f64>> = trainings.iter().filter(|t| t.len() >= 2).collect();
    if repeated.len() < 2 {
        return Err(Reason::TooFewRepeated { got: repeated.len(), needed: 2 });
    }
    let all: Vec<f64> = repeated.iter().flat_map(|t| t.iter().copied()).collect();
    if all.iter().any(|v| !v.is_finite()) {
        return Err(Reason::NotFinite(Side::Seq));
    }
    if is_constant(&all) {
        return Err(Reason::Constant(Side::Seq));
    }
    let (groups, total) = (repeated.len() as f64, all.len() as f64);
    let mean = mean_of(&all);
    let (mut between_squares, mut within_squares, mut sizes) = (0.0, 0.0, 0.0);
    for scores in &repeated {
        let own = mean_of(scores);
        let size = scores.len() as f64;
        sizes += size * size;
        between_squares += size * (own - mean).powi(2);
        within_squares += scores.iter().map(|v| (v - own).powi(2)).sum::<f64>();
    }
    let (between_freedom, within_freedom) = (groups - 1.0, total - groups);
    let (between_mean, within_mean) = (between_squares / between_freedom, within_squares / within_freedom);
    // Equals the number of repeats if all mixtures have the same number.
    let repeats = (total - sizes / total) / between_freedom;
    let between = ((between_mean - within_mean) / repeats).max(0.0);
    // In mean squares rather than their ratio F: identical repeats would divide by zero.
    let share =
        |numerator: f64| ((numerator - within_mean) / (numerator + (repeats - 1.0) * within_mean)).clamp(0.0, 1.0);
    let low = share(between_mean / f_quantile(0.975, between_freedom, within_freedom));
    let high = share(between_mean * f_quantile(0.975, within_freedom, between_freedom));
    Ok(Components {
        n: repeated.len(),
        mean,
        within: within_mean.sqrt(),
        between: between.sqrt(),
        reliability: between / (between + within_mean),
        interval: Interval { low, high },
    })
}

fn mean_of(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The quantile `q`, 0 < q < 1, of the F distribution with these degrees of freedom. Computed by
/// bisection, because `x = first F / (first F + second)` has the distribution function
/// `I_x(first / 2, second / 2)`.
pub fn f_quantile(q: f64, first: f64, second: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if incomplete_beta(first / 2.0, second / 2.0, middle) < q { low = middle } else { high = middle }
    }
    let x = 0.5 * (low + high);
    second * x / (first * (1.0 - x))
}

/// The regularized incomplete beta function `I_x(a, b)`, by Lentz's method on its continued
/// fraction (DLMF 8.17.22), which converges fast below `(a + 1) / (a + b + 2)`; above that, as
/// `1 - I_(1-x)(b, a)`.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let least = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let (mut c, mut d) = (1.0, 1.0 / least(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..1000 {
        let m = m as f64;
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = fraction;
        for term in [even, odd] {
            d = 1.0 / least(1.0 + term * d);
            c = least(1.0 + term / c);
            fraction *= c * d;
        }
        if (fraction - before).abs() <= 1e-15 * before.abs() {
            break;
        }
    }
    let front = a * x.ln() + b * (-x).ln_1p() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b);
    front.exp() * fraction / a
}

/// ln Gamma(x) for x > 0: Stirling's series (DLMF 5.11.1) where it is exact to the last bits;
/// smaller x are shifted there by `Gamma(x + 1) = x Gamma(x)`.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut down) = (x, 0.0);
    while x < 15.0 {
        down += x.ln();
        x += 1.0;
    }
    let r = 1.0 / (x * x);
    let series = (1.0 / 12.0 - r * (1.0 / 360.0 - r * (1.0 / 1260.0 - r * (1.0 / 1680.0 - r / 1188.0)))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - down
}
