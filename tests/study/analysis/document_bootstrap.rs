//! Intervals of r over documents: from documents that agree and that do not.

use super::{analysed, correlation, irregular, pairs};
use std::collections::BTreeMap;
use stockpot::analysis::*;

/// Pairs whose domains have `count` documents of 100 tokens. A document's loss differs from that of
/// its domain by `own` times a number of the model and the document.
fn with_documents(count: usize, own: f64) -> Report {
    let mut report = pairs();
    for d in &mut report.domains {
        d.document_tokens = vec![100.0; count];
    }
    let domains = report.domains.clone();
    for (m, mixture) in report.mixtures.iter_mut().enumerate() {
        for (model, salt) in [("seq", 1), ("merged", 2)] {
            let of = |(d, info): (usize, &DomainInfo)| {
                let loss = mixture.scores[model][&info.name].perplexity.ln();
                let error = |i: usize| own * irregular(1_000_000 * salt + 10_000 * m + 100 * d + i);
                let errors: Vec<f64> = (0..count).map(error).collect();
                let mean = errors.iter().sum::<f64>() / count as f64;
                // The mean over all documents stays that of the domain.
                (info.name.clone(), errors.iter().map(|e| 100.0 * (loss + e - mean)).collect())
            };
            let documents: BTreeMap<String, Vec<f64>> = domains.iter().enumerate().map(of).collect();
            mixture.documents.insert(model.into(), documents);
        }
    }
    analysed(report)
}

fn width(report: &Report, domain: &str) -> f64 {
    let c = correlation(&report.correlations, "pairs", domain, "merged");
    let (low, high, r) = (c.documents_low.unwrap(), c.documents_high.unwrap(), c.pearson.unwrap());
    assert!(low <= r + 1e-9 && r <= high + 1e-9, "{domain}: {r} and {low} to {high}");
    high - low
}

#[test]
fn equal_documents_leave_r_as_it_is() {
    let report = with_documents(10, 0.0);
    for domain in ["chess", "ood", "id", "members", "field:games"] {
        assert!(width(&report, domain) < 1e-9, "{domain}");
    }
}

#[test]
fn documents_that_differ_between_models_widen_the_interval_as_there_are_fewer() {
    let [few, many, calm] = [(6, 0.06), (96, 0.06), (6, 0.006)].map(|(count, own)| with_documents(count, own));
    for domain in ["chess", "ood", "members"] {
        let (few, many, calm) = (width(&few, domain), width(&many, domain), width(&calm, domain));
        assert!(few > 1.5 * many && few > 1.5 * calm, "{domain}: {few}, {many}, {calm}");
    }
}

#[test]
fn without_enough_documents_there_is_no_interval() {
    for report in [with_documents(4, 0.1), analysed(pairs())] {
        assert!(report.correlations.iter().all(|c| c.documents_low.is_none() && c.documents_high.is_none()));
    }
    let mut report = with_documents(10, 0.1);
    report.mixtures[3].documents.remove("merged");
    let report = analysed(report);
    assert!(correlation(&report.correlations, "pairs", "ood", "merged").documents_low.is_none());
}
