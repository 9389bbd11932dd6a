//! `Report::analyse` on made-up scores whose answers are known: an exact lambda, a law with known parameters, noise of
//! a known variance, a proxy worse than the largest partition, a barrier of a known height.

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

/// SEQ's perplexity of a mixture on domain d: each partition has its own effect on each domain.
fn truth(chosen: &[usize], d: usize) -> f64 {
    30.0 + 5.0 * d as f64 + chosen.iter().map(|&p| 2.0 * irregular(17 * p + 5 * d)).sum::<f64>()
}

/// A mixture with SEQ and MERGED, which is off by an effect of its own.
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

#[test]
fn averages_are_of_all_their_domains() {
    let members = members(&[0, 2]);
    let all = scores(&members, |d| 10.0 + d as f64);
    let perplexity = |name: &str| all[name].perplexity;
    near(perplexity("id"), 12.5, "id");
    near(perplexity("ood"), 16.5, "ood");
    near(perplexity("members"), 11.0, "astronomy and chess");
    near(perplexity("field:games"), 14.5, "chess and yachts: both kinds");
    near(perplexity("field:biology"), 11.0, "botany");
    assert_eq!(all["id"].nats, None);
    near(all["ood"].bits_per_byte, (all["weather"].bits_per_byte + all["yachts"].bits_per_byte) / 2.0, "bits");
    let mut some = all.clone();
    some.remove("yachts");
    let names: Vec<String> = averages(&domains(), &members, &some).into_keys().collect();
    assert_eq!(names, ["field:biology", "id", "members"]);
}

#[test]
fn correlations_list_averages_fields_and_domains_and_order_the_proxies() {
    let mut report = pairs();
    for m in &mut report.mixtures {
        for name in ["zeta", "ridge", "micro", "ind", "macro_of_merges", "law"] {
            let merged = m.scores["merged"].clone();
            m.scores.insert(name.into(), merged);
        }
    }
    report.analyse(&Analysis::default());
    let proxies: Vec<&str> = report.correlations.iter().take(7).map(|c| c.proxy.as_str()).collect();
    assert_eq!(proxies, ["merged", "ind", "micro", "macro_of_merges", "law", "ridge", "zeta"]);
    let mut names: Vec<&str> = report.correlations.iter().map(|c| c.domain.as_str()).collect();
    names.dedup();
    let averages = ["ood", "id", "members", "field:biology", "field:games"];
    assert_eq!(names, averages.into_iter().chain(PARTITIONS).chain(OOD).collect::<Vec<_>>());
    assert_eq!(correlation(&report.correlations, "pairs", "field:games", "merged").n, 15);
}

/// Scaled merges that meet SEQ exactly at the mixture's own `exact(m)`, and err in proportion to the distance.
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

#[test]
fn an_exact_lambda_is_found_and_helps() {
    let mut report = pairs();
    with_lambdas(&mut report, |_| 1.4);
    let report = analysed(report);
    for m in &report.mixtures {
        assert_eq!(m.scores["scaled"], m.by_lambda[2].1, "{}", m.id);
    }
    assert_eq!(report.scaled.len(), 5 + 8, "averages, fields and domains");
    for scan in &report.scaled {
        let merged = correlation(&report.correlations, "pairs", &scan.domain, "merged").pearson.unwrap();
        assert_eq!((scan.lambda, scan.calibrated, scan.n), (Some(1.4), true, 15));
        assert_eq!(scan.points.iter().map(|p| p.lambda).collect::<Vec<_>>(), [1.0, 1.4, 1.8]);
        near(scan.pearson.unwrap(), 1.0, &scan.domain);
        near(scan.gain.unwrap(), 1.0 - merged, &scan.domain);
        near(scan.points[0].pearson.unwrap(), merged, &scan.domain);
        near(scan.points[1].log_error, 0.0, &scan.domain);
        assert!(scan.points[0].log_error > 0.01);
        assert!(scan.gain_low < scan.gain && scan.gain < scan.gain_high && scan.gain_low > Some(0.0));
        assert!(scan.text.starts_with("Scaling helps here: r = 1.000 against "), "{}", scan.text);
    }
    assert!(report.correlations.iter().any(|c| c.proxy == "scaled"));
}

