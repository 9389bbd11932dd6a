//! The answer of a search as ten lines of text.

use super::{SearchReport, Verification};
use crate::search::{Calibration, Candidate, FEWEST, Outcome};

/// Partitions that the first line names.
const NAMED: usize = 8;

impl SearchReport {
    /// Ten lines at most; the recipe's file is the last.
    pub fn to_text(&self) -> String {
        let outcome = &self.outcome;
        let lines = [
            Some(format!("Train on {}.", self.mixture())),
            Some(self.scores()),
            Some(self.subsets()),
            self.constrained(),
            Some(self.error()),
            Some(self.gradient()),
            Some(self.seq()),
            self.verified(),
            undetermined(outcome),
            Some(format!("recipe: {}", self.recipe_path)),
        ];
        lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    fn mixture(&self) -> String {
        let weights = &self.outcome.best().weights;
        let mut order: Vec<usize> = (0..weights.len()).filter(|&i| weights[i] >= 0.0005).collect();
        order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
        let part = |i: &usize| format!("{:.1}% {}", 100.0 * weights[*i], self.outcome.partitions[*i]);
        let mut parts: Vec<String> = order.iter().take(NAMED).map(part).collect();
        if order.len() > NAMED {
            let rest: f64 = order[NAMED..].iter().map(|&i| weights[i]).sum();
            parts.push(format!("{:.1}% of {} others", 100.0 * rest, order.len() - NAMED));
        }
        parts.join(", ")
    }

    fn scores(&self) -> String {
        let outcome = &self.outcome;
        let value = |kind: &str, name: &str| outcome.find(kind, name).map(|c| c.merged);
        let named = |label: &str, value: Option<f64>| value.map(|value| format!("{label} {value:.5}"));
        let others = [
            named("natural", value("baseline", "natural")),
            named("uniform", value("baseline", "uniform")),
            named("UniMax (4 epochs)", value("baseline", "UniMax, 4")),
            named("best partition alone", value("baseline", "best partition")),
            named("worst", value("baseline", "worst")),
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
            "predicted losses, expanded at the {}: error {:.1e} (rms), {relative}{} held-out merges{r}; near the best {:.1e}",
            report.name, e.rms, e.n, self.outcome.error.rms
        )
    }

    fn gradient(&self) -> String {
        format!(
            "weights by exact gradients in {} round{}: a further step gains at most {:.1e} to first order",
            self.outcome.rounds,
            if self.outcome.rounds == 1 { "" } else { "s" },
            self.outcome.gap
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
            return format!("{start}: merges say nothing certain about SEQ here, and no mixture can be told apart");
        }
        let natural = self.outcome.find("baseline", "natural").map_or(f64::NAN, |c| c.merged);
        let apart = match c.tells_apart(self.outcome.best().merged, natural) {
            true => "told apart from the natural mixture in a single training",
            false => "not told apart from the natural mixture in a single training",
        };
        match (c.expected(self.outcome.best().merged), c.residual) {
            (Some(seq), Some(residual)) => {
                format!("{start}; SEQ expected at {seq:.5} ± {:.5}, {apart}", 1.96 * residual)
            }
            _ => start,
        }
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
