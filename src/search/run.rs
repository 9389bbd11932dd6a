//! One search: from a few gradients of real merges to the best mixtures, each scored by a real
//! merge.

use super::baselines::{natural, unimax};
use super::branch::branch_and_bound;
use super::confidence::{Confidence, Evidence, ScoredMerge, confidence};
use super::constraints::{Bounds, Constraints};
use super::continuous::{Found, best_of, minimize, ranges};
use super::expansions::{choose, expansions};
use super::form::Form;
use super::objective::{Landscape, Objective, Target, divergence};
use super::outcome::*;
use super::polish::{First, Polished, SMALL_GAIN, polish};
use super::problem::{Merges, Problem};
use super::subsets::{MOST_SCANNED, Subset, scan};
use super::units::best_units;
use crate::error::Result;

/// Most relaxations of branch and bound.
const NODES: usize = 20_000;
/// Strengths of the pull towards the natural mixture in its path, relative to what mixtures differ by.
const PATH: [f64; 6] = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0];
/// Shares of the second objective on the Pareto front.
const FRONT: [f64; 9] = [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0];

/// Searches. `merges` computes what the search asks for.
pub fn search(problem: &Problem, merges: &mut dyn Merges) -> Result<Outcome> {
    let n = problem.n();
    problem.check()?;
    let lambda = problem.lambda;
    let mut first_forms = expansions(problem, merges)?;
    merges.say(&format!("{} held-out merges", problem.held_out));
    let mixtures = problem.random_merges();
    let real = merges.losses(lambda, &mixtures)?;
    let (mut forms, mut reports) = choose(problem, &first_forms.expansions, &mixtures, &real);
    if first_forms.are_continued() && reports.iter().any(|r| r.chosen && r.target.is_large()) {
        merges.say("the forms of the earlier search do not fit the added partitions");
        first_forms = expansions(&Problem { earlier: None, ..problem.clone() }, merges)?;
        (forms, reports) = choose(problem, &first_forms.expansions, &mixtures, &real);
    }

    // Limits relative to the natural mixture, by its real merge.
    let natural = natural(&problem.tokens);
    let natural_losses = merges.losses(lambda, std::slice::from_ref(&natural))?.remove(0);
    let limits = match problem.no_worse {
        Some(share) => natural_losses.iter().map(|loss| loss * (1.0 + share)).collect(),
        None => vec![f64::INFINITY; problem.domains.len()],
    };
    if problem.no_worse.is_some() {
        // Limits are relative to the natural mixture, so there the forms are made exact.
        for (form, loss) in forms.iter_mut().zip(&natural_losses) {
            form.constant += loss - form.value(&natural);
        }
    }
    let objective = problem.objective(limits);
    let everywhere = Landscape::new(&forms, &objective);

    // CandidateList by the forms alone.
    let mut candidates = CandidateList::default();
    let (subsets, subset_search) = subsets(problem, &everywhere)?;
    for subset in &subsets {
        candidates.add("subset", &problem.name_of(&subset.weights(n)), subset.weights(n));
    }
    let first = minimize(&everywhere, &problem.constraints, problem.seed).ok_or_else(|| problem.infeasible())?;

    // Exact gradients at the best weights, until these no longer change.
    merges.say("exact gradients at the best weights");
    let polished =
        polish(problem, merges, First { forms: &forms, best: first, all: &first_forms }, &objective, &mut reports)?;
    let landscape = Landscape::new(&polished.forms, &objective);
    candidates.add("best", "best weights", polished.best.weights.clone());
    if let Some(units) = problem.units {
        let starts = [polished.best.weights.clone(), natural.clone()];
        if let Some(found) = best_units(&landscape, &problem.constraints, units, &starts) {
            candidates.add("units", &format!("best in {units} units"), found.weights);
        }
    }
    let free = Objective { limits: vec![f64::INFINITY; problem.domains.len()], kl: 0.0, ..objective.clone() };
    let is_free = problem.constraints.are_none() && objective == free;
    if !is_free {
        let landscape = Landscape::new(&polished.forms, &free);
        if let Some(found) = minimize(&landscape, &Constraints::none(n), problem.seed) {
            candidates.add("unconstrained", "best without constraints", found.weights);
        }
    }
    baselines(problem, &first_forms.alone, &mut candidates);
    for (name, weights) in &problem.asked {
        candidates.add("asked", name, weights.clone());
    }
    let path = path(problem, &polished, &objective, &mut candidates);
    let front = front(problem, &polished, &objective, &mut candidates);

    merges.say(&format!("{} mixtures scored by real merges", candidates.list.len()));
    let scored = candidates.score(problem, &everywhere, &objective, merges)?;
    let best = best(&scored).ok_or_else(|| problem.infeasible())?;
    let confidence = how_sure(problem, &scored, best, merges)?;
    finish(Finish {
        problem,
        objective: &objective,
        candidates: scored,
        best,
        confidence,
        polished: &polished,
        reports,
        forms: forms.clone(),
        expanded_at: first_forms.base,
        subset_search,
        natural_losses,
        path,
        front,
    })
}

