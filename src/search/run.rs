//! One search: from a few gradients of real merges to the best mixtures, each scored by a real
//! merge.

use super::baselines::{natural, unimax};
use super::branch::branch_and_bound;
use super::constraints::{Bounds, Constraints};
use super::continuous::{Found, best_of, minimize, random_mixture, ranges};
use super::form::{Expansion, Form, FormError, Point};
use super::objective::{Landscape, Objective, Target, divergence};
use super::outcome::*;
use super::subsets::{MOST_SCANNED, Subset, scan};
use super::units::best_units;
use crate::error::{Error, Result};

/// Real merges `seed + lambda sum_i w_i (module_i - seed)` of the modules of n partitions. Losses
/// are in bits per byte.
pub trait Merges {
    /// The losses (D) of the merge under each weights (n).
    fn losses(&mut self, lambda: f64, mixtures: &[Vec<f64>]) -> Result<Vec<Vec<f64>>>;
    /// The losses and their gradients in the weights. Weights need not sum to 1: all 0 is the seed.
    fn gradients(&mut self, lambda: f64, points: &[Vec<f64>]) -> Result<Vec<Point>>;
    /// Tells the user what comes next.
    fn say(&mut self, message: &str);
}

/// What is searched for.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Names of the n partitions.
    pub partitions: Vec<String>,
    /// (n) Training tokens of each, 1 or more.
    pub tokens: Vec<f64>,
    /// Names of the D domains.
    pub domains: Vec<String>,
    /// What is minimized.
    pub target: Target,
    /// A second objective, for a Pareto front.
    pub against: Option<Target>,
    /// Where mixtures may lie.
    pub constraints: Constraints,
    /// A domain may lose at most this share of bits per byte against the natural mixture.
    pub no_worse: Option<f64>,
    /// Strength of the pull towards the natural mixture, in bits per byte for each nat.
    pub kl: f64,
    /// Tokens of the final training, if given.
    pub total_tokens: Option<f64>,
    /// Merges are `seed + lambda (average - seed)`.
    pub lambda: f64,
    /// Random merges that the forms' error is measured on.
    pub held_out: usize,
    /// Equal shares of a mixture of whole base units, if asked for.
    pub units: Option<usize>,
    /// Subsets that are listed.
    pub listed: usize,
    /// Mixtures whose score was asked for.
    pub asked: Vec<(String, Vec<f64>)>,
    /// Seed of random starting points and of the held-out merges.
    pub seed: u64,
}

/// Part of the way from a mixture to each module at which gradients are taken.
const STEP: f64 = 0.5;
/// Merges near the best mixture that the choice between forms is made on there.
const NEAR: usize = 12;
/// Most rounds of exact gradients at the current best mixture.
const ROUNDS: usize = 6;
/// Rounds end when the form promises to gain less than this, in bits per byte.
const SMALL_GAIN: f64 = 1e-6;
/// Most relaxations of branch and bound.
const NODES: usize = 20_000;
/// Strengths of the pull towards the natural mixture in its path, relative to what mixtures differ by.
const PATH: [f64; 6] = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0];
/// Shares of the second objective on the Pareto front.
const FRONT: [f64; 9] = [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0];

impl Problem {
    fn n(&self) -> usize {
        self.partitions.len()
    }

    fn alone(&self, i: usize) -> Vec<f64> {
        (0..self.n()).map(|j| f64::from(u8::from(i == j))).collect()
    }

    /// Mixtures of random sizes: half under random weights of all partitions, half of a part of them.
    fn held_out(&self) -> Vec<Vec<f64>> {
        let n = self.n();
        let one = |number: usize| {
            let mut w = random_mixture(n, self.seed ^ HELD_OUT, number as u64);
            if number % 2 == 1 && n > 2 {
                let size = 2 + number / 2 % (n - 1);
                let mut order: Vec<usize> = (0..n).collect();
                let keys = random_mixture(n, self.seed ^ HELD_OUT, (1 << 32) + number as u64);
                order.sort_by(|&a, &b| keys[a].total_cmp(&keys[b]));
                order.iter().skip(size).for_each(|&i| w[i] = 0.0);
                let sum: f64 = w.iter().sum();
                w.iter_mut().for_each(|w| *w /= sum);
            }
            w
        };
        (0..self.held_out).map(one).collect()
    }

    fn objective(&self, target: &Target, limits: Vec<f64>, kl: f64) -> Objective {
        Objective { target: target.clone(), limits, kl, natural: natural(&self.tokens) }
    }
}

/// Makes the held-out merges differ from starting points.
const HELD_OUT: u64 = 0x5eed_0e1d_0075;

