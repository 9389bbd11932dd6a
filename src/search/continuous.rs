//! The best weights of the predicted objective: projected gradients with spectral steps (Birgin,
//! Martinez, Raydan 2000) from many starting points.

use super::constraints::{Bounds, Constraints};
use super::objective::{Landscape, Sharpness};
use crate::analysis::statistics::linear::dot;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};
use rayon::prelude::*;

/// A mixture and its predicted objective.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// (n)
    pub weights: Vec<f64>,
    /// The predicted objective.
    pub value: f64,
}

/// Random starting points, beside natural, uniform and each partition alone.
const RANDOM_STARTS: usize = 16;
/// Sharpness of successive rounds, where a maximum or a limit has to be followed.
const ROUNDS: [f64; 6] = [10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
/// Most gradients of one round.
const STEPS: usize = 500;
/// A mixture over its limits by at most this, in bits per byte, meets them.
pub const LIMIT_SLACK: f64 = 1e-6;

/// The best mixture found, or `None` if none meets the limits.
pub fn minimize(landscape: &Landscape, constraints: &Constraints, seed: u64) -> Option<Found> {
    let n = landscape.len();
    let mut starts = vec![landscape.objective.natural.clone(), vec![1.0 / n as f64; n]];
    starts.extend((0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()));
    starts.extend((0..RANDOM_STARTS).map(|i| random_mixture(n, seed, i as u64)));
    best_of(landscape, constraints, &starts)
}

/// The best of the minima that these starting points lead to.
pub fn best_of(landscape: &Landscape, constraints: &Constraints, starts: &[Vec<f64>]) -> Option<Found> {
    if constraints.at_most < constraints.len() {
        return fewest(landscape, constraints, starts);
    }
    let found: Vec<Option<Found>> = starts.par_iter().map(|start| descend(landscape, constraints, start)).collect();
    // The first of equal ones, whatever the threads.
    found.into_iter().flatten().reduce(|best, next| if next.value < best.value { next } else { best })
}

/// Weights uniform on the simplex.
pub fn random_mixture(n: usize, seed: u64, number: u64) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(number);
    let parts: Vec<f64> = (0..n).map(|_| Exp1.sample(&mut random)).collect();
    let sum: f64 = parts.iter().sum();
    parts.iter().map(|part| part / sum).collect()
}

/// A local minimum near `start`; `None` if it does not meet the limits.
pub fn descend(landscape: &Landscape, constraints: &Constraints, start: &[f64]) -> Option<Found> {
    let mut w = constraints.project(start);
    match landscape.needs_smoothing() {
        false => w = spectral(w, constraints, |w| landscape.smooth(w, Sharpness(1.0))),
        true => {
            for sharp in ROUNDS {
                w = spectral(w, constraints, |w| landscape.smooth(w, Sharpness(sharp)));
            }
            w = within_limits(landscape, constraints, w);
        }
    }
    tidy(&mut w, constraints);
    let value = landscape.value(&w);
    (value.is_finite() && landscape.excess(&w) <= LIMIT_SLACK).then_some(Found { weights: w, value })
}

/// A penalty ends slightly outside of a limit that matters: moves as little towards the natural
/// mixture, which limits are relative to, as brings the mixture within.
fn within_limits(landscape: &Landscape, constraints: &Constraints, w: Vec<f64>) -> Vec<f64> {
    let safe = constraints.project(&landscape.objective.natural);
    if landscape.excess(&w) <= LIMIT_SLACK || landscape.excess(&safe) > LIMIT_SLACK {
        return w;
    }
    let part = |t: f64| -> Vec<f64> { w.iter().zip(&safe).map(|(w, s)| w + t * (s - w)).collect() };
    let (mut outside, mut inside) = (0.0, 1.0);
    for _ in 0..LIMIT_BISECTIONS {
        let middle = (outside + inside) / 2.0;
        if landscape.excess(&part(middle)) <= LIMIT_SLACK { inside = middle } else { outside = middle }
    }
    part(inside)
}

/// Halvings of the way to the natural mixture.
const LIMIT_BISECTIONS: usize = 40;

