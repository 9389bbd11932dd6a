//! The answer first: which mixture to train on, what choosing by the proxy cost, and how sure that is, in words.

use super::correlations::{groups, proxies};
use super::model::*;
use super::tables::{number, percent, signed};

/// An answer for each group and each of the averages "ood" and "id", by the first proxy ("merged" where there is one).
/// `correlations` are those of the same mixtures. The group "all" gets none: its mixtures have different budgets, so
/// their perplexities are no choice.
pub fn answers(mixtures: &[MixtureInfo], correlations: &[Correlation]) -> Vec<Answer> {
    let proxies = proxies(mixtures);
    let Some(proxy) = proxies.first() else {
        return Vec::new();
    };
    let mut list = Vec::new();
    let groups = groups(mixtures);
    let real = if groups.len() > 1 { groups.len() - 1 } else { groups.len() };
    for (group, members) in &groups[..real] {
        for domain in ["ood", "id"] {
            let Some(best_by_proxy) = best(members, proxy, domain, proxy) else {
                continue;
            };
            let best_by_seq = best(members, SEQ, domain, proxy);
            let of =
                |proxy: &str| correlations.iter().find(|c| c.group == *group && c.domain == domain && c.proxy == proxy);
            let regret = of(proxy).and_then(|c| c.regret_at_1);
            let text = sentence(proxy, &best_by_proxy, best_by_seq.as_ref(), regret);
            let confidence = of(proxy).map_or(String::new(), |c| confidence(c, of("ind")));
            list.push(Answer {
                group: group.clone(),
                domain: domain.into(),
                proxy: proxy.clone(),
                best_by_proxy,
                best_by_seq,
                regret,
                text,
                confidence,
            });
        }
    }
    list
}

/// Adds to each answer's confidence what speaks against it: that its proxy picks worse than the most text would, and
/// that trainings repeated differ more than the mixtures to choose between.
pub(super) fn add_doubts(answers: &mut [Answer], mixtures: &[MixtureInfo], picking: &[Picking], noise: &[Noise]) {
    for answer in answers {
        let here = |group: &str, domain: &str| group == answer.group && domain == answer.domain;
        let picking = picking.iter().find(|p| here(&p.group, &p.domain));
        let noise = noise.iter().find(|n| here(&n.group, &n.domain));
        let doubts = [
            picking.and_then(|p| size_alone(p, &answer.proxy)),
            noise.and_then(|n| closest(n, mixtures)),
            noise.and_then(ceiling),
        ];
        for doubt in doubts.into_iter().flatten() {
            answer.confidence += if answer.confidence.is_empty() { "" } else { " " };
            answer.confidence += &doubt;
        }
    }
}

fn size_alone(picking: &Picking, proxy: &str) -> Option<String> {
    let largest = picking.worse_than_largest(proxy)?;
    let (own, size) = (picking.by(proxy)?.decision_accuracy?, largest.decision_accuracy?);
    Some(format!(
        "{} picks worse here than always taking the mixture of the most text, which orders {} of the pairs as SEQ does \
         (against {}).",
        proxy.to_uppercase(),
        percent(size),
        percent(own)
    ))
}

/// The two best mixtures by SEQ, against the spread between repeats.
fn closest(noise: &Noise, mixtures: &[MixtureInfo]) -> Option<String> {
    let within = noise.within?;
    let of = |m: &MixtureInfo| m.score(SEQ, &noise.domain).map(|s| s.perplexity).filter(|p| p.is_finite());
    let mut trained: Vec<(f64, &str)> =
        mixtures.iter().filter(|m| m.group == noise.group).filter_map(|m| Some((of(m)?, m.id.as_str()))).collect();
    trained.sort_by(|a, b| a.0.total_cmp(&b.0));
    let [(first, best), (second, next), ..] = trained[..] else {
        return None;
    };
    let apart = second - first;
    let differ = format!(
        "By SEQ the two best, {best} and {next}, differ by {}; repeats of one training differ by a standard deviation \
         of {}",
        number(apart),
        number(within)
    );
    Some(if apart < within {
        format!("{differ}, so which of them is better is not known.")
    } else {
        format!("{differ}.")
    })
}

