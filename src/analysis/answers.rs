//! The answer in words: the mixture to train on, the regret of choosing it by the proxy, and how
//! far to trust it.

use super::correlations::{groups, proxies};
use super::format::{count, number, percent, proxy_title, signed};
use super::proxies::IND;
use super::report::*;

/// One answer for each group and each of the averages "ood" and "id", by the first proxy ("merged"
/// if it was scored). `correlations` are those of the same mixtures. The group "all" has no answer:
/// its mixtures have different budgets, so their perplexities do not rank them.
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
            let confidence = of(proxy).map_or(String::new(), |c| confidence(c, of(IND)));
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

/// Adds the caveats to each answer's confidence: few documents, unequal training budgets, and,
/// where trainings were repeated, the gap between the two best mixtures against the noise.
pub(super) fn add_caveats(answers: &mut [Answer], mixtures: &[MixtureInfo], domains: &[DomainInfo], noise: &[Noise]) {
    for answer in answers {
        let noise = noise.iter().find(|n| n.group == answer.group && n.domain == answer.domain);
        let caveats =
            [few(domains, &answer.domain), budgets(mixtures, &answer.group), noise.and_then(|n| closest(n, mixtures))];
        for caveat in caveats.into_iter().flatten() {
            answer.confidence += if answer.confidence.is_empty() { "" } else { " " };
            answer.confidence += &caveat;
        }
    }
}

/// Domains with fewer documents have a caveat.
pub const FEW_DOCUMENTS: u64 = 30;

/// The caveat about domains with few documents; `average` is "id" or "ood".
fn few(domains: &[DomainInfo], average: &str) -> Option<String> {
    let own = || domains.iter().filter(|d| d.kind.name() == average);
    let few = own().filter(|d| d.documents < FEW_DOCUMENTS).count();
    (few > 0).then(|| {
        format!(
            "{few} of {} domains have fewer than {FEW_DOCUMENTS} documents: with other documents, another mixture \
             may be the best.",
            own().count()
        )
    })
}

/// The caveat about budgets: uneven numbers of base units give the mixtures of a group different
/// budgets.
fn budgets(mixtures: &[MixtureInfo], group: &str) -> Option<String> {
    let tokens = || mixtures.iter().filter(|m| m.group == group).map(|m| m.tokens);
    let (least, most) = (tokens().min()?, tokens().max()?);
    (least < most).then(|| {
        format!(
            "Budgets differ in this group: SEQ was trained on {} to {} tokens, and more training alone lowers \
             perplexity.",
            count(least),
            count(most)
        )
    })
}

/// In 95% of cases, single trainings of two equally good mixtures differ by less than this many
/// standard deviations of repeats: 1.96 times the square root of 2.
const SIGNIFICANT: f64 = 2.77;

/// The gap between the two best mixtures by SEQ, against the standard deviation of repeats.
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
        "The two best by SEQ, {best} and {next}, differ by {}; repeats of one training differ by {} (SD)",
        number(apart),
        number(within)
    );
    Some(if apart < SIGNIFICANT * within {
        format!("{differ}, so the difference is within noise.")
    } else {
        format!("{differ}.")
    })
}

/// The mixture with the lowest finite perplexity of `model`; the first one of a tie.
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

/// ` (perplexity 12.34)`, or an empty string without a perplexity.
fn bracket(perplexity: Option<f64>) -> String {
    perplexity.map_or(String::new(), |p| format!(" (perplexity {})", number(p)))
}

fn sentence(proxy: &str, by_proxy: &Choice, by_seq: Option<&Choice>, regret: Option<f64>) -> String {
    let name = proxy_title(proxy);
    let first = format!("{} is best by {name}{}", by_proxy.mixture, bracket(by_proxy.proxy_perplexity));
    let Some(by_seq) = by_seq else {
        return format!("{first}. No mixture of this group was trained, so the choice is untested.");
    };
    if by_seq.mixture == by_proxy.mixture {
        return format!("{first} and by SEQ{}.", bracket(by_seq.seq_perplexity));
    }
    let second = format!("{} is best by SEQ{}", by_seq.mixture, bracket(by_seq.seq_perplexity));
    let cost = regret.map(|r| format!("raises SEQ's perplexity by {}", percent(r)));
    match (by_proxy.seq_perplexity, cost) {
        (Some(_), Some(cost)) => format!("{first}; {second}. Choosing by {name} {cost}."),
        (Some(_), None) => format!("{first}; {second}."),
        (None, Some(cost)) => {
            format!("{first} but was not trained; {second} of those that were. Among these, choosing by {name} {cost}.")
        }
        (None, None) => format!("{first} but was not trained; {second} of those that were."),
    }
}

/// Confidence in the proxy's choice: pairwise accuracy, r with its interval, IND's r for
/// comparison, and a caveat where the mixtures hardly differ.
fn confidence(c: &Correlation, ind: Option<&Correlation>) -> String {
    let name = proxy_title(&c.proxy);
    let mut parts = Vec::new();
    match (c.pearson, c.decision_accuracy) {
        (Some(r), Some(accuracy)) => {
            parts.push(format!(
                "Over {} mixtures scored both ways, {name} orders {} of their pairs as SEQ does; r = {} ({}).",
                c.n,
                percent(accuracy),
                signed(r),
                interval(c)
            ));
        }
        _ => parts.push(match c.not_defined.get("pearson") {
            Some(reason) => format!("The correlation of {name} with SEQ is {reason}."),
            None => format!("The correlation of {name} with SEQ is not defined."),
        }),
    }
    if let Some((ind, r)) = ind.filter(|i| i.proxy != c.proxy).and_then(|i| Some((i, i.pearson?))) {
        parts.push(format!("IND reaches r = {} ({}).", signed(r), interval(ind)));
    }
    if let (true, Some(mean), Some(deviation)) = (c.hardly_differs, c.seq_mean, c.seq_standard_deviation) {
        parts.push(format!(
            "These mixtures hardly differ here: SEQ's standard deviation is {} of its mean, so the choice matters \
             little and a low r means little.",
            percent(deviation / mean)
        ));
    }
    parts.join(" ")
}

/// The interval of r in words, or why there is none.
fn interval(c: &Correlation) -> String {
    match (c.pearson_low, c.pearson_high, c.not_defined.get("pearson_low")) {
        (Some(low), Some(high), _) => format!("95% interval {} to {}", signed(low), signed(high)),
        (_, _, Some(reason)) => format!("95% interval {reason}"),
        _ => "95% interval not defined".into(),
    }
}
