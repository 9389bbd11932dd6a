//! The best subsets with equal weights: the predicted objective of all 2^n of them.
//!
//! A subset is a high part and a low part of the partitions. For each high part, the terms between
//! the two parts are added up for all low parts by doubling: those of the low parts with partition
//! j are those without it, plus one number. A value then takes two additions and a
//! multiplication per form, in loops that the compiler vectorises; what depends on the number of
//! partitions comes from small tables.

use super::constraints::Constraints;
use super::form::Form;
use super::objective::Landscape;
use crate::engine::ops::simd::vectorized;
use rayon::prelude::*;
use serde::Serialize;
use std::cmp::Ordering as Order;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most partitions that are scanned; more take branch and bound.
pub const MOST_SCANNED: usize = 32;
/// Partitions of the low part: values of 8 KiB for each form.
const LOW: usize = 10;
/// Low parts that differ in these partitions only have neighbouring values: enough for a loop that
/// the compiler vectorises, few enough that their table is quickly filled.
const GROUP: usize = 5;
/// High parts of one task.
const TASK: usize = 64;

/// A subset and its predicted objective under equal weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Subset {
    /// Bit i is partition i.
    pub members: u128,
    /// The predicted objective.
    pub value: f64,
}

impl Subset {
    /// Equal weights of its members.
    pub fn weights(&self, n: usize) -> Vec<f64> {
        let each = 1.0 / self.members.count_ones() as f64;
        (0..n).map(|i| if self.members >> i & 1 == 1 { each } else { 0.0 }).collect()
    }

    /// The lower value first; of equal ones, the one with the lower members.
    pub fn order(&self, other: &Subset) -> Order {
        self.value.total_cmp(&other.value).then(self.members.cmp(&other.members))
    }
}

/// The `keep` best subsets that meet the constraints and limits, the best first.
pub fn scan(landscape: &Landscape, constraints: &Constraints, keep: usize) -> Vec<Subset> {
    let n = landscape.len();
    assert!((1..=MOST_SCANNED).contains(&n) && keep > 0, "too many partitions for a scan");
    let low = LOW.min(n);
    let scan = Scan {
        landscape,
        constraints,
        tables: landscape.target_forms().into_iter().map(|form| ScanTable::new(form, landscape, low)).collect(),
        keep,
        threshold: AtomicU64::new(u64::MAX),
        low,
    };
    // High parts of one size read the same part of the tables.
    let mut high: Vec<u64> = (0..1u64 << (n - low)).collect();
    high.sort_by_key(|part| (part.count_ones(), *part));
    let best = |parts: &[u64]| {
        let mut best = Best { keep, list: Vec::new() };
        let mut memory = Memory::new(low);
        parts.iter().for_each(|&part| scan.high_part(part, &mut memory, &mut best));
        best
    };
    let together = |mut a: Best, b: Best| {
        b.list.into_iter().for_each(|subset| a.insert(subset));
        a
    };
    let all = high.par_chunks(TASK).map(best).reduce(|| Best { keep, list: Vec::new() }, together);
    all.list
}

/// The best subsets so far, in order.
struct Best {
    keep: usize,
    list: Vec<Subset>,
}

impl Best {
    fn insert(&mut self, subset: Subset) {
        let at = self.list.partition_point(|other| other.order(&subset) == Order::Less);
        if at < self.keep {
            self.list.insert(at, subset);
            self.list.truncate(self.keep);
        }
    }
}

/// One thread's memory.
struct Memory {
    /// Second-order terms of all low parts with a high part
    sums: Vec<f64>,
    values: Vec<f64>,
    /// Partitions of the high part
    members: Vec<usize>,
    between: Vec<f64>,
    terms: Vec<(f64, f64)>,
    rows: [Row; LOW + 1],
}

impl Memory {
    fn new(low: usize) -> Memory {
        let of_parts = || vec![0.0; 1 << low];
        let rows = [([0.0; 1 << GROUP], [0.0; 1 << GROUP]); LOW + 1];
        Memory { sums: of_parts(), values: of_parts(), members: vec![], between: vec![], terms: vec![], rows }
    }
}

