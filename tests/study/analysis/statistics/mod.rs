//! The statistics of src/correlate against SciPy, NumPy and plain loops (tests/fixtures/statistics.json, made by the
//! script beside it), the bootstrap against its exact distribution, and every reason for having no value.

use serde::Deserialize;
use stockpot::analysis::statistics::bootstrap::{self, bootstrap, paired, quantile};
use stockpot::analysis::statistics::correlation::*;
use stockpot::analysis::statistics::law;
use stockpot::analysis::statistics::linear::Cholesky;
use stockpot::analysis::statistics::pairs::{Pairs, REGRET_K};
use stockpot::analysis::statistics::variance::{components, f_quantile};
use stockpot::analysis::statistics::{Reason, Side};

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

/// Sums of at most 28 terms in f64 lose a few units in the last place against SciPy's; 1e-12 leaves a factor of 100.
fn close(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= 1e-12 * want.abs().max(1.0), "{what}: got {got}, expected {want}");
}

#[test]
fn agrees_with_scipy() {
    for case in fixture().cases {
        let (x, y, name) = (&case.proxy, &case.seq, &case.name);
        let r = pearson(x, y).unwrap();
        close(r, case.pearson, name);
        match case.fisher {
            // atanh near +-1 multiplies the last bit of r by 1 / (1 - r^2).
            Some([low, high]) if r.abs() < 0.999999 => {
                let interval = fisher_interval(r, x.len()).unwrap();
                close(interval.low, low, name);
                close(interval.high, high, name);
            }
            Some([low, high]) => {
                let interval = fisher_interval(case.pearson, x.len()).unwrap();
                assert_eq!((interval.low, interval.high), (low, high), "{name}");
            }
            None => assert_eq!(fisher_interval(r, x.len()), Err(Reason::TooFewMixtures { got: x.len(), needed: 4 })),
        }
        close(spearman(x, y).unwrap(), case.spearman, name);
        close(kendall(x, y).unwrap(), case.kendall, name);
        assert_eq!(average_ranks(x), case.ranks, "{name}");
        for (k, want) in REGRET_K.into_iter().zip(case.regret) {
            match want {
                Some(want) => close(regret_at(k, x, y).unwrap(), want, name),
                None => {
                    assert_eq!(regret_at(k, x, y), Err(Reason::TooFewMixtures { got: x.len(), needed: k + 1 }));
                }
            }
        }
        close(decision_accuracy(x, y).unwrap(), case.accuracy, name);
        let spread = spread(y).unwrap();
        // Relative, because one case has values of 1e200.
        close(spread.mean / case.mean, 1.0, name);
        close(spread.standard_deviation / case.standard_deviation, 1.0, name);
        close(spread.range / case.range, 1.0, name);
        assert_eq!(spread.hardly_differs(), name == "hardly any spread", "{name}");
    }
}

#[test]
fn weighted_pearson_and_quantiles_agree_with_numpy() {
    let fixture = fixture();
    let w = fixture.weighted;
    close(weighted_pearson(&w.proxy, &w.seq, &w.weight).unwrap(), w.r, "weighted");
    let ones = vec![1.0; w.seq.len()];
    close(weighted_pearson(&w.proxy, &w.seq, &ones).unwrap(), pearson(&w.proxy, &w.seq).unwrap(), "equal weights");
    for (q, value) in fixture.quantiles.q.iter().zip(&fixture.quantiles.value) {
        close(quantile(&fixture.quantiles.sorted, *q), *value, "quantile");
    }
    assert_eq!(weighted_pearson(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0], &[1.0, 1.0, 0.0]), None);
    assert_eq!(weighted_pearson(&[1.0, 1.0, 1.0, 3.0], &[1.0, 2.0, 4.0, 5.0], &[1.0, 2.0, 3.0, 0.0]), None);
}

/// The end of an interval against an exact distribution (value, probability): 2000 replicates put the 2.5% point off by
/// sqrt(0.025 * 0.975 / 2000) = 0.35%; 1.4% is four of these. A value of notable probability may straddle the point,
/// hence both sides of the step.
fn at_point(distribution: &[(f64, f64)], at: f64, q: f64, name: &str) {
    let below: f64 = distribution.iter().filter(|(r, _)| *r < at - 1e-9).map(|(_, p)| p).sum();
    let up_to: f64 = distribution.iter().filter(|(r, _)| *r <= at + 1e-9).map(|(_, p)| p).sum();
    assert!(below <= q + 0.014, "{name}: P(r < {at}) = {below}");
    assert!(up_to >= q - 0.014, "{name}: P(r <= {at}) = {up_to}");
}

