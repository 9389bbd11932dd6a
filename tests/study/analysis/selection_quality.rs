//! Selection by a proxy, against the largest mixture and chance.

use super::{analysed, near, sized};
use stockpot::analysis::*;

#[test]
fn a_proxy_worse_than_the_largest_gives_a_warning() {
    let report = analysed(sized());
    let ood = report.picking.iter().find(|p| p.domain == "ood").unwrap();
    let names: Vec<&str> = ood.rows.iter().map(|r| r.by.as_str()).collect();
    assert_eq!(names, ["merged", "ind", "largest", "random"]);
    let [merged, ind, largest, random] = &ood.rows[..] else { panic!() };
    assert_eq!([merged, ind, largest].map(|r| r.decision_accuracy), [Some(0.0), Some(1.0), Some(1.0)]);
    near(merged.pearson.unwrap(), -1.0, "merged");
    near(largest.pearson.unwrap(), 1.0, "largest");
    // SEQ is 36 + 6.5, ..., 50 + 6.5; the worst is chosen first.
    near(merged.regret_at[0], 14.0 / 42.5, "regret@1");
    assert_eq!((ood.rows.iter().map(|r| r.regret_at.len()).min(), largest.regret_at[0]), (Some(10), 0.0));
    near(random.regret_at[0], 7.0 / 42.5, "the mean");
    assert_eq!((random.decision_accuracy, random.pearson), (Some(0.5), None));
    assert!(random.regret_at.windows(2).all(|w| w[1] < w[0]));
    let warning = ood.warning.as_ref().unwrap();
    assert!(warning.starts_with("MERGED (0%) picks worse than always taking the mixture with the most text (100%)"));
    assert!(!warning.contains("IND"), "{warning}");
    let words = "MERGED (0%) picks worse than always taking";
    assert_eq!(
        report.to_html().split("<nav").next().unwrap().matches(words).count(),
        report.answers.len(),
        "once per answer"
    );
    assert!(report.picking.iter().all(|p| p.domain != "members"), "its mixtures are scored on different text");
}

#[test]
fn equal_sizes_and_good_proxies_give_no_warning() {
    let mut equal = sized();
    equal.mixtures.iter_mut().for_each(|m| m.available_tokens = 1000);
    let equal = analysed(equal);
    let of = |report: &Report| report.picking.iter().find(|p| p.domain == "ood").unwrap().clone();
    assert!(of(&equal).rows.iter().all(|r| r.by != "largest") && of(&equal).warning.is_none());
    assert!(!equal.answers[0].confidence.contains("most text"));
    let mut good = sized();
    for m in &mut good.mixtures {
        let seq = m.scores["seq"].clone();
        m.scores.insert("merged".into(), seq);
    }
    assert!(analysed(good).picking.iter().all(|p| p.warning.is_none()));
    // Ties never flatter "largest": of the seven equally large mixtures, the worst by SEQ is taken
    // first.
    let mut tied = sized();
    tied.mixtures.iter_mut().for_each(|m| m.available_tokens = m.available_tokens.min(1080));
    let tied = of(&analysed(tied));
    let largest = tied.rows.iter().find(|r| r.by == "largest").unwrap();
    near(largest.regret_at[0], 6.0 / 42.5, "regret@1");
    assert!(largest.decision_accuracy < Some(1.0));
}
