//! The answers in words, and their confidence.

use super::{analysed, correlation, pairs, with_repeats};
use crate::synthetic::study;
use stockpot::analysis::*;

#[test]
fn answer_compares_the_two_best_with_the_noise() {
    let confidence = |step: f64| {
        let mut report = pairs();
        with_repeats(&mut report, step);
        let report = analysed(report);
        let mut seq: Vec<f64> = report.mixtures.iter().map(|m| m.score("seq", "ood").unwrap().perplexity).collect();
        seq.sort_by(f64::total_cmp);
        (report.answers[0].confidence.clone(), seq[1] - seq[0])
    };
    let (small, apart) = confidence(1e-3);
    assert!(apart > 1e-2 && small.contains("The two best by SEQ, ") && !small.contains("within noise"), "{small}");
    // The difference of two trainings has sqrt(2) times the standard deviation of one; 95% are
    // within 1.96 of these.
    for (share, known) in [(0.33, true), (0.39, false), (1.1, false)] {
        let (text, _) = confidence(apart * share);
        assert_eq!(!text.contains("so the difference is within noise."), known, "{share}: {text}");
    }
    assert!(!analysed(pairs()).answers[0].confidence.contains("repeats"));
}

/// A group with unequal budgets reports this in its answers, and in-mixture scores have no regret
/// or accuracy.
#[test]
fn unequal_budgets_are_reported_and_in_mixture_domains_select_nothing() {
    let mut report = pairs();
    report.mixtures.iter_mut().for_each(|m| m.tokens = 1000);
    assert!(!analysed(report.clone()).answers[0].confidence.contains("Budgets"));
    report.mixtures[3].tokens = 3000;
    let report = analysed(report);
    for answer in &report.answers {
        let caveat = "Budgets differ in this group: SEQ was trained on 1,000 to 3,000 tokens";
        assert!(answer.confidence.contains(caveat), "{}", answer.confidence);
    }
    let own = correlation(&report.correlations, "pairs", "members", "merged");
    assert_eq!((own.regret_at_1, own.decision_accuracy), (None, None));
    assert!(own.not_defined["regret_at_1"].contains("text of its own") && own.pearson.is_some());
    assert!(correlation(&report.correlations, "pairs", "ood", "merged").regret_at_1.is_some());
}

#[test]
fn answers_come_first_with_their_confidence() {
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
    assert!(text.contains("These mixtures hardly differ here (CV below 1%), so a low r means little: weather."));
}

#[test]
fn a_wrong_or_untrained_choice_is_reported() {
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
            "{best} is best by SEQ (perplexity 64.70). Choosing by MERGED raises SEQ's perplexity by 4.0%."
        )),
        "{wrong}"
    );
    report.mixtures.iter_mut().find(|m| m.id == "law+rust").unwrap().scores.remove("seq");
    let untrained = text(&report);
    assert!(untrained.contains("(perplexity 60.00) but was not trained; "), "{untrained}");
    assert!(untrained.ends_with("Among these, choosing by MERGED raises SEQ's perplexity by 0%."), "{untrained}");
}
