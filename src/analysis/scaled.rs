//! Scaled merges, `seed + lambda (average - seed)`: which lambda the proxy "scaled" has, and whether it helps.
//!
//! SEQ on k partitions trains k times as long as a module, so it lies further from the seed than the average. How far
//! is calibrated per group (mixtures of one size) on SEQ runs, and a mixture is never judged under a lambda that its
//! own SEQ run had a part in: each is left out in turn. It is a mixture that is left out and not a partition, because
//! that is what a user can do: train a few mixtures, calibrate, and judge by the proxy those that were not trained. The
//! others do share partitions with the one left out; but one number is fitted to all of them, out of a short list, so
//! little of a single mixture can leak through it.

use super::Analysis;
use super::averages::averages;
use super::correlations::{defined, own_groups, pairs, scored_names};
use super::format::signed;
use super::proxies::{MERGED, SCALED};
use super::report::*;
use super::statistics::bootstrap::{bootstrap, paired};
use super::statistics::correlation::pearson;

/// Gains in r below this are said to be none.
const NO_GAIN: f64 = 0.01;

fn same(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

/// The scores of a mixture at a lambda that it was scored at.
fn at(mixture: &MixtureInfo, lambda: f64) -> Option<&DomainScores> {
    mixture.by_lambda.iter().find(|(l, _)| same(*l, lambda)).map(|(_, scores)| scores)
}

/// Fills the averages of `by_lambda` and the scores "scaled": at the study's lambda, or at the one calibrated on the
/// other mixtures of the group.
pub(super) fn score(report: &mut Report, how: &Analysis) {
    for mixture in &mut report.mixtures {
        for (_, scores) in &mut mixture.by_lambda {
            let averages = averages(&report.domains, &mixture.members, scores);
            scores.extend(averages);
        }
    }
    let mut chosen: Vec<Option<DomainScores>> = Vec::new();
    let groups = own_groups(&report.mixtures);
    for mixture in &report.mixtures {
        let members = groups.iter().find(|(group, _)| *group == mixture.group).map_or(&[][..], |(_, members)| members);
        let others: Vec<&MixtureInfo> = members.iter().copied().filter(|m| !std::ptr::eq(*m, mixture)).collect();
        let lambda = how.lambda.or_else(|| calibrated(&others, &report.domains));
        chosen.push(lambda.and_then(|lambda| at(mixture, lambda)).cloned());
    }
    for (mixture, scores) in report.mixtures.iter_mut().zip(chosen) {
        mixture.scores.extend(scores.map(|scores| (SCALED.to_string(), scores)));
    }
}

/// The lambdas that every mixture with scaled merges was scored at, in ascending order.
fn lambdas(mixtures: &[&MixtureInfo]) -> Vec<f64> {
    let mut scored = mixtures.iter().filter(|m| !m.by_lambda.is_empty());
    let mut list: Vec<f64> = scored.next().map_or(Vec::new(), |m| m.by_lambda.iter().map(|(l, _)| *l).collect());
    list.retain(|&lambda| scored.clone().all(|m| at(m, lambda).is_some()));
    list.sort_by(f64::total_cmp);
    list
}

/// The lambda of the highest mean r with SEQ over the domains (no averages), of the mixtures that have both; the lowest of
/// equals. Only lambdas that were scored; nothing is interpolated. r is what a proxy is judged by: the lambda whose
/// perplexities lie nearest SEQ's in value is a larger one, and predicts worse (benches/notes.md has both).
fn calibrated(mixtures: &[&MixtureInfo], domains: &[DomainInfo]) -> Option<f64> {
    let r = |lambda: f64, domain: &str| {
        // A SEQ run that diverged says nothing of lambda.
        let seq = |m: &MixtureInfo| m.score(SEQ, domain).map(|s| s.perplexity).filter(|p| p.is_finite());
        let both = pairs(mixtures, |m| Some(at(m, lambda)?.get(domain)?.perplexity), seq);
        pearson(&both.proxy, &both.seq).ok()
    };
    let mean = |lambda: f64| {
        let all: Vec<f64> = domains.iter().filter_map(|d| r(lambda, &d.name)).collect();
        (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
    };
    let means = lambdas(mixtures).into_iter().filter_map(|lambda| Some((mean(lambda)?, lambda)));
    means.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, lambda)| lambda)
}

/// `ln(scaled / SEQ)`; `None` where a SEQ run diverged, which says nothing of lambda.
fn log_ratio(mixture: &MixtureInfo, lambda: f64, domain: &str) -> Option<f64> {
    let scaled = at(mixture, lambda)?.get(domain)?;
    let seq = mixture.score(SEQ, domain).filter(|s| s.perplexity.is_finite())?;
    Some((scaled.perplexity / seq.perplexity).ln())
}

