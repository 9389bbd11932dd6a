//! The first forms of the losses, and their errors on merges that they were not made from.

use super::form::{Expansion, Form, FormError, Point, complete};
use super::outcome::ExpansionReport;
use super::problem::{Merges, Problem};
use crate::error::Result;

/// Part of the way from a mixture to each module at which gradients are taken.
pub const STEP: f64 = 0.5;

/// The first forms, and what their merges say by themselves.
pub struct FirstForms {
    /// With their names.
    pub expansions: Vec<(&'static str, Expansion)>,
    /// (n) the target of each module alone, by real merges
    pub alone: Vec<f64>,
    /// (n) the mixture that the last of them are expanded at; 0 for partitions whose derivatives
    /// there follow from one gradient each
    pub base: Vec<f64>,
}

/// The forms at the seed and at the mean of all modules; or, continuing an earlier search, those at
/// its mixture, from one more gradient for each partition that it did not have.
pub fn expansions(problem: &Problem, merges: &mut dyn Merges) -> Result<FirstForms> {
    match &problem.earlier {
        Some(earlier) => continued(problem, earlier, merges),
        None => from_the_start(problem, merges),
    }
}

fn from_the_start(problem: &Problem, merges: &mut dyn Merges) -> Result<FirstForms> {
    let n = problem.n();
    merges.say(&format!("gradients of {} merges, at the seed and at the mean of all modules", 2 * (n + 1)));
    let mean = vec![1.0 / n as f64; n];
    let mut points = vec![vec![0.0; n]];
    points.extend((0..n).map(|i| problem.alone(i)));
    points.push(mean.clone());
    points.extend((0..n).map(|i| part_of_the_way(problem, &mean, i)));
    let points = merges.gradients(problem.lambda, &points, &vec![true; n])?;
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
    let alone = modules.iter().map(|module| problem.target.of(&module.losses)).collect();
    Ok(FirstForms { expansions: all, alone, base: mean })
}

fn continued(problem: &Problem, base: &[f64], merges: &mut dyn Merges) -> Result<FirstForms> {
    let n = problem.n();
    let is_new: Vec<bool> = base.iter().map(|weight| *weight == 0.0).collect();
    let added = is_new.iter().filter(|is_new| **is_new).count();
    merges.say(&format!("gradients of {added} merges, one for each partition that the earlier search did not have"));
    let was_there: Vec<bool> = is_new.iter().map(|is_new| !is_new).collect();
    let mut known = vec![base.to_vec()];
    known.extend((0..n).filter(|&i| !is_new[i]).map(|i| part_of_the_way(problem, base, i)));
    let mut known = merges.gradients(problem.lambda, &known, &was_there)?.into_iter();
    let mut start = known.next().expect("the earlier base");
    let new: Vec<Vec<f64>> = (0..n).filter(|&i| is_new[i]).map(|i| part_of_the_way(problem, base, i)).collect();
    let mut new = merges.gradients(problem.lambda, &new, &vec![true; n])?.into_iter();
    let mut points: Vec<Point> =
        is_new.iter().filter_map(|&is_new| if is_new { new.next() } else { known.next() }).collect();
    complete(&mut start, &mut points, &is_new, STEP);
    let all = vec![
        ("earlier", Expansion::at_mixture(&start, &points, STEP, false)),
        ("earlier, cubic", Expansion::at_mixture(&start, &points, STEP, true)),
    ];
    let alone: Vec<Vec<f64>> = (0..n).map(|i| problem.alone(i)).collect();
    let alone = merges.losses(problem.lambda, &alone)?.iter().map(|losses| problem.target.of(losses)).collect();
    Ok(FirstForms { expansions: all, alone, base: base.to_vec() })
}

fn part_of_the_way(problem: &Problem, base: &[f64], i: usize) -> Vec<f64> {
    base.iter().zip(problem.alone(i)).map(|(b, e)| b + STEP * (e - b)).collect()
}

impl FirstForms {
    /// Whether they continue an earlier search.
    pub fn are_continued(&self) -> bool {
        self.base.contains(&0.0)
    }
}

/// The form with the smallest error of the target on held-out merges, and the errors of all.
pub fn choose(
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

/// The errors of one expansion.
pub fn report(
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
pub fn errors(
    problem: &Problem,
    forms: &[Form],
    mixtures: &[Vec<f64>],
    real: &[Vec<f64>],
) -> (FormError, Vec<FormError>) {
    let predicted: Vec<Vec<f64>> = mixtures.iter().map(|w| forms.iter().map(|form| form.value(w)).collect()).collect();
    let of = |losses: &[Vec<f64>], f: &dyn Fn(&[f64]) -> f64| losses.iter().map(|l| f(l)).collect::<Vec<f64>>();
    let target = |losses: &[f64]| problem.target.of(losses);
    let domain = |d: usize| FormError::of(&of(&predicted, &|l| l[d]), &of(real, &|l| l[d]));
    (FormError::of(&of(&predicted, &target), &of(real, &target)), (0..forms.len()).map(domain).collect())
}