/// Both ends of the interval against the exact distribution over all resamples, enumerated in the fixture.
#[test]
fn bootstrap_agrees_with_its_exact_distribution() {
    for case in fixture().bootstrap {
        for seed in [0, 1, 2] {
            let b = bootstrap(&case.proxy, &case.seq, &case.members, seed).unwrap();
            assert_eq!((b.units, b.valid), (6, bootstrap::REPLICATES), "{}", case.name);
            at_point(&case.distribution, b.interval.low, 0.025, &case.name);
            at_point(&case.distribution, b.interval.high, 0.975, &case.name);
        }
    }
}

#[test]
fn paired_bootstrap_agrees_with_its_exact_distribution() {
    let case = fixture().paired;
    let (proxy, other, seq, members) = (&case.proxy, &case.other, &case.seq, &case.members);
    for seed in [0, 1, 2] {
        let b = paired(proxy, other, seq, members, seed).unwrap();
        assert_eq!((b.units, b.valid), (6, bootstrap::REPLICATES));
        at_point(&case.distribution, b.interval.low, 0.025, "paired");
        at_point(&case.distribution, b.interval.high, 0.975, "paired");
    }
    let same = paired(proxy, proxy, seq, members, 0).unwrap().interval;
    assert_eq!((same.low, same.high), (0.0, 0.0), "a proxy gains nothing on itself");
    let back = paired(other, proxy, seq, members, 0).unwrap().interval;
    let there = paired(proxy, other, seq, members, 0).unwrap().interval;
    close(back.low, -there.high, "the other way round");
    assert_eq!(paired(proxy, &[1.0; 15], seq, members, 0), Err(Reason::Constant(Side::Proxy)));
}

#[test]
fn variance_components_agree_with_scipy() {
    for case in fixture().variance {
        let c = components(&case.trainings).unwrap();
        assert_eq!(c.n, case.trainings.len());
        close(c.mean, case.mean, &case.name);
        close(c.within, case.within, &case.name);
        close(c.between, case.between, &case.name);
        close(c.reliability, case.reliability, &case.name);
        // The F quantiles end where halving in f64 does.
        for (got, want) in [(c.interval.low, case.low), (c.interval.high, case.high)] {
            assert!((got - want).abs() < 1e-9, "{}: {got}, expected {want}", case.name);
        }
    }
    for (q, first, second, value) in fixture().f_quantiles {
        let got = f_quantile(q, first, second);
        assert!((got / value - 1.0).abs() < 1e-9, "F({q}; {first}, {second}) = {got}, expected {value}");
    }
}

#[test]
fn variance_components_have_reasons() {
    let once = [vec![1.0], vec![2.0], vec![3.0, 4.0]];
    assert_eq!(components(&once), Err(Reason::TooFewRepeated { got: 1, needed: 2 }));
    assert_eq!(components(&[vec![2.0; 3], vec![2.0; 3]]), Err(Reason::Constant(Side::Seq)));
    let diverged = [vec![1.0, f64::NAN], vec![1.0, 2.0]];
    assert_eq!(components(&diverged), Err(Reason::NotFinite(Side::Seq)));
    // Mixtures trained once say nothing of noise and are left out.
    let with_singles = [vec![1.0, 1.5], vec![90.0], vec![3.0, 4.0]];
    assert_eq!(components(&with_singles), components(&[vec![1.0, 1.5], vec![3.0, 4.0]]));
    let exact = components(&[vec![1.0, 1.0], vec![3.0, 3.0], vec![7.0, 7.0]]).unwrap();
    assert_eq!((exact.within, exact.reliability), (0.0, 1.0));
    assert_eq!((exact.interval.low, exact.interval.high), (1.0, 1.0));
}

