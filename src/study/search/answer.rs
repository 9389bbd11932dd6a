//! The answer of a search: ten lines of text, and what the report shows.

use super::{NEARLY_EQUAL, SearchReport, Verification};
use crate::analysis::{FEW_DOCUMENTS, FrontEstimate, MixtureEstimate, PathEstimate, RecipeBefore, VerifiedPoint};
use crate::report::visible;
use crate::search::{Calibration, Candidate, Estimate, FEWEST, Outcome, Verified};
use std::collections::BTreeMap;

/// Partitions that the first line names.
const NAMED: usize = 8;
/// Mixtures that the report shows, the best first.
const SHOWN: usize = 10;
/// Mixtures that are named where they cannot be told apart from the best.
const NAMED_MIXTURES: usize = 3;

impl SearchReport {
    /// Ten lines at most; the recipe's file is the last.
    pub fn to_text(&self) -> String {
        let mut lines: Vec<String> = self.summary.lines.iter().map(|line| visible(line)).collect();
        lines.push(format!("recipe: {}", self.recipe_path));
        lines.join("\n")
    }

    /// Fills what the report shows.
    pub(super) fn summarize(&mut self) {
        let outcome = &self.outcome;
        let estimates = &outcome.confidence.estimates;
        let mut order: Vec<usize> = (0..outcome.candidates.len())
            .filter(|&c| {
                let candidate = &outcome.candidates[c];
                candidate.feasible && !estimates[c].nearly_equal && (candidate.kind != "baseline" || c == outcome.best)
            })
            .collect();
        order.sort_by(|&a, &b| {
            let value = |c: usize| outcome.candidates[c].objective;
            (a != outcome.best).cmp(&(b != outcome.best)).then(value(a).total_cmp(&value(b)))
        });
        order.truncate(SHOWN);
        let baselines = (0..outcome.candidates.len()).filter(|&c| outcome.candidates[c].kind == "baseline");
        let point = |v: &Verified| {
            let seq = outcome.target.of(&v.losses);
            v.merged.map(|merged| VerifiedPoint { name: v.name.clone(), merged, seq })
        };
        let verified: Vec<VerifiedPoint> = self.verified.iter().filter_map(point).collect();
        let path = outcome.path.iter().map(|point| {
            let c = &outcome.candidates[point.candidate];
            PathEstimate { divergence: c.divergence, merged: c.merged, members: self.members(&c.weights) }
        });
        let front = outcome.front.iter().filter_map(|point| {
            let c = &outcome.candidates[point.candidate];
            Some(FrontEstimate { objective: c.merged, against: c.against?, members: self.members(&c.weights) })
        });
        let range = |&i: &usize| (outcome.partitions[i].clone(), outcome.ranges[i].min, outcome.ranges[i].max);
        let mut summary = self.summary.clone();
        summary.lines = self.lines(summary.before.as_ref());
        summary.objective = self.recipe.objective.clone();
        summary.against = outcome.against.as_ref().map(|against| against.name.clone());
        summary.budget = self.budget;
        summary.lambda = outcome.lambda;
        summary.expects_seq = outcome.confidence.expects_seq;
        summary.warnings = self.warnings();
        summary.best = order.into_iter().map(|c| self.mixture_estimate(c)).collect();
        summary.baselines = baselines.map(|c| self.mixture_estimate(c)).collect();
        summary.verified = verified;
        summary.pearson = self.calibration.as_ref().and_then(|c| c.pearson);
        summary.pearson_low = self.calibration.as_ref().and_then(|c| c.pearson_low);
        summary.pearson_high = self.calibration.as_ref().and_then(|c| c.pearson_high);
        summary.path = path.collect();
        summary.front = front.collect();
        summary.undetermined = outcome.undetermined.iter().map(range).collect();
        self.summary = summary;
    }

    fn members(&self, weights: &[f64]) -> BTreeMap<String, f64> {
        let named = self.outcome.partitions.iter().zip(weights);
        named.filter(|(_, weight)| **weight > 0.0).map(|(name, weight)| (name.clone(), *weight)).collect()
    }

    fn mixture_estimate(&self, c: usize) -> MixtureEstimate {
        let (candidate, estimate) = (&self.outcome.candidates[c], &self.outcome.confidence.estimates[c]);
        let near = |weights: &[f64]| {
            weights.iter().zip(&candidate.weights).map(|(a, b)| (a - b).abs()).sum::<f64>() < NEARLY_EQUAL
        };
        let seq = self.verified.iter().find(|v| near(&v.weights));
        MixtureEstimate {
            name: candidate.name.clone(),
            members: self.members(&candidate.weights),
            merged: candidate.merged,
            expected: estimate.expected,
            low: estimate.low,
            high: estimate.high,
            probability_best: estimate.probability_best,
            told_apart: estimate.told_apart,
            seq: seq.map(|v| self.outcome.target.of(&v.losses)),
        }
    }

