//! src/analysis/statistics against SciPy, NumPy and plain loops (tests/fixtures/statistics.json,
//! made by the script beside it), and every reason for an undefined value.

mod bootstrap;
mod correlation;
mod law;
mod linear;
mod pairs;
mod variance;

use serde::Deserialize;
use stockpot::analysis::statistics::pairs::Pairs;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
    weighted: Weighted,
    quantiles: Quantiles,
    bootstrap: Vec<Resampled>,
    paired: PairedCase,
    variance: Vec<VarianceCase>,
    /// (q, degrees of freedom, degrees of freedom, value)
    f_quantiles: Vec<(f64, f64, f64, f64)>,
    random_regret: RandomRegret,
    exponential: Vec<ExponentialCase>,
    ridge: Vec<RidgeCase>,
}

#[derive(Deserialize)]
struct PairedCase {
    proxy: Vec<f64>,
    other: Vec<f64>,
    seq: Vec<f64>,
    members: Vec<Vec<usize>>,
    /// (difference, probability), by difference
    distribution: Vec<(f64, f64)>,
}

#[derive(Deserialize)]
struct VarianceCase {
    name: String,
    trainings: Vec<Vec<f64>>,
    mean: f64,
    within: f64,
    between: f64,
    reliability: f64,
    low: f64,
    high: f64,
}

#[derive(Deserialize)]
struct RandomRegret {
    seq: Vec<f64>,
    /// For k = 1, 2, ...
    regret: Vec<f64>,
}

#[derive(Deserialize)]
struct ExponentialCase {
    name: String,
    weights: Vec<Vec<f64>>,
    losses: Vec<f64>,
    c: f64,
    k: f64,
    t: Vec<f64>,
    residual: f64,
    r_squared: f64,
    fresh: Vec<Vec<f64>>,
    predicted: Vec<f64>,
}

#[derive(Deserialize)]
struct RidgeCase {
    name: String,
    weights: Vec<Vec<f64>>,
    losses: Vec<f64>,
    penalty: f64,
    c: f64,
    t: Vec<f64>,
    residual: f64,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    proxy: Vec<f64>,
    seq: Vec<f64>,
    pearson: f64,
    fisher: Option<[f64; 2]>,
    spearman: f64,
    kendall: f64,
    ranks: Vec<f64>,
    regret: [Option<f64>; 3],
    accuracy: f64,
    mean: f64,
    standard_deviation: f64,
    range: f64,
}

#[derive(Deserialize)]
struct Weighted {
    proxy: Vec<f64>,
    seq: Vec<f64>,
    weight: Vec<f64>,
    r: f64,
}

#[derive(Deserialize)]
struct Quantiles {
    sorted: Vec<f64>,
    q: Vec<f64>,
    value: Vec<f64>,
}

#[derive(Deserialize)]
struct Resampled {
    name: String,
    proxy: Vec<f64>,
    seq: Vec<f64>,
    members: Vec<Vec<usize>>,
    /// (r, probability), by r
    distribution: Vec<(f64, f64)>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/statistics.json"))).unwrap()
}

/// Sums of at most 28 terms in f64 differ from SciPy's by a few units in the last place; 1e-12
/// leaves a factor of 100.
fn close(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= 1e-12 * want.abs().max(1.0), "{what}: got {got}, expected {want}");
}

/// 28 pairs of 8 partitions; `irregular` gives each partition's effect on SEQ, and the proxy adds
/// `noise`.
fn pairs_of_eight(noise: f64) -> Pairs {
    let irregular = |i: usize| ((i * 7919 + 13) % 101) as f64 / 50.0 - 1.0;
    let mut pairs = Pairs::default();
    for a in 0..8 {
        for b in 0..a {
            let seq = 20.0 + irregular(a) + irregular(b);
            pairs.proxy.push(seq + noise * irregular(100 + a * 8 + b));
            pairs.seq.push(seq);
            pairs.members.push(vec![a, b]);
        }
    }
    pairs
}
