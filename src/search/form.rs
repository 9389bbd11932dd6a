//! Losses as functions of a mixture's weights: a quadratic form per domain, from the gradients of
//! n + 1 merges of n modules. Near the seed the loss of a merge is such a form to about one percent
//! of its variation between mixtures; the error is measured on merges that the form was not made
//! from.
//!
//! Losses and gradients are in the same unit, for which the search takes bits per byte.

use crate::analysis::statistics::correlation::pearson;
use crate::analysis::statistics::linear::dot;
use serde::Serialize;

/// A real merge: its losses on D domains and their gradients in the n weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// (n)
    pub weights: Vec<f64>,
    /// (D)
    pub losses: Vec<f64>,
    /// (D, n)
    pub gradients: Vec<Vec<f64>>,
}

/// `f(w) = constant + linear w + w^T hessian w / 2 + sum_i coefficient_i c((w_i - center_i) /
/// width_i)` with `c(t) = 3 t^2 - 2 t^3`. The last sum is absent in a quadratic form.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Form {
    /// f(0), without the last sum
    pub constant: f64,
    /// (n)
    pub linear: Vec<f64>,
    /// (n, n) symmetric, row by row
    pub hessian: Vec<f64>,
    /// The last sum; empty if there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cubic: Vec<Cubic>,
}

/// One term of a form's last sum.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cubic {
    /// Where the term and its slope are 0.
    pub center: f64,
    /// Distance from there to the weight at which the term is `coefficient`.
    pub width: f64,
    /// The term's value there.
    pub coefficient: f64,
}

impl Cubic {
    /// Value and derivative at weight `w`.
    pub fn at(&self, w: f64) -> (f64, f64) {
        let t = (w - self.center) / self.width;
        (self.coefficient * t * t * (3.0 - 2.0 * t), self.coefficient * 6.0 * t * (1.0 - t) / self.width)
    }
}

impl Form {
    /// The form that is 0 everywhere.
    pub fn zero(n: usize) -> Form {
        Form { constant: 0.0, linear: vec![0.0; n], hessian: vec![0.0; n * n], cubic: Vec::new() }
    }

    /// n
    pub fn len(&self) -> usize {
        self.linear.len()
    }

    /// Whether it is a form of no weights.
    pub fn is_empty(&self) -> bool {
        self.linear.is_empty()
    }

    /// f(w)
    pub fn value(&self, w: &[f64]) -> f64 {
        let n = self.len();
        let square: f64 = w.iter().zip(self.hessian.chunks(n.max(1))).map(|(wi, row)| wi * dot(row, w)).sum();
        let cubic: f64 = self.cubic.iter().zip(w).map(|(c, &w)| c.at(w).0).sum();
        self.constant + dot(&self.linear, w) + square / 2.0 + cubic
    }

    /// The gradient of f at w.
    pub fn gradient(&self, w: &[f64]) -> Vec<f64> {
        let n = self.len();
        let slope = |i: usize| {
            let cubic = self.cubic.get(i).map_or(0.0, |c| c.at(w[i]).1);
            self.linear[i] + dot(&self.hessian[i * n..(i + 1) * n], w) + cubic
        };
        (0..n).map(slope).collect()
    }

    /// Adds `factor` times `other`, whose cubic terms have the same centers and widths.
    pub fn add(&mut self, factor: f64, other: &Form) {
        self.constant += factor * other.constant;
        let add = |to: &mut [f64], from: &[f64]| to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
        add(&mut self.linear, &other.linear);
        add(&mut self.hessian, &other.hessian);
        if self.cubic.is_empty() {
            self.cubic = other.cubic.iter().map(|c| Cubic { coefficient: 0.0, ..*c }).collect();
        }
        for (to, from) in self.cubic.iter_mut().zip(&other.cubic) {
            to.coefficient += factor * from.coefficient;
        }
    }

