//! The order in which a device computes weighted sums, and the choice of checkpoints that stay in
//! its memory meanwhile. Both affect only the number of loads, not the bits of a sum.

use super::weighted_sum::WeightedSum;

/// The checkpoints of a weighted sum, each once, in the order of their first use.
pub(super) fn members(sum: &WeightedSum) -> Vec<usize> {
    let mut members = Vec::new();
    for &(k, _) in &sum.terms {
        if !members.contains(&k) {
            members.push(k);
        }
    }
    members
}

/// An order in which consecutive sums share members, if `slots` checkpoints fit the memory: the
/// next sum is the first of those that need the fewest loads. Returns the given order if that takes
/// no more loads.
pub fn schedule(sums: &[WeightedSum], slots: usize) -> Vec<usize> {
    let members: Vec<Vec<usize>> = sums.iter().map(members).collect();
    let given: Vec<usize> = (0..sums.len()).collect();
    let greedy = greedy(&members, slots);
    let loads = |order: &[usize]| loads(&order.iter().map(|&m| members[m].clone()).collect::<Vec<_>>(), slots);
    if loads(&greedy) < loads(&given) { greedy } else { given }
}

fn greedy(members: &[Vec<usize>], slots: usize) -> Vec<usize> {
    let mut uses_left = vec![0; checkpoints(members)];
    members.iter().flatten().for_each(|&k| uses_left[k] += 1);
    let (mut left, mut order): (Vec<usize>, Vec<usize>) = ((0..members.len()).collect(), Vec::new());
    let mut slots = Slots::new(slots);
    while !left.is_empty() {
        let cheapest = (0..left.len()).min_by_key(|&i| slots.missing(&members[left[i]])).unwrap_or(0);
        let next = left.remove(cheapest);
        // The order is not known yet, so the checkpoint with the fewest remaining uses is evicted.
        slots.load(&members[next], |k| usize::MAX - uses_left[k]);
        members[next].iter().for_each(|&k| uses_left[k] -= 1);
        order.push(next);
    }
    order
}

/// The number of loads for sums of these members, computed in this order.
fn loads(members: &[Vec<usize>], slots: usize) -> usize {
    let uses = Uses::new(members);
    let mut slots = Slots::new(slots);
    members.iter().enumerate().map(|(i, members)| slots.load(members, |k| uses.after(i, k))).sum()
}

fn checkpoints(members: &[Vec<usize>]) -> usize {
    members.iter().flatten().max().map_or(0, |k| k + 1)
}

/// The positions at which each checkpoint is used.
pub(super) struct Uses {
    /// For each checkpoint, positions in the order, ascending
    positions: Vec<Vec<usize>>,
}

impl Uses {
    /// For sums with these members, in this order.
    pub(super) fn new(members: &[Vec<usize>]) -> Uses {
        let mut positions = vec![Vec::new(); checkpoints(members)];
        for (position, members) in members.iter().enumerate() {
            members.iter().for_each(|&k| positions[k].push(position));
        }
        Uses { positions }
    }
    /// The first position after `position` that uses checkpoint `k`.
    pub(super) fn after(&self, position: usize, k: usize) -> usize {
        let positions = &self.positions[k];
        positions.get(positions.partition_point(|&p| p <= position)).copied().unwrap_or(usize::MAX)
    }
}

/// The checkpoint in each slot of the memory.
pub(super) struct Slots {
    holds: Vec<Option<usize>>,
}

impl Slots {
    pub(super) fn new(slots: usize) -> Slots {
        Slots { holds: vec![None; slots] }
    }
    pub(super) fn len(&self) -> usize {
        self.holds.len()
    }
    pub(super) fn of(&self, checkpoint: usize) -> Option<usize> {
        self.holds.iter().position(|held| *held == Some(checkpoint))
    }
    pub(super) fn put(&mut self, slot: usize, checkpoint: usize) {
        self.holds[slot] = Some(checkpoint);
    }
    pub(super) fn clear(&mut self) {
        self.holds.fill(None);
    }

