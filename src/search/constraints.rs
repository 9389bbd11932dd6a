//! The mixtures that a search may choose from: bounds on each weight, on the sum over each group,
//! and on the number of partitions.

use crate::analysis::statistics::linear::dot;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Slack for sums of weights that were rounded.
const SLACK: f64 = 1e-9;

/// Bounds of a sum of weights.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Bounds {
    /// At least 0.
    pub min: f64,
    /// At most 1.
    pub max: f64,
}

impl Bounds {
    /// Any weight.
    pub const FREE: Bounds = Bounds { min: 0.0, max: 1.0 };
}

/// Partitions whose weights together are bounded.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Group {
    /// For messages.
    pub name: String,
    /// Indices of the partitions; no partition is in two groups.
    pub members: Vec<usize>,
    /// Of the sum of their weights.
    pub bounds: Bounds,
}

/// Where mixtures may lie. Weights are 0 or more and sum to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Constraints {
    /// Of each partition's weight.
    pub bounds: Vec<Bounds>,
    /// Disjoint.
    pub groups: Vec<Group>,
    /// Most partitions with a weight above 0.
    pub at_most: usize,
}

impl Constraints {
    /// All mixtures of n partitions.
    pub fn none(n: usize) -> Constraints {
        Constraints { bounds: vec![Bounds::FREE; n], groups: Vec::new(), at_most: n }
    }

    /// n
    pub fn len(&self) -> usize {
        self.bounds.len()
    }

    /// Whether there is no partition.
    pub fn is_empty(&self) -> bool {
        self.bounds.is_empty()
    }

    /// Whether they restrict nothing.
    pub fn are_none(&self) -> bool {
        *self == Constraints::none(self.len())
    }

    /// Refuses constraints that no mixture meets; the error says which and by how much. `tokens` is
    /// the size of the final training, which caps were computed from.
    pub fn check(&self, names: &[String], tokens: Option<f64>) -> Result<()> {
        let mut group_of: BTreeMap<usize, &str> = BTreeMap::new();
        for group in &self.groups {
            for &member in &group.members {
                if let Some(other) = group_of.insert(member, &group.name) {
                    return Err(Error::usage(format!("`{}` is in two groups of the search", names[member]))
                        .got(format!("`{other}` and `{}`", group.name))
                        .fix("name each partition in one group"));
                }
            }
        }
        for (name, bounds) in names.iter().zip(&self.bounds) {
            check_bounds(&format!("the weight of `{name}`"), *bounds)?;
        }
        for group in &self.groups {
            check_bounds(&format!("the weight of the group `{}`", group.name), group.bounds)?;
            let range = self.range_of(group);
            let sum = |of: fn(&Bounds) -> f64| group.members.iter().map(|&i| of(&self.bounds[i])).sum::<f64>();
            if range.0 > range.1 + SLACK {
                return Err(Error::usage(format!("no mixture meets the bounds of the group `{}`", group.name))
                    .expected(format!("a sum of {} to {}", group.bounds.min, group.bounds.max))
                    .got(format!("members that allow {:.6} to {:.6}", sum(|b| b.min), sum(|b| b.max))));
            }
        }
        let in_tokens = |share: f64| match tokens {
            Some(tokens) => format!("{share:.4} of the mixture, {} tokens", grouped(share * tokens)),
            None => format!("{share:.4} of the mixture"),
        };
        let (low, high) = self.range();
        if high < 1.0 - SLACK {
            return Err(Error::usage("the largest weights that the search allows do not reach a whole mixture")
                .expected("caps that sum to 1 or more")
                .got(format!("{high:.4}: {} are missing", in_tokens(1.0 - high)))
                .fix("raise `max_epochs`, `max` or a group's `max`, add partitions, or lower `tokens`"));
        }
        if low > 1.0 + SLACK {
            return Err(Error::usage("the smallest weights that the search allows are more than a whole mixture")
                .expected("floors that sum to 1 or less")
                .got(format!("{low:.4}: {} too much", in_tokens(low - 1.0)))
                .fix("lower `min`, `fixed` or a group's `min`"));
        }
        let needed = self.bounds.iter().filter(|b| b.min > 0.0).count();
        if self.at_most < needed || self.at_most == 0 {
            return Err(Error::usage(format!("`at_most` allows {} partitions", self.at_most))
                .expected(format!("at least {}, which have a smallest weight above 0", needed.max(1)))
                .fix("raise `at_most`, or remove a `min`"));
        }
        let mut caps: Vec<f64> = self.bounds.iter().map(|b| b.max).collect();
        caps.sort_by(|a, b| b.total_cmp(a));
        let most: f64 = caps.iter().take(self.at_most).sum();
        if most < 1.0 - SLACK {
            return Err(Error::usage(format!("no {} partitions together reach a whole mixture", self.at_most))
                .expected("caps of which the largest sum to 1 or more")
                .got(format!("{most:.4}: {} are missing", in_tokens(1.0 - most)))
                .fix("raise `at_most`, `max_epochs` or `max`"));
        }
        Ok(())
    }

