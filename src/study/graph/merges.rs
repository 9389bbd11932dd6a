//! The merges that a study scores: each mixture's proxies, samples for mixing laws, and points
//! between models. Each is a weighted sum of other subjects and is never written.

use super::{Graph, Role, SCORE_VERSION, SubjectWeights, WeightSegment};
use crate::analysis::{MERGED, PROXIES, ProxySource};
use crate::engine::merge::{PoolModel, Share, Terms, macro_merge, scaled_merge};
use crate::error::{Error, Result};
use crate::study::mixtures::{random_weights, rank};
use crate::study::scale::Scale;
use crate::study::settings::Study;
use crate::study::store::key;
use std::collections::{BTreeMap, BTreeSet};

impl Graph {
    /// Adds every merge of a scale whose models exist at that scale.
    pub(super) fn add_merges(&mut self, study: &Study, scale: Scale) {
        for mixture in 0..self.mixtures.len() {
            for proxy in &PROXIES {
                match proxy.source {
                    ProxySource::Merge { terms, of_repeats } => {
                        // The larger model and the repeats have only MERGED.
                        let repeats = match of_repeats {
                            true => self.mixtures[mixture].trainings(scale),
                            false => u64::from(scale == Scale::Small),
                        };
                        for repeat in 0..repeats {
                            let role = Role::Merged { proxy: proxy.name, mixture, repeat };
                            self.add_merge(study, scale, role, &self.mixtures[mixture].members.clone(), repeat, terms);
                        }
                    }
                    ProxySource::Scaled(terms) if scale == Scale::Small => {
                        for lambda in 0..self.lambdas.len() {
                            self.add_scaled(study, mixture, lambda, terms);
                        }
                    }
                    ProxySource::Scaled(_) | ProxySource::Members | ProxySource::Law(_) => {}
                }
            }
        }
        if scale == Scale::Small {
            for i in 0..self.samples.len() {
                self.add_merge(study, scale, Role::Sample(i), &self.samples[i].clone(), 0, |s| Some(macro_merge(s)));
            }
            for segment in 0..self.segments.len() {
                self.add_segment(segment);
            }
        }
    }

    fn add_scaled(&mut self, study: &Study, mixture: usize, lambda: usize, terms: fn(&[Share], f64) -> Terms) {
        let (scale, role, value) = (Scale::Small, Role::Scaled { mixture, lambda }, self.lambdas[lambda]);
        let merged = Role::Merged { proxy: MERGED, mixture, repeat: 0 };
        match self.subject(scale, &merged).filter(|_| value == 1.0) {
            // A lambda of 1 is MERGED.
            Some(subject) => self.add_role(scale, role, subject),
            None => {
                let members = self.mixtures[mixture].members.clone();
                self.add_merge(study, scale, role, &members, 0, |shares| Some(terms(shares, value)));
            }
        }
    }

    /// Adds the merge that `terms` makes of these weights, unless a model is missing.
    fn add_merge(
        &mut self,
        study: &Study,
        scale: Scale,
        role: Role,
        members: &BTreeMap<String, f64>,
        repeat: u64,
        terms: impl Fn(&[Share]) -> Option<Terms>,
    ) {
        let names: Vec<&String> = members.keys().collect();
        let units = |name: &str| study.units(name) as usize;
        let shares: Vec<Share> =
            members.iter().map(|(name, weight)| Share { weight: *weight, units: units(name) }).collect();
        let role_of = |model: PoolModel| match model {
            PoolModel::Seed => Role::Seed,
            PoolModel::Unit(i, unit) if shares[i].units > 1 => {
                Role::Unit { partition: names[i].clone(), unit: unit as u64, of: shares[i].units as u64 }
            }
            // A partition of one base unit has one module.
            PoolModel::Module(i) | PoolModel::Unit(i, _) => Role::Module { partition: names[i].clone(), repeat },
        };
        let Some(terms) = terms(&shares) else { return };
        let subjects = terms.into_iter().map(|(model, weight)| Some((self.subject(scale, &role_of(model))?, weight)));
        if let Some(subjects) = subjects.collect::<Option<Vec<_>>>() {
            self.add_sum(scale, role, subjects);
        }
    }

    /// The small model's merge `seed + lambda (average - seed)` under these weights, which is added
    /// if the study has no such model; without weights, the seed. Returns its index.
    pub fn weighted_merge(&mut self, study: &Study, members: &BTreeMap<String, f64>, lambda: f64) -> Result<usize> {
        let (scale, alone) = (Scale::Small, members.len() == 1 && lambda == 1.0);
        let known = match members.first_key_value() {
            None => self.subject(scale, &Role::Seed),
            Some((name, _)) if alone => self.subject(scale, &Role::Module { partition: name.clone(), repeat: 0 }),
            Some(_) => None,
        };
        if let Some(subject) = known {
            return Ok(subject);
        }
        let role = Role::Candidate(self.candidates);
        self.candidates += 1;
        let terms = |shares: &[Share]| match lambda {
            1.0 => Some(macro_merge(shares)),
            _ => Some(scaled_merge(macro_merge(shares), lambda)),
        };
        self.add_merge(study, scale, role.clone(), members, 0, terms);
        self.subject(scale, &role).ok_or_else(|| {
            let names: Vec<&str> = members.keys().map(String::as_str).collect();
            Error::usage(format!("the study has no module for one of {}", names.join(", ")))
        })
    }

