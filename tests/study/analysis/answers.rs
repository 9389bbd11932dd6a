//! The answers in words, and how sure they are.

use super::{analysed, correlation, pairs, with_repeats};
use crate::synthetic::study;
use stockpot::analysis::*;

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
fn the_answer_comes_first_and_says_how_sure() {
    let report = study();
    let titles: Vec<_> = report.answers.iter().map(|a| (a.group.as_str(), a.domain.as_str())).collect();
    assert_eq!(titles, [("pairs", "ood"), ("pairs", "id"), ("triples", "ood"), ("triples", "id")]);
    let answer = &report.answers[0];
    let lowest = |model: &str| {
        let pairs = report.mixtures.iter().filter(|m| m.group == "pairs" && m.score(model, "ood").is_some());
        let perplexity = |m: &&MixtureInfo| m.score(model, "ood").unwrap().perplexity;
        pairs.min_by(|a, b| perplexity(a).total_cmp(&perplexity(b))).unwrap().id.clone()
    };
    assert_eq!(answer.best_by_proxy.mixture, lowest("merged"));
    assert_eq!(answer.best_by_seq.as_ref().unwrap().mixture, lowest("seq"));
    assert!(answer.text.starts_with(&format!("{} is best by MERGED", lowest("merged"))), "{}", answer.text);
    assert!(answer.confidence.contains("Over 23 mixtures") && answer.confidence.contains("95% interval"));
    assert!(answer.confidence.contains("IND reaches r = "));
    let text = report.to_text();
    let (answer, table) = (text.find(&answer.text).unwrap(), text.find("Correlation with SEQ").unwrap());
    assert!(answer < table);
    assert!(text.contains("These mixtures hardly differ here (spread below 1%), so a low r says little: weather."));
}

#[test]
fn a_wrong_or_untrained_choice_is_said() {
    let mut report = study();
    let best = report.answers[0].best_by_proxy.mixture.clone();
    let text = |report: &Report| {
        let correlations = correlations(&report.mixtures, &report.domains, 1);
        answers(&report.mixtures, &correlations)[0].text.clone()
    };
    let other = report.mixtures.iter_mut().find(|m| m.id == "law+rust").unwrap();
    other.scores.get_mut("merged").unwrap().get_mut("ood").unwrap().perplexity = 60.0;
    // 67.31 against 64.70 by SEQ.
    let wrong = text(&report);
    assert!(wrong.starts_with("law+rust is best by MERGED (perplexity 60.00); "), "{wrong}");
    assert!(
        wrong.ends_with(&format!(
            "{best} is best by SEQ (perplexity 64.70). Choosing by MERGED costs 4.0% of SEQ's perplexity."
        )),
        "{wrong}"
    );
    report.mixtures.iter_mut().find(|m| m.id == "law+rust").unwrap().scores.remove("seq");
    let untrained = text(&report);
    assert!(untrained.contains("(perplexity 60.00), and was not trained; "), "{untrained}");
    assert!(untrained.ends_with("Among these, choosing by MERGED costs 0% of SEQ's perplexity."), "{untrained}");
}