/// A factor moves no r, however far it is from SEQ in value.
#[test]
fn lambda_is_chosen_by_r() {
    let mut report = pairs();
    with_lambdas(&mut report, |_| 1.4);
    for m in &mut report.mixtures {
        m.by_lambda[2].1.values_mut().for_each(|s| s.perplexity *= 3.0);
    }
    let report = analysed(report);
    assert!(report.mixtures.iter().all(|m| m.scores["scaled"] == m.by_lambda[2].1));
}

/// One mixture is so far off at 1.4 that it would turn the choice for itself. The others see it; it does not.
#[test]
fn a_mixture_has_no_part_in_its_own_lambda() {
    let mut report = pairs();
    with_lambdas(&mut report, |_| 1.4);
    let odd = 4;
    for (lambda, scores) in &mut report.mixtures[odd].by_lambda {
        let wrong = if *lambda == 1.8 { 1.0 } else { 50.0 };
        scores.values_mut().for_each(|s| s.perplexity *= wrong);
    }
    let report = analysed(report);
    for (number, m) in report.mixtures.iter().enumerate() {
        let lambda = if number == odd { 1.4 } else { 1.8 };
        let (_, scores) = m.by_lambda.iter().find(|(l, _)| *l == lambda).unwrap();
        assert_eq!(m.scores["scaled"], *scores, "{}", m.id);
    }
    assert_eq!(report.scaled[0].lambda, Some(1.8), "for use on others: by all");
}

#[test]
fn each_group_has_its_lambda_and_untrained_mixtures_get_it() {
    let mut report = pairs();
    report.mixtures.extend((0..5).map(|a| mixture("triples", &[a, (a + 1) % 6, (a + 3) % 6])));
    with_lambdas(&mut report, |number| if number < 15 { 1.4 } else { 1.8 });
    report.mixtures[2].scores.remove("seq");
    let report = analysed(report);
    assert_eq!(report.mixtures[2].scores["scaled"], report.mixtures[2].by_lambda[2].1);
    assert_eq!(report.mixtures[16].scores["scaled"], report.mixtures[16].by_lambda[0].1);
    let groups: Vec<(&str, Option<f64>, usize)> =
        report.scaled.iter().filter(|s| s.domain == "ood").map(|s| (s.group.as_str(), s.lambda, s.n)).collect();
    assert_eq!(groups, [("pairs", Some(1.4), 14), ("triples", Some(1.8), 5)]);
}

/// A diverged SEQ run leaves no r, but the other mixtures' lambda stands.
#[test]
fn a_diverged_training_does_not_choose_lambda() {
    let mut report = pairs();
    with_lambdas(&mut report, |_| 1.4);
    let diverged = Score { perplexity: f64::INFINITY, bits_per_byte: f64::INFINITY, ..Score::default() };
    report.mixtures[3].scores.get_mut("seq").unwrap().values_mut().for_each(|s| *s = diverged);
    let report = analysed(report);
    assert!(report.mixtures.iter().all(|m| m.scores["scaled"] == m.by_lambda[2].1));
    let scan = &report.scaled[0];
    assert_eq!((scan.lambda, scan.pearson, scan.gain), (Some(1.4), None, None));
    assert!(scan.text.contains("one of SEQ's scores is not a finite number"), "{}", scan.text);
    assert!(report.picking[0].rows.iter().all(|r| r.regret_at.is_empty()));
}

