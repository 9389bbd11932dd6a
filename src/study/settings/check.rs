//! Checks of a study file; each error names the key to correct.

use super::*;
use crate::engine::data::SplitRule;
use std::collections::BTreeSet;

impl Study {
    /// Refuses settings that no run could use. Called by [`Study::read`]; call it again after a change.
    pub fn check(&self) -> Result<()> {
        let fault = |what: String| Err(Error::usage(what));
        if self.partition.is_empty() {
            return fault("a study needs at least one [[partition]]".into());
        }
        if self.checkpoint_every == 0 {
            return fault("`checkpoint_every` must be at least 1".into());
        }
        let mut names = BTreeSet::new();
        for source in self.partition.iter().chain(&self.ood) {
            if source.files.is_empty() {
                return fault(format!("`{}` names no `files`", source.name));
            }
            if source.name.is_empty() || source.name.contains(['+', '/', '\\', ',', '\n']) || is_reserved(&source.name)
            {
                return fault(
                    format!("`{}` cannot name a partition or domain", source.name.escape_debug())
                        + ": names are not empty, hold none of + / \\ and , and do not begin with `field:`",
                );
            }
            if ["id", "ood", "members", "seed"].contains(&source.name.as_str()) {
                return fault(format!("`{}` has a meaning of its own in the report; choose another name", source.name));
            }
            check_selection(source)?;
            if !names.insert(&source.name) {
                return fault(format!("two partitions or domains are named `{}`", source.name));
            }
        }
        self.check_seed()?;
        self.module.training.check("module.training")?;
        if self.module.training.steps == 0 {
            return fault("`module.training.steps` must be at least 1".into());
        }
        let share = |x: f64| (0.0..1.0).contains(&x);
        if !share(self.data.validation) || !share(self.data.test) || self.data.validation + self.data.test >= 1.0 {
            return fault("`data.validation` and `data.test` are shares of the data, together below 1".into());
        }
        SplitRule::new(self.data.separator.clone(), self.data.validation, self.data.test)?;
        if self.evaluation.documents == 0 || self.evaluation.tokens == 0 {
            return fault("`evaluation.documents` and `evaluation.tokens` must be at least 1".into());
        }
        for given in &self.mixture {
            self.check_members(&given.members)?;
        }
        if let Some(source) = self.ood.iter().find(|s| s.units.is_some() || s.source.is_some()) {
            return fault(format!("`{}` is never trained on: `units` and `source` are for partitions", source.name));
        }
        self.check_mixtures()?;
        self.check_proxies()?;
        self.check_search()?;
        self.check_target()
    }

    fn check_mixtures(&self) -> Result<()> {
        let fault = |what: &str| Err(Error::usage(what));
        if !(1..=100).contains(&self.mixtures.repeats) {
            return fault("`mixtures.repeats` is how often a mixture is trained: 1 to 100");
        }
        let longest = self.partition.iter().map(Source::units).fold(0u64, u64::saturating_add);
        if self.module.training.steps.saturating_mul(longest) > 1 << 32 {
            return fault("the partitions' `units` times `module.training.steps` are more than 2^32 steps");
        }
        for budget in self.mixture.iter().filter_map(|given| given.budget).chain([self.search.budget]) {
            if budget == 0 || self.module.training.steps.saturating_mul(budget) > 1 << 32 {
                return Err(Error::usage("the `budget` of a mixture or of [search] is out of range")
                    .expected("1 or more, and at most 2^32 steps with `module.training.steps`")
                    .got(budget.to_string()));
            }
        }
        if self.mixtures.across_sources.is_some() {
            let sources: BTreeSet<_> = self.partition.iter().filter_map(|p| p.source.as_ref()).collect();
            if sources.len() < 2 {
                return fault("`mixtures.across_sources` needs partitions of at least two different `source`s");
            }
        }
        Ok(())
    }