    /// Least and most weight of a group.
    fn range_of(&self, group: &Group) -> (f64, f64) {
        let sum = |of: fn(&Bounds) -> f64| group.members.iter().map(|&i| of(&self.bounds[i])).sum::<f64>();
        (group.bounds.min.max(sum(|b| b.min)), group.bounds.max.min(sum(|b| b.max)))
    }

    /// Least and most that all weights can sum to.
    fn range(&self) -> (f64, f64) {
        let mut range = (0.0, 0.0);
        for block in self.blocks() {
            range = (range.0 + block.min, range.1 + block.max);
        }
        range
    }

    /// The groups, and each partition outside of them as a group of its own.
    fn blocks(&self) -> Vec<Block> {
        let mut grouped = vec![false; self.len()];
        let mut blocks = Vec::new();
        for group in &self.groups {
            group.members.iter().for_each(|&i| grouped[i] = true);
            let (min, max) = self.range_of(group);
            blocks.push(Block { members: group.members.clone(), min, max });
        }
        let single = |i: usize| Block { members: vec![i], min: self.bounds[i].min, max: self.bounds[i].max };
        blocks.extend((0..self.len()).filter(|&i| !grouped[i]).map(single));
        blocks
    }

    /// Whether a mixture meets them, within rounding.
    pub fn allow(&self, w: &[f64]) -> bool {
        let within = |x: f64, b: Bounds| x >= b.min - 1e-7 && x <= b.max + 1e-7;
        w.iter().zip(&self.bounds).all(|(w, b)| within(*w, *b))
            && self.groups.iter().all(|g| within(g.members.iter().map(|&i| w[i]).sum(), g.bounds))
            && w.iter().filter(|w| **w > 1e-12).count() <= self.at_most
            && (w.iter().sum::<f64>() - 1.0).abs() < 1e-6
    }

    /// These constraints with partitions outside of `support` at 0; `None` if no mixture is left.
    pub fn within(&self, support: &[bool]) -> Option<Constraints> {
        let mut inner = Constraints { at_most: self.len(), ..self.clone() };
        for (bounds, inside) in inner.bounds.iter_mut().zip(support) {
            if !inside {
                if bounds.min > 0.0 {
                    return None;
                }
                bounds.max = 0.0;
            }
        }
        let names = vec![String::new(); self.len()];
        inner.check(&names, None).is_ok().then_some(inner)
    }

    /// The constraints for small changes of `w`: where the number of partitions is restricted, only
    /// those in `w`.
    pub fn around(&self, w: &[f64]) -> Constraints {
        let support: Vec<bool> = w.iter().map(|w| *w > 0.0).collect();
        let restricted = if self.at_most < self.len() { self.within(&support) } else { None };
        restricted.unwrap_or_else(|| self.clone())
    }