/// Everything that is known when all mixtures are scored.
struct Finish<'a> {
    problem: &'a Problem,
    objective: &'a Objective,
    candidates: Vec<Candidate>,
    best: usize,
    confidence: Confidence,
    polished: &'a Polished,
    reports: Vec<ExpansionReport>,
    forms: Vec<Form>,
    expanded_at: Vec<f64>,
    subset_search: SubsetSearch,
    natural_losses: Vec<f64>,
    path: Vec<(f64, usize)>,
    front: Vec<(f64, usize)>,
}

/// Scores that differ by less are a tie, in bits per byte.
const TIE: f64 = 1e-5;

/// The best real score among what meets the constraints; the best weights win a tie.
fn best(candidates: &[Candidate]) -> Option<usize> {
    let feasible = || (0..candidates.len()).filter(|&i| candidates[i].feasible);
    let first = feasible().min_by(|&a, &b| candidates[a].objective.total_cmp(&candidates[b].objective))?;
    let ties =
        |i: &usize| candidates[*i].kind == "best" && candidates[*i].objective < candidates[first].objective + TIE;
    Some(feasible().find(ties).unwrap_or(first))
}

/// How sure it is that this candidate is the best.
fn how_sure(problem: &Problem, candidates: &[Candidate], best: usize, merges: &mut dyn Merges) -> Result<Confidence> {
    let weights: Vec<Vec<f64>> = candidates.iter().map(|c| c.weights.clone()).collect();
    let nats = merges.documents(problem.lambda, &weights)?;
    let mixture = |(c, nats)| {
        let c: &Candidate = c;
        ScoredMerge { weights: &c.weights, nats, penalty: c.objective - c.merged, feasible: c.feasible }
    };
    let mixtures: Vec<ScoredMerge> = candidates.iter().zip(&nats).map(mixture).collect();
    Ok(confidence(&Evidence {
        target: &problem.target,
        bytes: &problem.documents,
        mixtures: &mixtures,
        best,
        natural: Outcome::natural(candidates),
        runs: &problem.runs,
        lambda_calibrated: problem.lambda_calibrated,
        noise: problem.noise,
        seed: problem.seed,
    }))
}

fn finish(f: Finish) -> Result<Outcome> {
    let Finish { problem, objective, candidates, polished, best, confidence, .. } = f;
    let slack = polished.error.rms.max(SMALL_GAIN).max(confidence.merge_slack);
    let landscape = Landscape::new(&polished.quadratic, objective);
    let found = Found { weights: candidates[best].weights.clone(), value: landscape.value(&candidates[best].weights) };
    let ranges = ranges(&landscape, &problem.constraints.around(&found.weights), &found, slack);
    let undetermined = (0..problem.n()).filter(|&i| is_undetermined(found.weights[i], ranges[i])).collect();
    let pareto = f.front.iter().map(|&(share, at)| PathPoint { strength: share, candidate: at }).collect();
    Ok(Outcome {
        target: problem.target.clone(),
        against: problem.against.clone(),
        lambda: problem.lambda,
        kl: objective.kl,
        expansions: f.reports,
        forms: f.forms,
        expanded_at: f.expanded_at,
        error: polished.error,
        subsets: f.subset_search,
        best,
        confidence,
        gap: polished.gap,
        rounds: polished.rounds,
        slack,
        ranges,
        undetermined,
        natural_losses: f.natural_losses,
        path: f.path.iter().map(|&(strength, at)| PathPoint { strength, candidate: at }).collect(),
        front: pareto,
        candidates,
        partitions: problem.partitions.clone(),
        domains: problem.domains.clone(),
    })
}

/// Whether mixtures that are as good have a very different weight here: as little as nothing of
/// what has at least 5%, or a range of more than a quarter of the mixture.
fn is_undetermined(weight: f64, range: Bounds) -> bool {
    weight >= 0.05 && range.min < 0.01 || range.max - range.min > 0.25
}

/// The best subsets of equal weights, and how they were found.
fn subsets(problem: &Problem, landscape: &Landscape) -> Result<(Vec<Subset>, SubsetSearch)> {
    let n = problem.n();
    if n <= MOST_SCANNED {
        let found = scan(landscape, &problem.constraints, problem.listed);
        return Ok((found, SubsetSearch { scanned: Some((1u64 << n) - 1), ..SubsetSearch::default() }));
    }
    let proven = branch_and_bound(landscape, &problem.constraints, NODES);
    let search = SubsetSearch { scanned: None, gap: proven.map(|p| p.gap), nodes: proven.map(|p| p.nodes) };
    Ok((proven.map(|p| p.subset).into_iter().collect(), search))
}

