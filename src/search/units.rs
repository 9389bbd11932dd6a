//! The best weights that are whole numbers of base units, each the same share of the mixture.

use super::constraints::Constraints;
use super::continuous::{Found, LIMIT_SLACK};
use super::objective::Landscape;
use crate::apportion::apportion;

/// The best mixture of `units` equal shares: the nearest to each start, improved by moving one
/// share at a time while that gains. `None` if no such mixture meets the constraints.
pub fn best_units(
    landscape: &Landscape,
    constraints: &Constraints,
    units: usize,
    starts: &[Vec<f64>],
) -> Option<Found> {
    let found = starts.iter().filter_map(|start| from(landscape, constraints, units, start));
    found.reduce(|best, next| if next.value < best.value { next } else { best })
}

fn from(landscape: &Landscape, constraints: &Constraints, units: usize, start: &[f64]) -> Option<Found> {
    let n = start.len();
    let weights = |counts: &[usize]| -> Vec<f64> { counts.iter().map(|c| *c as f64 / units as f64).collect() };
    let mut counts = apportion(units, start);
    // First towards the constraints, then along them.
    let score = |counts: &[usize]| {
        let w = weights(counts);
        let outside = violation(constraints, &w) + landscape.excess(&w);
        (if outside > LIMIT_SLACK { outside } else { 0.0 }, landscape.value(&w))
    };
    let better = |a: (f64, f64), b: (f64, f64)| a.0 < b.0 - 1e-12 || (a.0 <= b.0 && a.1 < b.1 - 1e-12);
    let mut now = score(&counts);
    loop {
        let mut best = None;
        for i in (0..n).filter(|&i| counts[i] > 0) {
            for j in (0..n).filter(|&j| j != i) {
                // Also whole: a partition less changes how many there are.
                for moved in [1, counts[i]] {
                    let mut next = counts.clone();
                    (next[i], next[j]) = (next[i] - moved, next[j] + moved);
                    let value = score(&next);
                    if better(value, best.as_ref().map_or(now, |(value, _)| *value)) {
                        best = Some((value, next));
                    }
                }
            }
        }
        match best {
            Some((value, next)) => (now, counts) = (value, next),
            None => break,
        }
    }
    let w = weights(&counts);
    (now.0 == 0.0 && constraints.allow(&w)).then_some(Found { value: now.1, weights: w })
}

/// How far outside of bounds, groups and the number of partitions a mixture is.
fn violation(constraints: &Constraints, w: &[f64]) -> f64 {
    let over = |x: f64, min: f64, max: f64| (min - x).max(x - max).max(0.0);
    let bounds = w.iter().zip(&constraints.bounds).map(|(w, b)| over(*w, b.min, b.max)).sum::<f64>();
    let groups =
        constraints.groups.iter().map(|g| over(g.members.iter().map(|&i| w[i]).sum(), g.bounds.min, g.bounds.max));
    let members = w.iter().filter(|w| **w > 0.0).count();
    let mut smallest: Vec<f64> = w.iter().copied().filter(|w| *w > 0.0).collect();
    smallest.sort_by(f64::total_cmp);
    bounds + groups.sum::<f64>() + smallest.iter().take(members.saturating_sub(constraints.at_most)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::super::form::Form;
    use super::super::objective::{Objective, Target};
    use super::*;

    #[test]
    fn it_finds_the_best_of_all_compositions() {
        for seed in 0..8 {
            let n = 4;
            let mut form = Form::zero(n);
            for i in 0..n {
                form.linear[i] = ((i * 5 + seed * 3) % 7) as f64 / 7.0;
                for j in 0..n {
                    form.hessian[i * n + j] = if i == j { 1.5 } else { ((i + j + seed) % 3) as f64 / 6.0 };
                }
            }
            let forms = [form];
            let objective = Objective {
                target: Target { name: "t".into(), weights: vec![1.0], worst: false },
                limits: vec![f64::INFINITY],
                kl: 0.0,
                natural: vec![0.25; 4],
            };
            let landscape = Landscape::new(&forms, &objective);
            let mut constraints = Constraints::none(n);
            constraints.bounds[seed % 4].max = 0.3;
            let found =
                best_units(&landscape, &constraints, 10, &[vec![0.25; 4], vec![1.0, 0.0, 0.0, 0.0]]).expect("one");
            assert!(constraints.allow(&found.weights));
            let mut best = f64::INFINITY;
            for a in 0..=10 {
                for b in 0..=10 - a {
                    for c in 0..=10 - a - b {
                        let w = [a, b, c, 10 - a - b - c].map(|x| x as f64 / 10.0);
                        if constraints.allow(&w) {
                            best = best.min(landscape.value(&w));
                        }
                    }
                }
            }
            assert!((found.value - best).abs() < 1e-12, "{seed}: {} {best}", found.value);
        }
    }
}
