//! Mixing laws.

use super::fixture;
use stockpot::analysis::statistics::{Reason, Side, law};

/// The best of 40 fits by SciPy finds a minimum to about 1e-8 of the parameters; there, an error e
/// of the parameters changes the residual by e^2 only.
#[test]
fn exponential_law_agrees_with_scipy() {
    for case in fixture().exponential {
        let fit = law::exponential(&case.weights, &case.losses).unwrap();
        let name = &case.name;
        let near = |got: f64, want: f64, within: f64, what: &str| {
            assert!((got - want).abs() <= within, "{name}, {what}: {got}, expected {want}");
        };
        near(fit.residual, case.residual, 1e-10, "residual");
        near(fit.r_squared.unwrap(), case.r_squared, 1e-9, "r squared");
        near(fit.c, case.c, 1e-5, "c");
        near(fit.k, case.k, 1e-5, "k");
        fit.t.iter().zip(&case.t).for_each(|(got, want)| near(*got, *want, 1e-5, "t"));
        for (weights, want) in case.fresh.iter().zip(&case.predicted) {
            near(fit.loss(weights), *want, 1e-6, "prediction");
        }
    }
}

#[test]
fn ridge_agrees_with_numpy() {
    for case in fixture().ridge {
        let fit = law::linear(&case.weights, &case.losses).unwrap();
        let name = &case.name;
        assert!((fit.penalty.unwrap() / case.penalty - 1.0).abs() < 1e-9, "{name}: {:?}", fit.penalty);
        assert!((fit.c - case.c).abs() < 1e-6, "{name}: {} {}", fit.c, case.c);
        for (got, want) in fit.t.iter().zip(&case.t) {
            assert!((got - want).abs() < 1e-6, "{name}: {got} {want}");
        }
        assert!((fit.residual - case.residual).abs() < 1e-8, "{name}");
    }
}

/// Data that need no exponential, or that leave parameters undetermined.
#[test]
fn laws_of_degenerate_data() {
    let weights: Vec<Vec<f64>> = fixture().ridge[0].weights.clone();
    let n = weights.len();
    for fit in [law::exponential, law::linear] {
        let flat = fit(&weights, &vec![3.25; n]).unwrap();
        assert!((flat.loss(&weights[3]) - 3.25).abs() < 1e-12 && flat.residual < 1e-12);
        assert_eq!(flat.r_squared, Err(Reason::Constant(Side::Samples)));
        let mut diverged = vec![3.0; n];
        diverged[5] = f64::INFINITY;
        assert_eq!(fit(&weights, &diverged), Err(Reason::NotFinite(Side::Samples)));
    }
    assert_eq!(law::exponential(&weights[..6], &[3.0; 6]), Err(Reason::TooFewSamples { got: 6, needed: 7 }));
    assert_eq!(law::linear(&weights[..2], &[3.0; 2]), Err(Reason::TooFewSamples { got: 2, needed: 3 }));
    // Exactly linear: the limit of ever larger k. An approximation is enough, and nothing
    // overflows.
    let line: Vec<f64> = weights.iter().map(|w| 3.0 + w[0] - 0.5 * w[2]).collect();
    let fit = law::exponential(&weights, &line).unwrap();
    assert!(fit.residual < 1e-6, "{fit:?}");
    assert!((fit.loss(&weights[7]) - line[7]).abs() < 1e-5);
    // The last two partitions always occur together, so only their sum is determined; another never
    // occurs.
    let tied: Vec<Vec<f64>> =
        weights.iter().map(|w| vec![w[0], w[1], w[2], 0.0, (w[3] + w[4]) / 2.0, (w[3] + w[4]) / 2.0]).collect();
    let curved: Vec<f64> = tied.iter().map(|w| 2.0 + 0.5 * (w[0] - 2.0 * w[1] + w[4]).exp()).collect();
    let fit = law::exponential(&tied, &curved).unwrap();
    assert!(fit.residual < 1e-8, "{fit:?}");
    assert!((fit.loss(&tied[11]) - curved[11]).abs() < 1e-7);
}