    /// Moves the form so that it has the value and the gradient of a real merge at `w`.
    pub fn touch(&mut self, w: &[f64], value: f64, gradient: &[f64]) {
        let change: Vec<f64> = gradient.iter().zip(self.gradient(w)).map(|(to, from)| to - from).collect();
        self.linear.iter_mut().zip(&change).for_each(|(linear, change)| *linear += change);
        self.constant += value - self.value(w);
    }
}

/// The forms of all domains, made from real merges.
#[derive(Debug, Clone)]
pub struct Expansion {
    /// One per domain.
    pub forms: Vec<Form>,
    /// For each domain, how far the measured second derivatives are from symmetric: the largest
    /// difference, relative to the largest second derivative.
    pub asymmetry: Vec<f64>,
}

impl Expansion {
    /// Expands at the seed (all weights 0) from the gradients there and at each module: point i is
    /// module i alone. With `cubic`, the form also has the loss of each module.
    pub fn at_seed(seed: &Point, modules: &[Point], cubic: bool) -> Expansion {
        let centers = vec![0.0; modules.len()];
        Expansion::of(seed, modules, cubic, |difference, _| difference, &centers, &vec![1.0; modules.len()])
    }

    /// Expands at `base`, a mixture, from the gradients there and `step` of the way from there to
    /// each module. With `cubic`, the form also has the losses of these points.
    pub fn at_mixture(base: &Point, points: &[Point], step: f64, cubic: bool) -> Expansion {
        let widths: Vec<f64> = base.weights.iter().map(|b| step * (1.0 - b)).collect();
        // A mixture w is base + sum_i (w_i - base_i) (e_i - base), and the differences between
        // gradients along these directions, weighted by base, would sum to 0 if the loss were a
        // quadratic form.
        let project = |differences: Vec<Vec<f64>>, base: &[f64]| {
            let n = base.len();
            let mean: Vec<f64> =
                (0..n).map(|j| base.iter().zip(&differences).map(|(b, row)| b * row[j]).sum()).collect();
            let row = |row: Vec<f64>| {
                let row: Vec<f64> = row.iter().zip(&mean).map(|(x, mean)| (x - mean) / step).collect();
                let along = dot(&row, base);
                row.iter().map(|x| x - along).collect()
            };
            differences.into_iter().map(row).collect()
        };
        Expansion::of(base, points, cubic, project, &base.weights, &widths)
    }

    fn of(
        base: &Point,
        points: &[Point],
        cubic: bool,
        second: impl Fn(Vec<Vec<f64>>, &[f64]) -> Vec<Vec<f64>>,
        centers: &[f64],
        widths: &[f64],
    ) -> Expansion {
        let n = points.len();
        let (mut forms, mut asymmetry) = (Vec::new(), Vec::new());
        for d in 0..base.losses.len() {
            let difference =
                |p: &Point| p.gradients[d].iter().zip(&base.gradients[d]).map(|(at, base)| at - base).collect();
            let second = second(points.iter().map(difference).collect(), &base.weights);
            let (mut hessian, mut largest, mut apart) = (vec![0.0; n * n], 0.0f64, 0.0f64);
            for i in 0..n {
                for j in 0..n {
                    hessian[i * n + j] = (second[i][j] + second[j][i]) / 2.0;
                    largest = largest.max(second[i][j].abs());
                    apart = apart.max((second[i][j] - second[j][i]).abs());
                }
            }
            let mut form = Form { hessian, ..Form::zero(n) };
            form.touch(&base.weights, base.losses[d], &base.gradients[d]);
            if cubic {
                let missing: Vec<f64> = points.iter().map(|p| p.losses[d] - form.value(&p.weights)).collect();
                form.cubic = cubic_terms(points, &missing, centers, widths);
            }
            forms.push(form);
            asymmetry.push(if largest > 0.0 { apart / largest } else { 0.0 });
        }
        Expansion { forms, asymmetry }
    }
}