    fn check_proxies(&self) -> Result<()> {
        let fault = |what: String| Err(Error::usage(what));
        let ProxySettings { lambdas, lambda, laws } = &self.proxies;
        if let Some(bad) = lambdas.iter().find(|l| !(**l > 0.0 && **l <= 100.0)) {
            return fault(format!("`proxies.lambdas` holds {bad}; expected numbers above 0, up to 100"));
        }
        if let Some(given) = lambda.filter(|given| !lambdas.contains(given)) {
            return fault(format!("`proxies.lambda` is {given}, which is none of `proxies.lambdas`: add it there"));
        }
        // Lambda multiplies what the weights miss.
        let most = lambdas.iter().copied().fold(1.0, f64::max);
        for given in &self.mixture {
            let sum: f64 = given.members.values().sum();
            if (sum - 1.0).abs() * most > 1e-6 {
                let names: Vec<&str> = given.members.keys().map(String::as_str).collect();
                return Err(Error::usage(format!(
                    "the weights of the mixture of {} are too inexact for a scaled merge",
                    names.join(", ")
                ))
                .expected(format!("a sum of 1 within 1e-6 / {most}, the largest of `proxies.lambdas`"))
                .got(sum.to_string())
                .fix("give the weights more digits"));
            }
        }
        if *laws > 0 && *laws < 2 * self.partition.len() + 4 {
            return fault(format!(
                "`proxies.laws` is {laws}; {} merges at least are needed to fit laws of {} weights",
                2 * self.partition.len() + 4,
                self.partition.len()
            ));
        }
        if *laws > 0 && self.partition.len() < 3 {
            return fault("`proxies.laws` needs at least three partitions".into());
        }
        if !(3..=101).contains(&self.connectivity.points) {
            return fault("`connectivity.points` is the number of points on a segment: 3 to 101".into());
        }
        Ok(())
    }

    /// What does not depend on the amount of text; bounds are checked when it is known.
    fn check_search(&self) -> Result<()> {
        let search = &self.search;
        let fault = |what: String| Err(Error::usage(what));
        if self.search.calibrate > 0 && self.partition.len() < 2 {
            return fault("`search.calibrate` needs at least two partitions".into());
        }
        if search.held_out < 8 {
            return fault(format!("`search.held_out` is {}; expected 8 or more", search.held_out));
        }
        if search.listed == 0 || search.tokens == Some(0) {
            return fault("`search.listed` and `search.tokens` are at least 1".into());
        }
        if search.units.is_some_and(|units| !(1..=100_000).contains(&units)) {
            return fault("`search.units` is the number of equal shares of a mixture: 1 to 100,000".into());
        }
        if search.max_epochs.is_nan() || search.max_epochs <= 0.0 {
            return fault(format!("`search.max_epochs` is {}; expected a number above 0", search.max_epochs));
        }
        if !(search.kl >= 0.0 && search.kl.is_finite()) {
            return fault(format!("`search.kl` is {}; expected 0 or more", search.kl));
        }
        if search.no_worse.is_some_and(|share| share.is_nan() || share < 0.0) {
            return fault("`search.no_worse` is a share of bits per byte, 0 or more: 0.01 allows 1%".into());
        }
        if search.lambda.is_some_and(|lambda| !(lambda > 0.0 && lambda <= 100.0)) {
            return fault("`search.lambda` is above 0, up to 100".into());
        }
        Ok(())
    }

    fn check_target(&self) -> Result<()> {
        let Some(target) = &self.target else { return Ok(()) };
        if self.seed.checkpoint.is_some() {
            return Err(Error::usage(
                "[target] trains its own seed from `seed.files`; a study with a seed `checkpoint` has none",
            ));
        }
        target.seed.training.check("target.seed.training")?;
        target.module.training.check("target.module.training")?;
        if target.module.training.steps == 0 {
            return Err(Error::usage("`target.module.training.steps` must be at least 1"));
        }
        target.model.config(Tokenizer::SMALLEST, 0).map(|_| ())
    }