/// One form, ready for a scan.
struct ScanTable {
    /// (n) rows of k = 0 to n: what partition i adds to the form of a subset of k partitions, apart
    /// from second-order terms
    linear: Vec<Vec<f64>>,
    /// k = 0 to n: what every subset of k partitions adds
    constant: Vec<f64>,
    /// (n, n)
    hessian: Vec<f64>,
    /// For each size of the high part: all terms of the low parts alone
    low: Vec<Vec<f64>>,
}

impl ScanTable {
    fn new(form: &Form, landscape: &Landscape, low: usize) -> ScanTable {
        let (n, objective) = (form.len(), landscape.objective);
        let cubic = |i: usize, w: f64| form.cubic.get(i).map_or(0.0, |c| c.at(w).0);
        let linear = |i: usize| {
            let at = |k: usize| {
                let each = 1.0 / k.max(1) as f64;
                let pull = if objective.kl > 0.0 { objective.kl * objective.natural[i].ln() } else { 0.0 };
                (form.linear[i] - pull) * each + cubic(i, each) - cubic(i, 0.0)
            };
            (0..=n).map(at).collect::<Vec<f64>>()
        };
        let without: f64 = form.constant + (0..n).map(|i| cubic(i, 0.0)).sum::<f64>();
        let constant = (0..=n).map(|k| without - objective.kl * (k.max(1) as f64).ln()).collect();
        let mut table = ScanTable {
            linear: (0..n).map(linear).collect(),
            constant,
            hessian: form.hessian.clone(),
            low: Vec::new(),
        };
        let squares: Vec<f64> = (0..1usize << low).map(|part| table.square(part as u64)).collect();
        let alone = |size: usize| {
            let value = |part: usize| {
                let k = size + part.count_ones() as usize;
                let linear: f64 = (0..low).filter(|i| part >> i & 1 == 1).map(|i| table.linear[i][k]).sum();
                if k == 0 { f64::INFINITY } else { linear + squares[part] * half_square(k) }
            };
            (0..1usize << low).map(value).collect()
        };
        table.low = (0..=n - low).map(alone).collect();
        table
    }

    /// The sum of second derivatives over all pairs of members, both ways.
    fn square(&self, members: u64) -> f64 {
        let n = self.linear.len();
        let inside = |i: &usize| members >> i & 1 == 1;
        let row = |i: usize| (0..n).filter(inside).map(|j| self.hessian[i * n + j]).sum::<f64>();
        (0..n).filter(inside).map(row).sum()
    }
}

/// 1 / 2 k^2: the factor of second derivatives under weights of 1 / k.
fn half_square(k: usize) -> f64 {
    0.5 / (k.max(1) * k.max(1)) as f64
}

struct Scan<'a> {
    landscape: &'a Landscape<'a>,
    constraints: &'a Constraints,
    tables: Vec<ScanTable>,
    keep: usize,
    /// Bits of the largest value that can still be among the best; of non-negative order
    threshold: AtomicU64,
    low: usize,
}