/// Sets weights that only rounding keeps from 0 to 0, and the sum to 1.
fn tidy(w: &mut [f64], constraints: &Constraints) {
    w.iter_mut().zip(&constraints.bounds).for_each(|(w, b)| {
        if *w < 1e-9 && b.min == 0.0 {
            *w = 0.0;
        }
    });
    let sum: f64 = w.iter().sum();
    if sum > 0.0 {
        w.iter_mut().for_each(|w| *w /= sum);
    }
}

/// Minimizes a smooth function from a feasible `w`.
fn spectral(mut w: Vec<f64>, constraints: &Constraints, f: impl Fn(&[f64]) -> (f64, Vec<f64>)) -> Vec<f64> {
    let (mut value, mut gradient) = f(&w);
    let mut recent = vec![value];
    let mut step = 1.0 / gradient.iter().map(|g| g.abs()).fold(1e-12, f64::max);
    for _ in 0..STEPS {
        let ahead: Vec<f64> = w.iter().zip(&gradient).map(|(w, g)| w - step * g).collect();
        let direction: Vec<f64> = constraints.project(&ahead).iter().zip(&w).map(|(to, from)| to - from).collect();
        let slope = dot(&gradient, &direction);
        if direction.iter().all(|d| d.abs() < 1e-10) || slope > -1e-15 {
            break;
        }
        // Accepted if below the largest of the last ten values: steps may climb now and then.
        let reference = recent.iter().rev().take(10).copied().fold(f64::NEG_INFINITY, f64::max);
        let mut part = 1.0;
        let (next, next_value, next_gradient) = loop {
            let next: Vec<f64> = w.iter().zip(&direction).map(|(w, d)| w + part * d).collect();
            let (next_value, next_gradient) = f(&next);
            if next_value <= reference + 1e-4 * part * slope || part < 1e-10 {
                break (next, next_value, next_gradient);
            }
            part /= 2.0;
        };
        let (mut moved, mut bend) = (0.0, 0.0);
        for i in 0..w.len() {
            let s = next[i] - w[i];
            moved += s * s;
            bend += s * (next_gradient[i] - gradient[i]);
        }
        step = if bend > 0.0 { (moved / bend).clamp(1e-10, 1e10) } else { step * 10.0 }.clamp(1e-10, 1e10);
        (w, value, gradient) = (next, next_value, next_gradient);
        recent.push(value);
    }
    w
}

/// Most swaps of a partition inside for one outside.
const SWAPS: usize = 50;

/// The best mixture of at most `at_most` partitions: the largest weights of the minimum without
/// that restriction, then exchanges of one partition while they gain. The optimum of a subset is
/// exact; that of all subsets is not proven.
fn fewest(landscape: &Landscape, constraints: &Constraints, starts: &[Vec<f64>]) -> Option<Found> {
    let n = constraints.len();
    let free = Constraints { at_most: n, ..constraints.clone() };
    let relaxed = best_of(landscape, &free, starts)?;
    let solve = |support: &[bool]| {
        let inner = constraints.within(support)?;
        let inside =
            |w: &[f64]| w.iter().zip(support).map(|(w, s)| if *s { w + 0.01 } else { 0.0 }).collect::<Vec<_>>();
        descend(landscape, &inner, &inside(&relaxed.weights))
    };
    let mut order: Vec<usize> = (0..n).collect();
    let forced = |i: usize| constraints.bounds[i].min > 0.0;
    order.sort_by(|&a, &b| {
        forced(b).cmp(&forced(a)).then(relaxed.weights[b].total_cmp(&relaxed.weights[a])).then(a.cmp(&b))
    });
    // Removes the least needed partition until few enough are left.
    let mut support: Vec<bool> = relaxed.weights.iter().enumerate().map(|(i, w)| *w > 0.0 || forced(i)).collect();
    let count = |support: &[bool]| support.iter().filter(|s| **s).count();
    let mut best: Option<Found> = None;
    while count(&support) > constraints.at_most {
        let without = |&i: &usize| {
            let mut fewer = support.clone();
            fewer[i] = false;
            solve(&fewer).map(|found| (found, i))
        };
        let candidates: Vec<usize> = (0..n).filter(|&i| support[i] && !forced(i)).collect();
        let tried: Vec<Option<(Found, usize)>> = candidates.par_iter().map(without).collect();
        match tried.into_iter().flatten().reduce(|a, b| if b.0.value < a.0.value { b } else { a }) {
            Some((found, i)) => {
                support[i] = false;
                best = Some(found);
            }
            // Caps leave too little: take the partitions with the largest caps instead.
            None => {
                order.sort_by(|&a, &b| {
                    let cap = |i: usize| constraints.bounds[i].max;
                    forced(b).cmp(&forced(a)).then(cap(b).total_cmp(&cap(a))).then(a.cmp(&b))
                });
                support = vec![false; n];
                order.iter().take(constraints.at_most).for_each(|&i| support[i] = true);
                best = solve(&support);
            }
        }
    }
    let mut best = best.or_else(|| solve(&support))?;
    for _ in 0..SWAPS {
        let inside: Vec<usize> = (0..n).filter(|&i| support[i] && !forced(i)).collect();
        let mut exchanges: Vec<(Option<usize>, usize)> = Vec::new();
        for j in (0..n).filter(|&j| !support[j]) {
            exchanges.extend(inside.iter().map(|&i| (Some(i), j)));
            if count(&support) < constraints.at_most {
                exchanges.push((None, j));
            }
        }
        let exchanged = |&(out, into): &(Option<usize>, usize)| {
            let mut support = support.clone();
            support[into] = true;
            out.into_iter().for_each(|i| support[i] = false);
            solve(&support).map(|found| (found, support))
        };
        let tried: Vec<Option<(Found, Vec<bool>)>> = exchanges.par_iter().map(exchanged).collect();
        match tried.into_iter().flatten().reduce(|a, b| if b.0.value < a.0.value { b } else { a }) {
            Some((found, to)) if found.value < best.value - 1e-12 => (best, support) = (found, to),
            _ => break,
        }
    }
    Some(best)
}