/// Fills in the derivatives in the weights of partitions that are new, which only the points
/// towards these have: point i is `step` of the way from `base`, which contains nothing new, to
/// partition i. For a quadratic loss they follow from the symmetry of the second derivatives, and
/// from the two losses and the slope along the line to a new partition.
pub fn complete(base: &mut Point, points: &mut [Point], is_new: &[bool], step: f64) {
    let n = points.len();
    let b = base.weights.clone();
    let added: Vec<usize> = (0..n).filter(|&i| is_new[i]).collect();
    let old: Vec<usize> = (0..n).filter(|&i| !is_new[i]).collect();
    let along_base = |g: &[f64]| old.iter().map(|&k| g[k] * b[k]).sum::<f64>();
    for d in 0..base.losses.len() {
        // Slopes at the base along the lines to the new partitions.
        for &j in &added {
            let g = &points[j].gradients[d];
            let (rise, slope) = (points[j].losses[d] - base.losses[d], g[j] - along_base(g));
            let along = 2.0 * rise / step - slope;
            base.gradients[d][j] = along + along_base(&base.gradients[d]);
        }
        for &i in &old {
            // H (e_i - base), of which only what belongs to the old partitions is known.
            let known = |k: usize| (points[i].gradients[d][k] - base.gradients[d][k]) / step;
            let along = old.iter().map(|&k| known(k) * b[k]).sum::<f64>();
            for &j in &added {
                // (e_j - base) H (e_i - base)
                let row = |k: usize| (points[j].gradients[d][k] - base.gradients[d][k]) / step;
                let both = row(i) - old.iter().map(|&k| row(k) * b[k]).sum::<f64>();
                points[i].gradients[d][j] = base.gradients[d][j] + step * (both + along);
            }
        }
    }
}

/// Cubic terms whose sum is `missing[i]` at point i.
fn cubic_terms(points: &[Point], missing: &[f64], centers: &[f64], widths: &[f64]) -> Vec<Cubic> {
    let n = points.len();
    let term = |i: usize, coefficient: f64| Cubic { center: centers[i], width: widths[i], coefficient };
    // A partition of weight 1 at the base has no direction of its own.
    let unit = |i: usize, w: f64| if widths[i] > 0.0 { term(i, 1.0).at(w).0 } else { 0.0 };
    let mut rows: Vec<Vec<f64>> = points.iter().map(|p| (0..n).map(|i| unit(i, p.weights[i])).collect()).collect();
    (0..n).filter(|&i| widths[i] <= 0.0).for_each(|i| rows[i][i] = 1.0);
    let coefficients = solve(&mut rows, missing).unwrap_or_else(|| vec![0.0; n]);
    (0..n).map(|i| Cubic { width: if widths[i] > 0.0 { widths[i] } else { 1.0 }, ..term(i, coefficients[i]) }).collect()
}

/// Solves `a x = b` by Gaussian elimination with row pivots; `None` if `a` is singular.
fn solve(a: &mut [Vec<f64>], b: &[f64]) -> Option<Vec<f64>> {
    let n = b.len();
    let mut b = b.to_vec();
    for i in 0..n {
        let pivot = (i..n).max_by(|&x, &y| a[x][i].abs().total_cmp(&a[y][i].abs()))?;
        if a[pivot][i].abs() < 1e-9 {
            return None;
        }
        a.swap(i, pivot);
        b.swap(i, pivot);
        let (above, below) = a.split_at_mut(i + 1);
        for (row, b_row) in below.iter_mut().zip(i + 1..n) {
            let factor = row[i] / above[i][i];
            row[i..].iter_mut().zip(&above[i][i..]).for_each(|(x, above)| *x -= factor * above);
            b[b_row] -= factor * b[i];
        }
    }
    for i in (0..n).rev() {
        b[i] = (b[i] - dot(&a[i][i + 1..], &b[i + 1..])) / a[i][i];
    }
    Some(b)
}

