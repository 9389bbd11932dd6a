//! The first screen of the page and the sections of a search, on a summary made by hand.

use crate::synthetic::study;
use std::collections::BTreeMap;
use stockpot::analysis::*;

fn mixture(name: &str, parts: &[(&str, f64)], expected: f64, told_apart: bool) -> MixtureEstimate {
    MixtureEstimate {
        name: name.into(),
        members: parts.iter().map(|(name, weight)| (name.to_string(), *weight)).collect(),
        merged: expected + 0.01,
        expected,
        low: expected - 0.005,
        high: expected + 0.005,
        probability_best: if told_apart { 0.0 } else { 0.5 },
        told_apart,
        seq: None,
    }
}

pub fn summary(report: &Report) -> SearchSummary {
    let change = |salt: usize| -> BTreeMap<String, f64> {
        report
            .domains
            .iter()
            .enumerate()
            .map(|(d, i)| (i.name.clone(), 0.01 * ((d * 7 + salt) % 9) as f64 - 0.04))
            .collect()
    };
    let partitions = report.domains.iter().filter(|d| d.kind == DomainKind::Id);
    let trained =
        MixtureEstimate { seq: Some(0.5123), ..mixture("natural", &[("law", 0.6), ("physics", 0.4)], 0.52, true) };
    SearchSummary {
        lines: vec![
            "Train on 62.0% law, 38.0% physics: ood 0.5000 to 0.5100 bits per byte, natural 0.5200".into(),
            "best of 5 mixtures with probability 0.50".into(),
        ],
        objective: "ood".into(),
        against: Some("id".into()),
        budget: 4,
        lambda: 1.5,
        expects_seq: true,
        warnings: vec!["A domain has fewer than 30 documents: shakespeare (12). No winner is declared.".into()],
        best: vec![
            mixture("best weights", &[("law", 0.62), ("physics", 0.38)], 0.505, false),
            mixture("law+physics", &[("law", 0.5), ("physics", 0.5)], 0.507, false),
            mixture("law+music", &[("law", 0.5), ("music", 0.5)], 0.515, true),
        ],
        baselines: vec![trained, mixture("worst: music", &[("music", 1.0)], 9.75, true)],
        verified: (0..6)
            .map(|i| VerifiedPoint { name: format!("run {i}"), merged: f64::from(i), seq: 0.5 * f64::from(i) + 1.0 })
            .collect(),
        pearson: Some(1.0),
        pearson_low: Some(0.99),
        pearson_high: Some(1.0),
        effects: partitions
            .enumerate()
            .map(|(i, p)| ModuleEffects { partition: p.name.clone(), change: change(i) })
            .collect(),
        path: (0..4)
            .map(|i| PathEstimate {
                divergence: 1.0 - 0.3 * f64::from(i),
                merged: 0.51 + 0.002 * f64::from(i),
                members: [("law".to_string(), 1.0)].into(),
            })
            .collect(),
        front: (0..3)
            .map(|i| FrontEstimate {
                objective: 0.51 + 0.01 * f64::from(i),
                against: 0.62 - 0.01 * f64::from(i),
                members: [("law".to_string(), 1.0)].into(),
            })
            .collect(),
        undetermined: vec![("physics".into(), 0.0, 0.61)],
        before: Some(RecipeBefore {
            members: [("law".to_string(), 1.0)].into(),
            merged: 0.53,
            added: vec!["physics".into()],
        }),
    }
}

fn with(change: impl Fn(&mut SearchSummary)) -> Report {
    let mut report = study();
    let mut search = summary(&report);
    change(&mut search);
    report.search = Some(search);
    report
}

