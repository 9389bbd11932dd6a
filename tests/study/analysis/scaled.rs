//! Scaled merges: an exact lambda is found, and no mixture affects its own.

use super::{SEED, analysed, correlation, mixture, near, pairs, with_lambdas};
use stockpot::analysis::*;

#[test]
fn an_exact_lambda_is_found_and_helps() {
    let mut report = pairs();
    with_lambdas(&mut report, |_| 1.4);
    let report = analysed(report);
    for m in &report.mixtures {
        assert_eq!(m.scores["scaled"], m.by_lambda[2].1, "{}", m.id);
    }
    assert_eq!(report.scaled.len(), 5 + 8, "averages, fields and domains");
    for scan in &report.scaled {
        let merged = correlation(&report.correlations, "pairs", &scan.domain, "merged").pearson.unwrap();
        assert_eq!((scan.lambda, scan.calibrated, scan.n), (Some(1.4), true, 15));
        assert_eq!(scan.points.iter().map(|p| p.lambda).collect::<Vec<_>>(), [1.0, 1.4, 1.8]);
        near(scan.pearson.unwrap(), 1.0, &scan.domain);
        near(scan.gain.unwrap(), 1.0 - merged, &scan.domain);
        near(scan.points[0].pearson.unwrap(), merged, &scan.domain);
        near(scan.points[1].log_error, 0.0, &scan.domain);
        assert!(scan.points[0].log_error > 0.01);
        assert!(scan.gain_low < scan.gain && scan.gain < scan.gain_high && scan.gain_low > Some(0.0));
        assert!(scan.text.starts_with("Scaling helps here: r = 1.000 against "), "{}", scan.text);
    }
    assert!(report.correlations.iter().any(|c| c.proxy == "scaled"));
}

/// A constant factor changes no r, however large the error in value.
#[test]
fn lambda_is_chosen_by_r() {
    let mut report = pairs();
    with_lambdas(&mut report, |_| 1.4);
    for m in &mut report.mixtures {
        m.by_lambda[2].1.values_mut().for_each(|s| s.perplexity *= 3.0);
    }
    let report = analysed(report);
    assert!(report.mixtures.iter().all(|m| m.scores["scaled"] == m.by_lambda[2].1));
}

/// One mixture is so far off at 1.4 that it would change its own lambda. It affects the other
/// mixtures' lambda only.
#[test]
fn a_mixture_has_no_part_in_its_own_lambda() {
    let mut report = pairs();
    with_lambdas(&mut report, |_| 1.4);
    let odd = 4;
    for (lambda, scores) in &mut report.mixtures[odd].by_lambda {
        let wrong = if *lambda == 1.8 { 1.0 } else { 50.0 };
        scores.values_mut().for_each(|s| s.perplexity *= wrong);
    }
    let report = analysed(report);
    for (number, m) in report.mixtures.iter().enumerate() {
        let lambda = if number == odd { 1.4 } else { 1.8 };
        let (_, scores) = m.by_lambda.iter().find(|(l, _)| *l == lambda).unwrap();
        assert_eq!(m.scores["scaled"], *scores, "{}", m.id);
    }
    assert_eq!(report.scaled[0].lambda, Some(1.8), "calibrated on all, for other mixtures");
}

#[test]
fn each_group_has_its_lambda_and_untrained_mixtures_get_it() {
    let mut report = pairs();
    report.mixtures.extend((0..5).map(|a| mixture("triples", &[a, (a + 1) % 6, (a + 3) % 6])));
    with_lambdas(&mut report, |number| if number < 15 { 1.4 } else { 1.8 });
    report.mixtures[2].scores.remove("seq");
    let report = analysed(report);
    assert_eq!(report.mixtures[2].scores["scaled"], report.mixtures[2].by_lambda[2].1);
    assert_eq!(report.mixtures[16].scores["scaled"], report.mixtures[16].by_lambda[0].1);
    let groups: Vec<(&str, Option<f64>, usize)> =
        report.scaled.iter().filter(|s| s.domain == "ood").map(|s| (s.group.as_str(), s.lambda, s.n)).collect();
    assert_eq!(groups, [("pairs", Some(1.4), 14), ("triples", Some(1.8), 5)]);
}

/// A diverged SEQ run leaves r undefined, but does not change the lambda.
#[test]
fn a_diverged_training_does_not_choose_lambda() {
    let mut report = pairs();
    with_lambdas(&mut report, |_| 1.4);
    let diverged = Score { perplexity: f64::INFINITY, bits_per_byte: f64::INFINITY, ..Score::default() };
    report.mixtures[3].scores.get_mut("seq").unwrap().values_mut().for_each(|s| *s = diverged);
    let report = analysed(report);
    assert!(report.mixtures.iter().all(|m| m.scores["scaled"] == m.by_lambda[2].1));
    let scan = &report.scaled[0];
    assert_eq!((scan.lambda, scan.pearson, scan.gain), (Some(1.4), None, None));
    assert!(scan.text.contains("one of SEQ's scores is not a finite number"), "{}", scan.text);
    assert!(report.picking[0].rows.iter().all(|r| r.regret_at.is_empty()));
}

#[test]
fn a_given_lambda_is_used_or_missing() {
    let given = |lambda| {
        let mut report = pairs();
        with_lambdas(&mut report, |_| 1.4);
        report.analyse(&Analysis { seed: SEED, lambda: Some(lambda) });
        report
    };
    let plain = given(1.0 + 1e-12);
    assert_eq!(plain.mixtures[0].scores["scaled"], plain.mixtures[0].scores["merged"]);
    let scan = &plain.scaled[0];
    assert_eq!((scan.gain, scan.gain_low, scan.gain_high, scan.calibrated), (Some(0.0), Some(0.0), Some(0.0), false));
    assert!(scan.text.starts_with("Scaling makes no difference here: "), "{}", scan.text);
    let missing = given(1.3);
    assert!(missing.mixtures.iter().all(|m| !m.scores.contains_key("scaled")));
    let scan = &missing.scaled[0];
    assert_eq!((scan.n, scan.pearson), (0, None));
    assert!(scan.text.contains("not defined: mixtures scored both ways: 0"), "{}", scan.text);
}

#[test]
fn harm_and_indecision_are_reported() {
    let mut report = pairs();
    with_lambdas(&mut report, |_| 1.0);
    report.analyse(&Analysis { seed: SEED, lambda: Some(1.8) });
    let harms = report.scaled.iter().find(|s| s.gain_high.unwrap() < 0.0).expect("MERGED is exact");
    assert!(harms.text.starts_with("Scaling harms here: "), "{}", harms.text);
    // As large an error at 1.0 as at 1.8, but of different mixtures.
    let mut report = pairs();
    with_lambdas(&mut report, |number| if number % 2 == 0 { 1.0 } else { 1.8 });
    report.analyse(&Analysis { seed: SEED, lambda: Some(1.8) });
    let open = report.scaled.iter().filter(|s| s.gain_low.unwrap() < -0.01 && s.gain_high.unwrap() > 0.01);
    let open: Vec<&ScaledScan> = open.collect();
    assert!(!open.is_empty());
    open.iter().for_each(|s| assert!(s.text.starts_with("Undecided: r = "), "{}", s.text));
}
