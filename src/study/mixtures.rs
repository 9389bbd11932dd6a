//! The mixtures that a study verifies by training SEQ on them.

use super::settings::{Count, Study};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};
use serde::Serialize;
use std::collections::BTreeMap;

/// A mixture that a study verifies by training SEQ on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mixture {
    /// Members joined by `+`, with their weights if these are not uniform, and the budget if it is
    /// given.
    pub id: String,
    /// `pairs`, `triples`, `across_sources`, `given`, or `budget <n>`
    pub group: String,
    /// Partition -> weight; weights sum to 1.
    pub members: BTreeMap<String, f64>,
    /// Partition -> number of times SEQ sees the windows of its base units. `None` for given
    /// weights, which determine the number of windows themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<BTreeMap<String, u64>>,
    /// Base units that SEQ is trained on, if not those of its members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// Number of trainings on it, each with a different order and choice of windows.
    pub repeats: u64,
    /// Whether the study's larger model is trained on it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub target: bool,
}

/// Makes the mixtures of `search.calibrate` differ from the samples of mixing laws.
const CALIBRATION: u64 = 0xca11_b8a7_e000;

/// All pairs, triples and given mixtures, each once in its group, and those of `search.calibrate`. A sample of a group is the
/// mixtures with the lowest hashes of (random_seed, names), so adding a partition does not change
/// the order of the existing mixtures. Mixtures to repeat and mixtures of the larger model are
/// chosen in the same way.
pub fn mixtures(study: &Study) -> Vec<Mixture> {
    let settings = &study.mixtures;
    let mut names: Vec<&str> = study.partition.iter().map(|p| p.name.as_str()).collect();
    names.sort_unstable();
    let crosses = |members: &Vec<&str>| crosses_sources(study, members);
    let mut all: Vec<Mixture> = Vec::new();
    let groups =
        [("pairs", settings.pairs), ("triples", settings.triples), ("across_sources", settings.across_sources)];
    for (group, count) in groups {
        // There can be very many subsets, so they are made only for groups that the study has.
        let Some(count) = count else { continue };
        let mut subsets = subsets(&names, if group == "triples" { 3 } else { 2 });
        match group {
            // Pairs across sources are a group of their own.
            "pairs" if settings.across_sources.is_some() => subsets.retain(|members| !crosses(members)),
            "across_sources" => subsets.retain(crosses),
            _ => {}
        }
        all.extend(chosen(study, subsets, count).iter().map(|members| of_units(study, group, members)));
    }
    for given in &study.mixture {
        if !all.iter().any(|m| m.members == given.members && m.budget == given.budget) {
            all.push(match given.budget {
                None => Mixture::new("given", given.members.clone(), None),
                Some(budget) => Mixture::of_budget(given.members.clone(), budget),
            });
        }
    }
    // A late partition changes no calibration that is trained.
    let is_early = |name: &&str| study.partition.iter().any(|p| p.name == *name && !p.late);
    let early: Vec<&str> = names.iter().copied().filter(is_early).collect();
    let calibrated = if early.len() < 2 { &names } else { &early };
    for number in 0..study.search.calibrate {
        let members = random_weights(calibrated, study.random_seed ^ CALIBRATION, number as u64);
        all.push(Mixture::of_budget(members, study.search.budget));
    }
    name_apart(&mut all);
    for (group, count) in counts(&all, study.mixtures.repeated) {
        for i in most_likely(study, &all, &group, count) {
            all[i].repeats = settings.repeats;
        }
    }
    if let Some(target) = &study.target {
        for (group, count) in counts(&all, target.mixtures) {
            for i in most_likely(study, &all, &group, count) {
                all[i].target = true;
            }
        }
    }
    all
}

impl Mixture {
    /// Number of times SEQ sees the windows of a member's base units.
    pub fn copies_of(&self, member: &str) -> u64 {
        self.copies.as_ref().map_or(1, |copies| copies[member])
    }