    fn lines(&self, before: Option<&RecipeBefore>) -> Vec<String> {
        let lines = [
            Some(self.mixture()),
            Some(self.how_sure()),
            Some(self.scores(before)),
            Some(self.subsets()),
            self.constrained(),
            Some(self.error()),
            Some(self.seq()),
            self.verified(),
            undetermined(&self.outcome),
        ];
        lines.into_iter().flatten().collect()
    }

    fn mixture(&self) -> String {
        let outcome = &self.outcome;
        let weights = &outcome.best().weights;
        let mut order: Vec<usize> = (0..weights.len()).filter(|&i| weights[i] >= 0.0005).collect();
        order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
        let part = |i: &usize| format!("{:.1}% {}", 100.0 * weights[*i], outcome.partitions[*i]);
        let mut parts: Vec<String> = order.iter().take(NAMED).map(part).collect();
        if order.len() > NAMED {
            let rest: f64 = order[NAMED..].iter().map(|&i| weights[i]).sum();
            parts.push(format!("{:.1}% of {} others", 100.0 * rest, order.len() - NAMED));
        }
        let estimate = outcome.best_estimate();
        let natural = Outcome::natural(&outcome.candidates);
        let natural = natural.map_or(f64::NAN, |c| outcome.confidence.estimates[c].expected);
        let of = if outcome.confidence.expects_seq { "" } else { " by merges" };
        format!(
            "Train on {}: {}{of} {:.4} to {:.4} bits per byte, natural {natural:.4}",
            parts.join(", "),
            self.recipe.objective,
            estimate.low,
            estimate.high
        )
    }

    /// Whether the mixture is certain to be the best.
    fn how_sure(&self) -> String {
        let (outcome, confidence) = (&self.outcome, &self.outcome.confidence);
        let probability = outcome.best_estimate().probability_best;
        let start = match self.few_documents() {
            Some(few) => format!("no winner is declared, because {few}; "),
            None => String::new(),
        };
        let others: Vec<&str> =
            confidence.not_told_apart.iter().skip(1).map(|&c| outcome.candidates[c].name.as_str()).collect();
        let by = if confidence.expects_seq { "" } else { ", by merges and documents alone" };
        let is_listed = |(c, e): (&Candidate, &Estimate)| c.feasible && !e.nearly_equal;
        let listed = outcome.candidates.iter().zip(&confidence.estimates).filter(|&(c, e)| is_listed((c, e))).count();
        let sure = format!("best of {listed} mixtures with probability {probability:.2}{by}");
        let named = others.iter().take(NAMED_MIXTURES).copied().collect::<Vec<_>>().join(", ");
        match (others.len(), others.len() > NAMED_MIXTURES) {
            (0, _) if confidence.declares_winner(outcome.best) => format!("{start}{sure}; told apart from all others"),
            (0, _) => format!("{start}{sure}"),
            (n, more) => {
                let more = if more { ", ..." } else { "" };
                let others = if n == 1 { "other" } else { "others" };
                format!("{start}{sure}; not told apart from {n} {others}: {named}{more}")
            }
        }
    }

    /// The domains of the objective with few documents.
    fn few_documents(&self) -> Option<String> {
        let confidence = &self.outcome.confidence;
        let few = |&d: &usize| format!("{} ({})", self.outcome.domains[d], confidence.documents[d]);
        let list: Vec<String> = confidence.few_documents.iter().take(NAMED).map(few).collect();
        let more = confidence.few_documents.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let domains = if confidence.few_documents.len() == 1 { "a domain has" } else { "these domains have" };
        (!list.is_empty()).then(|| format!("{domains} fewer than {FEW_DOCUMENTS} documents: {}{more}", list.join(", ")))
    }

    fn warnings(&self) -> Vec<String> {
        let few = self.few_documents().map(|few| {
            let mut letters = few.chars();
            let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
            format!(
                "{first}{}. No winner is declared; raise `tokens` in [evaluation], or give more documents.",
                letters.as_str()
            )
        });
        let merges = (!self.outcome.confidence.expects_seq).then(|| {
            "No SEQ runs of this budget calibrate the merges: intervals and probabilities are about documents alone, \
             and say nothing about how far a training is from its merge."
                .to_string()
        });
        few.into_iter().chain(merges).collect()
    }

    fn scores(&self, before: Option<&RecipeBefore>) -> String {
        let outcome = &self.outcome;
        let value = |kind: &str, name: &str| outcome.find(kind, name).map(|c| c.merged);
        let named = |label: &str, value: Option<f64>| value.map(|value| format!("{label} {value:.5}"));
        let others = [
            named("natural", value("baseline", "natural")),
            named("uniform", value("baseline", "uniform")),
            named("UniMax (4 epochs)", value("baseline", "UniMax, 4")),
            named("best partition alone", value("baseline", "best partition")),
            named("worst", value("baseline", "worst")),
            before.map(|b| format!("the recipe before {} came {:.5}", b.added.join(", "), b.merged)),
        ];
        let what = if outcome.target.worst { "worst of " } else { "" };
        format!(
            "{what}{} in bits per byte, by merges: {:.5}; {}",
            outcome.target.name,
            outcome.best().merged,
            others.into_iter().flatten().collect::<Vec<_>>().join(", ")
        )
    }

