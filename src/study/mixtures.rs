//! Which mixtures a study verifies by really training them.

use super::settings::{Count, Study};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mixture {
    /// Members joined by `+`, with their weights where these are not uniform.
    pub id: String,
    /// `pairs`, `triples` or `given`
    pub group: String,
    /// Partition -> weight; weights sum to 1.
    pub members: BTreeMap<String, f64>,
}

/// All pairs, triples and given mixtures, each once. A sample of the pairs is the one with the lowest hashes of
/// (random_seed, names), so that adding a partition leaves the mixtures of the others as likely as before and the
/// same ones stay on top.
pub fn mixtures(study: &Study) -> Vec<Mixture> {
    let mut all: Vec<Mixture> = Vec::new();
    let mut names: Vec<&str> = study.partition.iter().map(|p| p.name.as_str()).collect();
    names.sort_unstable();
    for (group, size, count) in [("pairs", 2, study.mixtures.pairs), ("triples", 3, study.mixtures.triples)] {
        let mut subsets = subsets(&names, size);
        let wanted = match count {
            None => 0,
            Some(Count::All(_)) => subsets.len(),
            Some(Count::Number(n)) => n,
        };
        if wanted < subsets.len() {
            subsets.sort_by_cached_key(|members| rank(study.random_seed, members));
            subsets.truncate(wanted);
            subsets.sort();
        }
        all.extend(subsets.iter().map(|members| uniform(group, members)));
    }
    for given in &study.mixture {
        let mixture = Mixture { id: id(&given.members), group: "given".into(), members: given.members.clone() };
        if !all.iter().any(|m| m.members == mixture.members) {
            all.push(mixture);
        }
    }
    all
}

fn uniform(group: &str, members: &[&str]) -> Mixture {
    let weight = 1.0 / members.len() as f64;
    let members: BTreeMap<String, f64> = members.iter().map(|m| (m.to_string(), weight)).collect();
    Mixture { id: id(&members), group: group.into(), members }
}

fn id(members: &BTreeMap<String, f64>) -> String {
    let uniform = members.values().all(|w| (w - 1.0 / members.len() as f64).abs() < 1e-12);
    let part = |(name, weight): (&String, &f64)| if uniform { name.clone() } else { format!("{weight} {name}") };
    members.iter().map(part).collect::<Vec<_>>().join("+")
}

fn rank(seed: u64, members: &[&str]) -> [u8; 32] {
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
    fn subsets_are_all_and_once() {
        let names = ["a", "b", "c", "d", "e"];
        assert_eq!(subsets(&names, 2).len(), 10);
        assert_eq!(subsets(&names, 3).len(), 10);
        assert_eq!(subsets(&names, 5), vec![names.to_vec()]);
        assert!(subsets(&names, 6).is_empty());
        assert_eq!(subsets(&["a", "b", "c"], 2), vec![vec!["a", "b"], vec!["a", "c"], vec!["b", "c"]]);
    }

    #[test]
    fn ids_show_weights_that_are_not_uniform() {
        assert_eq!(uniform("pairs", &["law", "physics"]).id, "law+physics");
        let members = BTreeMap::from([("law".to_string(), 0.25), ("physics".to_string(), 0.75)]);
        assert_eq!(id(&members), "0.25 law+0.75 physics");
    }
}
