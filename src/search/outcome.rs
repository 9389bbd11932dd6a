//! The results of a search: the content of `search.json`, next to what the study adds.

use super::confidence::{Confidence, Estimate};
use super::constraints::Bounds;
use super::form::{Form, FormError};
use super::objective::Target;
use serde::Serialize;

/// A mixture with its real score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// `best`, `subset`, `units`, `unconstrained`, `baseline`, `path`, `front` or `asked`
    pub kind: String,
    /// For people.
    pub name: String,
    /// (n) in the order of `partitions`
    pub weights: Vec<f64>,
    /// The target that the chosen form predicts for the merge.
    pub predicted: f64,
    /// The target of the real merge.
    pub merged: f64,
    /// The second objective of the real merge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<f64>,
    /// `merged`, and the pull towards the natural mixture; what is minimized.
    pub objective: f64,
    /// Kullback-Leibler divergence from the natural mixture, in nats.
    pub divergence: f64,
    /// Whether it meets all constraints and limits.
    pub feasible: bool,
    /// (D) Bits per byte of the real merge, in the order of `domains`.
    pub losses: Vec<f64>,
}

/// One form of the losses, and its errors on merges that it was not made from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExpansionReport {
    /// Where it was expanded: `seed`, `mean` or `best`, with cubic terms or without.
    pub name: String,
    /// The merges that the errors are on.
    pub merges: String,
    /// Errors of the target.
    pub target: FormError,
    /// (D) Errors of each domain.
    pub domains: Vec<FormError>,
    /// (D) How far the second derivatives are from symmetric: the largest difference, relative to
    /// the largest of them. Empty where they were taken from another form.
    pub asymmetry: Vec<f64>,
    /// Whether the search used it.
    pub chosen: bool,
}

/// How the best subset was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct SubsetSearch {
    /// Subsets whose predicted objective was computed: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scanned: Option<u64>,
    /// By branch and bound: no subset's predicted objective is lower by more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<f64>,
    /// Relaxations that branch and bound solved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<usize>,
}

/// A point of a path: of the pull towards the natural mixture, or of a Pareto front.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PathPoint {
    /// Strength of the pull, or share of the second objective.
    pub strength: f64,
    /// The mixture, as a place in `candidates`.
    pub candidate: usize,
}

/// What a search found. Losses and targets are in bits per byte.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Names of the n partitions.
    pub partitions: Vec<String>,
    /// Names of the D domains.
    pub domains: Vec<String>,
    /// What was minimized.
    pub target: Target,
    /// The second objective.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Target>,
    /// Merges are `seed + lambda (average - seed)`.
    pub lambda: f64,
    /// Strength of the pull towards the natural mixture.
    pub kl: f64,
    /// Every form that was tried.
    pub expansions: Vec<ExpansionReport>,
    /// (D) The chosen form of each domain: the predicted loss of every mixture's merge.
    pub forms: Vec<Form>,
    /// (n) The mixture that they are expanded at; 0 for partitions that were added to an earlier
    /// search.
    pub expanded_at: Vec<f64>,
    /// The error of the last form on merges near the best mixture.
    pub error: FormError,
    /// How subsets were searched.
    pub subsets: SubsetSearch,
    /// Every mixture that was scored.
    pub candidates: Vec<Candidate>,
    /// The best of those that meet the constraints, as a place in `candidates`.
    pub best: usize,
    /// How sure that is.
    pub confidence: Confidence,
    /// What a step in any allowed direction could still gain at the best weights, to first order,
    /// by the exact gradient. Where a worst domain or limits are followed, it is approximate.
    pub gap: f64,
    /// Rounds of exact gradients at the best weights.
    pub rounds: usize,
    /// Mixtures whose predicted objectives differ by less are not told apart.
    pub slack: f64,
    /// (n) For each partition, the weights of mixtures that are not told apart from the best.
    pub ranges: Vec<Bounds>,
    /// Partitions whose weight the evidence does not determine.
    pub undetermined: Vec<usize>,
    /// (D) Losses of the natural mixture.
    pub natural_losses: Vec<f64>,
    /// The best mixtures under a growing pull towards the natural one.
    pub path: Vec<PathPoint>,
    /// The best mixtures between the two objectives.
    pub front: Vec<PathPoint>,
}

impl Outcome {
    /// The best mixture.
    pub fn best(&self) -> &Candidate {
        &self.candidates[self.best]
    }

    /// What is expected of the best mixture.
    pub fn best_estimate(&self) -> &Estimate {
        &self.confidence.estimates[self.best]
    }

    /// The place of the natural mixture among the candidates.
    pub fn natural(candidates: &[Candidate]) -> Option<usize> {
        candidates.iter().position(|c| c.kind == "baseline" && c.name == "natural")
    }

    /// The first candidate of this kind whose name begins like this.
    pub fn find(&self, kind: &str, name: &str) -> Option<&Candidate> {
        self.candidates.iter().find(|c| c.kind == kind && c.name.starts_with(name))
    }
}
