//! Averages of scores over domains: in-distribution, out-of-distribution, in-mixture, and one per
//! field.

use super::report::*;
use std::collections::BTreeMap;

/// [`AVERAGES`], then `field:<field>` for each field in the order of the domains.
pub fn average_names(domains: &[DomainInfo]) -> Vec<String> {
    let mut names: Vec<String> = AVERAGES.map(String::from).to_vec();
    for field in domains.iter().filter_map(|d| d.field.as_deref()) {
        let name = format!("field:{field}");
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Each average that has at least one domain, with its domains. `members` are the partitions whose
/// domains form the average "members"; a field may have domains of both kinds.
pub(super) fn averaged<'a, T>(
    domains: &'a [DomainInfo],
    members: &BTreeMap<String, T>,
) -> Vec<(String, Vec<&'a DomainInfo>)> {
    let belongs = |name: &str, d: &DomainInfo| match name {
        "id" => d.kind == DomainKind::Id,
        "ood" => d.kind == DomainKind::Ood,
        "members" => d.kind == DomainKind::Id && members.contains_key(&d.name),
        field => d.field.as_deref() == field.strip_prefix("field:"),
    };
    let with_domains = |name: String| {
        let own: Vec<&DomainInfo> = domains.iter().filter(|d| belongs(&name, d)).collect();
        (!own.is_empty()).then_some((name, own))
    };
    average_names(domains).into_iter().filter_map(with_domains).collect()
}

/// The averages of a model's `scores` for a mixture of `members`: the mean perplexity and the mean
/// bits per byte. `scores` is read by domain; its other names are ignored. An average is present
/// only if each of its domains has a score, because means over different domains are not
/// comparable.
pub fn averages(domains: &[DomainInfo], members: &BTreeMap<String, f64>, scores: &DomainScores) -> DomainScores {
    let average = |(name, own): (String, Vec<&DomainInfo>)| {
        let chosen: Vec<&Score> = own.iter().map(|d| scores.get(&d.name)).collect::<Option<_>>()?;
        let mean = |of: fn(&Score) -> f64| chosen.iter().map(|s| of(s)).sum::<f64>() / chosen.len() as f64;
        let (perplexity, bits_per_byte) = (mean(|s| s.perplexity), mean(|s| s.bits_per_byte));
        Some((name, Score { perplexity, bits_per_byte, ..Score::default() }))
    };
    averaged(domains, members).into_iter().filter_map(average).collect()
}
