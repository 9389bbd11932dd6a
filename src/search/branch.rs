//! The best subset of more partitions than can be scanned, for each number of members k, by branch
//! and bound: partitions are decided one after another, and a subtree is cut when the minimum of
//! its continuous relaxation is not below the best subset found. The result is proven optimal, or
//! comes with the largest gap that is still possible.

use super::constraints::{Bounds, Constraints};
use super::form::Form;
use super::objective::Landscape;
use super::subsets::Subset;
use crate::analysis::statistics::linear::{Cholesky, dot};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A subset, and how much better another one could be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proven {
    /// The best subset found.
    pub subset: Subset,
    /// No subset's predicted objective is lower by more; 0 if it is proven to be the best.
    pub gap: f64,
    /// Relaxations that were solved.
    pub nodes: usize,
}

/// Gradient steps on a relaxation. Any number gives a valid bound.
const STEPS: usize = 60;

/// The best subset that meets the constraints, by at most `most_nodes` relaxations. `None` if no
/// feasible one was found.
pub fn branch_and_bound(landscape: &Landscape, constraints: &Constraints, most_nodes: usize) -> Option<Proven> {
    let n = landscape.len();
    // The mean of the forms is a lower bound of the largest one, if a weak one.
    let form = match &landscape.target_forms()[..] {
        [one] => (*one).clone(),
        several => {
            let mut mean = Form::zero(n);
            several.iter().for_each(|form| mean.add(1.0 / several.len() as f64, form));
            mean
        }
    };
    let shift = convex_shift(&form);
    let mut best: Option<Subset> = None;
    let mut open: BinaryHeap<Node> = BinaryHeap::new();
    let mut nodes = 0;
    let most = constraints.at_most.min(n);
    for k in 1..=most {
        let relaxation = Relaxation::new(&form, landscape, constraints, k, shift);
        let Some(node) = relaxation.solve(vec![None; n]) else { continue };
        nodes += 1;
        consider(&mut best, landscape, constraints, &node);
        open.push(node);
    }
    while let Some(node) = open.pop() {
        let bar = best.map_or(f64::INFINITY, |best| best.value);
        if node.bound >= bar - 1e-12 {
            // All others have higher bounds.
            open.clear();
            break;
        }
        let Some(branch) = node.most_fractional() else { continue };
        if nodes >= most_nodes {
            open.push(node);
            break;
        }
        let relaxation = Relaxation::new(&form, landscape, constraints, node.k, shift);
        for decision in [true, false] {
            let mut decided = node.decided.clone();
            decided[branch] = Some(decision);
            let Some(child) = relaxation.solve(decided) else { continue };
            nodes += 1;
            consider(&mut best, landscape, constraints, &child);
            if child.bound < best.map_or(f64::INFINITY, |best| best.value) - 1e-12 {
                open.push(child);
            }
        }
    }
    let subset = best?;
    let lowest = open.into_iter().map(|node| node.bound).fold(subset.value, f64::min);
    Some(Proven { subset, gap: subset.value - lowest, nodes })
}

/// A part of the subsets of k partitions: those that agree with the decisions.
struct Node {
    k: usize,
    decided: Vec<Option<bool>>,
    /// (n) the relaxation's minimum: weights of 0 to 1 / k
    weights: Vec<f64>,
    bound: f64,
}

impl Node {
    /// The undecided partition whose weight is furthest from both 0 and 1 / k, or any undecided one.
    fn most_fractional(&self) -> Option<usize> {
        let each = 1.0 / self.k as f64;
        let fraction = |i: usize| self.weights[i].min(each - self.weights[i]);
        let undecided = (0..self.decided.len()).filter(|&i| self.decided[i].is_none());
        undecided.max_by(|&a, &b| fraction(a).total_cmp(&fraction(b)).then(b.cmp(&a)))
    }
}

// The lowest bound first; of equal ones, the smaller subset.
impl Ord for Node {
    fn cmp(&self, other: &Node) -> Ordering {
        other.bound.total_cmp(&self.bound).then(other.k.cmp(&self.k))
    }
}
impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Node) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Node {}

