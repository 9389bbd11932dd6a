//! Selection quality: how well each proxy selects a mixture, compared with two rules that need no
//! proxy: always the most text, and chance.

use super::correlations::{own_groups, pairs, proxies, scored_names};
use super::format::{percent, proxy_title};
use super::report::*;
use super::statistics::bootstrap::bootstrap;
use super::statistics::pairs::Pairs;
use super::statistics::{Reason, correlation};

/// The rule that takes the mixture with the most text first.
const LARGEST: &str = "largest";
/// The rule that takes a random mixture.
const RANDOM: &str = "random";

/// The largest k of regret@k.
const MOST: usize = 10;

/// The selection quality in each group, on each average except "members" and each domain, where at
/// least two mixtures were trained. `seed` seeds the bootstrap.
pub(super) fn selection_quality(mixtures: &[MixtureInfo], domains: &[DomainInfo], seed: u64) -> Vec<SelectionQuality> {
    let proxies = proxies(mixtures);
    let mut list = Vec::new();
    for (group, members) in own_groups(mixtures) {
        for domain in scored_names(&members, domains) {
            // The average over each mixture's own domains compares mixtures on different text, so
            // it cannot select one.
            let own_text = domain == "members";
            let trained: Vec<&MixtureInfo> =
                members.iter().copied().filter(|m| m.score(SEQ, &domain).is_some()).collect();
            if own_text || trained.len() < 2 {
                continue;
            }
            let rows = rows(&trained, &domain, &proxies, seed);
            let warning = warning(&rows);
            list.push(SelectionQuality { group: group.clone(), domain, rows, warning });
        }
    }
    list
}

fn rows(trained: &[&MixtureInfo], domain: &str, proxies: &[String], seed: u64) -> Vec<SelectionQualityRow> {
    let seq = |m: &MixtureInfo| m.score(SEQ, domain).map(|s| s.perplexity);
    let by_proxy =
        |proxy: &String| (proxy.clone(), pairs(trained, |m| m.score(proxy, domain).map(|s| s.perplexity), seq));
    let mut rows: Vec<SelectionQualityRow> = (proxies.iter().map(by_proxy))
        .filter(|(_, pairs)| pairs.seq.len() >= 2)
        .map(|(by, pairs)| row(&by, &pairs, seed, |k| correlation::regret_at(k, &pairs.proxy, &pairs.seq)))
        .collect();
    // Negated because lower is better: the most text comes first.
    let largest = pairs(trained, |m| Some(-(m.available_tokens as f64)), seq);
    if !correlation::is_constant(&largest.proxy) {
        rows.push(row(LARGEST, &largest, seed, |k| correlation::regret_at(k, &largest.proxy, &largest.seq)));
    }
    // A constant proxy: it decides like a coin toss and has no r.
    let random = Pairs { proxy: vec![0.0; largest.seq.len()], ..largest };
    rows.push(row(RANDOM, &random, seed, |k| correlation::random_regret_at(k, &random.seq)));
    rows
}

fn row(by: &str, pairs: &Pairs, seed: u64, regret: impl Fn(usize) -> Result<f64, Reason>) -> SelectionQualityRow {
    let n = pairs.seq.len();
    let interval = bootstrap(&pairs.proxy, &pairs.seq, &pairs.members, seed).ok().map(|b| b.interval);
    SelectionQualityRow {
        by: by.into(),
        n,
        pearson: correlation::pearson(&pairs.proxy, &pairs.seq).ok(),
        pearson_low: interval.map(|i| i.low),
        pearson_high: interval.map(|i| i.high),
        decision_accuracy: correlation::decision_accuracy(&pairs.proxy, &pairs.seq).ok(),
        // Either all k have a regret or, if a training diverged, none has.
        regret_at: (1..=MOST.min(n - 1)).map_while(|k| regret(k).ok()).collect(),
    }
}

/// The row of "largest", if `row` is a proxy that selects worse: lower pairwise accuracy, and no
/// less regret at the first choice, over the same mixtures.
fn worse_than_largest<'a>(
    rows: &'a [SelectionQualityRow],
    row: &SelectionQualityRow,
) -> Option<&'a SelectionQualityRow> {
    let largest = rows.iter().find(|r| r.by == LARGEST)?;
    let proxy = ![LARGEST, RANDOM].contains(&row.by.as_str());
    let accuracy = row.decision_accuracy? < largest.decision_accuracy?;
    let regret = row.regret_at.first()? >= largest.regret_at.first()?;
    (proxy && accuracy && regret && row.n == largest.n).then_some(largest)
}

/// The warning that names the proxies worse than "largest", as in
/// `MERGED (45%) and IND (50%) pick worse than ...`.
fn warning(rows: &[SelectionQualityRow]) -> Option<String> {
    let share =
        |row: &SelectionQualityRow| row.decision_accuracy.map_or(String::new(), |a| format!(" ({})", percent(a)));
    let worse: Vec<&SelectionQualityRow> = rows.iter().filter(|r| worse_than_largest(rows, r).is_some()).collect();
    let largest = worse_than_largest(rows, worse.first()?)?;
    let names: Vec<String> = worse.iter().map(|r| format!("{}{}", proxy_title(&r.by), share(r))).collect();
    let (names, verb) = match names.as_slice() {
        [one] => (one.clone(), "picks"),
        [first @ .., last] => (format!("{} and {last}", first.join(", ")), "pick"),
        [] => return None,
    };
    Some(format!(
        "{names} {verb} worse than always taking the mixture with the most text{}: lower pairwise accuracy (in \
         brackets), and no less regret at the first choice.",
        share(largest)
    ))
}
