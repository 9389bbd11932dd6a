//! What a pass over checkpoints computes: M mixtures, each a weighted sum of some of K checkpoints of one shape.
//! Everything that can be refused before a weight is read is refused here.

use crate::checkpoint::Reader;
use crate::error::{Error, Result};
use crate::files;
use crate::model::Config;
use serde_json::Value;
use std::path::PathBuf;

/// How far from 1 a sum of weights may lie.
const SUM_TOLERANCE: f64 = 1e-6;

/// One weighted sum: the checkpoint's position among the plan's and its weight, in the order of summation, which is
/// ascending in the position. A checkpoint may occur more than once.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    pub terms: Vec<(usize, f64)>,
}

/// M mixtures over K opened checkpoints, which fit each other.
#[derive(Debug)]
pub struct Plan {
    pub sources: Vec<Reader>,
    pub mixtures: Vec<Mixture>,
}

impl Plan {
    /// Opens the checkpoints and plans their one mixture, summed in the given order. Refused: no member, weights that
    /// [`check_weights`] refuses, and checkpoints that differ in a tensor or in their config.
    pub fn of_one(members: &[(PathBuf, f64)]) -> Result<Plan> {
        check_weights(&members.iter().map(|m| m.1).collect::<Vec<_>>())?;
        let sources = members.iter().map(|(path, _)| Reader::open(path)).collect::<Result<Vec<_>>>()?;
        check_alike(&sources.iter().collect::<Vec<_>>())?;
        let terms = members.iter().enumerate().map(|(k, member)| (k, member.1)).collect();
        Ok(Plan { sources, mixtures: vec![Mixture { terms }] })
    }
}

/// Refuses no weights, weights that are not finite, and weights whose sum is not 1 within 1e-6. Negative weights are
/// fine (a scaled merge needs them).
pub fn check_weights(weights: &[f64]) -> Result<()> {
    let sum = finite_sum(weights)?;
    if (sum - 1.0).abs() <= SUM_TOLERANCE {
        return Ok(());
    }
    Err(Error::usage("the weights of a merge must sum to 1")
        .expected(format!("1 within {SUM_TOLERANCE:e}"))
        .got(format!("{sum}, from {weights:?}"))
        .fix("correct the weights; `stockpot merge --normalize` divides them by their sum"))
}

/// The weights divided by their sum; those of sum 1 come back as they are.
pub fn normalized(weights: &[f64]) -> Result<Vec<f64>> {
    let sum = finite_sum(weights)?;
    let divided: Vec<f64> = weights.iter().map(|w| w / sum).collect();
    // A sum near 0 (weights of both signs) gives quotients that do not sum to 1, or none.
    if divided.iter().all(|w| w.is_finite()) && (divided.iter().sum::<f64>() - 1.0).abs() <= SUM_TOLERANCE {
        return Ok(divided);
    }
    Err(Error::usage("these weights cannot be normalized").got(format!("a sum of {sum}, from {weights:?}")))
}

fn finite_sum(weights: &[f64]) -> Result<f64> {
    if weights.is_empty() {
        return Err(Error::usage("a merge needs at least one checkpoint"));
    }
    match weights.iter().find(|w| !w.is_finite()) {
        Some(w) => Err(Error::usage("a weight of a merge must be a finite number").got(w.to_string())),
        None => Ok(weights.iter().sum()),
    }
}

/// Refuses checkpoints that differ from the first in a tensor's name or shape, or in a field of their configs. The
/// standard deviation of initial weights may differ: it says nothing about the weights.
fn check_alike(sources: &[&Reader]) -> Result<()> {
    let Some((first, others)) = sources.split_first() else { return Ok(()) };
    for other in others {
        check_tensors(first, other)?;
        check_vocabulary(first, other)?;
        let fields = |config: &Config| serde_json::to_value(Config { init_std: 0.0, ..config.clone() });
        let (Ok(Value::Object(a)), Ok(Value::Object(b))) = (fields(first.config()), fields(other.config())) else {
            unreachable!("a config is an object of numbers");
        };
        if let Some((field, value)) = a.iter().find(|(field, value)| b.get(*field) != Some(value)) {
            return Err(Error::input(format!("the checkpoints differ in `{field}`"))
                .at(other.directory().join("config.json"))
                .expected(format!("{value}, as in {}", first.directory().join("config.json").display()))
                .got(b[field].to_string())
                .fix("merge only models that were trained from one seed model"));
        }
    }
    Ok(())
}

/// Refuses tokenizers that give the same text other ids. How the files are written, and what else they hold, may differ;
/// a checkpoint without a tokenizer fits any.
fn check_vocabulary(first: &Reader, other: &Reader) -> Result<()> {
    let vocabulary = |reader: &Reader| -> Result<Option<Value>> {
        let path = reader.directory().join("tokenizer.json");
        if !path.exists() {
            return Ok(None);
        }
        let text = files::read_to_string(&path)?;
        let parsed: Value = serde_json::from_str(&text)
            .map_err(|e| Error::input("not a tokenizer").at(&path).line(e.line() as u64).got(e.to_string()))?;
        Ok(parsed.pointer("/model/vocab").cloned())
    };
    let (a, b) = (vocabulary(first)?, vocabulary(other)?);
    if a.is_some() && b.is_some() && a != b {
        return Err(Error::input("the checkpoints have different vocabularies")
            .at(other.directory().join("tokenizer.json"))
            .expected(format!("the ids of {}", first.directory().join("tokenizer.json").display()))
            .fix("merge only models that were trained from one seed model"));
    }
    Ok(())
}

fn check_tensors(first: &Reader, other: &Reader) -> Result<()> {
    let (a, b) = (&first.table().parameters, &other.table().parameters);
    let fault = |tensor: &str, expected: String, got: String| {
        Err(Error::input("the checkpoints do not fit each other")
            .at(other.directory())
            .tensor(tensor)
            .expected(format!("{expected}, as in {}", first.directory().display()))
            .got(got)
            .fix("merge only models that were trained from one seed model"))
    };
    for p in a {
        match other.table().find(&p.name) {
            None => return fault(&p.name, format!("shape {:?}", p.shape), "no such tensor".into()),
            Some(q) if q.shape != p.shape => {
                return fault(&p.name, format!("shape {:?}", p.shape), format!("shape {:?}", q.shape));
            }
            Some(_) => {}
        }
    }
    match b.iter().find(|q| first.table().find(&q.name).is_none()) {
        Some(q) => fault(&q.name, "no such tensor".into(), format!("shape {:?}", q.shape)),
        None => Ok(()),
    }
}
