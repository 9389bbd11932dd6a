//! Checks of a recipe's content. Each error names the key and the partition.

use super::{MixtureRecipe, RecipePartition};
use crate::apportion::apportion;
use crate::error::{Error, Result};

/// Largest difference of the sum of the weights from 1.
pub const SUM_SLACK: f64 = 1e-6;
/// Largest relative difference of `epochs` from tokens / available tokens.
const EPOCHS_SLACK: f64 = 1e-6;

impl MixtureRecipe {
    /// Refuses a recipe that contradicts itself.
    pub(super) fn check(&self) -> Result<()> {
        if self.partition.is_empty() {
            return Err(Error::usage("the recipe has no [[partition]]").expected("at least one, with a weight"));
        }
        for (i, partition) in self.partition.iter().enumerate() {
            if partition.name.trim().is_empty() {
                return Err(Error::usage(format!("`name` of [[partition]] {} is empty", i + 1)));
            }
            if self.partition[..i].iter().any(|p| p.name == partition.name) {
                return Err(Error::usage(format!("two partitions are named `{}`", partition.name))
                    .fix("give each partition once, with its whole weight"));
            }
            partition.check()?;
        }
        let sum: f64 = self.weights().iter().sum();
        if (sum - 1.0).abs() > SUM_SLACK {
            return Err(Error::usage("the weights of the recipe do not sum to 1")
                .expected("a sum of `weight` of 1 within 1e-6")
                .got(sum.to_string()));
        }
        self.check_tokens()
    }

    /// `tokens` is given everywhere or nowhere, and those of the partitions are their shares.
    fn check_tokens(&self) -> Result<()> {
        let key = |p: &RecipePartition, key: &str| format!("`{key}` of partition `{}`", p.name);
        let Some(total) = self.tokens else {
            let with = |p: &&RecipePartition| p.tokens.is_some() || p.epochs.is_some();
            return match self.partition.iter().find(with) {
                Some(p) => Err(Error::usage(format!("{} is given, but not the recipe's `tokens`", key(p, "tokens")))
                    .fix("give `tokens` of the recipe, or remove `tokens` and `epochs` of all partitions")),
                None => Ok(()),
            };
        };
        if total == 0 {
            return Err(Error::usage("`tokens` of the recipe is 0").expected("at least 1 token"));
        }
        let remove = "correct it, or remove `tokens` and `epochs` everywhere to train for any number of steps";
        for (p, share) in self.partition.iter().zip(apportion(total as usize, &self.weights())) {
            if p.tokens != Some(share as u64) {
                return Err(Error::usage(format!("{} is not its share", key(p, "tokens")))
                    .expected(format!("{share}: {} of the recipe's {total} tokens", p.weight))
                    .got(p.tokens.map_or("nothing".into(), |tokens| tokens.to_string()))
                    .fix(remove));
            }
            let epochs = share as f64 / p.available_tokens as f64;
            if p.epochs.is_some_and(|given| given.is_nan() || (given - epochs).abs() > EPOCHS_SLACK * epochs) {
                return Err(Error::usage(format!("{} does not follow from its tokens", key(p, "epochs")))
                    .expected(format!("{epochs}: {share} tokens of {} available ones", p.available_tokens))
                    .got(p.epochs.unwrap_or_default().to_string())
                    .fix(remove));
            }
        }
        Ok(())
    }
}

impl RecipePartition {
    fn check(&self) -> Result<()> {
        let fault = |key: &str, expected: &str, got: String| {
            Err(Error::usage(format!("`{key}` of partition `{}` is out of range", self.name))
                .expected(expected)
                .got(got))
        };
        if !(self.weight > 0.0 && self.weight.is_finite()) {
            return fault("weight", "a number above 0", self.weight.to_string());
        }
        let range = -SUM_SLACK..=1.0 + SUM_SLACK;
        for (key, value) in [("weight_low", self.weight_low), ("weight_high", self.weight_high)] {
            if !range.contains(&value) {
                return fault(key, "a number between 0 and 1", value.to_string());
            }
        }
        if self.weight_low > self.weight_high {
            return fault(
                "weight_low",
                &format!("at most `weight_high`, {}", self.weight_high),
                self.weight_low.to_string(),
            );
        }
        if self.available_tokens == 0 {
            return fault("available_tokens", "at least 1 token", "0".into());
        }
        let empty = |path: &str| path.trim().is_empty();
        if self.shard.as_deref().is_some_and(empty) || self.files.iter().any(|file| empty(file)) {
            return fault("shard` or `files", "paths", "an empty one".into());
        }
        Ok(())
    }
}
