//! What a search minimizes: the mean or the worst loss of some domains, in bits per byte, with
//! limits on single domains and a pull towards the natural mixture.

use super::form::Form;
use serde::Serialize;

/// Domains and their weights.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Target {
    /// As the user wrote it.
    pub name: String,
    /// (D) 0 or more, summing to 1
    pub weights: Vec<f64>,
    /// Takes the largest loss of the domains with a weight above 0, instead of the weighted mean.
    pub worst: bool,
}

impl Target {
    /// Its value for the losses of D domains.
    pub fn of(&self, losses: &[f64]) -> f64 {
        let chosen = self.weights.iter().zip(losses).filter(|(weight, _)| **weight > 0.0);
        match self.worst {
            true => chosen.map(|(_, loss)| *loss).fold(f64::NEG_INFINITY, f64::max),
            false => chosen.map(|(weight, loss)| weight * loss).sum(),
        }
    }
}

/// The function that a search minimizes over mixtures.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    /// The domains that count.
    pub target: Target,
    /// (D) The largest allowed loss of each domain; infinity where there is no limit.
    pub limits: Vec<f64>,
    /// Weight of the Kullback-Leibler divergence from `natural`, in bits per byte for each nat.
    pub kl: f64,
    /// (n) weights in proportion to the partitions' tokens, above 0
    pub natural: Vec<f64>,
}

/// `sum_i w_i ln(w_i / natural_i)`
pub fn divergence(w: &[f64], natural: &[f64]) -> f64 {
    w.iter().zip(natural).filter(|(w, _)| **w > 0.0).map(|(w, n)| w * (w / n).ln()).sum()
}

/// Predicted objective of every mixture.
pub struct Landscape<'a> {
    /// (D)
    pub forms: &'a [Form],
    /// What is minimized.
    pub objective: &'a Objective,
    /// The target's form, if it is a mean.
    mean: Option<Form>,
    /// A scale of differences between mixtures, for smoothing and penalties.
    scale: f64,
}

/// How sharply a maximum and limits are followed while a minimum is sought.
#[derive(Debug, Clone, Copy)]
pub struct Sharpness(pub f64);

/// Smallest weight whose logarithm is taken.
const FLOOR: f64 = 1e-12;

impl<'a> Landscape<'a> {
    /// Of these forms of D domains.
    pub fn new(forms: &'a [Form], objective: &'a Objective) -> Landscape<'a> {
        let n = objective.natural.len();
        let mean = (!objective.target.worst).then(|| {
            let mut mean = Form::zero(n);
            let chosen = objective.target.weights.iter().zip(forms).filter(|(weight, _)| **weight > 0.0);
            chosen.for_each(|(weight, form)| mean.add(*weight, form));
            mean
        });
        let mut landscape = Landscape { forms, objective, mean, scale: 1.0 };
        let alone = |i: usize| (0..n).map(|j| f64::from(u8::from(i == j))).collect::<Vec<_>>();
        let values: Vec<f64> = (0..n).map(|i| landscape.target(&alone(i))).collect();
        let range = values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
            - values.iter().copied().fold(f64::INFINITY, f64::min);
        landscape.scale = if range > 1e-12 { range } else { 1.0 };
        landscape
    }

    /// n
    pub fn len(&self) -> usize {
        self.objective.natural.len()
    }

    /// Whether there is no partition.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The forms whose largest value is the target: that of the mean, or one for each domain.
    pub fn target_forms(&self) -> Vec<&Form> {
        match &self.mean {
            Some(mean) => vec![mean],
            None => self.worst_forms().map(|(_, form)| form).collect(),
        }
    }

    fn worst_forms(&self) -> impl Iterator<Item = (usize, &Form)> {
        let chosen = |d: &usize| self.objective.target.weights[*d] > 0.0;
        (0..self.forms.len()).filter(chosen).map(|d| (d, &self.forms[d]))
    }

    /// The predicted target.
    pub fn target(&self, w: &[f64]) -> f64 {
        self.target_forms().iter().map(|form| form.value(w)).fold(f64::NEG_INFINITY, f64::max)
    }

    /// The predicted objective: the target and the pull towards the natural mixture.
    pub fn value(&self, w: &[f64]) -> f64 {
        let pull =
            if self.objective.kl > 0.0 { self.objective.kl * divergence(w, &self.objective.natural) } else { 0.0 };
        self.target(w) + pull
    }

    /// How far the predicted loss of any domain is above its limit; 0 if none is.
    pub fn excess(&self, w: &[f64]) -> f64 {
        let over = |(form, limit): (&Form, &f64)| if limit.is_finite() { form.value(w) - limit } else { 0.0 };
        self.forms.iter().zip(&self.objective.limits).map(over).fold(0.0, f64::max)
    }

    /// Whether it has a limit.
    pub fn is_limited(&self) -> bool {
        self.objective.limits.iter().any(|limit| limit.is_finite())
    }

    /// Whether [`Landscape::smooth`] differs from [`Landscape::value`].
    pub fn needs_smoothing(&self) -> bool {
        self.mean.is_none() || self.is_limited()
    }

    /// The objective and its gradient, with a smooth maximum and a penalty above the limits; both
    /// approach the objective as the sharpness grows.
    pub fn smooth(&self, w: &[f64], Sharpness(sharp): Sharpness) -> (f64, Vec<f64>) {
        let temperature = self.scale / sharp;
        let (mut value, mut gradient) = match &self.mean {
            Some(mean) => (mean.value(w), mean.gradient(w)),
            None => {
                let all: Vec<(f64, &Form)> = self.worst_forms().map(|(_, form)| (form.value(w), form)).collect();
                let top = all.iter().map(|(value, _)| *value).fold(f64::NEG_INFINITY, f64::max);
                let shares: Vec<f64> = all.iter().map(|(value, _)| ((value - top) / temperature).exp()).collect();
                let sum: f64 = shares.iter().sum();
                let mut gradient = vec![0.0; w.len()];
                for ((_, form), share) in all.iter().zip(&shares) {
                    gradient.iter_mut().zip(form.gradient(w)).for_each(|(to, g)| *to += share / sum * g);
                }
                (top + temperature * sum.ln(), gradient)
            }
        };
        if self.is_limited() {
            let stiffness = sharp / self.scale;
            for (form, limit) in self.forms.iter().zip(&self.objective.limits).filter(|(_, limit)| limit.is_finite()) {
                // Aimed slightly inside of the limit, because a penalty ends slightly outside of it.
                let over = form.value(w) - (limit - self.scale / sharp / 2.0);
                if over > 0.0 {
                    value += stiffness * over * over;
                    let factor = 2.0 * stiffness * over;
                    gradient.iter_mut().zip(form.gradient(w)).for_each(|(to, g)| *to += factor * g);
                }
            }
        }
        if self.objective.kl > 0.0 {
            value += self.objective.kl * divergence(w, &self.objective.natural);
            for ((to, w), natural) in gradient.iter_mut().zip(w).zip(&self.objective.natural) {
                *to += self.objective.kl * ((w.max(FLOOR) / natural).ln() + 1.0);
            }
        }
        (value, gradient)
    }
}
