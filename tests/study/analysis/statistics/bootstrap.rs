//! The bootstrap against its exact distribution.

use super::{close, fixture, pairs_of_eight};
use stockpot::analysis::statistics::bootstrap::{bootstrap, paired};
use stockpot::analysis::statistics::{Reason, Side, bootstrap};

/// Checks the end of an interval against an exact distribution (value, probability). With 2000
/// replicates the standard error of the 2.5% point is sqrt(0.025 * 0.975 / 2000) = 0.35%; 1.4% is
/// four of these. A value of large probability may straddle the point, hence both sides of the
/// step.
fn at_point(distribution: &[(f64, f64)], at: f64, q: f64, name: &str) {
    let below: f64 = distribution.iter().filter(|(r, _)| *r < at - 1e-9).map(|(_, p)| p).sum();
    let up_to: f64 = distribution.iter().filter(|(r, _)| *r <= at + 1e-9).map(|(_, p)| p).sum();
    assert!(below <= q + 0.014, "{name}: P(r < {at}) = {below}");
    assert!(up_to >= q - 0.014, "{name}: P(r <= {at}) = {up_to}");
}

/// Both ends of the interval against the exact distribution over all resamples, enumerated in the
/// fixture.
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
    close(back.low, -there.high, "reversed");
    assert_eq!(paired(proxy, &[1.0; 15], seq, members, 0), Err(Reason::Constant(Side::Proxy)));
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
fn bootstrap_of_disjoint_mixtures_is_ordinary() {
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
fn bootstrap_has_reasons_for_no_interval() {
    let members = |n: usize| (0..n).map(|i| vec![i]).collect::<Vec<_>>();
    let four = [1.0, 2.0, 3.0, 5.0];
    assert_eq!(bootstrap(&four, &four, &members(4), 0), Err(Reason::TooFewUnits { got: 4, needed: 5 }));
    assert_eq!(bootstrap(&four[..2], &four[..2], &members(2), 0), Err(Reason::TooFewMixtures { got: 2, needed: 3 }));
    // Each mixture holds eleven of twelve partitions, so only a resample with all eleven gives it a
    // weight.
    let crowded: Vec<Vec<usize>> = (0..12).map(|m| (0..12).filter(|p| *p != m).collect()).collect();
    let scores: Vec<f64> = (0..12).map(|m| 10.0 + ((m * 5) % 12) as f64).collect();
    match bootstrap(&scores, &scores, &crowded, 0) {
        Err(Reason::TooFewReplicates { valid, drawn }) => assert!(valid < drawn / 2),
        other => panic!("{other:?}"),
    }
}
