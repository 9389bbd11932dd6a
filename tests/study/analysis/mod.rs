//! src/analysis: `Report::analyse` on synthetic scores with known answers.

mod answers;
mod averages;
mod barriers;
mod correlations;
mod document_bootstrap;
mod laws;
mod noise;
mod scaled;
mod selection_quality;
mod statistics;

use std::collections::BTreeMap;
use stockpot::analysis::*;

const PARTITIONS: [&str; 6] = ["astronomy", "botany", "chess", "dance", "ethics", "folklore"];

const OOD: [&str; 2] = ["weather", "yachts"];

const SEED: u64 = 3;

/// Between -1 and 1, as if at random: the finalizer of SplitMix64.
fn irregular(i: usize) -> f64 {
    let mut h = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    h = (h ^ (h >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((h ^ (h >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// The field of chess and yachts is "games"; that of botany is "biology".
fn domains() -> Vec<DomainInfo> {
    let of = |name: &str, kind| DomainInfo {
        name: name.into(),
        kind,
        field: match name {
            "chess" | "yachts" => Some("games".into()),
            "botany" => Some("biology".into()),
            _ => None,
        },
        documents: 10,
        tokens: 1000,
        bytes: 4100,
        document_tokens: Vec::new(),
    };
    let id = PARTITIONS.iter().map(|name| of(name, DomainKind::Id));
    id.chain(OOD.iter().map(|name| of(name, DomainKind::Ood))).collect()
}

fn score(perplexity: f64) -> Score {
    Score { perplexity, bits_per_byte: perplexity.ln() / 4.1 / std::f64::consts::LN_2, ..Score::default() }
}

type Scores = BTreeMap<String, Score>;

type Members = BTreeMap<String, f64>;

/// The perplexity of domain number d, and the averages.
fn scores(members: &Members, perplexity: impl Fn(usize) -> f64) -> Scores {
    let domains = domains();
    let mut scores: Scores = domains.iter().enumerate().map(|(d, i)| (i.name.clone(), score(perplexity(d)))).collect();
    scores.extend(averages(&domains, members, &scores));
    scores
}

fn members(chosen: &[usize]) -> Members {
    chosen.iter().map(|&p| (PARTITIONS[p].to_string(), 1.0 / chosen.len() as f64)).collect()
}

/// SEQ's perplexity on domain d for a mixture: each partition has its own effect on each domain.
fn truth(chosen: &[usize], d: usize) -> f64 {
    30.0 + 5.0 * d as f64 + chosen.iter().map(|&p| 2.0 * irregular(17 * p + 5 * d)).sum::<f64>()
}

/// A mixture with SEQ and MERGED; MERGED has an error of its own.
fn mixture(group: &str, chosen: &[usize]) -> MixtureInfo {
    let members = members(chosen);
    let salt: usize = chosen.iter().map(|p| 1 << p).sum();
    let seq = scores(&members, |d| truth(chosen, d));
    let merged = scores(&members, |d| truth(chosen, d) + 3.0 + irregular(100 + 29 * salt + d));
    MixtureInfo {
        id: members.keys().cloned().collect::<Vec<_>>().join("+"),
        group: group.into(),
        scores: BTreeMap::from([("seq".to_string(), seq), ("merged".to_string(), merged)]),
        members,
        ..MixtureInfo::default()
    }
}

/// All 15 pairs, numbered (0, 1), (0, 2), ...
fn chosen_pairs() -> Vec<[usize; 2]> {
    (0..6).flat_map(|a| (a + 1..6).map(move |b| [a, b])).collect()
}

fn pairs() -> Report {
    let mixtures = chosen_pairs().iter().map(|chosen| mixture("pairs", chosen)).collect();
    Report { domains: domains(), mixtures, ..Report::default() }
}

fn analysed(mut report: Report) -> Report {
    report.analyse(&Analysis { seed: SEED, lambda: None });
    report
}

fn correlation<'a>(list: &'a [Correlation], group: &str, domain: &str, proxy: &str) -> &'a Correlation {
    list.iter().find(|c| c.group == group && c.domain == domain && c.proxy == proxy).unwrap()
}

fn near(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{what}: {got}, expected {want}");
}

/// Scaled merges that equal SEQ at the mixture's own lambda `exact(m)`; the error grows with the
/// distance from it.
fn with_lambdas(report: &mut Report, exact: impl Fn(usize) -> f64) {
    for (number, m) in report.mixtures.iter_mut().enumerate() {
        for lambda in [1.8, 1.0, 1.4] {
            let seq = m.scores["seq"].clone();
            let off = |d: usize| 0.5 * (lambda - exact(number)) * irregular(31 * number + 7 * d);
            let perplexity = |d: usize| seq[&report.domains[d].name].perplexity * f64::exp(off(d));
            m.by_lambda.push((lambda, scores(&m.members, perplexity)));
        }
        let merged = m.by_lambda[1].1.clone();
        m.scores.insert("merged".into(), merged);
    }
}

/// The loss of domain d under the law that the samples follow.
fn law(weights: &Members, d: usize) -> f64 {
    let t = |p: usize| irregular(11 * p + 3 * d) - (0..6).map(|q| irregular(11 * q + 3 * d)).sum::<f64>() / 6.0;
    let sum: f64 = PARTITIONS.iter().enumerate().map(|(p, name)| t(p) * weights.get(*name).unwrap_or(&0.0)).sum();
    2.5 + 0.1 * d as f64 + 0.8 * sum.exp()
}

fn samples() -> Vec<SampleInfo> {
    let one = |number: usize| {
        let raw: Vec<f64> = (0..6).map(|p| (2.0 * irregular(number * 13 + p * 101)).exp()).collect();
        let total: f64 = raw.iter().sum();
        let members: Members = PARTITIONS.iter().zip(&raw).map(|(n, w)| (n.to_string(), w / total)).collect();
        SampleInfo { scores: scores(&members, |d| law(&members, d).exp()), members }
    };
    (0..30).map(one).collect()
}

/// Repeats at a fixed step below and above the first training: the standard deviation of (-step, 0,
/// step) is the step.
fn with_repeats(report: &mut Report, step: f64) {
    for m in &mut report.mixtures {
        for sign in [-1.0, 1.0] {
            let mut repeat = m.scores.clone();
            repeat.retain(|model, _| model == "seq" || model == "merged");
            repeat.get_mut("seq").unwrap().values_mut().for_each(|s| s.perplexity += sign * step);
            m.repeats.push(repeat);
        }
    }
}

/// More text is better here; MERGED has the reverse order, and IND is right.
fn sized() -> Report {
    let mut report = pairs();
    for (number, m) in report.mixtures.iter_mut().enumerate() {
        m.available_tokens = 1000 + 10 * number as u64;
        let upward = |of: &dyn Fn(f64) -> f64| scores(&m.members, |d| of(number as f64) + d as f64);
        let (seq, merged, ind) = (upward(&|n| 50.0 - n), upward(&|n| 20.0 + n), upward(&|n| 60.0 - 2.0 * n));
        m.scores = [("seq", seq), ("merged", merged), ("ind", ind)].map(|(k, v)| (k.to_string(), v)).into();
    }
    report
}

#[test]
fn analysing_twice_or_on_one_thread_changes_nothing() {
    let make = || {
        let mut report = Report { samples: samples(), ..sized() };
        with_lambdas(&mut report, |_| 1.4);
        with_repeats(&mut report, 0.3);
        analysed(report)
    };
    let first = make();
    let mut twice = first.clone();
    twice.analyse(&Analysis { seed: SEED, lambda: None });
    assert_eq!(first, twice);
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(make), first);
    assert!(!first.to_json().contains("NaN"));
    let mut empty = Report::default();
    empty.analyse(&Analysis::default());
    assert_eq!(empty, Report::default());
}
