//! Which merges a study scores: of each mixture its proxies, and those that tell about weight space. None of them is
//! ever written; each is a weighted sum of models of the pool.

use super::layout::Layout;
use super::mixtures::{Mixture, rank};
use super::settings::Study;
use super::stages::{Seed, Subject, Training, Trainings};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The models of one scale, to be summed.
#[derive(Clone, Copy)]
pub struct Merges<'a> {
    pub trainings: &'a Trainings,
    pub layout: &'a Layout,
    /// Before the names of its merges.
    pub prefix: &'static str,
}

/// A term of a sum: the model's key, its directory, its weight.
type Term<'a> = (&'a str, PathBuf, f64);

/// A straight way through weight space.
pub struct Segment {
    /// `seed`, or a partition
    pub from: String,
    pub to: String,
    /// Where on it, from 0 to 1, and the model there.
    pub points: Vec<(f64, Subject)>,
}

impl<'a> Merges<'a> {
    fn term(&self, training: &'a Training, weight: f64) -> Term<'a> {
        (&training.key, self.layout.model(&training.key), weight)
    }

    fn subject(&self, name: String, terms: Vec<Term>) -> Subject {
        Subject::merge(format!("{}{name}", self.prefix), terms)
    }

    /// The modules of whole partitions, under the mixture's weights; those of a repeat, if that has them.
    fn macro_terms(&self, mixture: &Mixture, repeat: usize) -> Option<Vec<Term<'a>>> {
        let modules = match repeat {
            0 => &self.trainings.modules,
            _ => self.trainings.repeated_modules.get(repeat - 1)?,
        };
        mixture.members.iter().map(|(name, weight)| Some(self.term(modules.get(name)?, *weight))).collect()
    }

    /// MERGED: macro.
    pub fn merged(&self, mixture: &Mixture, repeat: usize) -> Option<Subject> {
        let terms = self.macro_terms(mixture, repeat)?;
        let again = if repeat == 0 { String::new() } else { format!(" (repeat {})", repeat + 1) };
        Some(self.subject(format!("merged {}{again}", mixture.id), terms))
    }

    /// Base units of a member: its modules, or its one module.
    fn units(&self, partition: &str) -> Option<Vec<&'a Training>> {
        match self.trainings.units.get(partition) {
            Some(units) => Some(units.iter().collect()),
            None => Some(vec![self.trainings.modules.get(partition)?]),
        }
    }

    fn has_units(&self, mixture: &Mixture) -> bool {
        mixture.members.keys().any(|name| self.trainings.units.contains_key(name))
    }

    /// The average over the members of the average over each one's base units, under the mixture's weights; none where
    /// that is MERGED.
    pub fn macro_of_merges(&self, mixture: &Mixture) -> Option<Subject> {
        if !self.has_units(mixture) {
            return None;
        }
        let mut terms = Vec::new();
        for (name, weight) in &mixture.members {
            let units = self.units(name)?;
            terms.extend(units.iter().map(|unit| self.term(unit, weight / units.len() as f64)));
        }
        Some(self.subject(format!("macro of merges {}", mixture.id), terms))
    }

    /// All base units of all members alike; none where that is MERGED.
    pub fn micro(&self, mixture: &Mixture) -> Option<Subject> {
        if !self.has_units(mixture) {
            return None;
        }
        let units: Vec<&Training> =
            mixture.members.keys().map(|name| self.units(name)).collect::<Option<Vec<_>>>()?.concat();
        let weight = 1.0 / units.len() as f64;
        Some(self.subject(format!("micro {}", mixture.id), units.iter().map(|u| self.term(u, weight)).collect()))
    }

    /// `seed + lambda (MERGED - seed)`; MERGED itself under a lambda of 1.
    pub fn scaled(&self, mixture: &Mixture, lambda: f64) -> Option<Subject> {
        if lambda == 1.0 {
            return self.merged(mixture, 0);
        }
        let terms = self.macro_terms(mixture, 0)?;
        let seed = (self.trainings.seed.key(), self.seed_directory(), 1.0 - lambda);
        let scaled = terms.into_iter().map(|(key, path, weight)| (key, path, lambda * weight));
        let terms = std::iter::once(seed).chain(scaled).collect();
        Some(self.subject(format!("scaled {lambda} {}", mixture.id), terms))
    }

    fn seed_directory(&self) -> PathBuf {
        self.trainings.seed.directory(self.layout)
    }

    /// A merge of modules under any weights.
    pub fn weighted(&self, members: &BTreeMap<String, f64>) -> Option<Subject> {
        let term = |(name, weight): (&String, &f64)| Some(self.term(self.trainings.modules.get(name)?, *weight));
        let terms = members.iter().map(term).collect::<Option<Vec<_>>>()?;
        Some(self.subject("sampled merge".into(), terms))
    }

    /// From the seed, or a module, to a module.
    pub fn segment(&self, from: Option<&str>, to: &str, points: usize) -> Option<Segment> {
        let start = match from {
            Some(name) => self.term(self.trainings.modules.get(name)?, 1.0),
            None => (self.trainings.seed.key(), self.seed_directory(), 1.0),
        };
        let end = self.term(self.trainings.modules.get(to)?, 1.0);
        let from = from.unwrap_or("seed").to_string();
        let model = |at: f64, place: usize| match place {
            0 => Subject::checkpoint(&start),
            _ if place + 1 == points => Subject::checkpoint(&end),
            _ => {
                let terms = vec![(start.0, start.1.clone(), 1.0 - at), (end.0, end.1.clone(), at)];
                self.subject(format!("between {from} and {to}"), terms)
            }
        };
        let at = |place: usize| place as f64 / (points - 1) as f64;
        let points = (0..points).map(|place| (at(place), model(at(place), place))).collect();
        Some(Segment { from, to: to.to_string(), points })
    }
}

