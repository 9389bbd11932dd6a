//! Mixing laws, fitted to the scores of sampled merges, one per domain and form. Their predictions
//! for the study's mixtures are the proxies "law" and "ridge". Nothing is fitted to SEQ.

use super::averages::averages;
use super::proxies::{Fitter, PROXIES, Proxy, ProxySource};
use super::report::*;
use std::collections::BTreeMap;

/// Fits the laws and adds their scores to the mixtures. A domain without a law (too few samples, or
/// one that diverged) has no prediction, and neither do the averages that include it. A mixture
/// with a partition that is in no sample has none either.
pub(super) fn fit(report: &mut Report) -> Vec<Law> {
    let mut laws = Vec::new();
    for Proxy { name: form, source, .. } in &PROXIES {
        let ProxySource::Law(fitter) = *source else { continue };
        let fitted: Vec<Law> = report.domains.iter().filter_map(|d| law_of(d, form, fitter, &report.samples)).collect();
        for mixture in &mut report.mixtures {
            let mut scores: DomainScores = (fitted.iter())
                .filter_map(|law| Some((law.domain.clone(), predicted(law, &report.domains, &mixture.members)?)))
                .collect();
            scores.extend(averages(&report.domains, &mixture.members, &scores));
            if !scores.is_empty() {
                mixture.scores.insert(form.to_string(), scores);
            }
        }
        laws.extend(fitted);
    }
    laws
}

fn law_of(domain: &DomainInfo, form: &str, fitter: Fitter, samples: &[SampleInfo]) -> Option<Law> {
    let scored: Vec<(&SampleInfo, f64)> =
        samples.iter().filter_map(|s| Some((s, s.scores.get(&domain.name)?.perplexity.ln()))).collect();
    let mut partitions: Vec<&String> = scored.iter().flat_map(|(s, _)| s.members.keys()).collect();
    partitions.sort();
    partitions.dedup();
    let weights: Vec<Vec<f64>> = (scored.iter())
        .map(|(s, _)| partitions.iter().map(|p| s.members.get(*p).copied().unwrap_or(0.0)).collect())
        .collect();
    let losses: Vec<f64> = scored.iter().map(|(_, loss)| *loss).collect();
    let fit = fitter(&weights, &losses).ok()?;
    Some(Law {
        domain: domain.name.clone(),
        form: form.into(),
        n: losses.len(),
        c: fit.c,
        k: fit.k,
        t: partitions.into_iter().cloned().zip(fit.t).collect(),
        penalty: fit.penalty,
        residual: fit.residual,
        r_squared: fit.r_squared.ok(),
    })
}

impl Law {
    /// Nats per token at these weights; `None` if a member was in no sample.
    pub fn loss(&self, members: &BTreeMap<String, f64>) -> Option<f64> {
        let sum = members.iter().map(|(name, weight)| Some(weight * self.t.get(name)?)).sum::<Option<f64>>()?;
        Some(if self.form == "law" { self.c + self.k * sum.exp() } else { self.c + sum })
    }
}

fn predicted(law: &Law, domains: &[DomainInfo], members: &BTreeMap<String, f64>) -> Option<Score> {
    let loss = law.loss(members)?;
    let domain = domains.iter().find(|d| d.name == law.domain)?;
    let bits_per_byte = loss * domain.tokens as f64 / (domain.bytes as f64 * std::f64::consts::LN_2);
    Some(Score { perplexity: loss.exp(), bits_per_byte, ..Score::default() })
}