/// Searches. `merges` computes what the search asks for.
pub fn search(problem: &Problem, merges: &mut dyn Merges) -> Result<Outcome> {
    let n = problem.n();
    problem.constraints.check(&problem.partitions, problem.total_tokens)?;
    let lambda = problem.lambda;
    merges.say(&format!("gradients of {} merges, at the seed and at the mean of all modules", 2 * (n + 1)));
    let expansions = expansions(problem, merges)?;
    merges.say(&format!("{} held-out merges", problem.held_out));
    let mixtures = problem.held_out();
    let real = merges.losses(lambda, &mixtures)?;
    let (forms, mut reports) = choose(problem, &expansions, &mixtures, &real);

    // Limits relative to the natural mixture, by its real merge.
    let natural = natural(&problem.tokens);
    let natural_losses = merges.losses(lambda, std::slice::from_ref(&natural))?.remove(0);
    let limits = match problem.no_worse {
        Some(share) => natural_losses.iter().map(|loss| loss * (1.0 + share)).collect(),
        None => vec![f64::INFINITY; problem.domains.len()],
    };
    let objective = problem.objective(&problem.target, limits, problem.kl);
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
    let polished = polish(problem, merges, &forms, &objective, first, &mut reports)?;
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
    baselines(problem, &everywhere, &mut candidates);
    for (name, weights) in &problem.asked {
        candidates.add("asked", name, weights.clone());
    }
    let path = path(problem, &polished, &objective, &mut candidates);
    let front = front(problem, &polished, &objective, &mut candidates);

    merges.say(&format!("{} mixtures scored by real merges", candidates.list.len()));
    let scored = candidates.score(problem, &everywhere, &objective, merges)?;
    Ok(finish(Finish {
        problem,
        objective: &objective,
        candidates: scored,
        polished: &polished,
        reports,
        subset_search,
        natural_losses,
        path,
        front,
    }))
}

/// Everything that is known when all mixtures are scored.
struct Finish<'a> {
    problem: &'a Problem,
    objective: &'a Objective,
    candidates: Vec<Candidate>,
    polished: &'a Polished,
    reports: Vec<ExpansionReport>,
    subset_search: SubsetSearch,
    natural_losses: Vec<f64>,
    path: Vec<(f64, usize)>,
    front: Vec<(f64, usize)>,
}

fn finish(f: Finish) -> Outcome {
    let Finish { problem, objective, candidates, polished, .. } = f;
    // The best real score among what meets the constraints; the best weights win a tie.
    let eligible = |c: &&Candidate| c.feasible && ["best", "subset", "units"].contains(&c.kind.as_str());
    let chosen = candidates.iter().filter(eligible).min_by(|a, b| a.objective.total_cmp(&b.objective));
    let best = chosen.map_or(0, |chosen| candidates.iter().position(|c| std::ptr::eq(c, chosen)).unwrap_or(0));
    let slack = polished.error.rms.max(SMALL_GAIN);
    let landscape = Landscape::new(&polished.quadratic, objective);
    let found = Found { weights: candidates[best].weights.clone(), value: landscape.value(&candidates[best].weights) };
    let ranges = ranges(&landscape, &problem.constraints, &found, slack);
    let undetermined = (0..problem.n()).filter(|&i| is_undetermined(found.weights[i], ranges[i])).collect();
    let pareto = f.front.iter().map(|&(share, at)| PathPoint { strength: share, candidate: at }).collect();
    Outcome {
        target: problem.target.clone(),
        against: problem.against.clone(),
        lambda: problem.lambda,
        kl: objective.kl,
        expansions: f.reports,
        error: polished.error,
        subsets: f.subset_search,
        best,
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
    }
}

/// Whether mixtures that are as good have a very different weight here: as little as nothing of
/// what has at least 5%, or a range of more than a quarter of the mixture.
fn is_undetermined(weight: f64, range: Bounds) -> bool {
    weight >= 0.05 && range.min < 0.01 || range.max - range.min > 0.25
}

/// The forms at the seed and at the mean of all modules.
fn expansions(problem: &Problem, merges: &mut dyn Merges) -> Result<Vec<(&'static str, Expansion)>> {
    let n = problem.n();
    let mean = vec![1.0 / n as f64; n];
    let part = |i: usize| -> Vec<f64> { mean.iter().zip(problem.alone(i)).map(|(m, e)| m + STEP * (e - m)).collect() };
    let mut points = vec![vec![0.0; n]];
    points.extend((0..n).map(|i| problem.alone(i)));
    points.push(mean.clone());
    points.extend((0..n).map(part));
    let points = merges.gradients(problem.lambda, &points)?;
    let (at_seed, at_mean) = points.split_at(n + 1);
    let (seed, modules) = at_seed.split_first().expect("the seed");
    let (base, halves) = at_mean.split_first().expect("the mean");
    let mut all = vec![
        ("seed", Expansion::at_seed(seed, modules, false)),
        ("seed, cubic", Expansion::at_seed(seed, modules, true)),
    ];
    if n > 1 {
        all.push(("mean", Expansion::at_mixture(base, halves, STEP, false)));
        all.push(("mean, cubic", Expansion::at_mixture(base, halves, STEP, true)));
    }
    Ok(all)
}

