//! `search`: the best of all mixtures of a study's partitions. The keys of the study's `[search]`
//! have options, which replace them.

use super::DeviceArg;
use super::study::StudyArgs;
use crate::error::{Error, Result};
use crate::study::{self, DomainChoice, GroupSettings, SearchOptions, SearchSettings, WeightLimits, WeightRange};
use clap::Args;
use std::collections::BTreeMap;

/// Arguments of `search`.
#[derive(Args)]
pub struct SearchArgs {
    #[command(flatten)]
    common: StudyArgs,
    #[command(flatten)]
    device: DeviceArg,
    /// A domain, ood, id or field:<field>, or several with weights: ood=2,law=1
    #[arg(long, value_name = "DOMAINS")]
    objective: Option<String>,
    /// Minimize the worst of the objective's domains instead of their mean
    #[arg(long)]
    worst: bool,
    /// A second objective, for the best mixtures between the two
    #[arg(long, value_name = "DOMAINS")]
    against: Option<String>,
    /// Most that a domain may lose against the natural mixture: 0.01 is 1% of its bits per byte
    #[arg(long, value_name = "SHARE")]
    no_worse: Option<f64>,
    /// Pull towards the natural mixture, in bits per byte for each nat of divergence
    #[arg(long, value_name = "STRENGTH")]
    kl: Option<f64>,
    /// Tokens of the final training
    #[arg(long, value_name = "N")]
    tokens: Option<u64>,
    /// Most epochs over a partition in the final training; needs the training's tokens
    #[arg(long, value_name = "N")]
    max_epochs: Option<f64>,
    /// Smallest weight of a partition; repeatable
    #[arg(long, value_name = "NAME=WEIGHT")]
    min: Vec<String>,
    /// Largest weight of a partition; repeatable
    #[arg(long, value_name = "NAME=WEIGHT")]
    max: Vec<String>,
    /// Weight of a partition; repeatable
    #[arg(long, value_name = "NAME=WEIGHT")]
    fix: Vec<String>,
    /// Bounds of several partitions together: --group law+web=0.2..0.5; repeatable
    #[arg(long, value_name = "NAMES=MIN..MAX")]
    group: Vec<String>,
    /// Most partitions in the mixture
    #[arg(long, value_name = "N")]
    at_most: Option<usize>,
    /// Also find the best weights that are whole numbers of this many shares
    #[arg(long, value_name = "N")]
    units: Option<usize>,
    /// Length of the SEQ runs that the answer is for, in trainings of one base unit
    #[arg(long, value_name = "N")]
    budget: Option<u64>,
    /// Lambda of the merges, seed + lambda (average - seed)
    #[arg(long, value_name = "L")]
    lambda: Option<f64>,
    /// Random merges that the error of the predicted losses is measured on
    #[arg(long, value_name = "N")]
    held_out: Option<usize>,
    /// Subsets with equal weights that are listed
    #[arg(long, value_name = "N")]
    listed: Option<usize>,
    /// Train SEQ on this many mixtures, the best and the baselines first, and search again
    #[arg(long, value_name = "N", default_value_t = 0)]
    verify: usize,
    /// A mixture to score beside those that are found: --mixture law=0.7,web=0.3; repeatable
    #[arg(long, value_name = "NAME=WEIGHT,...")]
    mixture: Vec<String>,
}

impl SearchArgs {
    /// Searches, writes search.json and recipe.toml and prints the answer.
    pub fn run(&self, threads: usize) -> Result<()> {
        let (mut study, out) = self.common.read()?;
        let of_study = study.search.clone();
        self.replace(&mut study.search)?;
        study.check()?;
        let asked = self.mixture.iter().map(|text| weights("--mixture", text)).collect::<Result<Vec<_>>>()?;
        let overridden = study.search != of_study;
        let spec = self.device.spec()?;
        let options = SearchOptions { threads, spec, verify: self.verify, asked: &asked, overridden };
        let report = study::search(&study, &out, &options)?;
        super::print(self.common.json, &report, || report.to_text())
    }