fn ceiling(noise: &Noise) -> Option<String> {
    Some(format!("With this noise no proxy can be expected to reach more than r = {}.", signed(noise.ceiling?)))
}

/// The mixture with the lowest finite perplexity of `model`; the first of equals.
fn best(mixtures: &[&MixtureInfo], model: &str, domain: &str, proxy: &str) -> Option<Choice> {
    let perplexity = |m: &MixtureInfo, model: &str| {
        m.score(model, domain).map(|s| s.perplexity).filter(|perplexity| perplexity.is_finite())
    };
    let scored = mixtures.iter().filter_map(|m| perplexity(m, model).map(|p| (p, m)));
    let (_, mixture) = scored.min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(Choice {
        mixture: mixture.id.clone(),
        proxy_perplexity: perplexity(mixture, proxy),
        seq_perplexity: perplexity(mixture, SEQ),
    })
}

/// A perplexity in brackets, with a space before it; nothing where there is none.
fn bracket(perplexity: Option<f64>) -> String {
    perplexity.map_or(String::new(), |p| format!(" (perplexity {})", number(p)))
}

fn sentence(proxy: &str, by_proxy: &Choice, by_seq: Option<&Choice>, regret: Option<f64>) -> String {
    let name = proxy.to_uppercase();
    let first = format!("{} is best by {name}{}", by_proxy.mixture, bracket(by_proxy.proxy_perplexity));
    let Some(by_seq) = by_seq else {
        return format!("{first}. No mixture of this group was trained, so the choice is untested.");
    };
    if by_seq.mixture == by_proxy.mixture {
        return format!("{first} and by SEQ{}.", bracket(by_seq.seq_perplexity));
    }
    let second = format!("{} is best by SEQ{}", by_seq.mixture, bracket(by_seq.seq_perplexity));
    let cost = regret.map(|r| format!("costs {} of SEQ's perplexity", percent(r)));
    match (by_proxy.seq_perplexity, cost) {
        (Some(_), Some(cost)) => format!("{first}; {second}. Choosing by {name} {cost}."),
        (Some(_), None) => format!("{first}; {second}."),
        (None, Some(cost)) => format!(
            "{first}, and was not trained; {second} of those that were. Among these, choosing by {name} {cost}."
        ),
        (None, None) => format!("{first}, and was not trained; {second} of those that were."),
    }
}

/// How sure the proxy's choice is: r with its interval, decisions, IND beside it, and whether there is a choice at all.
fn confidence(c: &Correlation, ind: Option<&Correlation>) -> String {
    let name = c.proxy.to_uppercase();
    let mut parts = Vec::new();
    match (c.pearson, c.decision_accuracy) {
        (Some(r), Some(accuracy)) => {
            let interval = match (c.pearson_low, c.pearson_high) {
                (Some(low), Some(high)) => format!("95% interval {} to {}", signed(low), signed(high)),
                _ => match c.not_defined.get("pearson_low") {
                    Some(reason) => format!("95% interval {reason}"),
                    None => "95% interval not defined".into(),
                },
            };
            parts.push(format!(
                "Over {} mixtures scored both ways, {name} orders {} of their pairs as SEQ does; r = {} ({interval}).",
                c.n,
                percent(accuracy),
                signed(r)
            ));
        }
        _ => parts.push(match c.not_defined.get("pearson") {
            Some(reason) => format!("How well {name} follows SEQ is {reason}."),
            None => format!("How well {name} follows SEQ is not defined."),
        }),
    }
    if let Some(r) = ind.filter(|i| i.proxy != c.proxy).and_then(|i| i.pearson) {
        parts.push(format!("IND reaches r = {}.", signed(r)));
    }
    if let (true, Some(mean), Some(deviation)) = (c.hardly_differs, c.seq_mean, c.seq_standard_deviation) {
        parts.push(format!(
            "These mixtures hardly differ here: SEQ's standard deviation is {} of its mean, so the choice matters \
             little here, and a low r would say little.",
            percent(deviation / mean)
        ));
    }
    parts.join(" ")
}
