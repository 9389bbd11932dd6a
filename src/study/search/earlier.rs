//! The search that was made in a study's directory before: after new partitions were added, a search
//! continues it, and the report shows the recipe before and after.

use crate::analysis::{RecipeBefore, SearchSummary};
use crate::files;
use crate::study::store::Store;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The keys of the models that a search merged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolKeys {
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
    expected: EarlierScores,
    partition: Vec<EarlierPartition>,
}

#[derive(Deserialize)]
struct EarlierScores {
    merged: f64,
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

/// What a report shows of the last search; `None` if there is none, or one of other models.
pub fn summary(pool: &PoolKeys, store: &Store) -> Option<SearchSummary> {
    #[derive(Deserialize)]
    struct StoredSummary {
        pool: PoolKeys,
        summary: SearchSummary,
    }
    let text = files::read_to_string(&store.root.join("search.json")).ok()?;
    let stored: StoredSummary = serde_json::from_str(&text).ok()?;
    (stored.pool == *pool).then_some(stored.summary)
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

    /// Its recipe, if partitions were added since; otherwise the recipe before that one.
    pub fn before(self, partitions: &[String], objective: &str) -> Option<RecipeBefore> {
        if self.recipe.objective != objective {
            return None;
        }
        let is_new = |name: &&String| !self.outcome.partitions.contains(name);
        let added: Vec<String> = partitions.iter().filter(is_new).cloned().collect();
        if added.is_empty() {
            return self.summary.before;
        }
        let members = self.recipe.partition.into_iter().map(|p| (p.name, p.weight)).collect();
        Some(RecipeBefore { members, merged: self.recipe.expected.merged, added })
    }
}
