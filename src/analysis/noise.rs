//! Noise of repeated trainings: the variation between repeats and between mixtures, and the highest
//! r that this noise lets a proxy reach.

use super::correlations::{defined, own_groups, pairs, scored_names};
use super::format::{number, percent, signed};
use super::proxies::MERGED;
use super::report::*;
use super::statistics::{Reason, Statistic, correlation, variance};

/// The noise of each group with repeats, on each average and each domain, over the mixtures trained
/// more than once.
pub(super) fn noise(mixtures: &[MixtureInfo], domains: &[DomainInfo]) -> Vec<Noise> {
    let mut list = Vec::new();
    for (group, members) in own_groups(mixtures) {
        let repeated: Vec<&MixtureInfo> = members.into_iter().filter(|m| trainings(m) > 1).collect();
        for domain in scored_names(&repeated, domains) {
            list.push(noise_of(&group, &domain, &repeated));
        }
    }
    list
}

/// The number of SEQ trainings of a mixture, including the first.
fn trainings(mixture: &MixtureInfo) -> usize {
    (0..=mixture.repeats.len()).filter(|&repeat| of_repeat(mixture, repeat, SEQ).is_some()).count()
}

/// The scores of repeat 0 (`scores`), 1, ...
fn of_repeat<'a>(mixture: &'a MixtureInfo, repeat: usize, model: &str) -> Option<&'a DomainScores> {
    match repeat {
        0 => mixture.scores.get(model),
        _ => mixture.repeats.get(repeat - 1)?.get(model),
    }
}

fn perplexity(mixture: &MixtureInfo, repeat: usize, model: &str, domain: &str) -> Option<f64> {
    Some(of_repeat(mixture, repeat, model)?.get(domain)?.perplexity)
}

fn noise_of(group: &str, domain: &str, mixtures: &[&MixtureInfo]) -> Noise {
    let repeats = mixtures.iter().map(|m| m.repeats.len() + 1).max().unwrap_or(0);
    let of = |m: &&MixtureInfo| (0..repeats).filter_map(|r| perplexity(m, r, SEQ, domain)).collect();
    let components = variance::components(&mixtures.iter().map(of).collect::<Vec<_>>());
    let mut noise = Noise {
        group: group.into(),
        domain: domain.into(),
        n: mixtures.len(),
        repeats: mixtures.iter().map(|m| trainings(m)).max().unwrap_or(0),
        ..Noise::default()
    };
    let fields = ["seq_mean", "within", "between", "reliability", "ceiling", "ceiling_low", "ceiling_high"].as_slice();
    if let Some(c) = defined(&mut noise.not_defined, fields, components) {
        (noise.n, noise.seq_mean) = (c.n, Some(c.mean));
        (noise.within, noise.between) = (Some(c.within), Some(c.between));
        (noise.reliability, noise.ceiling) = (Some(c.reliability), Some(c.reliability.sqrt()));
        noise.ceiling_low = Some(c.interval.low.sqrt());
        noise.ceiling_high = Some(c.interval.high.sqrt());
    }
    let between = across(mixtures, repeats, domain, SEQ);
    noise.pearson_between_repeats = defined(&mut noise.not_defined, &["pearson_between_repeats"], between);
    let merged = across(mixtures, repeats, domain, MERGED);
    noise.pearson_merged_across_repeats = defined(&mut noise.not_defined, &["pearson_merged_across_repeats"], merged);
    noise.text = sentence(&noise);
    noise
}

/// The mean r between `model` of one repeat and SEQ of another, over all ordered pairs of repeats
/// that have both. For SEQ itself each pair counts twice, which does not change the mean. If any r
/// is undefined, so is the mean.
fn across(mixtures: &[&MixtureInfo], repeats: usize, domain: &str, model: &str) -> Statistic {
    let mut list = Vec::new();
    for a in 0..repeats {
        for b in (0..repeats).filter(|b| *b != a) {
            let both = pairs(mixtures, |m| perplexity(m, a, model, domain), |m| perplexity(m, b, SEQ, domain));
            if !both.seq.is_empty() {
                list.push(correlation::pearson(&both.proxy, &both.seq)?);
            }
        }
    }
    match list.len() {
        0 => Err(Reason::TooFewMixtures { got: 0, needed: 3 }),
        n => Ok(list.iter().sum::<f64>() / n as f64),
    }
}

fn sentence(noise: &Noise) -> String {
    let (Some(within), Some(between), Some(reliability), Some(ceiling), Some(low), Some(high)) =
        (noise.within, noise.between, noise.reliability, noise.ceiling, noise.ceiling_low, noise.ceiling_high)
    else {
        let reason = noise.not_defined.get("within").map_or("not defined", String::as_str);
        return format!("The noise of repeated trainings is {reason}.");
    };
    if between == 0.0 {
        return format!(
            "Retraining the same mixture moves perplexity by {} (SD), at least as much as changing the mixture: single \
             trainings do not distinguish these {} mixtures here, so they cannot judge a proxy.",
            number(within),
            noise.n
        );
    }
    format!(
        "Retraining the same mixture moves perplexity by {} (SD); the {} mixtures differ by {} (SD), so {} of the \
         variance of single trainings is between mixtures. Noise therefore caps r at about {} (95% interval {} to {}) \
         for a proxy that does not share SEQ's noise.",
        number(within),
        noise.n,
        number(between),
        percent(reliability),
        signed(ceiling),
        signed(low),
        signed(high)
    )
}
