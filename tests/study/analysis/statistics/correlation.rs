//! Correlation coefficients, regret and pairwise accuracy.

use super::{close, fixture};
use stockpot::analysis::statistics::bootstrap::quantile;
use stockpot::analysis::statistics::correlation::*;
use stockpot::analysis::statistics::pairs::REGRET_K;
use stockpot::analysis::statistics::{Reason, Side};

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