/// Mixtures to score, each once.
#[derive(Default)]
struct CandidateList {
    list: Vec<(String, String, Vec<f64>)>,
}

impl CandidateList {
    /// Returns its place in the list.
    fn add(&mut self, kind: &str, name: &str, weights: Vec<f64>) -> usize {
        self.list.push((kind.into(), name.into(), weights));
        self.list.len() - 1
    }

    fn score(
        self,
        problem: &Problem,
        landscape: &Landscape,
        objective: &Objective,
        merges: &mut dyn Merges,
    ) -> Result<Vec<Candidate>> {
        let weights: Vec<Vec<f64>> = self.list.iter().map(|(.., weights)| weights.clone()).collect();
        let losses = merges.losses(problem.lambda, &weights)?;
        let candidate = |((kind, name, weights), losses): ((String, String, Vec<f64>), Vec<f64>)| {
            let within = losses.iter().zip(&objective.limits).all(|(loss, limit)| *loss <= limit + 1e-5);
            Candidate {
                kind,
                name,
                predicted: landscape.target(&weights),
                merged: problem.target.of(&losses),
                against: problem.against.as_ref().map(|target| target.of(&losses)),
                objective: problem.target.of(&losses) + objective.kl * divergence(&weights, &objective.natural),
                divergence: divergence(&weights, &objective.natural),
                feasible: problem.constraints.allow(&weights) && within,
                weights,
                losses,
            }
        };
        Ok(self.list.into_iter().zip(losses).map(candidate).collect())
    }
}

fn baselines(problem: &Problem, alone: &[f64], candidates: &mut CandidateList) {
    let n = problem.n();
    let total = problem.total_tokens.unwrap_or(problem.tokens.iter().sum());
    candidates.add("baseline", "natural", natural(&problem.tokens));
    candidates.add("baseline", "uniform", vec![1.0 / n as f64; n]);
    for epochs in [1.0, 4.0] {
        if let Some(weights) = unimax(&problem.tokens, total, epochs) {
            candidates.add(
                "baseline",
                &format!("UniMax, {epochs} epoch{}", if epochs == 1.0 { "" } else { "s" }),
                weights,
            );
        }
    }
    let compare = |a: &usize, b: &usize| alone[*a].total_cmp(&alone[*b]);
    if let (Some(best), Some(worst)) = ((0..n).min_by(compare), (0..n).max_by(compare)) {
        candidates.add("baseline", &format!("best partition alone: {}", problem.partitions[best]), problem.alone(best));
        // Of a convex function, the maximum over all mixtures is at a corner.
        candidates.add("baseline", &format!("worst: {}", problem.partitions[worst]), problem.alone(worst));
    }
    if let Some((name, weights)) = &problem.best_seq {
        candidates.add("baseline", &format!("best SEQ run: {name}"), weights.clone());
    }
}

/// The best mixtures under a growing pull towards the natural one: strength, and place in the list.
fn path(
    problem: &Problem,
    polished: &Polished,
    objective: &Objective,
    candidates: &mut CandidateList,
) -> Vec<(f64, usize)> {
    let flat = Objective { kl: 0.0, ..objective.clone() };
    let landscape = Landscape::new(&polished.forms, &flat);
    let uniform = vec![1.0 / problem.n() as f64; problem.n()];
    let scale = (landscape.target(&uniform) - landscape.target(&polished.best.weights)).abs();
    let mut list = Vec::new();
    let mut from = polished.best.weights.clone();
    for strength in PATH.map(|share| share * scale).into_iter().filter(|strength| *strength > 0.0) {
        let pulled = Objective { kl: strength, ..objective.clone() };
        let landscape = Landscape::new(&polished.forms, &pulled);
        let starts = [from.clone(), problem.constraints.project(&pulled.natural)];
        if let Some(found) = best_of(&landscape, &problem.constraints, &starts) {
            from = found.weights.clone();
            list.push((strength, candidates.add("path", &format!("KL strength {strength:.2e}"), found.weights)));
        }
    }
    list
}

/// The best mixtures for weighted sums of both objectives: share of the second, and place in the
/// list.
fn front(
    problem: &Problem,
    polished: &Polished,
    objective: &Objective,
    candidates: &mut CandidateList,
) -> Vec<(f64, usize)> {
    let Some(against) = &problem.against else { return Vec::new() };
    let mut list = Vec::new();
    for share in FRONT {
        let mixed = problem.target.weights.iter().zip(&against.weights).map(|(a, b)| (1.0 - share) * a + share * b);
        let target = Target { name: format!("{share}"), weights: mixed.collect(), worst: false };
        let objective = Objective { target, ..objective.clone() };
        let landscape = Landscape::new(&polished.forms, &objective);
        if let Some(found) = minimize(&landscape, &problem.constraints, problem.seed) {
            list.push((share, candidates.add("front", &format!("{share} of the second objective"), found.weights)));
        }
    }
    list
}