#[test]
fn random_regret_agrees_with_every_choice() {
    let case = fixture().random_regret;
    for (k, want) in (1..).zip(&case.regret) {
        close(random_regret_at(k, &case.seq).unwrap(), *want, "random");
    }
    let m = case.seq.len();
    assert_eq!(random_regret_at(m, &case.seq), Err(Reason::TooFewMixtures { got: m, needed: m + 1 }));
    assert_eq!(random_regret_at(1, &[0.0, 1.0]), Err(Reason::NotPositive));
    assert_eq!(random_regret_at(1, &[f64::NAN, 1.0]), Err(Reason::NotFinite(Side::Seq)));
}

/// The best of 40 fits by SciPy is a minimum found to about 1e-8 of the parameters: at a minimum, an error e of the
/// parameters changes the residual by e^2 only.
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

/// Data that no exponential is needed for, or that leave parameters open.
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
    // Exactly linear: the limit of laws with ever larger k. Nearly so is enough, and nothing overflows.
    let line: Vec<f64> = weights.iter().map(|w| 3.0 + w[0] - 0.5 * w[2]).collect();
    let fit = law::exponential(&weights, &line).unwrap();
    assert!(fit.residual < 1e-6, "{fit:?}");
    assert!((fit.loss(&weights[7]) - line[7]).abs() < 1e-5);
    // The last two partitions always come together, so that only their sum can be known; and one never comes at all.
    let tied: Vec<Vec<f64>> =
        weights.iter().map(|w| vec![w[0], w[1], w[2], 0.0, (w[3] + w[4]) / 2.0, (w[3] + w[4]) / 2.0]).collect();
    let curved: Vec<f64> = tied.iter().map(|w| 2.0 + 0.5 * (w[0] - 2.0 * w[1] + w[4]).exp()).collect();
    let fit = law::exponential(&tied, &curved).unwrap();
    assert!(fit.residual < 1e-8, "{fit:?}");
    assert!((fit.loss(&tied[11]) - curved[11]).abs() < 1e-7);
}

#[test]
fn cholesky_solves_and_refuses() {
    let a = [vec![4.0, 2.0, 0.6], vec![2.0, 5.0, 1.0], vec![0.6, 1.0, 3.0]];
    let x = [1.0, -2.0, 0.5];
    let b: Vec<f64> = a.iter().map(|row| row.iter().zip(&x).map(|(a, x)| a * x).sum()).collect();
    let factors = Cholesky::new(&a).unwrap();
    factors.solve(&b).iter().zip(&x).for_each(|(got, want)| close(*got, *want, "solve"));
    let half = factors.forward(&b);
    close(half.iter().map(|v| v * v).sum(), b.iter().zip(&x).map(|(b, x)| b * x).sum(), "b A^-1 b");
    assert!(Cholesky::new(&[vec![1.0, 2.0], vec![2.0, 1.0]]).is_none(), "not positive definite");
    assert!(Cholesky::new(&[vec![f64::NAN]]).is_none());
}

/// 28 pairs of 8 partitions; a partition's effect on SEQ is spread by `irregular`, the proxy adds `noise`.
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

#[test]
fn bootstrap_interval_holds_r_and_narrows_with_less_noise() {
    let mut last = f64::INFINITY;
    for noise in [2.0, 0.5, 0.1] {
        let pairs = pairs_of_eight(noise);
        let summary = pairs.summary(7);
        let (r, interval) = (summary.pearson.unwrap(), summary.bootstrap.unwrap().interval);
        assert!(interval.low < r && r < interval.high, "{r} in {interval:?}");
        assert!(interval.high - interval.low < last / 2.0, "noise {noise}: {interval:?} against a width of {last}");
        last = interval.high - interval.low;
    }
}

#[test]
fn bootstrap_is_the_same_on_any_number_of_threads() {
    let pairs = pairs_of_eight(1.0);
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| pairs.summary(42))
    };
    let one = on(1);
    assert_eq!(one, on(2));
    assert_eq!(one, on(5));
    assert_ne!(one.bootstrap, pairs.summary(43).bootstrap, "the seed is used");
}