    fn subsets(&self) -> String {
        let outcome = &self.outcome;
        let how = match (outcome.subsets.scanned, outcome.subsets.gap) {
            (Some(all), _) => format!("of all {all}"),
            (None, Some(gap)) if gap <= 1e-9 => "by branch and bound, proven".into(),
            (None, Some(gap)) => format!("by branch and bound; none is predicted better by more than {gap:.1e}"),
            (None, None) => "none meets the constraints".into(),
        };
        match best_of(outcome, "subset") {
            Some(best) => format!("best subset with equal weights ({how}): {} {:.5}", best.name, best.merged),
            None => "subsets with equal weights: none was found that meets the constraints".into(),
        }
    }

    fn constrained(&self) -> Option<String> {
        let free = self.outcome.find("unconstrained", "")?;
        let cost = self.outcome.best().merged - free.merged;
        Some(format!("without constraints: {:.5}; they cost {cost:.5}", free.merged))
    }

    fn error(&self) -> String {
        let report = self.outcome.expansions.iter().find(|e| e.chosen);
        let Some(report) = report else { return String::new() };
        let e = report.target;
        let r = e.pearson.map_or(String::new(), |r| format!(" (r {r:.5})"));
        // A single partition has only one mixture.
        let relative = match e.deviation > 0.0 {
            true => format!("{:.1}% of the deviation between ", 100.0 * e.rms / e.deviation),
            false => "on ".into(),
        };
        format!(
            "predicted losses, expanded at the {}: error {:.1e} (rms), {relative}{} held-out merges{r}; a further step gains at most {:.1e}",
            report.name, e.rms, e.n, self.outcome.gap
        )
    }

    fn seq(&self) -> String {
        let lambda = self.outcome.lambda;
        let Some(c) = &self.calibration else {
            return format!(
                "lambda {lambda}; {} SEQ runs of budget {} (in modules), fewer than {FEWEST}: how SEQ follows merges, and the lambda for this \
                 budget, are not known here. Set `calibrate` in [search], or give --verify N",
                self.verified.len(),
                self.budget
            );
        };
        let r = |c: &Calibration| match (c.pearson, c.pearson_low, c.pearson_high) {
            (Some(r), Some(low), Some(high)) => format!("r {r:.3} ({low:.3} to {high:.3})"),
            (Some(r), ..) => format!("r {r:.3}"),
            _ => "r not defined".into(),
        };
        let from = if self.lambda_calibrated { "calibrated on" } else { "given; compared with" };
        let start = format!("budget {} (in modules): lambda {lambda}, {from} {} SEQ runs, {}", self.budget, c.n, r(c));
        if !c.is_informative() {
            return format!("{start}: merges say nothing certain about SEQ here");
        }
        let estimate = self.outcome.best_estimate();
        format!(
            "{start}; gain over natural, expected of SEQ: {:.4} to {:.4} (95%)",
            estimate.gain_low, estimate.gain_high
        )
    }

    fn verified(&self) -> Option<String> {
        let target = |losses: &[f64]| self.outcome.target.of(losses);
        let best = self.verified.iter().min_by(|a, b| target(&a.losses).total_cmp(&target(&b.losses)))?;
        let own = |v: &&Verification| v.name == "best" && v.seq.is_some() && v.budget == self.budget;
        let own = self.verification.iter().rfind(own);
        let own = own
            .and_then(|v| v.seq)
            .map_or(String::new(), |seq| format!("; SEQ of the best weights when they were chosen: {seq:.5}"));
        Some(format!("best SEQ run of {}: {:.5}, {}{own}", self.verified.len(), target(&best.losses), best.name))
    }
}

fn best_of<'a>(outcome: &'a Outcome, kind: &str) -> Option<&'a Candidate> {
    let of_kind = outcome.candidates.iter().filter(|c| c.kind == kind && c.feasible);
    of_kind.min_by(|a, b| a.objective.total_cmp(&b.objective))
}

fn undetermined(outcome: &Outcome) -> Option<String> {
    let range = |&i: &usize| {
        let range = outcome.ranges[i];
        format!("{} {:.0} to {:.0}%", outcome.partitions[i], 100.0 * range.min, 100.0 * range.max)
    };
    let list: Vec<String> = outcome.undetermined.iter().map(range).collect();
    (!list.is_empty()).then(|| {
        format!("not determined (mixtures within {:.1e} bits per byte of the best): {}", outcome.slack, list.join(", "))
    })
}
