//! Noise with a known variance.

use super::{analysed, irregular, mixture, near, pairs, scores, with_repeats};
use std::collections::BTreeMap;
use stockpot::analysis::*;

#[test]
fn noise_of_a_known_variance_is_found() {
    let mut report = pairs();
    report.mixtures.push(mixture("single", &[3]));
    with_repeats(&mut report, 0.4);
    report.mixtures[15].repeats.clear();
    report.mixtures[14].repeats.clear();
    let report = analysed(report);
    assert!(report.noise.iter().all(|n| n.group == "pairs") && report.noise.len() == 5 + 8);
    for noise in &report.noise {
        let seq = |m: &MixtureInfo| m.score("seq", &noise.domain).unwrap().perplexity;
        let repeated: Vec<f64> = report.mixtures[..14].iter().map(seq).collect();
        let mean = repeated.iter().sum::<f64>() / 14.0;
        let variance = repeated.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 13.0;
        let between = variance - 0.16 / 3.0;
        assert_eq!((noise.n, noise.repeats), (14, 3));
        near(noise.seq_mean.unwrap(), mean, "mean");
        near(noise.within.unwrap(), 0.4, "within");
        near(noise.between.unwrap(), between.sqrt(), "between");
        near(noise.reliability.unwrap(), between / (between + 0.16), "reliability");
        near(noise.ceiling.unwrap(), (between / (between + 0.16)).sqrt(), "ceiling");
        assert!(noise.ceiling_low < noise.ceiling && noise.ceiling < noise.ceiling_high);
        // The same step for all mixtures changes no r, and MERGED is the same in each repeat.
        near(noise.pearson_between_repeats.unwrap(), 1.0, "repeats");
        let all: Vec<&MixtureInfo> = report.mixtures[..14].iter().collect();
        let merged: Vec<f64> = all.iter().map(|m| m.score("merged", &noise.domain).unwrap().perplexity).collect();
        let r = stockpot::analysis::statistics::correlation::pearson(&merged, &repeated).unwrap();
        near(noise.pearson_merged_across_repeats.unwrap(), r, "MERGED");
        assert!(noise.text.contains("moves perplexity by 0.400 (SD)"), "{}", noise.text);
        assert!(noise.text.contains("for a proxy that does not share SEQ's noise"), "{}", noise.text);
    }
}

/// Each mixture's two trainings have the same mean, so all variation is noise.
#[test]
fn equal_mixtures_have_a_ceiling_of_zero() {
    let mut report = pairs();
    for (number, m) in report.mixtures.iter_mut().enumerate() {
        let off = irregular(number);
        m.scores.insert("seq".into(), scores(&m.members, |d| 30.0 + d as f64 + off));
        m.repeats = vec![BTreeMap::from([("seq".to_string(), scores(&m.members, |d| 30.0 + d as f64 - off))])];
    }
    let merged: Vec<f64> = report.mixtures.iter().map(|m| m.score("merged", "ood").unwrap().perplexity).collect();
    let report = analysed(report);
    let noise = report.noise.iter().find(|n| n.domain == "ood").unwrap();
    assert_eq!((noise.repeats, noise.between, noise.reliability), (2, Some(0.0), Some(0.0)));
    assert_eq!((noise.ceiling, noise.ceiling_low), (Some(0.0), Some(0.0)));
    near(noise.pearson_between_repeats.unwrap(), -1.0, "one is the other mirrored");
    assert!(noise.text.contains("single trainings do not distinguish these 15 mixtures here"), "{}", noise.text);
    // Modules were not repeated: MERGED of the first training with SEQ of the second.
    let second: Vec<f64> = report.mixtures.iter().map(|m| m.repeats[0]["seq"]["ood"].perplexity).collect();
    let r = stockpot::analysis::statistics::correlation::pearson(&merged, &second).unwrap();
    near(noise.pearson_merged_across_repeats.unwrap(), r, "MERGED");
    assert!(report.answers[0].confidence.contains("so the difference is within noise"));
}

#[test]
fn one_repeated_mixture_has_a_reason() {
    let mut report = pairs();
    with_repeats(&mut report, 0.4);
    report.mixtures[1..].iter_mut().for_each(|m| m.repeats.clear());
    let noise = &analysed(report).noise[0];
    assert_eq!((noise.n, noise.within, noise.pearson_between_repeats), (1, None, None));
    assert_eq!(noise.not_defined["ceiling"], "not defined: mixtures trained more than once: 1; needed: at least 2");
    assert!(noise.text.contains("mixtures trained more than once: 1"));
    assert!(analysed(pairs()).noise.is_empty());
}