    /// Base units that SEQ is trained on, copies included.
    pub fn units(&self, study: &Study) -> u64 {
        let of_members = || self.members.keys().map(|name| self.copies_of(name) * study.units(name)).sum();
        self.budget.unwrap_or_else(of_members)
    }

    /// A mixture on which SEQ is trained with the budget of `budget` base units.
    pub fn of_budget(members: BTreeMap<String, f64>, budget: u64) -> Mixture {
        let id = format!("{} @{budget}", id(&members));
        Mixture { id, group: format!("budget {budget}"), budget: Some(budget), ..Mixture::new("", members, None) }
    }

    fn new(group: &str, members: BTreeMap<String, f64>, copies: Option<BTreeMap<String, u64>>) -> Mixture {
        Mixture { id: id(&members), group: group.into(), members, copies, budget: None, repeats: 1, target: false }
    }
}

/// The number of mixtures that `count` takes from each group, by the group's name.
fn counts(all: &[Mixture], count: Count) -> BTreeMap<String, usize> {
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    all.iter().for_each(|m| *sizes.entry(m.group.clone()).or_default() += 1);
    sizes.into_iter().map(|(group, size)| (group, count.of(size))).collect()
}

/// Indices of the `count` mixtures of a group with the lowest hashes.
fn most_likely(study: &Study, all: &[Mixture], group: &str, count: usize) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..all.len()).filter(|&i| all[i].group == group).collect();
    positions.sort_by_cached_key(|&i| {
        let names: Vec<&str> = all[i].members.keys().map(String::as_str).collect();
        (rank(study.random_seed, &names), i)
    });
    positions.truncate(count);
    positions
}

/// The subsets with the lowest hashes, in lexical order.
fn chosen<'a>(study: &Study, mut subsets: Vec<Vec<&'a str>>, count: Count) -> Vec<Vec<&'a str>> {
    let wanted = count.of(subsets.len());
    if wanted < subsets.len() {
        subsets.sort_by_cached_key(|members| rank(study.random_seed, members));
        subsets.truncate(wanted);
        subsets.sort();
    }
    subsets
}

/// Whether all members have a known source and the sources differ.
fn crosses_sources(study: &Study, members: &[&str]) -> bool {
    let source = |name: &str| study.partition.iter().find(|p| p.name == name).and_then(|p| p.source.as_ref());
    let sources: Vec<_> = members.iter().filter_map(|name| source(name)).collect();
    sources.len() == members.len() && sources.windows(2).any(|pair| pair[0] != pair[1])
}

/// The mixture of whole partitions. A member's weight is its base units, times its copies if small
/// partitions are upsampled.
fn of_units(study: &Study, group: &str, members: &[&str]) -> Mixture {
    let units: Vec<u64> = members.iter().map(|name| study.units(name)).collect();
    let most = units.iter().copied().max().unwrap_or(1);
    // Whole copies, as near to equal sizes as possible.
    let copies = |u: u64| if study.mixtures.upsample { ((most as f64 / u as f64).round() as u64).max(1) } else { 1 };
    let parts: Vec<u64> = units.iter().map(|&u| u * copies(u)).collect();
    let total: u64 = parts.iter().sum();
    let weight = |part: u64| match parts.iter().all(|p| *p == part) {
        // Exactly the weight in a uniform mixture.
        true => 1.0 / members.len() as f64,
        false => part as f64 / total as f64,
    };
    let weights = members.iter().zip(&parts).map(|(name, part)| (name.to_string(), weight(*part))).collect();
    let copies = members.iter().zip(&units).map(|(name, u)| (name.to_string(), copies(*u))).collect();
    Mixture::new(group, weights, Some(copies))
}

/// Makes ids unique. Ids show weights with few digits; mixtures with equal ids show all digits, or
/// their number if that is not enough.
fn name_apart(all: &mut [Mixture]) {
    for all_digits in [true, false] {
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        all.iter().for_each(|m| *times.entry(m.id.clone()).or_default() += 1);
        for (number, mixture) in all.iter_mut().enumerate().filter(|(_, m)| times[&m.id] > 1) {
            let exact = || mixture.members.iter().map(|(name, weight)| format!("{weight} {name}"));
            let budget = mixture.budget.map_or(String::new(), |budget| format!(" @{budget}"));
            mixture.id = match all_digits {
                true => exact().collect::<Vec<_>>().join("+") + &budget,
                false => format!("{} ({})", mixture.id, number + 1),
            };
        }
    }
}