/// For each partition, the smallest and largest weight of a mixture whose predicted objective is
/// within `slack` of that of `best`: the weights that the evidence does not tell apart.
pub fn ranges(landscape: &Landscape, constraints: &Constraints, best: &Found, slack: f64) -> Vec<Bounds> {
    let free = Constraints { at_most: constraints.len(), ..constraints.clone() };
    let names = vec![String::new(); free.len()];
    // The best objective with one weight fixed.
    let fits = |i: usize, weight: f64| {
        let mut fixed = free.clone();
        fixed.bounds[i] = Bounds { min: weight, max: weight };
        let found = fixed.check(&names, None).is_ok().then(|| descend(landscape, &fixed, &best.weights)).flatten();
        found.is_some_and(|found| found.value <= best.value + slack)
    };
    let end = |i: usize, limit: f64| {
        if fits(i, limit) {
            return limit;
        }
        let (mut inside, mut outside) = (best.weights[i], limit);
        for _ in 0..RANGE_BISECTIONS {
            let middle = (inside + outside) / 2.0;
            if fits(i, middle) { inside = middle } else { outside = middle }
        }
        inside
    };
    let range = |i: usize| Bounds { min: end(i, free.bounds[i].min), max: end(i, free.bounds[i].max) };
    (0..free.len()).into_par_iter().map(range).collect()
}

/// Halvings: to a thousandth of a mixture.
const RANGE_BISECTIONS: usize = 10;

#[cfg(test)]
mod tests {
    use super::super::form::Form;
    use super::super::objective::{Objective, Target};
    use super::*;
    use rand::Rng;

    fn objective(n: usize, domains: usize, worst: bool) -> Objective {
        Objective {
            target: Target { name: "all".into(), weights: vec![1.0 / domains as f64; domains], worst },
            limits: vec![f64::INFINITY; domains],
            kl: 0.0,
            natural: vec![1.0 / n as f64; n],
        }
    }