    /// The nearest mixture that meets bounds and groups (not `at_most`).
    pub fn project(&self, v: &[f64]) -> Vec<f64> {
        let blocks = self.blocks();
        // Weights v_i - shift, cut to their bounds; a group whose sum is then out of bounds gets
        // a further shift of its own. The sum falls as the shift grows.
        let place = |shift: f64, out: &mut [f64]| -> f64 {
            for block in &blocks {
                let sum = self.cut(block, v, shift, out);
                if sum < block.min {
                    self.fill(block, v, block.min, out);
                } else if sum > block.max {
                    self.fill(block, v, block.max, out);
                }
            }
            out.iter().sum()
        };
        let mut out = vec![0.0; v.len()];
        let (mut low, mut high) = spread(v);
        for _ in 0..BISECTIONS {
            let middle = low + (high - low) / 2.0;
            if place(middle, &mut out) > 1.0 { low = middle } else { high = middle }
        }
        place(low + (high - low) / 2.0, &mut out);
        out
    }

    /// Cuts `v - shift` to the bounds of a block's members; returns the sum.
    fn cut(&self, block: &Block, v: &[f64], shift: f64, out: &mut [f64]) -> f64 {
        let mut sum = 0.0;
        for &i in &block.members {
            out[i] = (v[i] - shift).clamp(self.bounds[i].min, self.bounds[i].max);
            sum += out[i];
        }
        sum
    }

    /// The nearest weights of a block with this sum.
    fn fill(&self, block: &Block, v: &[f64], total: f64, out: &mut [f64]) {
        let (mut low, mut high) = spread(v);
        for _ in 0..BISECTIONS {
            let middle = low + (high - low) / 2.0;
            if self.cut(block, v, middle, out) > total { low = middle } else { high = middle }
        }
        self.cut(block, v, low + (high - low) / 2.0, out);
    }

    /// The mixture with the smallest `cost w` that meets bounds and groups (not `at_most`): fills
    /// floors first, then the cheapest partitions to their caps.
    pub fn cheapest(&self, cost: &[f64]) -> Vec<f64> {
        let blocks = self.blocks();
        let mut w: Vec<f64> = self.bounds.iter().map(|b| b.min).collect();
        let mut sums: Vec<f64> = blocks.iter().map(|b| b.members.iter().map(|&i| w[i]).sum()).collect();
        let mut order: Vec<usize> = (0..w.len()).collect();
        order.sort_by(|&a, &b| cost[a].total_cmp(&cost[b]).then(a.cmp(&b)));
        let mut block_of = vec![0; w.len()];
        blocks.iter().enumerate().for_each(|(b, block)| block.members.iter().for_each(|&i| block_of[i] = b));
        // Each group's floor, from its cheapest members, then the rest from anyone.
        for floors in [true, false] {
            for &i in &order {
                let b = block_of[i];
                let room = match floors {
                    true => blocks[b].min - sums[b],
                    false => (1.0 - sums.iter().sum::<f64>()).min(blocks[b].max - sums[b]),
                };
                let more = room.min(self.bounds[i].max - w[i]).max(0.0);
                w[i] += more;
                sums[b] += more;
            }
        }
        w
    }

    /// How much `gradient` allows to gain at `w`: `gradient (w - v)` for the best mixture v. For a
    /// convex function with this gradient, no mixture is better by more.
    pub fn gap(&self, w: &[f64], gradient: &[f64]) -> f64 {
        (dot(gradient, w) - dot(gradient, &self.cheapest(gradient))).max(0.0)
    }
}

/// Halvings of an interval until it is a few units in the last place.
const BISECTIONS: usize = 64;

struct Block {
    members: Vec<usize>,
    min: f64,
    max: f64,
}

/// Shifts at which all weights are at their caps, and at their floors.
fn spread(v: &[f64]) -> (f64, f64) {
    let low = v.iter().copied().fold(f64::INFINITY, f64::min);
    let high = v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (low - 1.0, high)
}

fn check_bounds(what: &str, bounds: Bounds) -> Result<()> {
    let Bounds { min, max } = bounds;
    if (0.0..=1.0).contains(&min) && (0.0..=1.0).contains(&max) && min <= max {
        return Ok(());
    }
    Err(Error::usage(format!("the bounds of {what} are {min} to {max}"))
        .expected("0 <= min <= max <= 1; a fixed weight lies within them, and a cap from `max_epochs` is part of them"))
}

