//! The checkpoints that merges are computed from, opened once and checked for compatibility.
//! Everything that can be refused before a weight is read is refused here.

use super::weighted_sum::{WeightedSum, check_weights};
use crate::engine::checkpoint::Reader;
use crate::engine::model::{Config, Table};
use crate::error::{Error, Result};
use crate::files;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// K open checkpoints of one model.
#[derive(Debug)]
pub struct Pool {
    checkpoints: Vec<Reader>,
}

impl Pool {
    /// Opens the checkpoints, at least one. Refused: checkpoints that differ in a tensor or in
    /// their config.
    pub fn open(paths: &[PathBuf]) -> Result<Pool> {
        Pool::open_except(paths, &[])
    }

    /// [`Pool::open`] for models whose context lengths may differ: no weight depends on the
    /// context.
    pub fn open_of_any_context(paths: &[PathBuf]) -> Result<Pool> {
        Pool::open_except(paths, &["context"])
    }

    /// [`Pool::open`], but the configs may differ in these fields.
    fn open_except(paths: &[PathBuf], free: &[&str]) -> Result<Pool> {
        let checkpoints = paths.iter().map(|path| Reader::open(path)).collect::<Result<Vec<_>>>()?;
        if checkpoints.is_empty() {
            return Err(Error::usage("a merge needs at least one checkpoint"));
        }
        check_compatible(&checkpoints, free)?;
        check_vocabularies(&checkpoints)?;
        Ok(Pool { checkpoints })
    }

    /// Opens the checkpoints of several sums, each once even if several sums or paths name it, and
    /// returns each sum over them with its terms in the given order. The caller has checked the
    /// weights.
    pub fn of_sums(sums: &[Vec<(PathBuf, f64)>]) -> Result<(Pool, Vec<WeightedSum>)> {
        let (mut names, mut paths) = (Vec::new(), Vec::new());
        let mut position = |path: &PathBuf| {
            // A path that does not exist is refused when it is opened.
            let name = path.canonicalize().unwrap_or_else(|_| path.clone());
            names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                paths.push(path.clone());
                names.len() - 1
            })
        };
        let mut term = |(path, weight): &(PathBuf, f64)| (position(path), *weight);
        let weighted_sums = sums.iter().map(|sum| WeightedSum { terms: sum.iter().map(&mut term).collect() }).collect();
        Ok((Pool::open(&paths)?, weighted_sums))
    }

    /// [`Pool::of_sums`] for one sum, whose weights must pass [`check_weights`].
    pub fn of_one(members: &[(PathBuf, f64)]) -> Result<(Pool, WeightedSum)> {
        check_weights(&members.iter().map(|member| member.1).collect::<Vec<_>>())?;
        let (pool, mut weighted_sums) = Pool::of_sums(&[members.to_vec()])?;
        Ok((pool, weighted_sums.remove(0)))
    }

    /// The K checkpoints, in the order in which they were given.
    pub fn checkpoints(&self) -> &[Reader] {
        &self.checkpoints
    }
    /// The config of the first checkpoint, which all are compatible with.
    pub fn config(&self) -> &Config {
        self.checkpoints[0].config()
    }
    /// Names, shapes and offsets of the P parameters, the same for all K.
    pub fn table(&self) -> &Table {
        self.checkpoints[0].table()
    }
    /// Refuses files that changed since they were opened.
    pub fn check_unchanged(&self) -> Result<()> {
        self.checkpoints.iter().try_for_each(Reader::check_unchanged)
    }
}

/// Refuses checkpoints that differ from the first in a tensor's name or shape, or in a config field
/// that is not `free`. The standard deviation of initial weights may differ: it does not affect how
/// weights are used.
fn check_compatible(checkpoints: &[Reader], free: &[&str]) -> Result<()> {
    let Some((first, others)) = checkpoints.split_first() else { return Ok(()) };
    for other in others {
        check_tensors(first, other)?;
        let fields = |config: &Config| serde_json::to_value(Config { init_std: 0.0, ..config.clone() });
        let (Ok(Value::Object(a)), Ok(Value::Object(b))) = (fields(first.config()), fields(other.config())) else {
            unreachable!("a config is an object of numbers");
        };
        if let Some((field, value)) =
            a.iter().find(|(field, value)| !free.contains(&field.as_str()) && b.get(*field) != Some(value))
        {
            return Err(Error::input(format!("the checkpoints differ in `{field}`"))
                .at(other.directory().join("config.json"))
                .expected(format!("{value}, as in {}", first.directory().join("config.json").display()))
                .got(b[field].to_string())
                .fix("merge only models that were trained from one seed model"));
        }
    }
    Ok(())
}

/// Refuses tokenizers with different vocabularies. The files' formatting and other contents may
/// differ; a checkpoint without a tokenizer is compatible with any.
fn check_vocabularies(checkpoints: &[Reader]) -> Result<()> {
    let mut first: Option<(PathBuf, String)> = None;
    for checkpoint in checkpoints {
        let path = checkpoint.directory().join("tokenizer.json");
        if !path.exists() {
            continue;
        }
        let text = files::read_to_string(&path)?;
        let Some((first_path, first_text)) = &first else {
            first = Some((path, text));
            continue;
        };
        // Nearly always the same bytes, which need no parsing.
        if text != *first_text && vocabulary(&path, &text)? != vocabulary(first_path, first_text)? {
            return Err(Error::input("the checkpoints have different vocabularies")
                .at(path)
                .expected(format!("the ids of {}", first_path.display()))
                .fix("merge only models that were trained from one seed model"));
        }
    }
    Ok(())
}

fn vocabulary(path: &Path, text: &str) -> Result<Option<Value>> {
    let parsed: Value = serde_json::from_str(text)
        .map_err(|e| Error::input("not a tokenizer").at(path).line(e.line() as u64).got(e.to_string()))?;
    Ok(parsed.pointer("/model/vocab").cloned())
}

fn check_tensors(first: &Reader, other: &Reader) -> Result<()> {
    let (a, b) = (&first.table().parameters, &other.table().parameters);
    let fault = |tensor: &str, expected: String, got: String| {
        Err(Error::input("the checkpoints are not compatible")
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