    /// Random convex forms.
    fn forms(n: usize, domains: usize, seed: u64) -> Vec<Form> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..domains)
            .map(|_| {
                let a: Vec<f64> = (0..n * n).map(|_| random.random::<f64>() - 0.5).collect();
                let h = |i: usize, j: usize| (0..n).map(|k| a[k * n + i] * a[k * n + j]).sum::<f64>();
                let hessian = (0..n * n).map(|at| h(at / n, at % n)).collect();
                let linear = (0..n).map(|_| random.random::<f64>() - 0.5).collect();
                Form { constant: random.random(), linear, hessian, cubic: vec![] }
            })
            .collect()
    }

    /// A grid of all mixtures of three partitions.
    fn grid() -> impl Iterator<Item = Vec<f64>> {
        let step = 200;
        (0..=step).flat_map(move |i| {
            (0..=step - i).map(move |j| [i, j, step - i - j].map(|x| x as f64 / step as f64).to_vec())
        })
    }

    #[test]
    fn no_mixture_of_a_grid_is_better() {
        for seed in 0..20 {
            for (worst, limit, kl) in
                [(false, None, 0.0), (true, None, 0.0), (false, Some(0.02), 0.0), (false, None, 0.1)]
            {
                let forms = forms(3, 4, seed);
                let mut objective = Objective { kl, ..objective(3, 4, worst) };
                if let Some(limit) = limit {
                    objective.limits[1] = forms[1].value(&objective.natural) + limit;
                }
                let landscape = Landscape::new(&forms, &objective);
                let mut constraints = Constraints::none(3);
                constraints.bounds[0].max = 0.6;
                let found = minimize(&landscape, &constraints, 0).expect("natural meets the limit");
                assert!(constraints.allow(&found.weights));
                let allowed = |w: &Vec<f64>| constraints.allow(w) && landscape.excess(w) <= 0.0;
                let best = grid().filter(allowed).map(|w| landscape.value(&w)).fold(f64::INFINITY, f64::min);
                assert!(found.value < best + 2e-4, "{seed} {worst} {limit:?} {kl}: {} {best}", found.value);
            }
        }
    }

    /// The target gains ten times what the limited domain loses.
    #[test]
    fn a_limit_that_costs_much_is_reached_exactly() {
        let line = |slope: f64| Form { linear: vec![slope, 0.0], ..Form::zero(2) };
        let forms = [line(-1.0), line(0.1)];
        let mut objective = objective(2, 2, false);
        objective.target.weights = vec![1.0, 0.0];
        objective.limits[1] = 0.06;
        let landscape = Landscape::new(&forms, &objective);
        let found = minimize(&landscape, &Constraints::none(2), 0).expect("natural meets the limit");
        assert!((found.weights[0] - 0.6).abs() < 1e-3 && landscape.excess(&found.weights) <= LIMIT_SLACK, "{found:?}");
    }

    #[test]
    fn at_most_two_partitions_are_the_best_two() {
        for seed in 0..10 {
            let (forms, objective) = (forms(5, 2, seed), objective(5, 2, false));
            let landscape = Landscape::new(&forms, &objective);
            let constraints = Constraints { at_most: 2, ..Constraints::none(5) };
            let found = minimize(&landscape, &constraints, 0).expect("a mixture");
            assert!(constraints.allow(&found.weights));
            for i in 0..5 {
                for j in 0..i {
                    for t in 0..=100 {
                        let mut w = vec![0.0; 5];
                        (w[i], w[j]) = (t as f64 / 100.0, 1.0 - t as f64 / 100.0);
                        assert!(found.value <= landscape.value(&w) + 1e-9, "{seed}: {i} and {j}");
                    }
                }
            }
        }
    }

    /// Two equal partitions: any split of their weight is as good.
    #[test]
    fn the_split_between_equal_partitions_is_not_determined() {
        let mut all = forms(4, 3, 3);
        for form in &mut all {
            form.linear[3] = form.linear[2];
            for i in 0..4 {
                form.hessian[i * 4 + 3] = form.hessian[i * 4 + 2];
            }
            for j in 0..4 {
                form.hessian[12 + j] = form.hessian[8 + j];
            }
        }
        let objective = Objective { natural: vec![0.25; 4], ..objective(4, 3, false) };
        let landscape = Landscape::new(&all, &objective);
        let mut constraints = Constraints::none(4);
        (constraints.bounds[0].max, constraints.bounds[1].max) = (0.3, 0.3);
        let best = minimize(&landscape, &constraints, 0).expect("a mixture");
        let both = best.weights[2] + best.weights[3];
        assert!(both > 0.1, "{best:?}");
        let ranges = ranges(&landscape, &constraints, &best, 1e-9);
        for i in [2, 3] {
            assert!(ranges[i].min < 1e-3 && ranges[i].max > both - 2e-3, "{ranges:?} {both}");
        }
        assert!(ranges[0].max - ranges[0].min < 0.01 && ranges[1].max - ranges[1].min < 0.01, "{ranges:?}");
    }
}