/// A number with its thousands apart.
pub fn grouped(x: f64) -> String {
    let digits = format!("{x:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", &*digits), |rest| ("-", rest));
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    format!("{sign}{out}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Random feasible constraints.
    fn constraints(random: &mut ChaCha8Rng, n: usize) -> Constraints {
        loop {
            let bounds = (0..n).map(|_| {
                let (a, b) = (random.random::<f64>() * 0.2, random.random::<f64>());
                Bounds { min: if random.random() { 0.0 } else { a }, max: a.max(b) }
            });
            let mut c = Constraints { bounds: bounds.collect(), ..Constraints::none(n) };
            let half: Vec<usize> = (0..n / 2).collect();
            let bounds = Bounds { min: random.random::<f64>() * 0.3, max: 0.3 + random.random::<f64>() * 0.7 };
            c.groups.push(Group { name: "half".into(), members: half, bounds });
            if c.check(&vec!["x".to_string(); n], None).is_ok() {
                return c;
            }
        }
    }

    #[test]
    fn projections_are_feasible_and_nearest() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..300 {
            let c = constraints(&mut random, 6);
            let mut v: Vec<f64> = (0..6).map(|_| random.random::<f64>() * 3.0 - 1.0).collect();
            let w = c.project(&v);
            assert!(c.allow(&w), "{c:?} {w:?}");
            // The nearest point of a convex set: (v - w) points away from every other point.
            for _ in 0..20 {
                v.iter_mut().zip(&w).for_each(|(v, w)| *v -= w);
                let other = c.cheapest(&(0..6).map(|_| random.random::<f64>() - 0.5).collect::<Vec<_>>());
                let inner: f64 = v.iter().zip(other.iter().zip(&w)).map(|(v, (o, w))| v * (o - w)).sum();
                v.iter_mut().zip(&w).for_each(|(v, w)| *v += w);
                assert!(inner < 1e-8, "{inner}");
            }
        }
    }

    #[test]
    fn the_cheapest_mixture_beats_random_ones() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        for _ in 0..300 {
            let c = constraints(&mut random, 6);
            let cost: Vec<f64> = (0..6).map(|_| random.random::<f64>() - 0.5).collect();
            let best = c.cheapest(&cost);
            assert!(c.allow(&best), "{c:?} {best:?}");
            for _ in 0..50 {
                let w = c.project(&(0..6).map(|_| random.random::<f64>() * 2.0 - 0.5).collect::<Vec<_>>());
                assert!(dot(&cost, &best) <= dot(&cost, &w) + 1e-9);
                assert!(c.gap(&w, &cost) >= 0.0);
            }
        }
    }

    #[test]
    fn changes_of_a_mixture_keep_its_partitions_where_their_number_is_restricted() {
        let two = Constraints { at_most: 2, ..Constraints::none(3) };
        let around = two.around(&[0.5, 0.0, 0.5]);
        assert_eq!(around.bounds.iter().map(|b| b.max).collect::<Vec<_>>(), [1.0, 0.0, 1.0]);
        // The second partition would gain most.
        assert_eq!(around.gap(&[0.5, 0.0, 0.5], &[0.0, -9.0, 1.0]), 0.5);
        assert_eq!(Constraints::none(3).around(&[0.5, 0.0, 0.5]), Constraints::none(3));
    }

    #[test]
    fn impossible_constraints_are_refused_with_the_missing_tokens() {
        let names = ["law".to_string(), "web".to_string()];
        let with = |law: Bounds, web: Bounds| Constraints { bounds: vec![law, web], ..Constraints::none(2) };
        let low = Bounds { min: 0.0, max: 0.25 };
        let error = with(low, low).check(&names, Some(1e9)).expect_err("caps of 0.5").to_string();
        assert!(error.contains("500,000,000 tokens"), "{error}");
        let high = Bounds { min: 0.75, max: 1.0 };
        assert!(with(high, high).check(&names, None).is_err());
        let wrong = Bounds { min: 0.5, max: 0.4 };
        assert!(with(wrong, Bounds::FREE).check(&names, None).expect_err("crossed").to_string().contains("`law`"));
        let one = Constraints { at_most: 1, ..with(Bounds { min: 0.0, max: 0.6 }, Bounds { min: 0.0, max: 0.6 }) };
        assert!(one.check(&names, None).is_err());
    }
}