    fn add_sum(&mut self, scale: Scale, role: Role, terms: Vec<(usize, f64)>) {
        let weights: Vec<(&str, f64)> = terms.iter().map(|(s, w)| (self.subjects[*s].key.as_str(), *w)).collect();
        let key = key("merge", SCORE_VERSION, &weights);
        self.add_subject(scale, role, key, SubjectWeights::Merge(terms));
    }

    fn add_segment(&mut self, segment: usize) {
        let (scale, WeightSegment { from, to, points }) = (Scale::Small, self.segments[segment].clone());
        let module = |partition| Role::Module { partition, repeat: 0 };
        let ends = (self.subject(scale, &from.map_or(Role::Seed, module)), self.subject(scale, &module(to)));
        let (Some(start), Some(end)) = ends else { return };
        for (point, at) in points.into_iter().enumerate() {
            let role = Role::Point { segment, point };
            match at {
                0.0 => self.add_role(scale, role, start),
                1.0 => self.add_role(scale, role, end),
                _ => self.add_sum(scale, role, vec![(start, 1.0 - at), (end, at)]),
            }
        }
    }
}

/// A study's segments: between the modules of some pairs of partitions, then from the seed to each
/// end of these.
pub fn segments(study: &Study) -> Vec<WeightSegment> {
    let mut names: Vec<&str> = study.partition.iter().map(|p| p.name.as_str()).collect();
    names.sort_unstable();
    let mut pairs: Vec<(&str, &str)> =
        names.iter().enumerate().flat_map(|(i, a)| names[i + 1..].iter().map(move |b| (*a, *b))).collect();
    pairs.sort_by_cached_key(|(a, b)| rank(study.random_seed, &[a, b]));
    pairs.truncate(study.connectivity.pairs.of(pairs.len()));
    pairs.sort_unstable();
    let ends: BTreeSet<&str> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
    let count = study.connectivity.points;
    let points: Vec<f64> = (0..count).map(|place| place as f64 / (count - 1) as f64).collect();
    let segment = |from: Option<&str>, to: &str| WeightSegment {
        from: from.map(String::from),
        to: to.into(),
        points: points.clone(),
    };
    let between = pairs.iter().map(|(a, b)| segment(Some(a), b));
    between.chain(ends.iter().map(|end| segment(None, end))).collect()
}

/// Weights of the merges that mixing laws are fitted to: random mixtures that cover small ones,
/// which studies verify, as well as large ones, and coincide with a study's mixture with
/// probability zero. The first n samples are the same for every n.
pub fn samples(study: &Study) -> Vec<BTreeMap<String, f64>> {
    let mut names: Vec<&str> = study.partition.iter().map(|p| p.name.as_str()).collect();
    names.sort_unstable();
    (0..study.proxies.laws as u64).map(|number| random_weights(&names, study.random_seed, number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study(partitions: usize) -> Study {
        let tables: String =
            (0..partitions).map(|i| format!("[[partition]]\nname = \"p{i}\"\nfiles = [\"p{i}\"]\n")).collect();
        let text = format!(
            "name = \"s\"\n[seed]\ncheckpoint = \"x\"\n[module.training]\nsteps = 1\nbatch = 1\nlearning_rate = 1.0\n\
             [proxies]\nlaws = 40\n[connectivity]\npairs = 4\n{tables}"
        );
        toml::from_str(&text).expect("a study")
    }

    #[test]
    fn samples_have_two_or_more_partitions_and_sum_to_one() {
        let samples = samples(&study(6));
        assert_eq!(samples.len(), 40);
        for weights in &samples {
            assert!((2..=6).contains(&weights.len()) && weights.values().all(|w| *w > 0.0));
            assert!((weights.values().sum::<f64>() - 1.0).abs() < 1e-12);
        }
        let sizes: BTreeSet<usize> = samples.iter().map(BTreeMap::len).collect();
        assert_eq!(sizes.len(), 5, "all sizes occur: {sizes:?}");
    }

    #[test]
    fn segments_connect_different_partitions_and_the_seed_to_their_ends() {
        let segments = segments(&study(6));
        let (between, from_seed): (Vec<_>, Vec<_>) = segments.iter().partition(|s| s.from.is_some());
        assert_eq!(between.len(), 4);
        let has_end = |name: &String| from_seed.iter().any(|s| s.to == *name);
        assert!(
            between.iter().all(|s| s.from.as_ref().is_some_and(|from| *from < s.to && has_end(from)) && has_end(&s.to))
        );
        assert!(segments.iter().all(|s| s.points.first() == Some(&0.0) && s.points.last() == Some(&1.0)));
    }
}