    fn replace(&self, search: &mut SearchSettings) -> Result<()> {
        let choice = |option: &str, text: &Option<String>| text.as_ref().map(|text| domains(option, text)).transpose();
        search.objective = choice("--objective", &self.objective)?.or(search.objective.take());
        search.against = choice("--against", &self.against)?.or(search.against.take());
        search.worst |= self.worst;
        search.no_worse = self.no_worse.or(search.no_worse);
        search.kl = self.kl.unwrap_or(search.kl);
        search.tokens = self.tokens.or(search.tokens);
        search.max_epochs = self.max_epochs.unwrap_or(search.max_epochs);
        search.at_most = self.at_most.or(search.at_most);
        search.units = self.units.or(search.units);
        search.budget = self.budget.unwrap_or(search.budget);
        search.lambda = self.lambda.or(search.lambda);
        search.held_out = self.held_out.unwrap_or(search.held_out);
        search.listed = self.listed.unwrap_or(search.listed);
        if self.max_epochs.is_some() && search.tokens.is_none() {
            return Err(Error::usage("--max-epochs caps weights only if the final training's tokens are known")
                .fix("give --tokens, or `tokens` in [search]"));
        }
        for (option, list) in [("--min", &self.min), ("--max", &self.max), ("--fix", &self.fix)] {
            for text in list {
                for (name, weight) in weights(option, text)? {
                    let range = match search.weights.get(&name) {
                        Some(WeightLimits::Range(range)) => *range,
                        _ => WeightRange::default(),
                    };
                    let limits = match option {
                        "--min" => WeightLimits::Range(WeightRange { min: Some(weight), ..range }),
                        "--max" => WeightLimits::Range(WeightRange { max: Some(weight), ..range }),
                        _ => WeightLimits::Fixed(weight),
                    };
                    search.weights.insert(name, limits);
                }
            }
        }
        search.group.extend(self.group.iter().map(|text| group(text)).collect::<Result<Vec<_>>>()?);
        Ok(())
    }
}

/// `ood`, or `ood=2,law=1`.
fn domains(option: &str, text: &str) -> Result<DomainChoice> {
    match text.contains(['=', ',']) {
        false => Ok(DomainChoice::One(text.into())),
        true => Ok(DomainChoice::Weighted(weights(option, text)?)),
    }
}

/// `law=0.7,web=0.3`.
fn weights(option: &str, text: &str) -> Result<BTreeMap<String, f64>> {
    let mut all = BTreeMap::new();
    for part in text.split(',') {
        let parsed = part.rsplit_once('=').filter(|(name, _)| !name.is_empty());
        let parsed = parsed.and_then(|(name, weight)| Some((name.to_string(), weight.trim().parse::<f64>().ok()?)));
        let Some((name, weight)) = parsed else {
            return Err(Error::usage(format!("`{part}` in {option} is not NAME=WEIGHT"))
                .expected(format!("a name and a number, such as {option} law=0.7")));
        };
        if all.insert(name.clone(), weight).is_some() {
            return Err(Error::usage(format!("{option} names `{name}` twice")).got(text.to_string()));
        }
    }
    Ok(all)
}

/// `law+web=0.2..0.5`.
fn group(text: &str) -> Result<GroupSettings> {
    let parse = || {
        let (names, range) = text.rsplit_once('=')?;
        let (min, max) = range.split_once("..")?;
        let number = |text: &str, empty: f64| if text.is_empty() { Some(empty) } else { text.parse::<f64>().ok() };
        let partitions: Vec<String> = names.split('+').map(String::from).collect();
        Some(GroupSettings { name: None, partitions, min: number(min, 0.0)?, max: number(max, 1.0)? })
    };
    parse().ok_or_else(|| {
        Error::usage(format!("`{text}` is not NAMES=MIN..MAX")).expected("such as --group law+web=0.2..0.5")
    })
}