#[test]
fn a_given_lambda_is_taken_or_is_not_there() {
    let given = |lambda| {
        let mut report = pairs();
        with_lambdas(&mut report, |_| 1.4);
        report.analyse(&Analysis { seed: SEED, lambda: Some(lambda) });
        report
    };
    let plain = given(1.0 + 1e-12);
    assert_eq!(plain.mixtures[0].scores["scaled"], plain.mixtures[0].scores["merged"]);
    let scan = &plain.scaled[0];
    assert_eq!((scan.gain, scan.gain_low, scan.gain_high, scan.calibrated), (Some(0.0), Some(0.0), Some(0.0), false));
    assert!(scan.text.starts_with("Scaling does not help here, nor does it harm"), "{}", scan.text);
    let missing = given(1.3);
    assert!(missing.mixtures.iter().all(|m| !m.scores.contains_key("scaled")));
    let scan = &missing.scaled[0];
    assert_eq!((scan.n, scan.pearson), (0, None));
    assert!(scan.text.contains("not defined: mixtures scored both ways: 0"), "{}", scan.text);
}

#[test]
fn where_scaling_harms_or_is_undecided_is_said() {
    let mut report = pairs();
    with_lambdas(&mut report, |_| 1.0);
    report.analyse(&Analysis { seed: SEED, lambda: Some(1.8) });
    let harms = report.scaled.iter().find(|s| s.gain_high.unwrap() < 0.0).expect("MERGED is exact");
    assert!(harms.text.starts_with("Scaling does not help here, it harms: "), "{}", harms.text);
    // As far off at 1.0 as at 1.8, but each in its own way.
    let mut report = pairs();
    with_lambdas(&mut report, |number| if number % 2 == 0 { 1.0 } else { 1.8 });
    report.analyse(&Analysis { seed: SEED, lambda: Some(1.8) });
    let open = report.scaled.iter().filter(|s| s.gain_low.unwrap() < -0.01 && s.gain_high.unwrap() > 0.01);
    let open: Vec<&ScaledScan> = open.collect();
    assert!(!open.is_empty());
    open.iter().for_each(|s| assert!(s.text.starts_with("Undecided: r = "), "{}", s.text));
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

#[test]
fn a_known_law_is_recovered_and_predicts_mixtures() {
    let report = analysed(Report { samples: samples(), ..pairs() });
    assert_eq!(report.laws.len(), 2 * 8, "two forms of each domain, no averages");
    for (d, domain) in report.domains.iter().enumerate() {
        let of = |form: &str| report.laws.iter().find(|l| l.domain == domain.name && l.form == form).unwrap();
        let found = of("law");
        assert_eq!((found.n, found.t.len()), (30, 6));
        assert!((found.c - 2.5 - 0.1 * d as f64).abs() < 1e-5 && (found.k - 0.8).abs() < 1e-5, "{found:?}");
        assert!(found.residual < 1e-7 && found.r_squared.unwrap() > 0.999999 && found.penalty.is_none());
        let ridge = of("ridge");
        assert!(ridge.residual > 1e-3 && ridge.r_squared.unwrap() > 0.7 && ridge.penalty.is_some(), "{ridge:?}");
        for m in &report.mixtures {
            let predicted = m.score("law", &domain.name).unwrap();
            let want = law(&m.members, d);
            assert!((predicted.perplexity / want.exp() - 1.0).abs() < 1e-5);
            near(predicted.bits_per_byte, predicted.perplexity.ln() * 1000.0 / (4100.0 * 2f64.ln()), "bits");
            let linear = ridge.loss(&m.members).unwrap();
            near(m.score("ridge", &domain.name).unwrap().perplexity, linear.exp(), "ridge");
        }
    }
    let m = &report.mixtures[3];
    let mean = OOD.iter().map(|d| m.score("law", d).unwrap().perplexity).sum::<f64>() / 2.0;
    near(m.score("law", "ood").unwrap().perplexity, mean, "average");
    assert_eq!(correlation(&report.correlations, "pairs", "ood", "ridge").n, 15);
}

/// Another SEQ gives the same laws: they are fitted to merges alone.
#[test]
fn laws_do_not_see_seq() {
    let first = analysed(Report { samples: samples(), ..pairs() });
    let mut other = Report { samples: samples(), ..pairs() };
    for m in &mut other.mixtures {
        m.scores.get_mut("seq").unwrap().values_mut().for_each(|s| s.perplexity = 99.0 - s.perplexity);
    }
    let other = analysed(other);
    assert_eq!(first.laws, other.laws);
    assert_eq!(first.mixtures[0].scores["law"], other.mixtures[0].scores["law"]);
    assert_ne!(first.correlations, other.correlations);
}

#[test]
fn what_a_law_cannot_know_it_does_not_say() {
    let mut report = Report { samples: samples(), ..pairs() };
    report.samples[7].scores.get_mut("weather").unwrap().perplexity = f64::INFINITY;
    let moved = report.mixtures[0].members.remove("botany").unwrap();
    report.mixtures[0].members.insert("unheard".into(), moved);
    let report = analysed(report);
    assert!(report.laws.iter().all(|l| l.domain != "weather"));
    assert!(!report.mixtures[0].scores.contains_key("law") && !report.mixtures[0].scores.contains_key("ridge"));
    let other = &report.mixtures[1].scores["law"];
    assert!(other.contains_key("yachts") && other.contains_key("id"));
    assert!(!other.contains_key("weather") && !other.contains_key("ood"), "no average without one of its domains");
    // Six partitions have seven parameters.
    let few = analysed(Report { samples: samples()[..7].to_vec(), ..pairs() });
    assert!(few.laws.iter().all(|l| l.form == "ridge") && few.laws.len() == 8);
    assert!(analysed(pairs()).laws.is_empty());
}

/// Repeats a fixed step below and above the first training: the standard deviation of (-step, 0, step) is the step.
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

#[test]
fn noise_of_a_known_variance_is_found() {
    let mut report = pairs();
    report.mixtures.push(mixture("single", &[3]));
    with_repeats(&mut report, 0.4);
    report.mixtures[15].repeats.clear();
    report.mixtures[14].repeats.clear();
    let report = analysed(report);
    assert!(report.noise.iter().all(|n| n.group == "pairs") && report.noise.len() == 5 + 8);
    for noise in &report.noise {
        let seq = |m: &MixtureInfo| m.score("seq", &noise.domain).unwrap().perplexity;
        let repeated: Vec<f64> = report.mixtures[..14].iter().map(seq).collect();
        let mean = repeated.iter().sum::<f64>() / 14.0;
        let variance = repeated.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 13.0;
        let between = variance - 0.16 / 3.0;
        assert_eq!((noise.n, noise.repeats), (14, 3));
        near(noise.seq_mean.unwrap(), mean, "mean");
        near(noise.within.unwrap(), 0.4, "within");
        near(noise.between.unwrap(), between.sqrt(), "between");
        near(noise.reliability.unwrap(), between / (between + 0.16), "reliability");
        near(noise.ceiling.unwrap(), (between / (between + 0.16)).sqrt(), "ceiling");
        assert!(noise.ceiling_low < noise.ceiling && noise.ceiling < noise.ceiling_high);
        // The same step for all mixtures moves no r; and MERGED is the same in each repeat.
        near(noise.pearson_between_repeats.unwrap(), 1.0, "repeats");
        let all: Vec<&MixtureInfo> = report.mixtures[..14].iter().collect();
        let merged: Vec<f64> = all.iter().map(|m| m.score("merged", &noise.domain).unwrap().perplexity).collect();
        let r = stockpot::analysis::statistics::correlation::pearson(&merged, &repeated).unwrap();
        near(noise.pearson_merged_across_repeats.unwrap(), r, "MERGED");
        assert!(noise.text.contains("standard deviation of 0.400"), "{}", noise.text);
        assert!(noise.text.contains("the most to expect of a proxy that does not share SEQ's noise"), "{}", noise.text);
    }
}

/// Each mixture's two trainings lie around the same mean, so what they differ by is noise alone.
#[test]
fn where_mixtures_are_alike_the_ceiling_is_zero() {
    let mut report = pairs();
    for (number, m) in report.mixtures.iter_mut().enumerate() {
        let off = irregular(number);
        m.scores.insert("seq".into(), scores(&m.members, |d| 30.0 + d as f64 + off));
        m.repeats = vec![BTreeMap::from([("seq".to_string(), scores(&m.members, |d| 30.0 + d as f64 - off))])];
    }
    let merged: Vec<f64> = report.mixtures.iter().map(|m| m.score("merged", "ood").unwrap().perplexity).collect();
    let report = analysed(report);
    let noise = report.noise.iter().find(|n| n.domain == "ood").unwrap();
    assert_eq!((noise.repeats, noise.between, noise.reliability), (2, Some(0.0), Some(0.0)));
    assert_eq!((noise.ceiling, noise.ceiling_low), (Some(0.0), Some(0.0)));
    near(noise.pearson_between_repeats.unwrap(), -1.0, "one is the other upside down");
    assert!(noise.text.contains("single trainings do not tell these 15 mixtures apart here"), "{}", noise.text);
    // Modules were not repeated: MERGED of the first training with SEQ of the second.
    let second: Vec<f64> = report.mixtures.iter().map(|m| m.repeats[0]["seq"]["ood"].perplexity).collect();
    let r = stockpot::analysis::statistics::correlation::pearson(&merged, &second).unwrap();
    near(noise.pearson_merged_across_repeats.unwrap(), r, "MERGED");
    assert!(report.answers[0].confidence.contains("so which of them is better is not known"));
}

#[test]
fn one_repeated_mixture_has_a_reason() {
    let mut report = pairs();
    with_repeats(&mut report, 0.4);
    report.mixtures[1..].iter_mut().for_each(|m| m.repeats.clear());
    let noise = &analysed(report).noise[0];
    assert_eq!((noise.n, noise.within, noise.pearson_between_repeats), (1, None, None));
    assert_eq!(noise.not_defined["ceiling"], "not defined: mixtures trained more than once: 1; needed: at least 2");
    assert!(noise.text.contains("mixtures trained more than once: 1"));
    assert!(analysed(pairs()).noise.is_empty());
}

#[test]
fn the_answer_compares_the_two_best_with_the_noise() {
    let confidence = |step: f64| {
        let mut report = pairs();
        with_repeats(&mut report, step);
        let report = analysed(report);
        let mut seq: Vec<f64> = report.mixtures.iter().map(|m| m.score("seq", "ood").unwrap().perplexity).collect();
        seq.sort_by(f64::total_cmp);
        (report.answers[0].confidence.clone(), seq[1] - seq[0])
    };
    let (small, apart) = confidence(1e-3);
    assert!(apart > 1e-2 && small.contains("By SEQ the two best, ") && !small.contains("is not known"), "{small}");
    // The standard deviation of a difference of two trainings is sqrt(2) of one's, and 95% lie within 1.96 of these.
    for (share, known) in [(0.33, true), (0.39, false), (1.1, false)] {
        let (said, _) = confidence(apart * share);
        assert_eq!(!said.contains("so which of them is better is not known."), known, "{share}: {said}");
    }
    assert!(!analysed(pairs()).answers[0].confidence.contains("repeats"));
}

/// More text is better here, MERGED has it the wrong way round, and IND is right.
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
fn a_proxy_worse_than_the_largest_is_said_to_be_so() {
    let report = analysed(sized());
    let ood = report.picking.iter().find(|p| p.domain == "ood").unwrap();
    let names: Vec<&str> = ood.rows.iter().map(|r| r.by.as_str()).collect();
    assert_eq!(names, ["merged", "ind", "largest", "random"]);
    let [merged, ind, largest, random] = &ood.rows[..] else { panic!() };
    assert_eq!([merged, ind, largest].map(|r| r.decision_accuracy), [Some(0.0), Some(1.0), Some(1.0)]);
    near(merged.pearson.unwrap(), -1.0, "merged");
    near(largest.pearson.unwrap(), 1.0, "largest");
    // SEQ is 36 + 6.5, ..., 50 + 6.5; the worst is chosen first.
    near(merged.regret_at[0], 14.0 / 42.5, "regret@1");
    assert_eq!((ood.rows.iter().map(|r| r.regret_at.len()).min(), largest.regret_at[0]), (Some(10), 0.0));
    near(random.regret_at[0], 7.0 / 42.5, "the mean");
    assert_eq!((random.decision_accuracy, random.pearson), (Some(0.5), None));
    assert!(random.regret_at.windows(2).all(|w| w[1] < w[0]));
    let warning = ood.warning.as_ref().unwrap();
    assert!(warning.starts_with("MERGED (0%) picks worse than always taking the mixture of the most text (100%)"));
    assert!(!warning.contains("IND"), "{warning}");
    let said = "MERGED (0%) picks worse than always taking";
    assert_eq!(
        report.to_html().split("<nav").next().unwrap().matches(said).count(),
        report.answers.len(),
        "once with each"
    );
    assert!(report.picking.iter().all(|p| p.domain != "members"), "its mixtures are scored on different text");
}

/// A group with budgets that differ says so in its answers; and own members' scores choose nothing.
#[test]
fn budgets_that_differ_are_said_and_own_members_decide_nothing() {
    let mut report = pairs();
    report.mixtures.iter_mut().for_each(|m| m.tokens = 1000);
    assert!(!analysed(report.clone()).answers[0].confidence.contains("Budgets"));
    report.mixtures[3].tokens = 3000;
    let report = analysed(report);
    for answer in &report.answers {
        let said = "Budgets differ in this group: SEQ was trained on 1,000 to 3,000 tokens";
        assert!(answer.confidence.contains(said), "{}", answer.confidence);
    }
    let own = correlation(&report.correlations, "pairs", "members", "merged");
    assert_eq!((own.regret_at_1, own.decision_accuracy), (None, None));
    assert!(own.not_defined["regret_at_1"].contains("text of its own") && own.pearson.is_some());
    assert!(correlation(&report.correlations, "pairs", "ood", "merged").regret_at_1.is_some());
}

#[test]
fn equal_sizes_and_good_proxies_give_no_warning() {
    let mut equal = sized();
    equal.mixtures.iter_mut().for_each(|m| m.available_tokens = 1000);
    let equal = analysed(equal);
    let of = |report: &Report| report.picking.iter().find(|p| p.domain == "ood").unwrap().clone();
    assert!(of(&equal).rows.iter().all(|r| r.by != "largest") && of(&equal).warning.is_none());
    assert!(!equal.answers[0].confidence.contains("most text"));
    let mut good = sized();
    for m in &mut good.mixtures {
        let seq = m.scores["seq"].clone();
        m.scores.insert("merged".into(), seq);
    }
    assert!(analysed(good).picking.iter().all(|p| p.warning.is_none()));
    // Ties never flatter "largest": of the seven that are equally large, the worst by SEQ is taken first.
    let mut tied = sized();
    tied.mixtures.iter_mut().for_each(|m| m.available_tokens = m.available_tokens.min(1080));
    let tied = of(&analysed(tied));
    let largest = tied.rows.iter().find(|r| r.by == "largest").unwrap();
    near(largest.regret_at[0], 6.0 / 42.5, "regret@1");
    assert!(largest.decision_accuracy < Some(1.0));
}

#[test]
fn barriers_are_heights_above_the_line_between_the_ends() {
    // In nats: a line, plus an arch of height 0.1 (d + 1) at the middle for partitions, and below 0 for OOD.
    let loss = |at: f64, d: usize| {
        let arch = if d < 6 { 0.1 * (d + 1) as f64 } else { -0.2 };
        3.0 + 0.5 * d as f64 + at * (0.3 - 0.1 * d as f64) + arch * 4.0 * at * (1.0 - at)
    };
    let of = |at: f64| SegmentPoint { at, scores: scores(&members(&[0, 2]), |d| loss(at, d).exp()) };
    let segment = |points: &[f64]| Segment {
        from: "astronomy".into(),
        to: "chess".into(),
        points: points.iter().map(|at| of(*at)).collect(),
        ..Segment::default()
    };
    let found = |segment: Segment| {
        let report = analysed(Report { segments: vec![segment], ..pairs() });
        report.segments[0].barriers.clone()
    };
    let barriers = found(segment(&[0.0, 0.25, 0.5, 0.75, 1.0]));
    let height = |name: &str| barriers[name].height;
    near(height("astronomy"), 0.1, "astronomy");
    near(height("folklore"), 0.6, "folklore");
    near(height("id"), 0.35, "mean of 0.1 to 0.6");
    near(height("members"), 0.2, "mean of 0.1 and 0.3");
    near(height("field:games"), 0.05, "mean of 0.3 and -0.2");
    // Below the line at every inner point; the nearest to it are the outer ones.
    near(height("ood"), -0.15, "ood");
    assert_eq!((barriers["id"].at, barriers["ood"].at), (0.5, 0.25));
    assert!(found(segment(&[0.0, 0.5])).is_empty(), "an end is missing");
    assert!(found(segment(&[0.0, 1.0])).is_empty(), "nothing inside");
    let mut diverged = segment(&[0.0, 0.5, 1.0]);
    diverged.points[1].scores.get_mut("botany").unwrap().perplexity = f64::INFINITY;
    let barriers = found(diverged);
    assert!(!barriers.contains_key("botany") && !barriers.contains_key("id") && barriers.contains_key("ood"));
}

#[test]
fn a_small_pool_is_judged_by_the_larger_model() {
    let mut report = pairs();
    report.cross_scale = Some(CrossScale { parameters: 1, target_parameters: 10, ..CrossScale::default() });
    for (number, m) in report.mixtures.iter_mut().enumerate().filter(|(number, _)| *number != 6) {
        let level = number as f64;
        // The small model's SEQ has it the wrong way round; the small MERGED is right.
        m.scores.insert("seq".into(), scores(&m.members, |d| 60.0 - level + d as f64));
        m.scores.insert("merged".into(), scores(&m.members, |d| 30.0 + level + d as f64));
        let target = [("seq", 1.0), ("merged", 2.0)];
        m.target =
            target.map(|(k, slope)| (k.to_string(), scores(&m.members, |d| 20.0 + slope * level + d as f64))).into();
    }
    let report = analysed(report);
    let list = &report.cross_scale.as_ref().unwrap().correlations;
    let mut proxies: Vec<&str> = list.iter().map(|c| c.proxy.as_str()).collect();
    proxies.truncate(3);
    assert_eq!(proxies, ["merged", "seq", "target_merged"]);
    assert_eq!(list.len(), 3 * (5 + 8));
    for (proxy, r) in [("merged", 1.0), ("seq", -1.0), ("target_merged", 1.0)] {
        let c = correlation(list, "pairs", "ood", proxy);
        assert_eq!(c.n, 14, "one mixture was not trained large");
        near(c.pearson.unwrap(), r, proxy);
        assert_eq!(c.regret_at_1.unwrap() == 0.0, r > 0.0);
    }
    assert!(correlation(&report.correlations, "pairs", "ood", "merged").pearson < Some(0.0), "the small model's own");
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