/// For each group with scaled merges, each average and each domain.
pub(super) fn scans(report: &Report, how: &Analysis) -> Vec<ScaledScan> {
    let mut list = Vec::new();
    for (group, members) in own_groups(&report.mixtures) {
        let scored: Vec<&MixtureInfo> = members.into_iter().filter(|m| !m.by_lambda.is_empty()).collect();
        let lambda = how.lambda.or_else(|| calibrated(&scored, &report.domains));
        for domain in scored_names(&scored, &report.domains) {
            let calibrated = how.lambda.is_none();
            let first = ScaledScan { group: group.clone(), domain, lambda, calibrated, ..Default::default() };
            list.push(scan(first, &scored, how.seed));
        }
    }
    list
}

fn scan(mut scan: ScaledScan, mixtures: &[&MixtureInfo], seed: u64) -> ScaledScan {
    let domain = scan.domain.clone();
    let of = |model: &'static str| |m: &MixtureInfo| m.score(model, &domain).map(|s| s.perplexity);
    scan.points = lambdas(mixtures).into_iter().map(|lambda| point(lambda, &domain, mixtures, seed)).collect();
    let scaled = pairs(mixtures, of(SCALED), of(SEQ));
    scan.n = scaled.seq.len();
    let reasons = &mut scan.not_defined;
    scan.pearson = defined(reasons, &["pearson"], pearson(&scaled.proxy, &scaled.seq));
    let interval = bootstrap(&scaled.proxy, &scaled.seq, &scaled.members, seed);
    if let Some(b) = defined(reasons, &["pearson_low", "pearson_high"], interval) {
        (scan.pearson_low, scan.pearson_high) = (Some(b.interval.low), Some(b.interval.high));
    }
    // The mixtures that have all three scores.
    let three: Vec<&MixtureInfo> =
        mixtures.iter().copied().filter(|m| of(SCALED)(m).is_some() && of(MERGED)(m).is_some()).collect();
    let (scaled, merged) = (pairs(&three, of(SCALED), of(SEQ)), pairs(&three, of(MERGED), of(SEQ)));
    let merged_r = pearson(&merged.proxy, &merged.seq);
    let gain = pearson(&scaled.proxy, &scaled.seq).and_then(|r| Ok(r - merged_r?));
    scan.gain = defined(reasons, &["gain"], gain);
    let interval = paired(&scaled.proxy, &merged.proxy, &scaled.seq, &scaled.members, seed);
    if let Some(b) = defined(reasons, &["gain_low", "gain_high"], interval) {
        (scan.gain_low, scan.gain_high) = (Some(b.interval.low), Some(b.interval.high));
    }
    scan.text = sentence(&scan, merged_r.ok());
    scan
}

fn point(lambda: f64, domain: &str, mixtures: &[&MixtureInfo], seed: u64) -> ScaledPoint {
    let scaled = |m: &MixtureInfo| Some(at(m, lambda)?.get(domain)?.perplexity);
    let both = pairs(mixtures, scaled, |m| m.score(SEQ, domain).map(|s| s.perplexity));
    let interval = bootstrap(&both.proxy, &both.seq, &both.members, seed).ok().map(|b| b.interval);
    let errors: Vec<f64> = mixtures.iter().filter_map(|m| Some(log_ratio(m, lambda, domain)?.abs())).collect();
    ScaledPoint {
        lambda,
        pearson: pearson(&both.proxy, &both.seq).ok(),
        pearson_low: interval.map(|i| i.low),
        pearson_high: interval.map(|i| i.high),
        log_error: errors.iter().sum::<f64>() / errors.len().max(1) as f64,
    }
}

/// Where it helps, where it does not, and where that is not decided: the gain's interval holds 0.
fn sentence(scan: &ScaledScan, merged: Option<f64>) -> String {
    let (Some(r), Some(merged), Some(gain)) = (scan.pearson, merged, scan.gain) else {
        let reason = scan.not_defined.get("pearson").or(scan.not_defined.get("gain"));
        return format!("Whether scaling helps is {}.", reason.map_or("not defined", String::as_str));
    };
    let found = format!("r = {} against {} for MERGED", signed(r), signed(merged));
    let (Some(low), Some(high)) = (scan.gain_low, scan.gain_high) else {
        let reason = scan.not_defined.get("gain_low").map_or("not defined", String::as_str);
        return format!("Undecided: {found}; the interval of the gain is {reason}.");
    };
    let gained = format!("{found}, a gain of {} (95% interval {} to {})", signed(gain), signed(low), signed(high));
    if low > 0.0 && gain >= NO_GAIN {
        format!("Scaling helps here: {gained}.")
    } else if high < 0.0 && gain <= -NO_GAIN {
        format!("Scaling does not help here, it harms: {gained}.")
    } else if low > -NO_GAIN && high < NO_GAIN {
        format!("Scaling does not help here, nor does it harm: {gained}.")
    } else {
        format!("Undecided: {gained}.")
    }
}
