//! Components of variance.

use super::{close, fixture};
use stockpot::analysis::statistics::variance::{components, f_quantile};
use stockpot::analysis::statistics::{Reason, Side};

#[test]
fn variance_components_agree_with_scipy() {
    for case in fixture().variance {
        let c = components(&case.trainings).unwrap();
        assert_eq!(c.n, case.trainings.len());
        close(c.mean, case.mean, &case.name);
        close(c.within, case.within, &case.name);
        close(c.between, case.between, &case.name);
        close(c.reliability, case.reliability, &case.name);
        // The F quantiles are as precise as bisection in f64.
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
    // Mixtures trained once have no information about noise and are left out.
    let with_singles = [vec![1.0, 1.5], vec![90.0], vec![3.0, 4.0]];
    assert_eq!(components(&with_singles), components(&[vec![1.0, 1.5], vec![3.0, 4.0]]));
    let exact = components(&[vec![1.0, 1.0], vec![3.0, 3.0], vec![7.0, 7.0]]).unwrap();
    assert_eq!((exact.within, exact.reliability), (0.0, 1.0));
    assert_eq!((exact.interval.low, exact.interval.high), (1.0, 1.0));
}