/// Rounds a relaxation to a subset, exchanges partitions while that gains, and keeps the better.
fn consider(best: &mut Option<Subset>, landscape: &Landscape, constraints: &Constraints, node: &Node) {
    let n = node.weights.len();
    let mut order: Vec<usize> = (0..n).collect();
    let rank = |i: usize| match node.decided[i] {
        Some(true) => f64::INFINITY,
        Some(false) => f64::NEG_INFINITY,
        None => node.weights[i],
    };
    order.sort_by(|&a, &b| rank(b).total_cmp(&rank(a)).then(a.cmp(&b)));
    let mut members: u128 = order.iter().take(node.k).fold(0, |members, &i| members | 1 << i);
    let value = |members: u128| {
        let weights = Subset { members, value: 0.0 }.weights(n);
        let allowed = constraints.allow(&weights) && landscape.excess(&weights) <= super::continuous::LIMIT_SLACK;
        if allowed { landscape.value(&weights) } else { f64::INFINITY }
    };
    let mut now = value(members);
    for _ in 0..n {
        let inside = (0..n).filter(|i| members >> i & 1 == 1);
        let swaps =
            inside.flat_map(|i| (0..n).filter(|j| members >> j & 1 == 0).map(move |j| members ^ 1 << i ^ 1 << j));
        let swapped =
            swaps.map(|members| (value(members), members)).min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        match swapped {
            Some((lower, next)) if lower < now - 1e-12 => (now, members) = (lower, next),
            _ => break,
        }
    }
    let found = Subset { members, value: now };
    if now.is_finite() && best.is_none_or(|best| found.order(&best) == Ordering::Less) {
        *best = Some(found);
    }
}

/// The smallest amount, up to a few percent, that makes the Hessian positive definite when twice of
/// it is added to the diagonal.
fn convex_shift(form: &Form) -> f64 {
    let n = form.len();
    let is_convex = |shift: f64| {
        let row = |i: usize| {
            let mut row = form.hessian[i * n..(i + 1) * n].to_vec();
            row[i] += 2.0 * shift;
            row
        };
        Cholesky::new(&(0..n).map(row).collect::<Vec<_>>()).is_some()
    };
    let largest = form.hessian.iter().map(|h| h.abs()).fold(1e-12, f64::max);
    if is_convex(0.0) {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, largest * n as f64);
    for _ in 0..12 {
        let middle = (low + high) / 2.0;
        if is_convex(middle) { high = middle } else { low = middle }
    }
    high
}

/// Subsets of k partitions as weights of 0 or 1 / k. On these `w_i^2 = w_i / k`, so a convex
/// function that equals the form is `form + shift sum_i (w_i^2 - w_i / k)`.
struct Relaxation<'a> {
    constraints: &'a Constraints,
    k: usize,
    constant: f64,
    /// (n)
    linear: Vec<f64>,
    /// (n, n)
    hessian: Vec<f64>,
}