impl Scan<'_> {
    /// Scans all low parts with one high part.
    fn high_part(&self, high: u64, memory: &mut Memory, best: &mut Best) {
        let size = high.count_ones() as usize;
        let Memory { sums, values, members, between, terms, rows } = memory;
        members.clear();
        members.extend((0..self.landscape.len() - self.low).filter(|i| high >> i & 1 == 1).map(|i| self.low + i));
        for (t, table) in self.tables.iter().enumerate() {
            let (n, group) = (table.linear.len(), GROUP.min(self.low));
            let row = |i: usize| &table.hessian[i * n..(i + 1) * n];
            // Twice the second derivatives between the high part and each low partition.
            between.clear();
            between.extend((0..self.low).map(|j| 2.0 * members.iter().map(|&i| row(i)[j]).sum::<f64>()));
            let own: f64 = members.iter().map(|&i| members.iter().map(|&j| row(i)[j]).sum::<f64>()).sum();
            // By the number of low partitions.
            terms.clear();
            terms.extend((size..=size + self.low).map(|k| {
                (table.constant[k] + members.iter().map(|&i| table.linear[i][k]).sum::<f64>(), half_square(k))
            }));
            // By the number of low partitions outside of the lowest group, then those within it.
            for (outside, (add, factor)) in rows.iter_mut().enumerate().take(self.low - group + 1) {
                for inside in 0..1usize << group {
                    (add[inside], factor[inside]) = terms[outside + inside.count_ones() as usize];
                }
            }
            let alone = &table.low[size];
            vectorized(
                #[inline(always)]
                || {
                    double(sums, own, between);
                    match t {
                        0 => combine::<true>(values, alone, sums, rows),
                        _ => combine::<false>(values, alone, sums, rows),
                    }
                },
            );
        }
        let threshold = f64::from_bits(self.threshold.load(Ordering::Relaxed));
        let limit = if threshold.is_nan() { f64::INFINITY } else { threshold };
        let lowest = vectorized(
            #[inline(always)]
            || lowest(&memory.values),
        );
        if lowest > limit {
            return;
        }
        let n = self.landscape.len();
        for (low, &value) in memory.values.iter().enumerate() {
            let full = best.list.len() == self.keep;
            if value > limit || value == f64::INFINITY || full && value > best.list[self.keep - 1].value {
                continue;
            }
            let subset = Subset { members: u128::from(high << self.low | low as u64), value };
            let weights = subset.weights(n);
            if self.constraints.allow(&weights) && self.landscape.excess(&weights) <= super::continuous::LIMIT_SLACK {
                best.insert(subset);
            }
        }
        if best.list.len() == self.keep {
            self.lower(best.list[self.keep - 1].value);
        }
    }

    /// Lowers the threshold of all threads. Values equal to it are kept, so the result does not
    /// depend on the order of the threads.
    fn lower(&self, value: f64) {
        let lower = |bits: u64| {
            let now = f64::from_bits(bits);
            (now.is_nan() || value < now).then_some(value.to_bits())
        };
        // An error says that it is low enough.
        let _ = self.threshold.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lower);
    }
}

/// What a high part adds to neighbouring low parts, and the factors of their second-order
/// terms.
type Row = ([f64; 1 << GROUP], [f64; 1 << GROUP]);

/// `sums[part] = own` plus `between[j]` for each partition j of the low part.
#[inline(always)]
fn double(sums: &mut [f64], own: f64, between: &[f64]) {
    sums[0] = own;
    for (j, &add) in between.iter().enumerate() {
        let (done, rest) = sums.split_at_mut(1 << j);
        for (to, from) in rest[..1 << j].iter_mut().zip(&*done) {
            *to = from + add;
        }
    }
}

/// The form of every low part with a high part. If it is the first form, `values` becomes that, else
/// the larger of both.
#[inline(always)]
fn combine<const FIRST: bool>(values: &mut [f64], alone: &[f64], sums: &[f64], rows: &[Row; LOW + 1]) {
    const WIDTH: usize = 1 << GROUP;
    let larger = |new: f64, old: f64| if FIRST || new > old { new } else { old };
    let (values, values_rest) = values.as_chunks_mut::<WIDTH>();
    let (alone, alone_rest) = alone.as_chunks::<WIDTH>();
    let (sums, sums_rest) = sums.as_chunks::<WIDTH>();
    for (outside, ((values, alone), sums)) in values.iter_mut().zip(alone).zip(sums).enumerate() {
        let (add, factor) = &rows[outside.count_ones() as usize % (LOW + 1)];
        for i in 0..WIDTH {
            values[i] = larger(factor[i].mul_add(sums[i], alone[i] + add[i]), values[i]);
        }
    }
    // Fewer than five partitions.
    for (i, ((value, alone), sum)) in values_rest.iter_mut().zip(alone_rest).zip(sums_rest).enumerate() {
        *value = larger(rows[0].1[i].mul_add(*sum, alone + rows[0].0[i]), *value);
    }
}

