//! What a study's search minimizes: names of domains become weights of the domains that it needs.

use super::graph::Graph;
use super::settings::{DomainChoice, Study};
use crate::analysis::DomainKind;
use crate::error::{Error, Result};
use crate::search::Target;
use std::collections::BTreeMap;

/// The objectives of a study, on the domains that they need.
pub struct Objectives {
    /// Places in the study's list of domains.
    pub domains: Vec<usize>,
    /// What is minimized; a weight for each of `domains`.
    pub target: Target,
    /// The second objective, likewise.
    pub against: Option<Target>,
}

/// A study's objectives. They need the domains that they name, and all domains if none may become
/// worse.
pub fn objectives(study: &Study, graph: &Graph) -> Result<Objectives> {
    let search = &study.search;
    let default = DomainChoice::One(if study.ood.is_empty() { "id" } else { "ood" }.into());
    let target = choose(study, graph, search.objective.as_ref().unwrap_or(&default), "search.objective")?;
    let against = search.against.as_ref().map(|choice| choose(study, graph, choice, "search.against")).transpose()?;
    let is_needed = |d: &usize| {
        let of = |target: &Target| target.weights[*d] > 0.0;
        search.no_worse.is_some() || of(&target) || against.as_ref().is_some_and(of)
    };
    let domains: Vec<usize> = (0..target.weights.len()).filter(is_needed).collect();
    let on_these = |target: Target, worst: bool| {
        let weights = domains.iter().map(|&d| target.weights[d]).collect();
        Target { weights, worst, ..target }
    };
    let (target, against) = (on_these(target, search.worst), against.map(|target| on_these(target, false)));
    Ok(Objectives { domains, target, against })
}

/// The weight of each domain in an objective: each name's weight is shared by its domains.
fn choose(study: &Study, graph: &Graph, choice: &DomainChoice, key: &str) -> Result<Target> {
    let (name, parts) = match choice {
        DomainChoice::One(name) => (name.clone(), BTreeMap::from([(name.clone(), 1.0)])),
        DomainChoice::Weighted(parts) => {
            let text: Vec<String> = parts.iter().map(|(name, weight)| format!("{weight} {name}")).collect();
            (text.join(" + "), parts.clone())
        }
    };
    let domains = &graph.prepared.manifest.domains;
    let mut weights = vec![0.0; domains.len()];
    for (part, weight) in &parts {
        if !(*weight > 0.0 && weight.is_finite()) {
            return Err(
                Error::usage(format!("the weight of `{part}` in `{key}` is {weight}")).expected("a number above 0")
            );
        }
        let field = |name: &str| {
            let source = study.partition.iter().chain(&study.ood).find(|s| s.name == name);
            source.and_then(|s| s.field.as_deref())
        };
        let belongs = |name: &str, kind: DomainKind| match part.as_str() {
            "ood" => kind == DomainKind::Ood,
            "id" => kind == DomainKind::Id,
            other => name == other || other.strip_prefix("field:").is_some_and(|f| field(name) == Some(f)),
        };
        let own: Vec<usize> = (0..domains.len()).filter(|&d| belongs(&domains[d].name, domains[d].kind)).collect();
        if own.is_empty() {
            let names: Vec<&str> = domains.iter().map(|d| d.name.as_str()).collect();
            return Err(Error::usage(format!("`{key}` has the unknown domain `{part}`"))
                .expected(format!("id, ood, field:<field>, or one of {}", names.join(", "))));
        }
        own.iter().for_each(|&d| weights[d] += weight / own.len() as f64);
    }
    let sum: f64 = weights.iter().sum();
    if sum <= 0.0 {
        return Err(Error::usage(format!("`{key}` names no domain")).fix("name a domain, ood or id"));
    }
    weights.iter_mut().for_each(|weight| *weight /= sum);
    Ok(Target { name, weights, worst: false })
}
