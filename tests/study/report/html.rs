//! report.html. In a real browser: browser.rs.

use crate::synthetic::{large, rich, study};
use stockpot::analysis::*;

#[test]
fn html_escapes_names_and_fetches_nothing() {
    let hostile = "<script>alert('x')</script>&\"\u{1b}[31m";
    let mut report = study();
    report.study = hostile.into();
    report.settings = format!("# </pre>{hostile}");
    report.hashes.insert(hostile.into(), hostile.into());
    report.partitions[0].name = hostile.into();
    report.domains[0].name = hostile.into();
    report.decontamination.as_mut().unwrap().examples[0].shared = hostile.into();
    for m in &mut report.mixtures {
        m.id = format!("{}{hostile}", m.id);
        m.group = hostile.into();
        for scores in m.scores.values_mut() {
            let score = scores.remove("chemistry").unwrap();
            scores.insert(hostile.into(), score);
        }
    }
    report.correlations = correlations(&report.mixtures, &report.domains, 1);
    report.answers = answers(&report.mixtures, &report.correlations);
    let html = report.to_html();
    assert_eq!(html.matches("<script").count(), 1, "markup from a name");
    assert!(!html.contains("</pre><script") && html.matches("</script>").count() == 1, "markup from a name");
    assert!(html.matches("&lt;script&gt;").count() > 30);
    for outside in ["<link", "<iframe", "src=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(!html.replace("http-equiv", "").contains("http"), "an address");
    assert!(!report.to_text().contains('\u{1b}'), "a name drives the terminal");
}

#[test]
fn html_draws_a_point_per_mixture_and_a_panel_per_proxy() {
    let html = study().to_html();
    // Panels of the averages of pairs, triples and all, and of 11 domains of pairs and triples; and
    // r by domain of all three.
    let panels = |group: &str| {
        html.matches(&format!("<p>{group}: r = ")).count() + html.matches(&format!("<p>{group}: r not")).count()
    };
    assert_eq!((panels("MERGED"), panels("IND")), (3 * 3 + 2 * 11, 3 * 3 + 2 * 11));
    assert_eq!(html.matches("<svg ").count(), 2 * (3 * 3 + 2 * 11) + 3);
    let points = html.matches(": MERGED ").count()
        - html.matches(": MERGED r = ").count()
        - html.matches(": MERGED r not").count();
    assert_eq!(points, (23 + 6) * 14 + 29 * 3);
    assert!(html.contains("<title>chemistry+law: MERGED "));
}

/// Every section is on the page, and all measured times are in one element.
#[test]
fn every_experiment_has_a_section() {
    let report = rich();
    let html = report.to_html();
    let ids =
        "proxies picking noise scaled scales laws segments plots mixtures cost clock training data reuse settings";
    for id in ids.split(' ') {
        assert_eq!(html.matches(&format!("<section id=\"{id}\">")).count(), 1, "{id}");
    }
    for words in [
        "MACRO OF MERGES",
        "MICRO-MERGED",
        "MIXING LAW",
        "MERGED (larger model)",
        "field science",
        "noise ceiling",
        "Warning:</strong> MIXING LAW picks worse",
        "each subset, 2ⁿ",
        "The small model has 1,234,567 parameters, the larger one 9,876,543.",
        "A dash in OOD average: not defined: modules were trained once.",
        "law: 2 held-out documents are not scored because earlier training text contains them.",
    ] {
        assert!(html.contains(words), "{words}");
    }
    for term in ["SEQ", "MERGED", "IND", "ID, OOD", "perplexity", "regret"] {
        assert_eq!(html.matches(&format!("<dt>{term}</dt><dd>")).count(), 1, "{term} in the glossary");
    }
    assert!(html.find("class=\"answer\"") < html.find("<section"), "the answer comes first");
    let cut = |html: &str| {
        let start = html.find("<section id=\"clock\">")?;
        let end = start + html[start..].find("</section>")? + "</section>\n".len();
        Some((html[start..end].to_string(), format!("{}{}", &html[..start], &html[end..])))
    };
    let (clock, without) = cut(&html).unwrap();
    assert!(clock.contains("48.7 min") && clock.contains("2.9 h"));
    assert_eq!(without, Report { spent: None, ..report.clone() }.to_html(), "a measured time outside of its section");
    assert!(cut(&Report { spent: None, ..report }.to_html()).is_none());
}

#[test]
fn page_of_a_large_study_is_limited() {
    let html = large().to_html();
    assert!(html.len() < 3_000_000, "{} bytes", html.len());
    assert!(html.matches("<svg ").count() > 200);
    assert!(!html.contains("to keep the page small"));
    // With ten times as many mixtures, fewer proxies are drawn for single domains, and the page
    // says so.
    let mut report = large();
    report.mixtures = (0..10).flat_map(|_| report.mixtures.clone()).collect();
    let html = report.to_html();
    assert!(html.contains("Drawn for 3 of 6 proxies, to keep the page small; scores.csv has all."));
    assert!(html.len() < 11_000_000, "{} bytes", html.len());
}