    fn check_seed(&self) -> Result<()> {
        let fault = |what: &str| Err(Error::usage(what));
        let Some(training) = &self.seed.training else {
            if self.seed.checkpoint.is_none() {
                return fault("[seed] needs either `checkpoint`, or `files` and [seed.training]");
            }
            if self.model.is_some() || self.tokenizer.is_some() || !self.seed.files.is_empty() {
                return fault(
                    "a seed `checkpoint` brings its own model and tokenizer: leave out [model], [tokenizer] and `seed.files`",
                );
            }
            return Ok(());
        };
        if self.seed.checkpoint.is_some() {
            return fault("[seed] has both `checkpoint` and [seed.training]; a seed checkpoint is used as it is");
        }
        if self.seed.context.is_some() {
            return fault("`seed.context` goes with `seed.checkpoint`; use `model.context`");
        }
        if self.seed.files.is_empty() {
            return fault("[seed] needs `files`: the text that the seed and the tokenizer are trained on");
        }
        let Some(model) = &self.model else {
            return fault("a study needs [model] with a `preset`, unless [seed] names a `checkpoint`");
        };
        let vocabulary = match &self.tokenizer {
            Some(t) if t.vocabulary.is_some() != t.file.is_some() => t.vocabulary.unwrap_or(Tokenizer::SMALLEST),
            _ => return fault("a study needs [tokenizer] with either `vocabulary` (to train one) or `file`"),
        };
        if vocabulary < Tokenizer::SMALLEST {
            return Err(Error::usage("`tokenizer.vocabulary` is too small for a byte-level BPE")
                .expected(format!("at least {}: 256 bytes and the end of text", Tokenizer::SMALLEST))
                .got(vocabulary.to_string()));
        }
        model.config(vocabulary, 0)?;
        training.check("seed.training")
    }

    fn check_members(&self, members: &BTreeMap<String, f64>) -> Result<()> {
        let listed = members.keys().cloned().collect::<Vec<_>>().join(", ");
        if let Some(name) = members.keys().find(|name| !self.partition.iter().any(|p| p.name == **name)) {
            return Err(Error::usage(format!("a [[mixture]] has the unknown partition `{name}`"))
                .fix("name one of the [[partition]] tables"));
        }
        if let Some((name, weight)) = members.iter().find(|(_, w)| !(**w > 0.0 && w.is_finite())) {
            return Err(Error::usage(format!("the weight of `{name}` in the mixture of {listed} is {weight}"))
                .expected("weights above 0"));
        }
        let sum: f64 = members.values().sum();
        if (sum - 1.0).abs() > 1e-6 {
            return Err(Error::usage(format!("the weights of the mixture of {listed} do not sum to 1"))
                .expected("a sum of 1 within 1e-6")
                .got(format!("{sum}"))
                .fix("change the weights; they are never changed silently"));
        }
        Ok(())
    }
}

/// Whether the name could be that of an average over a field's domains.
fn is_reserved(name: &str) -> bool {
    name.starts_with("field:")
}

fn check_selection(source: &Source) -> Result<()> {
    let fault = |what: String| Err(Error::usage(what));
    let name = &source.name;
    if source.units == Some(0) {
        return fault(format!("`{name}` has `units = 0`; a partition has at least one base unit"));
    }
    if source.years.is_some_and(|[from, to]| from > to) {
        return fault(format!("the `years` of `{name}` end before they begin"));
    }
    if let Some((key, value)) = source.only.iter().find(|(_, v)| !(v.is_string() || v.is_number() || v.is_boolean())) {
        return fault(format!(
            "`where` of `{name}` asks for `{key} = {value}`; expected a string, a number or a boolean"
        ));
    }
    for (key, word) in [("field", &source.field), ("source", &source.source)] {
        if word.as_ref().is_some_and(|w| w.is_empty() || w.contains([',', '\n'])) {
            return fault(format!("the `{key}` of `{name}` is empty or holds a comma"));
        }
    }
    Ok(())
}
