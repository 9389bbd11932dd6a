//! All correlations of a study: group x domain x proxy, each over the mixtures that have both
//! scores.

use super::averages::average_names;
use super::proxies::{PROXIES, Proxy};
use super::report::*;
use super::statistics::bootstrap::bootstrap;
use super::statistics::pairs::{Pairs, REGRET_K, Summary};
use super::statistics::{Reason, correlation};
use std::collections::BTreeMap;

/// Correlations of each proxy with SEQ, for each group in the order of the mixtures (then "all", if
/// there are several), each average (the fields' last) and each domain. `seed` seeds the bootstrap;
/// all correlations share its resamples.
pub fn correlations(mixtures: &[MixtureInfo], domains: &[DomainInfo], seed: u64) -> Vec<Correlation> {
    let proxies = proxies(mixtures);
    let mut list = Vec::new();
    for (group, members) in groups(mixtures) {
        for domain in &scored_names(&members, domains) {
            for proxy in &proxies {
                let by = |m: &MixtureInfo| m.score(proxy, domain).copied();
                let seq = |m: &MixtureInfo| m.score(SEQ, domain).copied();
                list.push(correlation([&group, domain, proxy], &members, by, seq, seed));
            }
        }
    }
    list
}

/// As [`correlations`], but with the larger model's SEQ, over the mixtures that the larger model
/// was trained on: the correlations of the study's proxies, of the small model's own SEQ, and of
/// the larger model's proxies.
pub(super) fn cross_scale(mixtures: &[MixtureInfo], domains: &[DomainInfo], seed: u64) -> Vec<Correlation> {
    let of_target: Vec<MixtureInfo> = mixtures.iter().filter(|m| m.target.contains_key(SEQ)).cloned().collect();
    // Maps a proxy's name in the report to the map that has its scores, and to its key there.
    let place = |name: &str| -> (fn(&MixtureInfo) -> &ModelScores, String) {
        match name.strip_prefix("target_") {
            Some(name) => (|m| &m.target, name.into()),
            None => (|m| &m.scores, name.into()),
        }
    };
    let mut names = proxies(&of_target);
    names.push(SEQ.into());
    names.extend(PROXIES.iter().map(|proxy| format!("target_{}", proxy.name)));
    names.retain(|name| of_target.iter().any(|m| place(name).0(m).contains_key(&place(name).1)));
    let mut list = Vec::new();
    for (group, members) in groups(&of_target) {
        for domain in &scored_names(&members, domains) {
            for name in &names {
                let (scores, model) = place(name);
                let by = |m: &MixtureInfo| scores(m).get(&model)?.get(domain).copied();
                let seq = |m: &MixtureInfo| m.target.get(SEQ)?.get(domain).copied();
                list.push(correlation([&group, domain, name], &members, by, seq, seed));
            }
        }
    }
    list
}

/// The averages, then the domains, on which any of the mixtures has a score. A study without
/// out-of-distribution domains has no OOD average.
pub(super) fn scored_names(mixtures: &[&MixtureInfo], domains: &[DomainInfo]) -> Vec<String> {
    let mut names = average_names(domains);
    names.extend(domains.iter().map(|d| d.name.clone()));
    names.retain(|name| mixtures.iter().any(|m| m.scores.values().any(|scores| scores.contains_key(name))));
    names
}

/// The proxies that any mixture has, in the order of [`PROXIES`](super::PROXIES); unlisted ones
/// follow by name.
pub fn proxies(mixtures: &[MixtureInfo]) -> Vec<String> {
    let mut names: Vec<&String> = mixtures.iter().flat_map(|m| m.scores.keys()).filter(|k| *k != SEQ).collect();
    names.sort_by(|a, b| Proxy::place(a).cmp(&Proxy::place(b)).then(a.cmp(b)));
    names.dedup();
    names.into_iter().cloned().collect()
}

/// The groups in order of appearance with their mixtures, then "all" if there are several.
pub fn groups(mixtures: &[MixtureInfo]) -> Vec<(String, Vec<&MixtureInfo>)> {
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

/// All groups except "all". Budgets within a group are equal unless base units are uneven or
/// weights are given; `answers` reports unequal ones.
pub fn own_groups(mixtures: &[MixtureInfo]) -> Vec<(String, Vec<&MixtureInfo>)> {
    let mut groups = groups(mixtures);
    if groups.len() > 1 {
        groups.pop();
    }
    groups
}

/// The scores and partitions of the mixtures that have both scores.
pub(super) fn pairs(
    mixtures: &[&MixtureInfo],
    proxy: impl Fn(&MixtureInfo) -> Option<f64>,
    seq: impl Fn(&MixtureInfo) -> Option<f64>,
) -> Pairs {
    let mut pairs = Pairs::default();
    let mut number: BTreeMap<&str, usize> = BTreeMap::new();
    for mixture in mixtures {
        let (Some(by_proxy), Some(by_seq)) = (proxy(mixture), seq(mixture)) else {
            continue;
        };
        pairs.proxy.push(by_proxy);
        pairs.seq.push(by_seq);
        let mut members = Vec::new();
        for name in mixture.members.keys() {
            let next = number.len();
            members.push(*number.entry(name).or_insert(next));
        }
        pairs.members.push(members);
    }
    pairs
}

/// `names`: group, domain, proxy.
fn correlation(
    names: [&str; 3],
    mixtures: &[&MixtureInfo],
    proxy: impl Fn(&MixtureInfo) -> Option<Score>,
    seq: impl Fn(&MixtureInfo) -> Option<Score>,
    seed: u64,
) -> Correlation {
    let of = |value: fn(Score) -> f64| pairs(mixtures, |m| proxy(m).map(value), |m| seq(m).map(value));
    let summary = of(|s| s.perplexity).summary(seed);
    let bits = of(|s| s.bits_per_byte);
    let [group, domain, proxy] = names.map(String::from);
    let mut c = Correlation { group, domain, proxy, ..Default::default() };
    fill(&mut c, &summary);
    if c.domain == "members" {
        clear_selection(&mut c);
    }
    let bits_per_byte = correlation::pearson(&bits.proxy, &bits.seq);
    c.pearson_bits_per_byte = defined(&mut c.not_defined, &["pearson_bits_per_byte"], bits_per_byte);
    let interval = bootstrap(&bits.proxy, &bits.seq, &bits.members, seed);
    let fields = ["pearson_bits_per_byte_low", "pearson_bits_per_byte_high"];
    if let Some(b) = defined(&mut c.not_defined, &fields, interval) {
        (c.pearson_bits_per_byte_low, c.pearson_bits_per_byte_high) = (Some(b.interval.low), Some(b.interval.high));
    }
    c
}

/// The value; or `None`, with the reason stored under each field's name.
pub(super) fn defined<T>(
    reasons: &mut BTreeMap<String, String>,
    fields: &[&str],
    value: Result<T, Reason>,
) -> Option<T> {
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

/// Removes regret and pairwise accuracy: each mixture is scored on its own members' text, so the
/// scores do not rank the mixtures.
fn clear_selection(c: &mut Correlation) {
    let fields = [
        ("regret_at_1", &mut c.regret_at_1),
        ("regret_at_3", &mut c.regret_at_3),
        ("regret_at_5", &mut c.regret_at_5),
        ("decision_accuracy", &mut c.decision_accuracy),
    ];
    for (name, field) in fields {
        *field = None;
        c.not_defined.insert(name.into(), "not defined: each mixture is scored on text of its own".into());
    }
}
