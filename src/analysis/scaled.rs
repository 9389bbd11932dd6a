//! Scaled merges, `seed + lambda (average - seed)`: the lambda of the proxy "scaled", and whether
//! scaling helps.
//!
//! SEQ on k partitions trains k times as long as a module, so it ends further from the seed than
//! the average. Lambda is calibrated per group (mixtures of one size) on SEQ runs. A mixture is
//! never judged under a lambda that its own SEQ run influenced: each mixture is left out in turn.
//! Mixtures are left out rather than partitions because this is what a user can do: train a few
//! mixtures, calibrate, and judge the untrained ones by the proxy. The remaining mixtures do share
//! partitions with the one left out, but all of them determine a single number from a short list,
//! so little of one mixture can leak through it.

use super::Analysis;
use super::averages::averages;
use super::correlations::{defined, own_groups, pairs, scored_names};
use super::format::signed;
use super::proxies::{MERGED, SCALED};
use super::report::*;
use super::statistics::bootstrap::{bootstrap, paired};
use super::statistics::correlation::pearson;

/// Gains in r below this count as none.
const NO_GAIN: f64 = 0.01;

fn same(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

/// The scores of a mixture at a lambda that it was scored at.
fn at(mixture: &MixtureInfo, lambda: f64) -> Option<&DomainScores> {
    mixture.by_lambda.iter().find(|(l, _)| same(*l, lambda)).map(|(_, scores)| scores)
}

/// Fills the averages of `by_lambda`, and the scores "scaled" at the study's lambda or at the one
/// calibrated on the other mixtures of the group.
pub(super) fn score(report: &mut Report, options: &Analysis) {
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
        let lambda = options.lambda.or_else(|| calibrated(&others, &report.domains));
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

/// The lambda with the highest mean r with SEQ over the domains (no averages), for the mixtures
/// that have both scores; the lowest one of a tie. Only scored lambdas are considered; nothing is
/// interpolated. The criterion is r because proxies are judged by r: the lambda whose perplexities
/// are nearest to SEQ's in value is larger and predicts worse (benches/notes.md has both).
fn calibrated(mixtures: &[&MixtureInfo], domains: &[DomainInfo]) -> Option<f64> {
    let r = |lambda: f64, domain: &str| {
        // A diverged SEQ run has no information about lambda.
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

/// `ln(scaled / SEQ)`; `None` if the SEQ run diverged.
fn log_ratio(mixture: &MixtureInfo, lambda: f64, domain: &str) -> Option<f64> {
    let scaled = at(mixture, lambda)?.get(domain)?;
    let seq = mixture.score(SEQ, domain).filter(|s| s.perplexity.is_finite())?;
    Some((scaled.perplexity / seq.perplexity).ln())
}

/// One scan for each group with scaled merges, on each average and each domain.
pub(super) fn scans(report: &Report, options: &Analysis) -> Vec<ScaledScan> {
    let mut list = Vec::new();
    for (group, members) in own_groups(&report.mixtures) {
        let scored: Vec<&MixtureInfo> = members.into_iter().filter(|m| !m.by_lambda.is_empty()).collect();
        let lambda = options.lambda.or_else(|| calibrated(&scored, &report.domains));
        for domain in scored_names(&scored, &report.domains) {
            let calibrated = options.lambda.is_none();
            let first = ScaledScan { group: group.clone(), domain, lambda, calibrated, ..Default::default() };
            list.push(scan(first, &scored, options.seed));
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

/// Whether scaling helps, harms or makes no difference; undecided if the gain's interval is too
/// wide to say.
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
        format!("Scaling harms here: {gained}.")
    } else if low > -NO_GAIN && high < NO_GAIN {
        format!("Scaling makes no difference here: {gained}.")
    } else {
        format!("Undecided: {gained}.")
    }
}
