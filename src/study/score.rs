//! Scoring: every model and merge of a scale, on each domain that has no score of it yet.

use super::clock::SpentWork;
use super::graph::{Graph, Stage, Subject, SubjectWeights, Task, Work, stage_name};
use super::scale::Scale;
use super::workers::Resources;
use crate::engine::data::Shard;
use crate::engine::eval::Scorer;
use crate::engine::merge::{Pool, WeightedSum, check_weights};
use crate::engine::model::Table;
use crate::error::{Error, Result};
use crate::files;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A model to score, and the domains without a score of it.
struct Missing {
    subject: usize,
    domains: Vec<usize>,
}

/// A scoring job: a checkpoint, as an index into the missing ones, or a merge, as a position in the
/// order that loads the fewest checkpoints.
enum ScoreJob {
    Checkpoint(usize),
    Merge(usize),
}

/// Scores every model of a scale on each domain that has no score of it yet.
pub fn score_all(graph: &Graph, scale: Scale, resources: &Resources) -> Result<()> {
    let subject = |task: &Task| match task.work {
        Work::Score(subject) => Some(subject),
        Work::Train(_) => None,
    };
    let subjects: Vec<usize> = graph.stage(scale, Stage::Scoring).filter_map(subject).collect();
    let domains: Vec<usize> = (0..graph.prepared.manifest.domains.len()).collect();
    score_models(graph, scale, &subjects, &domains, resources)
}

/// Scores these models of a scale on each of these domains that has no score of them yet.
pub fn score_models(
    graph: &Graph,
    scale: Scale,
    subjects: &[usize],
    domains: &[usize],
    resources: &Resources,
) -> Result<()> {
    let missing = missing(graph, subjects, domains);
    if missing.is_empty() {
        return Ok(());
    }
    let config = &graph.settings(scale).config;
    let chosen = domains.len();
    let domains = &graph.prepared.manifest.domains;
    let shards: Vec<Shard> =
        domains.iter().map(|d| Shard::open(&graph.store.shard(&d.shard.hash))).collect::<Result<_>>()?;
    let is_merge = |i: &usize| matches!(graph.subjects[missing[*i].subject].weights, SubjectWeights::Merge(_));
    let (merged, trained): (Vec<usize>, Vec<usize>) = (0..missing.len()).partition(is_merge);
    let pool = pool_of(graph, merged.iter().map(|&i| missing[i].subject))?;
    let jobs: Vec<ScoreJob> =
        trained.into_iter().map(ScoreJob::Checkpoint).chain((0..merged.len()).map(ScoreJob::Merge)).collect();
    let (task, done) = (resources.progress.task("scoring", jobs.len() as u64), AtomicU64::new(0));
    let workers = resources.workers(jobs.len(), Table::new(config).len);
    let begin = || Scorer::new(resources.spec, config, pool.as_ref().map(|(pool, sums)| (pool, &sums[..])));
    workers.run(&jobs, begin, |scorer, job| {
        let begun = Instant::now();
        let Missing { subject, domains: unscored } = match job {
            ScoreJob::Merge(position) => &missing[merged[scorer.load_merge(*position)?]],
            ScoreJob::Checkpoint(i) => &missing[*i],
        };
        let Subject { name, key, weights, .. } = &graph.subjects[*subject];
        if let SubjectWeights::Checkpoint(directory) = weights {
            scorer.load_checkpoint(directory)?;
        }
        let mut tokens = 0;
        for &d in unscored {
            let score = scorer
                .score(&shards[d], &mut |_, _| {})
                .map_err(|e| Error::numeric(format!("scoring {name} on {}: {e}", domains[d].name)))?;
            tokens += score.tokens;
            let json = serde_json::to_vec(&score).expect("a struct of numbers");
            files::write_atomic(&graph.score_path(*subject, d), |f| f.write_all(&json))?;
        }
        let (stage, key) = (stage_name(scale, Stage::Scoring), key.clone());
        let seconds = begun.elapsed().as_secs_f64() / workers.workers as f64;
        resources.clock.spent(SpentWork {
            stage,
            key,
            seconds,
            flops: tokens as f64 * config.forward_flops_per_token(),
        })?;
        task.update(done.fetch_add(1, Ordering::Relaxed) + 1, name);
        Ok(())
    })?;
    task.finish(&format!("{} models on {chosen} domains", jobs.len()));
    Ok(())
}

fn missing(graph: &Graph, subjects: &[usize], domains: &[usize]) -> Vec<Missing> {
    let of = |&subject: &usize| {
        let domains = domains.iter().copied();
        let domains: Vec<usize> = domains.filter(|&d| !graph.score_path(subject, d).exists()).collect();
        (!domains.is_empty()).then_some(Missing { subject, domains })
    };
    subjects.iter().filter_map(of).collect()
}

/// The checkpoints of these merges, each opened once, and the merges as weighted sums of them;
/// `None` without merges.
pub fn pool_of(graph: &Graph, merges: impl Iterator<Item = usize>) -> Result<Option<(Pool, Vec<WeightedSum>)>> {
    let (mut paths, mut positions) = (Vec::<PathBuf>::new(), BTreeMap::new());
    let mut sums = Vec::new();
    for merge in merges {
        let SubjectWeights::Merge(terms) = &graph.subjects[merge].weights else { continue };
        check_weights(&terms.iter().map(|term| term.1).collect::<Vec<_>>())?;
        let mut sum = WeightedSum { terms: vec![] };
        for (subject, weight) in terms {
            let SubjectWeights::Checkpoint(directory) = &graph.subjects[*subject].weights else {
                unreachable!("merges are of checkpoints")
            };
            let position = *positions.entry(*subject).or_insert_with(|| {
                paths.push(directory.clone());
                paths.len() - 1
            });
            sum.terms.push((position, *weight));
        }
        sums.push(sum);
    }
    // A given seed's context may be longer than its modules' (`seed.context`).
    (!sums.is_empty()).then(|| Ok((Pool::open_of_any_context(&paths)?, sums))).transpose()
}
