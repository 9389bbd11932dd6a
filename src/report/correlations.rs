//! All correlations of a study: group x domain x proxy, each by `correlate` over the mixtures scored both ways.

use super::model::*;
use crate::correlate::pairs::{Pairs, REGRET_K, Summary};
use crate::correlate::{Reason, statistics};
use std::collections::BTreeMap;

/// Correlations of each proxy with SEQ, for each group in the order of the mixtures (and "all" when there is more
/// than one), each average and each domain. `seed` is that of the bootstrap; all cells share its resamples.
pub fn correlations(mixtures: &[MixtureInfo], domains: &[DomainInfo], seed: u64) -> Vec<Correlation> {
    let proxies = proxies(mixtures);
    let names: Vec<&str> = AVERAGES.into_iter().chain(domains.iter().map(|d| d.name.as_str())).collect();
    let mut list = Vec::new();
    for (group, members) in groups(mixtures) {
        for &domain in &names {
            // A study without out-of-distribution domains has no average of them.
            if !members.iter().any(|m| m.scores.values().any(|scores| scores.contains_key(domain))) {
                continue;
            }
            for proxy in &proxies {
                list.push(correlation(&group, domain, proxy, &members, seed));
            }
        }
    }
    list
}

/// The proxies that any mixture has: MERGED, then IND, then others by name.
pub(super) fn proxies(mixtures: &[MixtureInfo]) -> Vec<String> {
    let mut names: Vec<&String> = mixtures.iter().flat_map(|m| m.scores.keys()).filter(|k| *k != SEQ).collect();
    let place = |name: &str| match name {
        "merged" => 0,
        "ind" => 1,
        _ => 2,
    };
    names.sort_by(|a, b| place(a).cmp(&place(b)).then(a.cmp(b)));
    names.dedup();
    names.into_iter().cloned().collect()
}

/// The groups in order of appearance with their mixtures, then "all" when there is more than one.
pub(super) fn groups(mixtures: &[MixtureInfo]) -> Vec<(String, Vec<&MixtureInfo>)> {
    let mut groups: Vec<(String, Vec<&MixtureInfo>)> = Vec::new();
    for mixture in mixtures {
        match groups.iter_mut().find(|(name, _)| *name == mixture.group) {
            Some((_, members)) => members.push(mixture),
            None => groups.push((mixture.group.clone(), vec![mixture])),
        }
    }
    if groups.len() > 1 {
        groups.push(("all".into(), mixtures.iter().collect()));
    }
    groups
}

/// The mixtures with a score of `proxy` and of SEQ on `domain`, with what `value` takes from a score.
fn pairs(mixtures: &[&MixtureInfo], domain: &str, proxy: &str, value: impl Fn(&Score) -> f64) -> Pairs {
    let mut pairs = Pairs::default();
    let mut number: BTreeMap<&str, usize> = BTreeMap::new();
    for mixture in mixtures {
        let (Some(by_proxy), Some(by_seq)) = (mixture.score(proxy, domain), mixture.score(SEQ, domain)) else {
            continue;
        };
        pairs.proxy.push(value(by_proxy));
        pairs.seq.push(value(by_seq));
        let mut members = Vec::new();
        for name in mixture.members.keys() {
            let next = number.len();
            members.push(*number.entry(name).or_insert(next));
        }
        pairs.members.push(members);
    }
    pairs
}

fn correlation(group: &str, domain: &str, proxy: &str, mixtures: &[&MixtureInfo], seed: u64) -> Correlation {
    let summary = pairs(mixtures, domain, proxy, |s| s.perplexity).summary(seed);
    let bits = pairs(mixtures, domain, proxy, |s| s.bits_per_byte);
    let mut c = Correlation { group: group.into(), domain: domain.into(), proxy: proxy.into(), ..Default::default() };
    fill(&mut c, &summary);
    let bits_per_byte = statistics::pearson(&bits.proxy, &bits.seq);
    c.pearson_bits_per_byte = defined(&mut c.not_defined, &["pearson_bits_per_byte"], bits_per_byte);
    c
}

/// The value, or nothing and the reason beside it under each field's name.
fn defined<T>(reasons: &mut BTreeMap<String, String>, fields: &[&str], value: Result<T, Reason>) -> Option<T> {
    value
        .map_err(|reason| {
            for field in fields {
                reasons.insert(field.to_string(), reason.to_string());
            }
        })
        .ok()
}

fn fill(c: &mut Correlation, summary: &Summary) {
    let reasons = &mut c.not_defined;
    c.n = summary.n;
    c.pearson = defined(reasons, &["pearson"], summary.pearson);
    if let Some(b) = defined(reasons, &["pearson_low", "pearson_high", "bootstrap_replicates"], summary.bootstrap) {
        (c.pearson_low, c.pearson_high) = (Some(b.interval.low), Some(b.interval.high));
        c.bootstrap_replicates = Some(b.valid);
    }
    if let Some(interval) = defined(reasons, &["fisher_low", "fisher_high"], summary.fisher) {
        (c.fisher_low, c.fisher_high) = (Some(interval.low), Some(interval.high));
    }
    c.spearman = defined(reasons, &["spearman"], summary.spearman);
    c.kendall = defined(reasons, &["kendall"], summary.kendall);
    let slots = [&mut c.regret_at_1, &mut c.regret_at_3, &mut c.regret_at_5];
    for ((slot, k), regret) in slots.into_iter().zip(REGRET_K).zip(summary.regret_at) {
        *slot = defined(reasons, &[&format!("regret_at_{k}")], regret);
    }
    c.decision_accuracy = defined(reasons, &["decision_accuracy"], summary.decision_accuracy);
    if let Some(s) = defined(reasons, &["seq_mean", "seq_standard_deviation", "seq_range"], summary.spread) {
        c.seq_mean = Some(s.mean);
        c.seq_standard_deviation = Some(s.standard_deviation);
        c.seq_range = Some(s.range);
        c.hardly_differs = s.hardly_differs();
    }
}
