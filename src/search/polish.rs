//! The best weights by exact gradients of real merges.

use super::continuous::{Found, best_of, random_mixture};
use super::expansions::{FirstForms, STEP, errors, report};
use super::form::{Expansion, Form, FormError};
use super::objective::{Landscape, Objective, Sharpness, divergence};
use super::outcome::ExpansionReport;
use super::problem::{HELD_OUT, Merges, Problem};
use crate::error::Result;

/// Merges near the best mixture that the choice between forms is made on there.
const NEAR: usize = 12;
/// Most rounds of exact gradients at the current best mixture.
const ROUNDS: usize = 6;
/// Rounds end when the form promises to gain less than this, in bits per byte.
pub const SMALL_GAIN: f64 = 1e-6;

/// The best weights after rounds of exact gradients.
pub struct Polished {
    /// The best weights of real merges
    pub best: Found,
    /// Forms that are exact, with their gradients, at the last round's weights
    pub forms: Vec<Form>,
    /// Quadratic forms expanded at the first round's weights. Cubic terms would tell apart how
    /// equal partitions share a weight.
    pub quadratic: Vec<Form>,
    /// What a first-order step could still gain there, by the exact gradient
    pub gap: f64,
    /// Rounds of exact gradients
    pub rounds: usize,
    /// The forms' error on merges near the best
    pub error: FormError,
}

/// What the rounds begin with.
pub struct First<'a> {
    /// The chosen forms
    pub forms: &'a [Form],
    /// Their minimum
    pub best: Found,
    /// All first forms
    pub all: &'a FirstForms,
}

/// Expands again at the best weights, keeps the form that predicts merges near them better, and
/// repeats: exact value and gradient at the weights, next minimum of the form. A search that
/// continues an earlier one does not expand again, so that it needs no gradients but those at the
/// best weights.
pub fn polish(
    problem: &Problem,
    merges: &mut dyn Merges,
    first: First,
    objective: &Objective,
    reports: &mut Vec<ExpansionReport>,
) -> Result<Polished> {
    let (n, lambda) = (problem.n(), problem.lambda);
    let base = first.best.weights.clone();
    let towards =
        |to: &[f64], part: f64| -> Vec<f64> { base.iter().zip(to).map(|(b, e)| b + part * (e - b)).collect() };
    let mut points = vec![base.clone()];
    if !first.all.are_continued() {
        points.extend((0..n).map(|i| towards(&problem.alone(i), STEP)));
    }
    let points = merges.gradients(lambda, &points, &vec![true; n])?;
    let near: Vec<Vec<f64>> =
        (0..NEAR).map(|i| towards(&random_mixture(n, problem.seed ^ HELD_OUT, (1 << 40) + i as u64), 0.5)).collect();
    let real = merges.losses(lambda, &near)?;
    let (start, directions) = points.split_first().expect("the best weights");
    let touched = |forms: &[Form]| {
        let mut touched = Expansion { forms: forms.to_vec(), asymmetry: vec![] };
        for (d, form) in touched.forms.iter_mut().enumerate() {
            form.touch(&base, start.losses[d], &start.gradients[d]);
        }
        touched
    };
    let mut options: Vec<(&str, Expansion)> =
        vec![("first, with the exact gradient at the best", touched(first.forms))];
    let quadratic = if directions.is_empty() {
        touched(&first.all.expansions[0].1.forms)
    } else {
        let quadratic = Expansion::at_mixture(start, directions, STEP, false);
        options.push(("best", quadratic.clone()));
        options.push(("best, cubic", Expansion::at_mixture(start, directions, STEP, true)));
        quadratic
    };
    let mut local: Vec<ExpansionReport> =
        options.iter().map(|(name, e)| report(problem, name, "merges near the best", e, &near, &real)).collect();
    let chosen =
        (0..local.len()).reduce(|a, b| if local[b].target.rms < local[a].target.rms { b } else { a }).unwrap_or(0);
    local[chosen].chosen = true;
    let mut forms = options.swap_remove(chosen).1.forms;
    reports.extend(local);

    let exact =
        |losses: &[f64], w: &[f64]| objective.target.of(losses) + objective.kl * divergence(w, &objective.natural);
    let meets = |losses: &[f64]| losses.iter().zip(&objective.limits).all(|(loss, limit)| *loss <= limit + 1e-5);
    let mut best = Found { value: exact(&start.losses, &base), weights: base };
    let mut best_meets = meets(&start.losses);
    let mut now = start.clone();
    let mut rounds = 0;
    let mut gap = f64::INFINITY;
    loop {
        rounds += 1;
        for (d, form) in forms.iter_mut().enumerate() {
            form.touch(&now.weights, now.losses[d], &now.gradients[d]);
        }
        let landscape = Landscape::new(&forms, objective);
        if now.weights == best.weights {
            // The gradient is the exact one here.
            let slope = landscape.smooth(&best.weights, Sharpness(1e4)).1;
            gap = problem.constraints.around(&best.weights).gap(&best.weights, &slope);
        }
        let next = best_of(&landscape, &problem.constraints, &[best.weights.clone(), now.weights.clone()]);
        let gains = |next: &Found| !best_meets || next.value < best.value - SMALL_GAIN;
        let Some(next) = next.filter(|next| gains(next) && rounds < ROUNDS) else { break };
        now = merges.gradients(lambda, std::slice::from_ref(&next.weights), &vec![true; n])?.remove(0);
        let value = exact(&now.losses, &now.weights);
        if meets(&now.losses) && (!best_meets || value < best.value) {
            best = Found { weights: now.weights.clone(), value };
            best_meets = true;
        }
    }
    let error = errors(problem, &forms, &near, &real).0;
    Ok(Polished { best, forms, quadratic: quadratic.forms, gap, rounds, error })
}
