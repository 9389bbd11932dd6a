//! The search that was made in a study's directory before: after new partitions were added, a search
//! continues it, and the report shows the recipe before and after.

use crate::analysis::{RecipeBefore, SearchSummary};
use crate::files;
use crate::study::store::Store;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The keys of the data that a search scored on, and of the models that it merged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolKeys {
    /// Of the tokenized data
    pub data: String,
    /// Of the seed
    pub seed: String,
    /// Partition -> of its module
    pub modules: BTreeMap<String, String>,
}

/// What is needed of an earlier `search.json`.
#[derive(Deserialize)]
pub struct EarlierSearch {
    device: String,
    pool: PoolKeys,
    outcome: EarlierOutcome,
    recipe: EarlierRecipe,
    summary: EarlierSummary,
}

#[derive(Deserialize)]
struct EarlierOutcome {
    partitions: Vec<String>,
    lambda: f64,
    expanded_at: Vec<f64>,
}

#[derive(Deserialize)]
struct EarlierRecipe {
    objective: String,
    partition: Vec<EarlierPartition>,
}

#[derive(Deserialize)]
struct EarlierPartition {
    name: String,
    weight: f64,
}

#[derive(Deserialize)]
struct EarlierSummary {
    before: Option<RecipeBefore>,
}

/// What other commands need of `search.json`.
#[derive(Deserialize)]
struct StoredSummary {
    pool: PoolKeys,
    overridden: bool,
    summary: SearchSummary,
}

/// The last search, if it is one of these models on this data.
fn stored(pool: &PoolKeys, store: &Store) -> Option<StoredSummary> {
    let text = files::read_to_string(&store.root.join("search.json")).ok()?;
    let stored: StoredSummary = serde_json::from_str(&text).ok()?;
    (stored.pool == *pool).then_some(stored)
}

/// What a report shows of the last search; `None` if there is none, or one of other models or data.
pub fn summary(pool: &PoolKeys, store: &Store) -> Option<SearchSummary> {
    stored(pool, store).map(|stored| stored.summary)
}

/// Whether the last search is one of these models and data, made with options.
pub fn is_overridden(pool: &PoolKeys, store: &Store) -> bool {
    stored(pool, store).is_some_and(|stored| stored.overridden)
}

impl EarlierSearch {
    /// Reads `search.json`; `None` if there is none, or one of another version.
    pub fn read(store: &Store) -> Option<EarlierSearch> {
        let text = files::read_to_string(&store.root.join("search.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The mixture that it expanded the losses at, if the search of these partitions can continue
    /// it: all of its models are still the same, fewer than half of the partitions are new, and
    /// merges have the same lambda.
    pub fn base(&self, pool: &PoolKeys, partitions: &[String], device: &str, lambda: f64) -> Option<Vec<f64>> {
        let same = |(name, key): (&String, &String)| pool.modules.get(name) == Some(key);
        let is_same_pool = self.pool.seed == pool.seed && self.pool.modules.iter().all(same);
        if !is_same_pool || self.device != device || self.outcome.lambda != lambda {
            return None;
        }
        let weight = |name: &String| {
            let at = self.outcome.partitions.iter().position(|known| known == name);
            at.and_then(|at| self.outcome.expanded_at.get(at)).copied().unwrap_or(0.0)
        };
        let base: Vec<f64> = partitions.iter().map(weight).collect();
        let new = base.iter().filter(|weight| **weight == 0.0).count();
        let is_mixture = (base.iter().sum::<f64>() - 1.0).abs() < 1e-9;
        (is_mixture && new > 0 && 2 * new < partitions.len()).then_some(base)
    }

    /// Its recipe, if partitions were added since; otherwise the recipe before that one. `None` if it
    /// contains a partition that is gone.
    pub fn before(&self, partitions: &[String], objective: &str) -> Option<RecipeBefore> {
        if self.recipe.objective != objective {
            return None;
        }
        let is_new = |name: &&String| !self.outcome.partitions.contains(name);
        let added: Vec<String> = partitions.iter().filter(is_new).cloned().collect();
        let before = if added.is_empty() {
            self.summary.before.clone()?
        } else {
            let members = self.recipe.partition.iter().map(|p| (p.name.clone(), p.weight)).collect();
            RecipeBefore { members, merged: f64::NAN, added }
        };
        before.members.keys().chain(&before.added).all(|name| partitions.contains(name)).then_some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(names: &[&str]) -> PoolKeys {
        let modules = names.iter().map(|name| (name.to_string(), format!("key {name}"))).collect();
        PoolKeys { data: "data".into(), seed: "seed".into(), modules }
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| name.to_string()).collect()
    }

    /// A search of a, b and c, all of whose derivatives are known.
    fn earlier() -> EarlierSearch {
        EarlierSearch {
            device: "cpu".into(),
            pool: pool(&["a", "b", "c"]),
            outcome: EarlierOutcome {
                partitions: names(&["a", "b", "c"]),
                lambda: 1.5,
                expanded_at: vec![0.5, 0.25, 0.25],
            },
            recipe: EarlierRecipe {
                objective: "ood".into(),
                partition: vec![EarlierPartition { name: "b".into(), weight: 1.0 }],
            },
            summary: EarlierSummary { before: None },
        }
    }

    #[test]
    fn a_search_is_continued_only_with_the_same_models_and_few_new_ones() {
        let (e, four) = (earlier(), names(&["b", "new", "a", "c"]));
        let all = pool(&["a", "b", "c", "new"]);
        assert_eq!(e.base(&all, &four, "cpu", 1.5), Some(vec![0.25, 0.0, 0.5, 0.25]));
        assert_eq!(e.base(&all, &four, "cuda sm_90a", 1.5), None);
        assert_eq!(e.base(&all, &four, "cpu", 1.0), None);
        // The same partitions, one less, another seed, another module, too many new ones.
        assert_eq!(e.base(&pool(&["a", "b", "c"]), &names(&["a", "b", "c"]), "cpu", 1.5), None);
        assert_eq!(e.base(&pool(&["a", "b", "new"]), &names(&["a", "b", "new"]), "cpu", 1.5), None);
        assert_eq!(e.base(&PoolKeys { seed: "other".into(), ..all.clone() }, &four, "cpu", 1.5), None);
        let mut changed = all.clone();
        changed.modules.insert("b".into(), "other".into());
        assert_eq!(e.base(&changed, &four, "cpu", 1.5), None);
        let many = ["a", "b", "c", "x", "y", "z"];
        assert_eq!(e.base(&pool(&many), &names(&many), "cpu", 1.5), None);
    }

    #[test]
    fn the_recipe_before_is_of_the_same_objective_and_of_partitions_that_are_there() {
        let mut e = earlier();
        let before = e.before(&names(&["a", "b", "c", "new"]), "ood").expect("a recipe");
        assert_eq!((before.added.clone(), before.members.len()), (names(&["new"]), 1));
        assert!(e.before(&names(&["a", "b", "c", "new"]), "id").is_none());
        assert!(e.before(&names(&["a", "c", "new"]), "ood").is_none(), "b is gone");
        assert!(e.before(&names(&["a", "b", "c"]), "ood").is_none(), "nothing was added");
        e.summary.before = Some(RecipeBefore { added: names(&["c"]), ..before });
        assert_eq!(e.before(&names(&["a", "b", "c"]), "ood").map(|b| b.added), Some(names(&["c"])));
        assert!(e.before(&names(&["a", "b"]), "ood").is_none(), "what was added is gone");
    }
}
