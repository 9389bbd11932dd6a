//! Laws with known parameters.

use super::{OOD, analysed, correlation, law, near, pairs, samples};
use stockpot::analysis::*;

#[test]
fn a_known_law_is_recovered_and_predicts_mixtures() {
    let report = analysed(Report { samples: samples(), ..pairs() });
    assert_eq!(report.laws.len(), 2 * 8, "two forms of each domain, no averages");
    for (d, domain) in report.domains.iter().enumerate() {
        let of = |form: &str| report.laws.iter().find(|l| l.domain == domain.name && l.form == form).unwrap();
        let found = of("law");
        assert_eq!((found.n, found.t.len()), (30, 6));
        assert!((found.c - 2.5 - 0.1 * d as f64).abs() < 1e-5 && (found.k - 0.8).abs() < 1e-5, "{found:?}");
        assert!(found.residual < 1e-7 && found.r_squared.unwrap() > 0.999999 && found.penalty.is_none());
        let ridge = of("ridge");
        assert!(ridge.residual > 1e-3 && ridge.r_squared.unwrap() > 0.7 && ridge.penalty.is_some(), "{ridge:?}");
        for m in &report.mixtures {
            let predicted = m.score("law", &domain.name).unwrap();
            let want = law(&m.members, d);
            assert!((predicted.perplexity / want.exp() - 1.0).abs() < 1e-5);
            near(predicted.bits_per_byte, predicted.perplexity.ln() * 1000.0 / (4100.0 * 2f64.ln()), "bits");
            let linear = ridge.loss(&m.members).unwrap();
            near(m.score("ridge", &domain.name).unwrap().perplexity, linear.exp(), "ridge");
        }
    }
    let m = &report.mixtures[3];
    let mean = OOD.iter().map(|d| m.score("law", d).unwrap().perplexity).sum::<f64>() / 2.0;
    near(m.score("law", "ood").unwrap().perplexity, mean, "average");
    assert_eq!(correlation(&report.correlations, "pairs", "ood", "ridge").n, 15);
}

/// Other SEQ scores give the same laws: these are fitted to merges only.
#[test]
fn laws_do_not_see_seq() {
    let first = analysed(Report { samples: samples(), ..pairs() });
    let mut other = Report { samples: samples(), ..pairs() };
    for m in &mut other.mixtures {
        m.scores.get_mut("seq").unwrap().values_mut().for_each(|s| s.perplexity = 99.0 - s.perplexity);
    }
    let other = analysed(other);
    assert_eq!(first.laws, other.laws);
    assert_eq!(first.mixtures[0].scores["law"], other.mixtures[0].scores["law"]);
    assert_ne!(first.correlations, other.correlations);
}

#[test]
fn domains_and_mixtures_without_a_law_have_no_prediction() {
    let mut report = Report { samples: samples(), ..pairs() };
    report.samples[7].scores.get_mut("weather").unwrap().perplexity = f64::INFINITY;
    let moved = report.mixtures[0].members.remove("botany").unwrap();
    report.mixtures[0].members.insert("unheard".into(), moved);
    let report = analysed(report);
    assert!(report.laws.iter().all(|l| l.domain != "weather"));
    assert!(!report.mixtures[0].scores.contains_key("law") && !report.mixtures[0].scores.contains_key("ridge"));
    let other = &report.mixtures[1].scores["law"];
    assert!(other.contains_key("yachts") && other.contains_key("id"));
    assert!(!other.contains_key("weather") && !other.contains_key("ood"), "no average without one of its domains");
    // Six partitions have seven parameters.
    let few = analysed(Report { samples: samples()[..7].to_vec(), ..pairs() });
    assert!(few.laws.iter().all(|l| l.form == "ridge") && few.laws.len() == 8);
    assert!(analysed(pairs()).laws.is_empty());
}
