//! The first forms of the losses, and their errors on merges that they were not made from.

use super::form::{Expansion, Form, FormError};
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
}

/// The forms at the seed and at the mean of all modules.
pub fn expansions(problem: &Problem, merges: &mut dyn Merges) -> Result<FirstForms> {
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
    let alone = modules.iter().map(|module| problem.target.of(&module.losses)).collect();
    Ok(FirstForms { expansions: all, alone })
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