    /// Frees a slot for one of `wanted`, which are no more than the slots: an empty slot, or that
    /// of the checkpoint whose next use is the farthest, which minimizes the number of loads
    /// (Belady 1966).
    pub(super) fn free(&mut self, wanted: &[usize], next_use: impl Fn(usize) -> usize) -> usize {
        let distance = |slot: &usize| match self.holds[*slot] {
            None => Some((true, 0)),
            Some(k) if wanted.contains(&k) => None,
            Some(k) => Some((false, next_use(k))),
        };
        let candidates = (0..self.len()).filter(|slot| distance(slot).is_some());
        // Ties go to the first.
        let slot = candidates.rev().max_by_key(distance).expect("a slot that holds none of the wanted");
        self.holds[slot] = None;
        slot
    }

    /// The number of loads that a sum takes: more members than slots are streamed.
    fn missing(&self, members: &[usize]) -> usize {
        if members.len() > self.len() {
            return members.len();
        }
        members.iter().filter(|&&k| self.of(k).is_none()).count()
    }

    fn load(&mut self, members: &[usize], next_use: impl Fn(usize) -> usize) -> usize {
        let missing = self.missing(members);
        if members.len() > self.len() {
            self.clear();
            return missing;
        }
        for &k in members {
            if self.of(k).is_none() {
                let slot = self.free(members, &next_use);
                self.put(slot, k);
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(members: &[usize]) -> WeightedSum {
        WeightedSum { terms: members.iter().map(|&k| (k, 1.0 / members.len() as f64)).collect() }
    }

    fn pairs(n: usize) -> Vec<WeightedSum> {
        (0..n).flat_map(|i| (i + 1..n).map(move |j| sum(&[i, j]))).collect()
    }

    fn loads_of(sums: &[WeightedSum], order: &[usize], slots: usize) -> usize {
        loads(&order.iter().map(|&m| members(&sums[m])).collect::<Vec<_>>(), slots)
    }

    #[test]
    fn an_order_contains_each_sum_once() {
        let mut sums = pairs(7);
        sums.extend([sum(&[0, 1, 2, 3]), sum(&[6, 2, 5]), sum(&[4]), sum(&[4, 4])]);
        for slots in 0..9 {
            let mut order = schedule(&sums, slots);
            assert_eq!(order, schedule(&sums, slots), "the same each time");
            order.sort_unstable();
            assert_eq!(order, (0..sums.len()).collect::<Vec<_>>(), "{slots} slots");
        }
        assert!(schedule(&[], 3).is_empty());
    }

    #[test]
    fn all_pairs_take_fewer_loads_than_in_the_given_order() {
        let sums = pairs(10);
        let given: Vec<usize> = (0..sums.len()).collect();
        for (slots, most) in [(2, 46), (3, 30), (5, 20)] {
            let (ours, theirs) = (loads_of(&sums, &schedule(&sums, slots), slots), loads_of(&sums, &given, slots));
            assert!(ours <= theirs && ours <= most, "{slots} slots: {ours} loads, {theirs} in the given order");
        }
        // A shuffled order alternates between members.
        let shuffled: Vec<WeightedSum> = (0..45).map(|i| sums[i * 7 % 45].clone()).collect();
        let ours = loads_of(&shuffled, &schedule(&shuffled, 4), 4);
        let theirs = loads_of(&shuffled, &given, 4);
        assert!(2 * ours < theirs, "{ours} loads, {theirs} in the given order");
    }

    #[test]
    fn checkpoints_that_fit_the_memory_load_once_in_the_given_order() {
        let sums = pairs(6);
        let order = schedule(&sums, 6);
        assert_eq!(order, (0..sums.len()).collect::<Vec<_>>());
        assert_eq!(loads_of(&sums, &order, 6), 6);
    }

    #[test]
    fn the_checkpoint_with_the_farthest_next_use_is_evicted() {
        let members = [vec![0, 1], vec![2], vec![1], vec![0]];
        let uses = Uses::new(&members);
        let mut slots = Slots::new(2);
        assert_eq!(slots.load(&members[0], |k| uses.after(0, k)), 2);
        assert_eq!(slots.load(&members[1], |k| uses.after(1, k)), 1);
        assert_eq!((slots.of(0), slots.of(1), slots.of(2)), (None, Some(1), Some(0)));
        assert_eq!(loads(&members, 2), 4);
        assert_eq!(loads(&[vec![0, 1, 2], vec![0]], 2), 4, "a streamed sum leaves nothing behind");
    }
}