fn id(members: &BTreeMap<String, f64>) -> String {
    let uniform = members.values().all(|w| (w - 1.0 / members.len() as f64).abs() < 1e-12);
    let part = |(name, weight): (&String, &f64)| match format!("{weight}") {
        _ if uniform => name.clone(),
        long if long.len() > 8 => format!("{weight:.4} {name}"),
        short => format!("{short} {name}"),
    };
    members.iter().map(part).collect::<Vec<_>>().join("+")
}

/// Random weights: the number of partitions is drawn uniformly from two to all, then a set of that
/// size, then weights uniform on the simplex. The same number gives the same weights.
pub fn random_weights(names: &[&str], seed: u64, number: u64) -> BTreeMap<String, f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(number);
    let mut members = names.to_vec();
    let size = random.random_range(2..=members.len() as u32) as usize;
    for i in 0..size {
        members.swap(i, random.random_range(i as u32..names.len() as u32) as usize);
    }
    // Exponential variables divided by their sum are uniform on the simplex.
    let parts: Vec<f64> = (0..size).map(|_| Exp1.sample(&mut random)).collect();
    let sum: f64 = parts.iter().sum();
    members.iter().zip(&parts).map(|(name, part): (&&str, &f64)| (name.to_string(), part / sum)).collect()
}

/// Sort key of a set of partitions in the order that samples are taken from.
pub fn rank(seed: u64, members: &[&str]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    for name in members {
        hasher.update(name.as_bytes()).update(&[0]);
    }
    *hasher.finalize().as_bytes()
}

/// All subsets of `size` names, in lexical order.
fn subsets<'a>(names: &[&'a str], size: usize) -> Vec<Vec<&'a str>> {
    if size == 0 {
        return vec![vec![]];
    }
    let with_first = |i: usize| {
        let rest = subsets(&names[i + 1..], size - 1);
        rest.into_iter().map(move |tail| [vec![names[i]], tail].concat())
    };
    (0..names.len()).flat_map(with_first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_are_complete_and_unique() {
        let names = ["a", "b", "c", "d", "e"];
        assert_eq!(subsets(&names, 2).len(), 10);
        assert_eq!(subsets(&names, 3).len(), 10);
        assert_eq!(subsets(&names, 5), vec![names.to_vec()]);
        assert!(subsets(&names, 6).is_empty());
        assert_eq!(subsets(&["a", "b", "c"], 2), vec![vec!["a", "b"], vec!["a", "c"], vec!["b", "c"]]);
    }

    #[test]
    fn different_mixtures_have_different_ids() {
        let members = |a: f64| BTreeMap::from([("a".to_string(), a), ("b".to_string(), 1.0 - a)]);
        let (first, second) = (members(0.123_412_3), members(0.123_445_6));
        let mut all = [&first, &second, &second].map(|m| Mixture::new("given", m.clone(), None));
        assert_eq!(all[0].id, all[1].id);
        name_apart(&mut all);
        let ids: std::collections::BTreeSet<&str> = all.iter().map(|m| m.id.as_str()).collect();
        assert_eq!(ids.len(), 3, "{ids:?}");
        assert!(all[0].id.contains("0.1234123 a"), "{}", all[0].id);
    }

    #[test]
    fn ids_show_nonuniform_weights() {
        let members = BTreeMap::from([("law".to_string(), 0.5), ("physics".to_string(), 0.5)]);
        assert_eq!(id(&members), "law+physics");
        let members = BTreeMap::from([("law".to_string(), 0.25), ("physics".to_string(), 0.75)]);
        assert_eq!(id(&members), "0.25 law+0.75 physics");
    }
}