#[inline(always)]
fn lowest(values: &[f64]) -> f64 {
    let mut lanes = [f64::INFINITY; 8];
    let (whole, rest) = values.as_chunks::<8>();
    for chunk in whole {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value < *lane { *value } else { *lane };
        }
    }
    rest.iter().chain(&lanes).copied().fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::super::constraints::{Bounds, Group};
    use super::super::form::Cubic;
    use super::super::objective::{Objective, Target};
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    pub fn random_forms(n: usize, domains: usize, seed: u64) -> Vec<Form> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..domains)
            .map(|_| {
                let mut form = Form::zero(n);
                form.constant = random.random();
                for i in 0..n {
                    form.linear[i] = random.random::<f64>() - 0.5;
                    for j in 0..=i {
                        let h = random.random::<f64>() - 0.3;
                        (form.hessian[i * n + j], form.hessian[j * n + i]) = (h, h);
                    }
                    let coefficient = random.random::<f64>() * 0.1;
                    form.cubic.push(Cubic { center: 0.1, width: 0.6, coefficient });
                }
                form
            })
            .collect()
    }

    fn check(n: usize, worst: bool, kl: f64, constraints: &Constraints, limited: bool) {
        let forms = random_forms(n, 3, n as u64);
        let natural: Vec<f64> = (0..n).map(|i| (i + 1) as f64 / (n * (n + 1) / 2) as f64).collect();
        let mut limits = vec![f64::INFINITY; 3];
        if limited {
            limits[1] = forms[1].value(&natural);
        }
        let target = Target { name: "t".into(), weights: vec![0.5, 0.25, 0.25], worst };
        let objective = Objective { target, limits, kl, natural };
        let landscape = Landscape::new(&forms, &objective);
        let mut all: Vec<Subset> = (1..1u128 << n)
            .map(|members| Subset { members, value: landscape.value(&Subset { members, value: 0.0 }.weights(n)) })
            .filter(|s| constraints.allow(&s.weights(n)) && landscape.excess(&s.weights(n)) <= 1e-6)
            .collect();
        all.sort_by(Subset::order);
        for keep in [1, 7] {
            let found = scan(&landscape, constraints, keep);
            assert_eq!(found.len(), keep.min(all.len()), "{n} {worst} {kl}");
            for (found, expected) in found.iter().zip(&all) {
                assert_eq!(found.members, expected.members, "{n} {worst} {kl}");
                assert!((found.value - expected.value).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn the_scan_finds_what_a_loop_over_all_subsets_finds() {
        for n in [1, 2, 3, 4, 10, 11, 13] {
            for (worst, kl) in [(false, 0.0), (true, 0.0), (false, 0.05), (true, 0.05)] {
                check(n, worst, kl, &Constraints::none(n), false);
            }
        }
        let mut constraints = Constraints { at_most: 5, ..Constraints::none(12) };
        constraints.bounds[2] = Bounds { min: 0.1, max: 0.4 };
        constraints.bounds[11].max = 0.0;
        constraints.groups.push(Group {
            name: "g".into(),
            members: vec![2, 3, 4],
            bounds: Bounds { min: 0.3, max: 0.7 },
        });
        check(12, false, 0.0, &constraints, false);
        check(12, true, 0.0, &constraints, false);
        check(12, false, 0.0, &Constraints::none(12), true);
    }

    #[test]
    fn threads_do_not_change_the_list() {
        let forms = random_forms(15, 2, 3);
        let target = Target { name: "t".into(), weights: vec![0.5; 2], worst: true };
        let objective = Objective { target, limits: vec![f64::INFINITY; 2], kl: 0.0, natural: vec![1.0 / 15.0; 15] };
        let landscape = Landscape::new(&forms, &objective);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| scan(&landscape, &Constraints::none(15), 20))
        };
        assert_eq!(on(1), on(7));
    }
}
