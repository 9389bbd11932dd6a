//! The report of a finished study.

use super::{each, report, text_of};
use crate::binary::stockpot;
use crate::runs::{RUN, fresh};
use std::fs;

#[test]
fn a_study_ends_in_its_report() {
    let dir = fresh();
    let said = stockpot(dir.path(), &RUN).done();
    // The answer, in ten lines at most; the rest with --full, before the answer.
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert!(lines.len() <= 10 && lines[0].starts_with("Train on "), "{}", said.stdout);
    assert_eq!(lines.last(), Some(&"recipe: out/recipe.toml"));
    let full = stockpot(dir.path(), &["report", "study.toml", "--out", "out", "--full"]).done().stdout;
    assert!(full.starts_with("Stockpot report: small") && full.ends_with(&said.stdout), "{full}");
    assert!(said.stderr.contains("report: out/report.html"), "{}", said.stderr);
    let html = fs::read_to_string(dir.path().join("out/report.html")).expect("report.html");
    assert!(html.starts_with("<!") && html.contains("law+music") && html.contains("</html>"));

    let report = report(&dir);
    assert_eq!(report["study"], "small");
    let domains: Vec<(&str, &str)> =
        each(&report["domains"]).map(|d| (text_of(&d["name"]), text_of(&d["kind"]))).collect();
    assert_eq!(domains, [("law", "id"), ("music", "id"), ("physics", "id"), ("letters", "ood")]);
    for domain in each(&report["domains"]) {
        assert!(["documents", "tokens", "bytes"].iter().all(|field| domain[field].as_u64() > Some(0)), "{domain}");
    }
    let mixtures: Vec<&str> = each(&report["mixtures"]).map(|m| text_of(&m["id"])).collect();
    assert_eq!(mixtures, ["law+music", "law+physics", "music+physics"]);
    for mixture in each(&report["mixtures"]) {
        assert_eq!(mixture["group"], "pairs");
        let members = mixture["members"].as_object().expect("members");
        assert!(members.len() == 2 && members.values().all(|w| w == 0.5), "{mixture}");
        for model in ["seq", "merged", "ind"] {
            for domain in ["law", "music", "physics", "letters", "id", "ood"] {
                let perplexity = mixture["scores"][model][domain]["perplexity"].as_f64();
                // Better than a uniform guess among 300 tokens, worse than certainty.
                assert!(perplexity.is_some_and(|p| p > 1.0 && p < 300.0), "{model} {domain}: {perplexity:?}");
            }
        }
        for (model, domain) in [("seq", "law"), ("merged", "letters")] {
            let score = &mixture["scores"][model][domain];
            let (nats, tokens) = (score["nats"].as_f64().expect("nats"), score["tokens"].as_f64().expect("tokens"));
            assert!(((nats / tokens).exp() - score["perplexity"].as_f64().expect("perplexity")).abs() < 1e-9);
        }
        let id = ["law", "music", "physics"].map(|d| mixture["scores"]["seq"][d]["perplexity"].as_f64().unwrap_or(0.0));
        let mean = mixture["scores"]["seq"]["id"]["perplexity"].as_f64().expect("the average of id");
        assert!((id.iter().sum::<f64>() / 3.0 - mean).abs() < 1e-9 * mean);
    }
    for (proxy, domain) in [("merged", "ood"), ("merged", "id"), ("ind", "ood"), ("ind", "law")] {
        let row = each(&report["correlations"])
            .find(|c| (text_of(&c["proxy"]), text_of(&c["domain"]), text_of(&c["group"])) == (proxy, domain, "pairs"));
        let row = row.unwrap_or_else(|| panic!("no row for {proxy} on {domain}"));
        assert_eq!(row["n"], 3);
        assert!(row["pearson"].as_f64().is_some_and(|r| (-1.0..=1.0).contains(&r)), "{row}");
        for field in ["pearson_low", "pearson_high", "spearman", "kendall", "regret_at_1", "decision_accuracy"] {
            assert!(row.get(field).is_some(), "no `{field}` in {row}");
        }
    }
    let cost = |way: &str| report["cost"][way].as_f64().expect("a cost");
    assert!(cost("modular_flops") > 0.0 && cost("naive_flops") > cost("modular_flops"));

    let csv = fs::read_to_string(dir.path().join("out/scores.csv")).expect("scores.csv");
    for id in mixtures {
        assert!(csv.lines().any(|line| line.contains(id)), "{csv}");
    }
}