#[test]
fn the_page_begins_with_the_answer_and_its_charts() {
    let report = with(|_| {});
    let html = report.to_html();
    let at = |part: &str| html.find(part).unwrap_or_else(|| panic!("no {part}"));
    let order = [
        "class=\"headline\">Train on 62.0% law",
        "fewer than 30 documents",
        "with 95% intervals",
        "r = 1.000 (0.990",
        "Words on this page",
    ];
    assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "{:?}", order.map(at));
    assert!(at("Words on this page") < at("<section id=\"search\""));
    // Rows of the chart, a mark for what SEQ reached, and the far mixture as an arrow with its number.
    for label in ["best weights: 0.5050", "law+music: 0.5150", "natural: SEQ reached 0.5123", "worst: music: 9.7500"] {
        assert!(html.contains(&format!("<title>{label}")), "{label}");
    }
    assert!(html.contains("not told apart from the best</title>"));
    let cells = html.matches("class=\"c h").count();
    let partitions = report.domains.iter().filter(|d| d.kind == DomainKind::Id).count();
    assert_eq!(cells, partitions * report.domains.len(), "a cell for each module and domain");
    for part in [
        "Before and after adding physics",
        "Weights that are not determined",
        "Mixtures on the path",
        "between both objectives",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let without = study().to_html();
    assert!(!without.contains("class=\"headline\"") && !without.contains("<section id=\"search\""));
}

/// The axis is that of the mixtures that matter: the worst does not squeeze them.
#[test]
fn a_mixture_far_away_is_an_arrow() {
    let x = |html: &str, label: &str| -> f64 {
        let title = html.find(&format!("<title>{label}")).unwrap_or_else(|| panic!("no {label}"));
        let mark = &html[..title];
        let mark = &mark[mark.rfind('<').map_or(0, |end| mark[..end].rfind('<').unwrap_or(end))..];
        let number =
            mark.split(|c: char| !(c.is_ascii_digit() || c == '.')).find(|n| !n.is_empty() && n.parse::<f64>().is_ok());
        number.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{mark}"))
    };
    let html = with(|_| {}).to_html();
    let (best, other) = (x(&html, "best weights: 0.5050"), x(&html, "law+music: 0.5150"));
    assert!((other - best).abs() > 30.0, "{best} and {other}");
}

#[test]
fn names_are_escaped_and_odd_numbers_left_out() {
    let hostile = "<script>alert('x')</script>&\"\u{1b}[31m";
    let report = with(|s| {
        s.lines[0] = hostile.into();
        s.warnings = vec![hostile.into()];
        s.best[0].name = hostile.into();
        s.best[1].expected = f64::NAN;
        s.best[2].low = f64::NEG_INFINITY;
        s.effects[0].partition = hostile.into();
        s.effects[1].change.clear();
        s.undetermined[0].0 = hostile.into();
        s.verified[0].seq = f64::INFINITY;
    });
    let html = report.to_html();
    assert_eq!(html.matches("<script").count(), 1, "markup from a name");
    assert!(html.contains("no score</title>"));
    for word in html.split(|c: char| !c.is_alphanumeric()) {
        assert!(!["nan", "inf", "infinity"].contains(&word.to_lowercase().as_str()), "{word}");
    }
    assert!(!report.to_short_text().contains('\u{1b}'), "a name drives the terminal");
}

#[test]
fn a_large_pool_makes_no_large_page() {
    let large = with(|s| {
        let change: BTreeMap<String, f64> = (0..40).map(|d| (format!("domain {d}"), 0.001 * f64::from(d))).collect();
        s.effects =
            (0..128).map(|i| ModuleEffects { partition: format!("partition {i}"), change: change.clone() }).collect();
    });
    let mut large = large;
    large.domains = (0..40).map(|d| DomainInfo { name: format!("domain {d}"), ..study().domains[0].clone() }).collect();
    let before = study().to_html().len();
    let after = large.to_html().len();
    assert!(after < before + 2_000_000, "{after} bytes");
}

#[test]
fn without_seq_runs_the_page_says_so() {
    let html = with(|s| {
        s.verified.clear();
        s.expects_seq = false;
    })
    .to_html();
    assert!(html.contains("No SEQ run of this budget is scored") && html.contains("of merges, with 95% intervals"));
}

#[test]
fn the_short_answer_has_at_most_nine_lines() {
    let report = with(|s| s.lines = (0..20).map(|i| format!("line {i}")).collect());
    assert_eq!(report.to_short_text().lines().count(), 9);
    assert_eq!(report.to_short_text().lines().last(), Some("12 more answers: --full"));
    assert!(study().to_short_text().lines().count() <= 9 && !study().to_short_text().is_empty());
}