/// The error of predicted losses on merges that the prediction was not made from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct FormError {
    /// Merges compared.
    pub n: usize,
    /// Standard deviation of the real losses.
    pub deviation: f64,
    /// Root mean square of the errors.
    pub rms: f64,
    /// The largest error.
    pub largest: f64,
    /// Pearson's r of predicted and real losses, if both vary.
    pub pearson: Option<f64>,
}

impl FormError {
    /// Whether it is above a tenth of what the losses differ by.
    pub fn is_large(&self) -> bool {
        self.rms > 0.1 * self.deviation
    }

    /// Compares predictions with real losses.
    pub fn of(predicted: &[f64], real: &[f64]) -> FormError {
        let n = real.len();
        if n == 0 {
            return FormError::default();
        }
        let mean = real.iter().sum::<f64>() / n as f64;
        let squares: f64 = real.iter().map(|r| (r - mean).powi(2)).sum();
        let errors = || predicted.iter().zip(real).map(|(p, r)| (p - r).abs());
        FormError {
            n,
            deviation: (squares / (n.max(2) - 1) as f64).sqrt(),
            rms: (errors().map(|e| e * e).sum::<f64>() / n as f64).sqrt(),
            largest: errors().fold(0.0, f64::max),
            pearson: pearson(predicted, real).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A random loss that is quadratic in the weights, plus `bend` times a cubic function of each.
    fn point(weights: &[f64], bend: f64) -> Point {
        let n = weights.len();
        let g = |i: usize| ((i * 7 + 3) % 5) as f64 - 2.0;
        let h = |i: usize, j: usize| ((i + j) % 3) as f64 + if i == j { 2.0 } else { 0.0 };
        let loss = 5.0
            + (0..n).map(|i| g(i) * weights[i] + bend * weights[i].powi(3)).sum::<f64>()
            + (0..n).map(|i| (0..n).map(|j| h(i, j) * weights[i] * weights[j]).sum::<f64>()).sum::<f64>() / 2.0;
        let slope =
            |i: usize| g(i) + 3.0 * bend * weights[i].powi(2) + (0..n).map(|j| h(i, j) * weights[j]).sum::<f64>();
        Point { weights: weights.to_vec(), losses: vec![loss], gradients: vec![(0..n).map(slope).collect()] }
    }

    fn vertex(n: usize, i: usize) -> Vec<f64> {
        (0..n).map(|j| f64::from(u8::from(i == j))).collect()
    }

    const MIXTURES: [[f64; 4]; 4] = [[0.25; 4], [0.5, 0.5, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0]];

    #[test]
    fn a_quadratic_loss_is_recovered_exactly_from_either_base() {
        let seed = point(&[0.0; 4], 0.0);
        let modules: Vec<Point> = (0..4).map(|i| point(&vertex(4, i), 0.0)).collect();
        let base = point(&[0.4, 0.3, 0.2, 0.1], 0.0);
        let part =
            |i: usize| -> Vec<f64> { base.weights.iter().zip(vertex(4, i)).map(|(b, e)| b + 0.5 * (e - b)).collect() };
        let points: Vec<Point> = (0..4).map(|i| point(&part(i), 0.0)).collect();
        for cubic in [false, true] {
            for expansion in
                [Expansion::at_seed(&seed, &modules, cubic), Expansion::at_mixture(&base, &points, 0.5, cubic)]
            {
                assert!(expansion.asymmetry[0] < 1e-12);
                for w in MIXTURES {
                    let (form, real) = (&expansion.forms[0], point(&w, 0.0));
                    assert!((form.value(&w) - real.losses[0]).abs() < 1e-12);
                    // On the simplex a gradient is determined up to a constant.
                    let (g, exact) = (form.gradient(&w), &real.gradients[0]);
                    (1..4).for_each(|i| assert!((g[i] - g[0] - exact[i] + exact[0]).abs() < 1e-12));
                }
            }
        }
    }

    #[test]
    fn the_cubic_terms_of_an_expansion_at_the_seed_are_exact_for_cubic_losses() {
        let seed = point(&[0.0; 4], 1.5);
        let modules: Vec<Point> = (0..4).map(|i| point(&vertex(4, i), 1.5)).collect();
        let error = |cubic: bool| {
            let form = &Expansion::at_seed(&seed, &modules, cubic).forms[0];
            MIXTURES.map(|w| (form.value(&w) - point(&w, 1.5).losses[0]).abs()).into_iter().fold(0.0, f64::max)
        };
        assert!(error(false) > 0.1 && error(true) < 1e-12, "{} {}", error(false), error(true));
    }

    #[test]
    fn an_expansion_at_a_mixture_has_the_losses_that_it_was_made_from() {
        let base = point(&[0.4, 0.3, 0.2, 0.1], 1.5);
        let part =
            |i: usize| -> Vec<f64> { base.weights.iter().zip(vertex(4, i)).map(|(b, e)| b + 0.5 * (e - b)).collect() };
        let points: Vec<Point> = (0..4).map(|i| point(&part(i), 1.5)).collect();
        let form = &Expansion::at_mixture(&base, &points, 0.5, true).forms[0];
        for p in points.iter().chain([&base]) {
            assert!((form.value(&p.weights) - p.losses[0]).abs() < 1e-12);
        }
    }

    /// A search of the first three partitions, continued with a fourth and a fifth, each with one
    /// gradient, has the forms of a search of all five.
    #[test]
    fn derivatives_of_new_partitions_follow_from_one_gradient_each() {
        let (base, is_new) = ([0.5, 0.3, 0.2, 0.0, 0.0], [false, false, false, true, true]);
        let part = |i: usize| -> Vec<f64> { base.iter().zip(vertex(5, i)).map(|(b, e)| b + 0.5 * (e - b)).collect() };
        let start = point(&base, 0.0);
        let points: Vec<Point> = (0..5).map(|i| point(&part(i), 0.0)).collect();
        let forget = |p: &Point| {
            let mut p = p.clone();
            p.gradients[0].iter_mut().zip(is_new).filter(|(_, is_new)| *is_new).for_each(|(g, _)| *g = f64::NAN);
            p
        };
        let mut known = forget(&start);
        let mut completed: Vec<Point> =
            points.iter().zip(is_new).map(|(p, is_new)| if is_new { p.clone() } else { forget(p) }).collect();
        complete(&mut known, &mut completed, &is_new, 0.5);
        for cubic in [false, true] {
            let whole = &Expansion::at_mixture(&start, &points, 0.5, cubic).forms[0];
            let continued = &Expansion::at_mixture(&known, &completed, 0.5, cubic).forms[0];
            for w in [[0.2; 5], [0.0, 0.0, 0.0, 0.5, 0.5], [0.4, 0.0, 0.1, 0.3, 0.2], [0.0, 0.0, 0.0, 0.0, 1.0]] {
                let (a, b) = (whole.value(&w), continued.value(&w));
                assert!((a - b).abs() < 1e-10, "{w:?}: {a} and {b}");
                assert!((a - point(&w, 0.0).losses[0]).abs() < 1e-10);
            }
        }
    }

    #[test]
    fn errors_are_those_of_the_plain_formulas() {
        let error = FormError::of(&[1.0, 2.0, 4.0], &[1.0, 2.5, 3.5]);
        assert_eq!((error.n, error.largest), (3, 0.5));
        assert!((error.rms - (0.5f64 / 3.0).sqrt()).abs() < 1e-15 && (error.pearson.expect("r") - 0.9538).abs() < 1e-4);
        assert_eq!(FormError::of(&[1.0; 3], &[1.0, 2.0, 3.0]).pearson, None);
    }
}
