//! The list of correlations and its order, also across scales.

use super::{OOD, PARTITIONS, analysed, correlation, near, pairs, scores};
use crate::synthetic::study;
use stockpot::analysis::*;

#[test]
fn correlations_are_in_order() {
    let mut report = pairs();
    for m in &mut report.mixtures {
        for name in ["zeta", "ridge", "micro", "ind", "macro_of_merges", "law"] {
            let merged = m.scores["merged"].clone();
            m.scores.insert(name.into(), merged);
        }
    }
    report.analyse(&Analysis::default());
    let proxies: Vec<&str> = report.correlations.iter().take(7).map(|c| c.proxy.as_str()).collect();
    assert_eq!(proxies, ["merged", "ind", "micro", "macro_of_merges", "law", "ridge", "zeta"]);
    let mut names: Vec<&str> = report.correlations.iter().map(|c| c.domain.as_str()).collect();
    names.dedup();
    let averages = ["ood", "id", "members", "field:biology", "field:games"];
    assert_eq!(names, averages.into_iter().chain(PARTITIONS).chain(OOD).collect::<Vec<_>>());
    assert_eq!(correlation(&report.correlations, "pairs", "field:games", "merged").n, 15);
}

#[test]
fn small_pool_is_judged_by_the_larger_model() {
    let mut report = pairs();
    report.cross_scale = Some(CrossScale { parameters: 1, target_parameters: 10, ..CrossScale::default() });
    for (number, m) in report.mixtures.iter_mut().enumerate().filter(|(number, _)| *number != 6) {
        let level = number as f64;
        // The small model's SEQ has the reverse order; the small MERGED is right.
        m.scores.insert("seq".into(), scores(&m.members, |d| 60.0 - level + d as f64));
        m.scores.insert("merged".into(), scores(&m.members, |d| 30.0 + level + d as f64));
        let target = [("seq", 1.0), ("merged", 2.0)];
        m.target =
            target.map(|(k, slope)| (k.to_string(), scores(&m.members, |d| 20.0 + slope * level + d as f64))).into();
    }
    let report = analysed(report);
    let list = &report.cross_scale.as_ref().unwrap().correlations;
    let mut proxies: Vec<&str> = list.iter().map(|c| c.proxy.as_str()).collect();
    proxies.truncate(3);
    assert_eq!(proxies, ["merged", "seq", "target_merged"]);
    assert_eq!(list.len(), 3 * (5 + 8));
    for (proxy, r) in [("merged", 1.0), ("seq", -1.0), ("target_merged", 1.0)] {
        let c = correlation(list, "pairs", "ood", proxy);
        assert_eq!(c.n, 14, "one mixture was not trained large");
        near(c.pearson.unwrap(), r, proxy);
        assert_eq!(c.regret_at_1.unwrap() == 0.0, r > 0.0);
    }
    assert!(correlation(&report.correlations, "pairs", "ood", "merged").pearson < Some(0.0), "the small model's own");
}

#[test]
fn correlations_cover_groups_domains_and_proxies() {
    let report = study();
    // pairs, triples and all; three averages and eleven domains; merged and ind.
    assert_eq!(report.correlations.len(), 3 * 14 * 2);
    let find = |group: &str, domain: &str, proxy: &str| {
        let all = &report.correlations;
        all.iter().find(|c| c.group == group && c.domain == domain && c.proxy == proxy).unwrap()
    };
    // Every fifth of 28 pairs has no SEQ.
    assert_eq!((find("pairs", "ood", "merged").n, find("triples", "ood", "merged").n), (23, 6));
    assert_eq!(find("all", "ood", "merged").n, 29);
    let (merged, ind) = (find("pairs", "law", "merged"), find("pairs", "law", "ind"));
    assert!(merged.pearson > ind.pearson);
    let (low, r, high) = (merged.pearson_low.unwrap(), merged.pearson.unwrap(), merged.pearson_high.unwrap());
    assert!(low < r && r < high);
    assert_eq!(merged.bootstrap_replicates, Some(2000));
    assert!(merged.not_defined.is_empty());
    assert!(merged.pearson_bits_per_byte.unwrap() > 0.9);
    assert!(find("pairs", "weather", "merged").hardly_differs && !merged.hardly_differs);
}