impl<'a> Relaxation<'a> {
    fn new(form: &Form, landscape: &Landscape, constraints: &'a Constraints, k: usize, shift: f64) -> Relaxation<'a> {
        let (n, each, objective) = (form.len(), 1.0 / k as f64, landscape.objective);
        let cubic = |i: usize, w: f64| form.cubic.get(i).map_or(0.0, |c| c.at(w).0);
        let linear = |i: usize| {
            let pull = if objective.kl > 0.0 { objective.kl * (each / objective.natural[i]).ln() } else { 0.0 };
            form.linear[i] + pull + (cubic(i, each) - cubic(i, 0.0)) / each - shift * each
        };
        let mut hessian = form.hessian.clone();
        (0..n).for_each(|i| hessian[i * n + i] += 2.0 * shift);
        let constant = form.constant + (0..n).map(|i| cubic(i, 0.0)).sum::<f64>();
        Relaxation { constraints, k, constant, linear: (0..n).map(linear).collect(), hessian }
    }

    fn value_and_gradient(&self, w: &[f64]) -> (f64, Vec<f64>) {
        let n = w.len();
        let bent: Vec<f64> = (0..n).map(|i| dot(&self.hessian[i * n..(i + 1) * n], w)).collect();
        let value = self.constant + dot(&self.linear, w) + dot(&bent, w) / 2.0;
        (value, self.linear.iter().zip(&bent).map(|(linear, bent)| linear + bent).collect())
    }

    /// The minimum under these decisions, with a lower bound; `None` if no weights meet them.
    fn solve(&self, decided: Vec<Option<bool>>) -> Option<Node> {
        let each = 1.0 / self.k as f64;
        let mut inner = Constraints { at_most: self.constraints.len(), ..self.constraints.clone() };
        for (bounds, decision) in inner.bounds.iter_mut().zip(&decided) {
            let may = bounds.max >= each - 1e-9 && decision != &Some(false);
            let must = bounds.min > 0.0 || decision == &Some(true);
            if must && (!may || bounds.min > each + 1e-9) {
                return None;
            }
            *bounds = Bounds { min: if must { each } else { 0.0 }, max: if may { each } else { 0.0 } };
        }
        let inside = inner.bounds.iter().filter(|b| b.min > 0.0).count();
        let possible = inner.bounds.iter().filter(|b| b.max > 0.0).count();
        if inside > self.k || possible < self.k || inner.check(&vec![String::new(); inner.len()], None).is_err() {
            return None;
        }
        let start = vec![1.0 / inner.len() as f64; inner.len()];
        let mut w = inner.project(&start);
        let (_, mut gradient) = self.value_and_gradient(&w);
        let mut bound = f64::NEG_INFINITY;
        for _ in 0..STEPS {
            // Towards the best corner, as far as the value falls (Frank and Wolfe 1956): the
            // corner also gives a lower bound.
            let corner = inner.cheapest(&gradient);
            let direction: Vec<f64> = corner.iter().zip(&w).map(|(to, from)| to - from).collect();
            let slope = dot(&gradient, &direction);
            let (value, _) = self.value_and_gradient(&w);
            bound = bound.max(value + slope);
            if slope > -1e-12 {
                break;
            }
            let n = w.len();
            let bend: f64 = (0..n).map(|i| direction[i] * dot(&self.hessian[i * n..(i + 1) * n], &direction)).sum();
            let step = if bend > 0.0 { (-slope / bend).min(1.0) } else { 1.0 };
            w.iter_mut().zip(&direction).for_each(|(w, d)| *w += step * d);
            gradient = self.value_and_gradient(&w).1;
        }
        Some(Node { k: self.k, decided, weights: w, bound })
    }
}

#[cfg(test)]
mod tests {
    use super::super::objective::{Objective, Target};
    use super::super::subsets::scan;
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn forms(n: usize, seed: u64) -> Vec<Form> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut form = Form::zero(n);
        for i in 0..n {
            form.linear[i] = random.random::<f64>() - 0.5;
            for j in 0..=i {
                let h = random.random::<f64>() - 0.4 + if i == j { 1.0 } else { 0.0 };
                (form.hessian[i * n + j], form.hessian[j * n + i]) = (h, h);
            }
        }
        vec![form]
    }

    #[test]
    fn it_finds_the_best_subset_of_a_scan_and_its_gap_is_true() {
        for seed in 0..12 {
            let n = 12;
            let forms = forms(n, seed);
            let objective = Objective {
                target: Target { name: "t".into(), weights: vec![1.0], worst: false },
                limits: vec![f64::INFINITY],
                kl: if seed % 3 == 0 { 0.02 } else { 0.0 },
                natural: (1..=n).map(|i| i as f64 / (n * (n + 1) / 2) as f64).collect(),
            };
            let landscape = Landscape::new(&forms, &objective);
            let mut constraints = Constraints::none(n);
            if seed % 2 == 0 {
                constraints.at_most = 4;
                constraints.bounds[3] = Bounds { min: 0.05, max: 0.5 };
            }
            let best = scan(&landscape, &constraints, 1)[0];
            let proven = branch_and_bound(&landscape, &constraints, 100_000).expect("a subset");
            assert!(proven.gap < 1e-9, "{proven:?}");
            assert_eq!(proven.subset.members, best.members, "seed {seed}: {proven:?} {best:?}");
            let early = branch_and_bound(&landscape, &constraints, 15).expect("a subset");
            assert!(early.subset.value - early.gap <= best.value + 1e-9, "{early:?} {best:?}");
        }
    }

    #[test]
    fn a_hundred_partitions_have_a_gap_or_a_proof() {
        let forms = forms(100, 5);
        let objective = Objective {
            target: Target { name: "t".into(), weights: vec![1.0], worst: false },
            limits: vec![f64::INFINITY],
            kl: 0.0,
            natural: vec![0.01; 100],
        };
        let landscape = Landscape::new(&forms, &objective);
        let found = branch_and_bound(&landscape, &Constraints::none(100), 300).expect("a subset");
        assert!(found.gap >= 0.0 && found.gap.is_finite() && found.nodes <= 302);
        let natural = landscape.value(&objective.natural);
        assert!(found.subset.value < natural, "{found:?} {natural}");
    }
}