/// Pairs that share no partition are independent: resampling them is resampling singles.
#[test]
fn bootstrap_of_disjoint_mixtures_is_the_ordinary_one() {
    let proxy = [1.0, 2.5, 2.0, 4.5, 5.0, 7.0];
    let seq = [2.0, 2.2, 3.0, 3.9, 5.5, 5.0];
    let singles: Vec<Vec<usize>> = (0..6).map(|i| vec![i]).collect();
    let disjoint: Vec<Vec<usize>> = (0..6).map(|i| vec![2 * i, 2 * i + 1]).collect();
    let repeated: Vec<Vec<usize>> = (0..6).map(|i| vec![i, i]).collect();
    let ordinary = bootstrap(&proxy, &seq, &singles, 3).unwrap();
    assert_eq!(bootstrap(&proxy, &seq, &disjoint, 3).unwrap(), ordinary);
    assert_eq!(bootstrap(&proxy, &seq, &repeated, 3).unwrap(), ordinary);
}

#[test]
fn bootstrap_says_why_there_is_no_interval() {
    let members = |n: usize| (0..n).map(|i| vec![i]).collect::<Vec<_>>();
    let four = [1.0, 2.0, 3.0, 5.0];
    assert_eq!(bootstrap(&four, &four, &members(4), 0), Err(Reason::TooFewUnits { got: 4, needed: 5 }));
    assert_eq!(bootstrap(&four[..2], &four[..2], &members(2), 0), Err(Reason::TooFewMixtures { got: 2, needed: 3 }));
    // Each mixture holds eleven of twelve partitions, so only a resample that draws all of these gives it a weight.
    let crowded: Vec<Vec<usize>> = (0..12).map(|m| (0..12).filter(|p| *p != m).collect()).collect();
    let scores: Vec<f64> = (0..12).map(|m| 10.0 + ((m * 5) % 12) as f64).collect();
    match bootstrap(&scores, &scores, &crowded, 0) {
        Err(Reason::TooFewReplicates { valid, drawn }) => assert!(valid < drawn / 2),
        other => panic!("{other:?}"),
    }
}

#[test]
fn constants_and_diverged_trainings_have_reasons() {
    let varying = [17.0, 18.0, 19.5, 21.0, 20.0, 16.0];
    let constant = [17.1; 6];
    // The same sum in two orders.
    let rounded = [0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1, 0.6, 0.6, 0.6, 0.6];
    let mut diverged = varying;
    diverged[3] = f64::NAN;
    let members: Vec<Vec<usize>> = (0..6).map(|i| vec![i]).collect();
    let summary = |proxy: &[f64], seq: &[f64]| {
        Pairs { proxy: proxy.to_vec(), seq: seq.to_vec(), members: members.clone() }.summary(0)
    };
    for flat in [constant, rounded] {
        for (summary, side) in [(summary(&varying, &flat), Side::Seq), (summary(&flat, &varying), Side::Proxy)] {
            let reason = Reason::Constant(side);
            assert_eq!(summary.pearson, Err(reason));
            assert_eq!(summary.fisher, Err(reason));
            assert_eq!(summary.bootstrap, Err(reason));
            assert_eq!(summary.spearman, Err(reason));
            assert_eq!(summary.kendall, Err(reason));
        }
    }
    assert_eq!(summary(&varying, &constant).decision_accuracy, Err(Reason::Constant(Side::Seq)));
    assert!(summary(&varying, &constant).spread.unwrap().hardly_differs());
    // A proxy that says nothing decides like a coin, and its choice is the worst possible.
    let blind = summary(&constant, &varying);
    assert_eq!(blind.decision_accuracy, Ok(0.5));
    assert_eq!(blind.regret_at[0], Ok(5.0 / 16.0));

    let nan = summary(&diverged, &varying);
    let reason = Reason::NotFinite(Side::Proxy);
    assert_eq!((nan.pearson, nan.spearman, nan.kendall), (Err(reason), Err(reason), Err(reason)));
    assert_eq!((nan.regret_at, nan.decision_accuracy), ([Err(reason); 3], Err(reason)));
    assert_eq!(summary(&varying, &diverged).spread, Err(Reason::NotFinite(Side::Seq)));
    assert_eq!(regret_at(1, &varying, &[0.0; 6]), Err(Reason::NotPositive));
    assert_eq!(spread(&[0.0, 1.0]), Err(Reason::NotPositive));
    assert_eq!(Pairs::default().summary(0).pearson, Err(Reason::TooFewMixtures { got: 0, needed: 3 }));
    assert_eq!(
        Reason::TooFewMixtures { got: 2, needed: 3 }.to_string(),
        "not defined: mixtures scored both ways: 2; needed: at least 3"
    );
}