/// Pairs of partitions whose modules a study connects, and the modules that it connects with the seed.
pub fn connections(study: &Study) -> (Vec<(String, String)>, Vec<String>) {
    let mut names: Vec<&str> = study.partition.iter().map(|p| p.name.as_str()).collect();
    names.sort_unstable();
    let mut pairs: Vec<(&str, &str)> =
        names.iter().enumerate().flat_map(|(i, a)| names[i + 1..].iter().map(move |b| (*a, *b))).collect();
    pairs.sort_by_cached_key(|(a, b)| rank(study.random_seed, &[a, b]));
    pairs.truncate(study.connectivity.pairs.of(pairs.len()));
    pairs.sort_unstable();
    let ends: BTreeSet<&str> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
    let pairs = pairs.into_iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    (pairs, ends.into_iter().map(String::from).collect())
}

/// Weights for merges that mixing laws are fitted to: of a uniformly drawn number of partitions, from two to all, a
/// uniformly drawn set, under weights uniform on the simplex. So they cover small mixtures, which studies verify, as well
/// as large ones, and none of them is one of the study's but by a chance of zero. The first n are the same for every n.
pub fn samples(study: &Study) -> Vec<BTreeMap<String, f64>> {
    let mut names: Vec<&str> = study.partition.iter().map(|p| p.name.as_str()).collect();
    names.sort_unstable();
    let draw = |number: usize| {
        let mut random = ChaCha8Rng::seed_from_u64(study.random_seed);
        random.set_stream(number as u64);
        let mut members = names.clone();
        let size = random.random_range(2..=members.len() as u32) as usize;
        for i in 0..size {
            members.swap(i, random.random_range(i as u32..names.len() as u32) as usize);
        }
        // Exponential variables over their sum are uniform on the simplex.
        let parts: Vec<f64> = (0..size).map(|_| Exp1.sample(&mut random)).collect();
        let sum: f64 = parts.iter().sum();
        members.iter().zip(&parts).map(|(name, part): (&&str, &f64)| (name.to_string(), part / sum)).collect()
    };
    (0..study.proxies.laws).map(draw).collect()
}

impl Subject {
    pub fn checkpoint((key, directory, _): &Term) -> Subject {
        Subject::Checkpoint { name: key.to_string(), key: key.to_string(), directory: directory.clone() }
    }
}

/// The seed as something to score.
pub fn seed(trainings: &Trainings, layout: &Layout) -> Subject {
    let name = match &trainings.seed {
        Seed::Trained(training) => training.name.clone(),
        Seed::Given { .. } => "seed".into(),
    };
    let (key, directory) = (trainings.seed.key().to_string(), trainings.seed.directory(layout));
    Subject::Checkpoint { name, key, directory }
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
    fn samples_are_weights_of_two_and_more_partitions() {
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
    fn connections_are_between_different_partitions_and_cover_their_ends() {
        let (pairs, ends) = connections(&study(6));
        assert_eq!(pairs.len(), 4);
        assert!(pairs.iter().all(|(a, b)| a < b && ends.contains(a) && ends.contains(b)));
    }
}