/// The form with the smallest error of the target on held-out merges, and the errors of all.
fn choose(
    problem: &Problem,
    expansions: &[(&'static str, Expansion)],
    mixtures: &[Vec<f64>],
    real: &[Vec<f64>],
) -> (Vec<Form>, Vec<ExpansionReport>) {
    let mut reports: Vec<ExpansionReport> = expansions
        .iter()
        .map(|(name, expansion)| report(problem, name, "held-out merges", expansion, mixtures, real))
        .collect();
    let chosen = (0..reports.len())
        .reduce(|a, b| if reports[b].target.rms < reports[a].target.rms { b } else { a })
        .unwrap_or(0);
    reports[chosen].chosen = true;
    (expansions[chosen].1.forms.clone(), reports)
}

fn report(
    problem: &Problem,
    name: &str,
    merges: &str,
    expansion: &Expansion,
    mixtures: &[Vec<f64>],
    real: &[Vec<f64>],
) -> ExpansionReport {
    let (target, domains) = errors(problem, &expansion.forms, mixtures, real);
    ExpansionReport {
        name: name.into(),
        merges: merges.into(),
        target,
        domains,
        asymmetry: expansion.asymmetry.clone(),
        chosen: false,
    }
}

/// Errors of the target and of each domain.
fn errors(problem: &Problem, forms: &[Form], mixtures: &[Vec<f64>], real: &[Vec<f64>]) -> (FormError, Vec<FormError>) {
    let predicted: Vec<Vec<f64>> = mixtures.iter().map(|w| forms.iter().map(|form| form.value(w)).collect()).collect();
    let of = |losses: &[Vec<f64>], f: &dyn Fn(&[f64]) -> f64| losses.iter().map(|l| f(l)).collect::<Vec<f64>>();
    let target = |losses: &[f64]| problem.target.of(losses);
    let domain = |d: usize| FormError::of(&of(&predicted, &|l| l[d]), &of(real, &|l| l[d]));
    (FormError::of(&of(&predicted, &target), &of(real, &target)), (0..forms.len()).map(domain).collect())
}

/// The best subsets of equal weights, and how they were found.
fn subsets(problem: &Problem, landscape: &Landscape) -> Result<(Vec<Subset>, SubsetSearch)> {
    let n = problem.n();
    if n <= MOST_SCANNED {
        let found = scan(landscape, &problem.constraints, problem.listed);
        return Ok((found, SubsetSearch { scanned: Some((1u64 << n) - 1), ..SubsetSearch::default() }));
    }
    if n > 128 {
        return Err(Error::usage("a search is for at most 128 partitions").got(format!("{n} partitions")));
    }
    let proven = branch_and_bound(landscape, &problem.constraints, NODES);
    let search = SubsetSearch { scanned: None, gap: proven.map(|p| p.gap), nodes: proven.map(|p| p.nodes) };
    Ok((proven.map(|p| p.subset).into_iter().collect(), search))
}

impl Problem {
    /// The partitions of a mixture with their weights, the largest first.
    pub fn name_of(&self, w: &[f64]) -> String {
        let inside: Vec<usize> = (0..w.len()).filter(|&i| w[i] > 0.0).collect();
        if inside.iter().all(|&i| (w[i] - 1.0 / inside.len() as f64).abs() < 1e-12) {
            return inside.iter().map(|&i| self.partitions[i].as_str()).collect::<Vec<_>>().join("+");
        }
        let part = |i: &usize| format!("{:.4} {}", w[*i], self.partitions[*i]);
        inside.iter().map(part).collect::<Vec<_>>().join("+")
    }

    fn infeasible(&self) -> Error {
        Error::usage("no mixture that meets the bounds keeps every domain within `no_worse`")
            .expected(format!("no domain above the natural mixture by more than {}", self.no_worse.unwrap_or(0.0)))
            .fix("raise `no_worse`, or remove bounds that exclude mixtures near the natural one")
    }
}

/// The best weights after rounds of exact gradients.
struct Polished {
    best: Found,
    /// Forms that are exact, with their gradients, at the last round's weights
    forms: Vec<Form>,
    /// Quadratic forms expanded at the first round's weights. Cubic terms would tell apart how
    /// equal partitions share a weight.
    quadratic: Vec<Form>,
    /// What a first-order step could still gain there, by the exact gradient
    gap: f64,
    rounds: usize,
    /// The forms' error on merges near the best
    error: FormError,
}

/// Expands again at the best weights, keeps the form that predicts merges near them better, and
/// repeats: exact value and gradient at the weights, next minimum of the form.
fn polish(
    problem: &Problem,
    merges: &mut dyn Merges,
    forms: &[Form],
    objective: &Objective,
    first: Found,
    reports: &mut Vec<ExpansionReport>,
) -> Result<Polished> {
    let (n, lambda) = (problem.n(), problem.lambda);
    let base = first.weights.clone();
    let towards =
        |to: &[f64], part: f64| -> Vec<f64> { base.iter().zip(to).map(|(b, e)| b + part * (e - b)).collect() };
    let mut points = vec![base.clone()];
    points.extend((0..n).map(|i| towards(&problem.alone(i), STEP)));
    let points = merges.gradients(lambda, &points)?;
    let near: Vec<Vec<f64>> =
        (0..NEAR).map(|i| towards(&random_mixture(n, problem.seed ^ HELD_OUT, (1 << 40) + i as u64), 0.5)).collect();
    let real = merges.losses(lambda, &near)?;
    let (start, directions) = points.split_first().expect("the best weights");
    let mut options: Vec<(&str, Expansion)> = vec![];
    let mut touched = Expansion { forms: forms.to_vec(), asymmetry: vec![] };
    for (d, form) in touched.forms.iter_mut().enumerate() {
        form.touch(&base, start.losses[d], &start.gradients[d]);
    }
    options.push(("first, with the exact gradient at the best", touched));
    let quadratic = Expansion::at_mixture(start, directions, STEP, false);
    options.push(("best", quadratic.clone()));
    options.push(("best, cubic", Expansion::at_mixture(start, directions, STEP, true)));
    let mut local: Vec<ExpansionReport> =
        options.iter().map(|(name, e)| report(problem, name, "merges near the best", e, &near, &real)).collect();
    let chosen =
        (0..local.len()).reduce(|a, b| if local[b].target.rms < local[a].target.rms { b } else { a }).unwrap_or(0);
    local[chosen].chosen = true;
    let mut forms = options.swap_remove(chosen).1.forms;
    reports.extend(local);

    let exact =
        |losses: &[f64], w: &[f64]| objective.target.of(losses) + objective.kl * divergence(w, &objective.natural);
    let mut best = Found { value: exact(&start.losses, &base), weights: base };
    let mut now = start.clone();
    let mut rounds = 0;
    let gap = loop {
        rounds += 1;
        for (d, form) in forms.iter_mut().enumerate() {
            form.touch(&now.weights, now.losses[d], &now.gradients[d]);
        }
        let landscape = Landscape::new(&forms, objective);
        let slope = landscape.smooth(&best.weights, super::objective::Sharpness(1e4)).1;
        let gap = problem.constraints.gap(&best.weights, &slope);
        let next = best_of(&landscape, &problem.constraints, &[best.weights.clone(), now.weights.clone()]);
        let Some(next) = next.filter(|next| next.value < best.value - SMALL_GAIN && rounds < ROUNDS) else { break gap };
        now = merges.gradients(lambda, std::slice::from_ref(&next.weights))?.remove(0);
        let value = exact(&now.losses, &now.weights);
        let within = now.losses.iter().zip(&objective.limits).all(|(loss, limit)| loss <= &(limit + 1e-5));
        if value < best.value && within {
            best = Found { weights: now.weights.clone(), value };
        }
    };
    let error = errors(problem, &forms, &near, &real).0;
    Ok(Polished { best, forms, quadratic: quadratic.forms, gap, rounds, error })
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

fn baselines(problem: &Problem, landscape: &Landscape, candidates: &mut CandidateList) {
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
    let value = |i: &usize| landscape.target(&problem.alone(*i));
    let compare = |a: &usize, b: &usize| value(a).total_cmp(&value(b));
    if let (Some(best), Some(worst)) = ((0..n).min_by(compare), (0..n).max_by(compare)) {
        candidates.add("baseline", &format!("best partition alone: {}", problem.partitions[best]), problem.alone(best));
        // Of a convex function, the maximum over all mixtures is at a corner.
        candidates.add("baseline", &format!("worst: {}", problem.partitions[worst]), problem.alone(worst));
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
