//! A study's `[search]` as a problem: names become positions, tokens become caps. Everything is
//! looked up by name, and a name that the study does not have is refused.

use crate::engine::data::Shard;
use crate::error::{Error, Result};
use crate::search::{Bounds, Constraints, Group, Problem, grouped};
use crate::study::graph::Graph;
use crate::study::objectives::Objectives;
use crate::study::settings::{Study, WeightLimits};
use std::collections::BTreeMap;

/// The problem of a study whose text is tokenized. `lambda` is that of the merges; `asked` are
/// mixtures whose score was asked for.
pub fn problem(
    study: &Study,
    graph: &Graph,
    objectives: &Objectives,
    lambda: f64,
    asked: Vec<(String, Vec<f64>)>,
) -> Result<Problem> {
    let search = &study.search;
    let tokens = |name: &String| Ok(graph.prepared.partition(name)?.train.tokens.max(1) as f64);
    let partitions: Vec<String> = study.partition.iter().map(|p| p.name.clone()).collect();
    let tokens: Vec<f64> = partitions.iter().map(tokens).collect::<Result<_>>()?;
    let domains = &graph.prepared.manifest.domains;
    Ok(Problem {
        constraints: constraints(study, &partitions, &tokens)?,
        domains: objectives.domains.iter().map(|&d| domains[d].name.clone()).collect(),
        target: objectives.target.clone(),
        against: objectives.against.clone(),
        no_worse: search.no_worse,
        kl: search.kl,
        total_tokens: search.tokens.map(|tokens| tokens as f64),
        lambda,
        held_out: search.held_out,
        units: search.units,
        listed: search.listed,
        asked,
        earlier: None,
        documents: document_bytes(graph, &objectives.domains)?,
        runs: Vec::new(),
        lambda_calibrated: false,
        noise: None,
        best_seq: None,
        seed: study.random_seed,
        partitions,
        tokens,
    })
}

/// The bytes of each document of these domains.
fn document_bytes(graph: &Graph, domains: &[usize]) -> Result<Vec<Vec<f64>>> {
    let of = |&domain: &usize| {
        let shard = Shard::open(&graph.store.shard(&graph.prepared.manifest.domains[domain].shard.hash))?;
        Ok((0..shard.documents()).map(|i| shard.document_bytes(i) as f64).collect())
    };
    domains.iter().map(of).collect()
}

fn constraints(study: &Study, names: &[String], tokens: &[f64]) -> Result<Constraints> {
    let search = &study.search;
    let place = |name: &String, key: &str| {
        names.iter().position(|known| known == name).ok_or_else(|| {
            Error::usage(format!("`{key}` has the unknown partition `{name}`"))
                .expected(format!("one of {}", names.join(", ")))
        })
    };
    let mut constraints = Constraints::none(names.len());
    let cap = |i: usize| search.tokens.map_or(1.0, |total| (search.max_epochs * tokens[i] / total as f64).min(1.0));
    for (i, bounds) in constraints.bounds.iter_mut().enumerate() {
        bounds.max = cap(i);
    }
    for (name, limits) in &search.weights {
        let i = place(name, "search.weights")?;
        let (min, max) = match limits {
            WeightLimits::Fixed(weight) => (*weight, *weight),
            WeightLimits::Range(range) => (range.min.unwrap_or(0.0), range.max.unwrap_or(1.0)),
        };
        if !(0.0..=1.0).contains(&min) || !(min..=1.0).contains(&max) {
            return Err(Error::usage(format!("the bounds of `{name}` in `search.weights` are {min} to {max}"))
                .expected("0 <= min <= max <= 1"));
        }
        if min > cap(i) + 1e-12 {
            let total = search.tokens.unwrap_or(0) as f64;
            return Err(Error::usage(format!("`search.weights` gives `{name}` at least {min}"))
                .expected(format!(
                    "at most {:.4}: `max_epochs` = {} over its {} tokens, in a training of {}",
                    cap(i),
                    search.max_epochs,
                    grouped(tokens[i]),
                    grouped(total)
                ))
                .got(format!("{} tokens too many", grouped((min - cap(i)) * total)))
                .fix("lower the weight or `tokens`, or raise `max_epochs`"));
        }
        constraints.bounds[i] = Bounds { min, max: max.min(cap(i)) };
    }
    for group in &search.group {
        let members = group.partitions.iter().map(|name| place(name, "search.group")).collect::<Result<Vec<_>>>()?;
        if members.is_empty() {
            return Err(Error::usage("a [[search.group]] names no partitions"));
        }
        let mut once = members.clone();
        once.sort_unstable();
        once.dedup();
        if once.len() < members.len() {
            return Err(Error::usage("a [[search.group]] names a partition twice").got(group.partitions.join(", ")));
        }
        let name = group.name.clone().unwrap_or_else(|| group.partitions.join("+"));
        constraints.groups.push(Group { name, members, bounds: Bounds { min: group.min, max: group.max } });
    }
    if let Some(most) = search.at_most {
        constraints.at_most = most.min(names.len());
    }
    Ok(constraints)
}

/// Weights in the order of the study file, from names; refused like those of a `[[mixture]]`.
pub fn weights(study: &Study, members: &BTreeMap<String, f64>) -> Result<Vec<f64>> {
    if let Some(name) = members.keys().find(|name| !study.partition.iter().any(|p| p.name == **name)) {
        let names: Vec<&str> = study.partition.iter().map(|p| p.name.as_str()).collect();
        return Err(Error::usage(format!("a mixture has the unknown partition `{name}`"))
            .expected(format!("one of {}", names.join(", "))));
    }
    let sum: f64 = members.values().sum();
    if members.values().any(|w| *w < 0.0 || w.is_nan()) || (sum - 1.0).abs() > 1e-6 {
        return Err(Error::usage("the weights of a mixture are 0 or more and sum to 1")
            .expected("a sum of 1 within 1e-6")
            .got(sum.to_string()));
    }
    Ok(study.partition.iter().map(|p| members.get(&p.name).copied().unwrap_or(0.0)).collect())
}
