//! All statistics of one proxy against SEQ.

use stockpot::analysis::statistics::correlation::*;
use stockpot::analysis::statistics::pairs::Pairs;
use stockpot::analysis::statistics::{Reason, Side};

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
    // A constant proxy decides like a coin toss, and its choice is the worst possible.
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
