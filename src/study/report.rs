//! The report of a study: reads the results of the graph's tasks into the report's struct and runs
//! its analysis.

use super::clock;
use super::graph::{Graph, Role, Stage, Task, Train, WeightSegment, stage_name};
use super::history;
use super::mixtures::Mixture;
use super::plan;
use super::prepare::{self, Prepared};
use super::scale::{Scale, ScaleSettings};
use super::search;
use super::settings::Study;
use super::shards;
use super::store::Store;
use crate::analysis::{
    self, Analysis, Cost, CrossScale, CurvePoint, DecontaminatedPartition, Decontamination, DomainDocuments,
    DomainInfo, DomainScores, IND, MERGED, MixtureInfo, ModelScores, Overlap, PartitionInfo, Report, SEQ, SampleInfo,
    Score, Segment, SegmentPoint, Size, Spent, TrainingInfo,
};
use crate::engine::data::{Shard, Split};
use crate::engine::eval::DomainScore;
use crate::engine::model::Table;
use crate::engine::train;
use crate::error::{Error, Result};
use crate::files;
use crate::lock::Lock;
use crate::report::tensorboard;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Number of dropped documents shown with the reason.
const EXAMPLES: usize = 20;

/// Makes and writes the report of a study whose scores all exist.
pub fn report(study: &Study, settings: &str, root: &Path) -> Result<Report> {
    let store = Store { root: root.to_path_buf() };
    let incomplete = |what: &str| {
        Error::input(format!("the study has no report yet: {what}"))
            .at(root)
            .fix("run `stockpot run` to make what is missing")
    };
    if !root.exists() {
        return Err(incomplete("its directory does not exist")
            .fix("if the results are elsewhere, give their directory as --out; else run `stockpot run` first"));
    }
    let _lock = Lock::take(root)?;
    let prepared = prepare::find(study, &store)?.ok_or_else(|| incomplete("its text is not tokenized"))?;
    let device = store.device()?;
    let graph = Graph::new(study, store, prepared, &device)?;
    for (task, _) in graph.scorings() {
        if !graph.results(task).iter().all(|path| path.exists()) {
            return Err(incomplete(&format!("{} is not scored on every domain", task.name)));
        }
    }
    write(study, settings, &graph)
}

/// Makes the report and writes all of its files.
pub fn write(study: &Study, settings: &str, graph: &Graph) -> Result<Report> {
    let report = assemble(study, settings, graph)?;
    report.write(&graph.store.root)?;
    let tensorboard = graph.store.tensorboard();
    files::recover_directory(&tensorboard)?;
    files::write_directory_atomic(&tensorboard, |directory| {
        for (task, _) in graph.trainings() {
            let rows = train::read_metrics(&graph.store.model(&task.key))?;
            tensorboard::write(directory, &task.name, &rows)?;
        }
        Ok(())
    })?;
    Ok(report)
}

/// Makes the report from the scores on disk. Only `spent` contains clock time, so equal scores give
/// equal bytes elsewhere.
fn assemble(study: &Study, settings: &str, graph: &Graph) -> Result<Report> {
    let prepared = &graph.prepared;
    let cost = plan::cost(study, graph);
    let parameters = |s: &ScaleSettings| Table::new(&s.config).len as u64;
    let target = graph.scales.iter().find(|s| s.scale == Scale::Target);
    let mut report = Report {
        study: study.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        device: Some(graph.device.clone()),
        mixtures: mixtures(study, graph)?,
        samples: graph
            .samples
            .iter()
            .map(|members| SampleInfo { members: members.clone(), ..Default::default() })
            .collect(),
        segments: graph.segments.iter().map(segment).collect(),
        cross_scale: target.map(|target| CrossScale {
            parameters: parameters(graph.settings(Scale::Small)),
            target_parameters: parameters(target),
            ..CrossScale::default()
        }),
        reuse: history::reuse(graph)?,
        trainings: trainings(graph)?,
        spent: spent(graph, &cost)?,
        cost,
        partitions: partitions(prepared),
        decontamination: (study.data.decontaminate > 0).then(|| decontamination(study, prepared)),
        settings: settings.to_string(),
        hashes: hashes(graph),
        domains: domains(study, graph)?,
        search: search::summary(study, graph),
        ..Report::default()
    };
    fill_scores(graph, &mut report)?;
    report.analyse(&Analysis { seed: study.random_seed, lambda: study.proxies.lambda });
    Ok(report)
}

/// The mixtures, without scores.
fn mixtures(study: &Study, graph: &Graph) -> Result<Vec<MixtureInfo>> {
    let small = graph.settings(Scale::Small);
    let info = |mixture: &Mixture| {
        let text = mixture.members.keys().map(|name| Ok(graph.prepared.partition(name)?.train.tokens));
        Ok(MixtureInfo {
            id: mixture.id.clone(),
            group: mixture.group.clone(),
            members: mixture.members.clone(),
            tokens: small.unit_tokens(mixture.units(study)),
            available_tokens: text.sum::<Result<u64>>()?,
            repeats: vec![ModelScores::new(); mixture.repeats.saturating_sub(1) as usize],
            ..MixtureInfo::default()
        })
    };
    graph.mixtures.iter().map(info).collect()
}

/// A segment, without scores.
fn segment(segment: &WeightSegment) -> Segment {
    Segment {
        from: segment.from.clone().unwrap_or_else(|| "seed".into()),
        to: segment.to.clone(),
        points: segment.points.iter().map(|&at| SegmentPoint { at, ..SegmentPoint::default() }).collect(),
        ..Segment::default()
    }
}

/// Reads the scores of every model into the places of its roles, and adds averages and IND.
fn fill_scores(graph: &Graph, report: &mut Report) -> Result<()> {
    let domains = report.domains.clone();
    let with_averages = |members: &BTreeMap<String, f64>, mut scores: DomainScores| {
        scores.extend(analysis::averages(&domains, members, &scores));
        scores
    };
    // Each module's own scores; IND is their mean.
    let mut modules: BTreeMap<(Scale, String, u64), DomainScores> = BTreeMap::new();
    for (scale, role, subject) in &graph.roles {
        let read = || -> Result<DomainScores> {
            let of = |(d, domain): (usize, &DomainInfo)| Ok((domain.name.clone(), score(&graph.score(*subject, d)?)));
            domains.iter().enumerate().map(of).collect()
        };
        let documents = || -> Result<DomainDocuments> {
            let of =
                |(d, domain): (usize, &DomainInfo)| Ok((domain.name.clone(), graph.score(*subject, d)?.document_nats));
            domains.iter().enumerate().map(of).collect()
        };
        match role {
            // Merges of a search are added after the report's graph is made.
            Role::Seed | Role::Unit { .. } | Role::Candidate(_) => {}
            Role::Module { partition, repeat } => {
                modules.insert((*scale, partition.clone(), *repeat), read()?);
            }
            Role::Seq { mixture, repeat } => {
                let mixture = &mut report.mixtures[*mixture];
                let scores = with_averages(&mixture.members, read()?);
                mixture.models(*scale, *repeat).insert(SEQ.into(), scores);
                if (*scale, *repeat) == (Scale::Small, 0) {
                    mixture.documents.insert(SEQ.into(), documents()?);
                }
            }
            Role::Merged { proxy, mixture, repeat } => {
                let mixture = &mut report.mixtures[*mixture];
                let scores = with_averages(&mixture.members, read()?);
                mixture.models(*scale, *repeat).insert(proxy.to_string(), scores);
                if (*scale, *repeat) == (Scale::Small, 0) {
                    mixture.documents.insert(proxy.to_string(), documents()?);
                }
                if *proxy == MERGED {
                    let own = |name: &String| &modules[&(*scale, name.clone(), *repeat)];
                    let scores = with_averages(&mixture.members, individual(&domains, &mixture.members, own));
                    mixture.models(*scale, *repeat).insert(IND.into(), scores);
                }
            }
            Role::Scaled { mixture, lambda } => {
                let mixture = &mut report.mixtures[*mixture];
                let scores = with_averages(&mixture.members, read()?);
                mixture.by_lambda.push((graph.lambdas[*lambda], scores));
            }
            Role::Sample(i) => {
                let sample = &mut report.samples[*i];
                sample.scores = with_averages(&sample.members, read()?);
            }
            Role::Point { segment, point } => {
                report.segments[*segment].points[*point].scores = with_averages(&BTreeMap::new(), read()?);
            }
        }
    }
    Ok(())
}

impl MixtureInfo {
    /// The scores of the models of a scale and repeat.
    fn models(&mut self, scale: Scale, repeat: u64) -> &mut ModelScores {
        match (scale, repeat) {
            (Scale::Target, _) => &mut self.target,
            (Scale::Small, 0) => &mut self.scores,
            (Scale::Small, repeat) => &mut self.repeats[repeat as usize - 1],
        }
    }
}

/// IND: the members' own scores, averaged under the mixture's weights.
fn individual<'a>(
    domains: &[DomainInfo],
    members: &BTreeMap<String, f64>,
    own: impl Fn(&String) -> &'a DomainScores,
) -> DomainScores {
    let total: f64 = members.values().sum();
    let own: Vec<(f64, &DomainScores)> = members.iter().map(|(name, weight)| (weight / total, own(name))).collect();
    let mean = |domain: &str, of: fn(&Score) -> f64| own.iter().map(|(w, s)| w * of(&s[domain])).sum::<f64>();
    let score = |d: &DomainInfo| Score {
        perplexity: mean(&d.name, |s| s.perplexity),
        bits_per_byte: mean(&d.name, |s| s.bits_per_byte),
        ..Score::default()
    };
    domains.iter().map(|d| (d.name.clone(), score(d))).collect()
}

fn trainings(graph: &Graph) -> Result<Vec<TrainingInfo>> {
    let info = |(task, train): (&Task, &Train)| {
        let rows = train::read_metrics(&graph.store.model(&task.key))?;
        let role = match task.stage {
            Stage::Modules => "module",
            stage => stage.name(),
        };
        Ok(TrainingInfo {
            name: task.name.clone(),
            role: format!("{}{role}", task.scale.prefix()),
            key: task.key.clone(),
            steps: train.settings.steps,
            tokens: task.tokens,
            flops: task.flops,
            curve: curve(&rows),
        })
    };
    graph.trainings().map(info).collect()
}

/// Hours spent, and the hours of both ways at the measured speeds.
fn spent(graph: &Graph, cost: &Cost) -> Result<Option<Spent>> {
    let stages: Vec<String> = cost.stages.iter().map(|s| s.stage.clone()).collect();
    let keys: BTreeSet<&str> = graph.tasks.iter().map(|task| task.key.as_str()).collect();
    let Some(mut spent) = clock::spent(&graph.store, &history::name(graph), &stages, &keys)? else {
        return Ok(None);
    };
    // Both ways count at the mean training speed of all modules and SEQ runs; merges at the speed
    // of scoring.
    let per_flop = |stages: &[Stage]| {
        let names: Vec<String> = stages.iter().map(|stage| stage_name(Scale::Small, *stage)).collect();
        let stages = || spent.stages.iter().filter(|s| names.contains(&s.stage));
        let flops: f64 = stages().map(|s| s.flops).sum();
        (flops > 0.0).then(|| stages().map(|s| s.hours).sum::<f64>() / flops)
    };
    let (training, scoring) = (per_flop(&[Stage::Modules, Stage::Seq]), per_flop(&[Stage::Scoring]));
    let merges = cost.merging_flops;
    let naive = training.map(|hours| hours * cost.naive_flops);
    let modular =
        training.zip(scoring).map(|(training, scoring)| (cost.modular_flops - merges) * training + merges * scoring);
    (spent.naive_hours, spent.modular_hours) = (naive, modular);
    Ok(Some(spent))
}

/// Maximum number of points of a training curve.
const CURVE_POINTS: u64 = 200;

/// Splits the steps into at most [`CURVE_POINTS`] runs of equal length (the last may be shorter):
/// each run's mean loss, at its last step.
fn curve(rows: &[train::Metrics]) -> Vec<CurvePoint> {
    let each = (rows.len() as u64).div_ceil(CURVE_POINTS).max(1) as usize;
    let point = |rows: &[train::Metrics]| CurvePoint {
        step: rows.last().map_or(0, |m| m.step),
        loss: rows.iter().map(|m| m.loss).sum::<f64>() / rows.len() as f64,
    };
    rows.chunks(each).map(point).collect()
}

fn score(s: &DomainScore) -> Score {
    Score {
        nats: Some(s.nats),
        tokens: Some(s.tokens),
        bytes: Some(s.bytes),
        perplexity: s.perplexity(),
        bits_per_byte: s.bits_per_byte(),
    }
}

/// The domains, with the tokens of each document.
fn domains(study: &Study, graph: &Graph) -> Result<Vec<DomainInfo>> {
    let info = |domain: &shards::Domain| {
        let shard = Shard::open(&graph.store.shard(&domain.shard.hash))?;
        let tokens = (0..shard.documents()).map(|i| shard.document(i)).map(|d| (d.end - d.start) as f64);
        Ok(DomainInfo { document_tokens: tokens.collect(), ..domain_info(study, domain) })
    };
    graph.prepared.manifest.domains.iter().map(info).collect()
}

fn domain_info(study: &Study, domain: &shards::Domain) -> DomainInfo {
    let settings = study.partition.iter().chain(&study.ood).find(|s| s.name == domain.name);
    DomainInfo {
        name: domain.name.clone(),
        kind: domain.kind,
        field: settings.and_then(|s| s.field.clone()),
        documents: domain.shard.documents,
        // The EOS after each document is not scored.
        tokens: domain.shard.tokens - domain.shard.documents,
        bytes: domain.shard.bytes,
        document_tokens: Vec::new(),
    }
}

/// The table's rows by partition, in the table's order.
fn partitions(prepared: &Prepared) -> Vec<PartitionInfo> {
    let mut partitions: Vec<PartitionInfo> = Vec::new();
    for row in &prepared.manifest.table.rows {
        let known = partitions.iter().position(|p| p.name == row.partition);
        let at = known.unwrap_or_else(|| {
            partitions.push(PartitionInfo { name: row.partition.clone(), ..PartitionInfo::default() });
            partitions.len() - 1
        });
        let size = Size { documents: row.documents, tokens: row.tokens, bytes: row.bytes };
        match row.split {
            Split::Train => partitions[at].train = size,
            Split::Validation => partitions[at].validation = size,
            Split::Test => partitions[at].test = size,
        }
    }
    partitions
}

fn decontamination(study: &Study, prepared: &Prepared) -> Decontamination {
    let partition = |c: &shards::Cleaned| DecontaminatedPartition {
        name: c.partition.clone(),
        documents: c.documents,
        dropped_documents: c.dropped_documents,
        dropped_bytes: c.dropped_bytes,
    };
    let overlap = |d: &shards::Dropped| Overlap {
        partition: d.partition.clone(),
        document: d.why.id.clone(),
        domain: d.why.domain.clone(),
        evaluation_document: d.why.evaluation_id.clone(),
        shared: d.why.ngram.clone(),
    };
    Decontamination {
        ngram: study.data.decontaminate as u64,
        partitions: prepared.manifest.cleaned.iter().map(partition).collect(),
        left_out: prepared.left_out(),
        examples: prepared.manifest.dropped.iter().take(EXAMPLES).map(overlap).collect(),
    }
}

fn hashes(graph: &Graph) -> BTreeMap<String, String> {
    let prepared = &graph.prepared;
    let mut hashes = BTreeMap::from([
        ("data".to_string(), prepared.key.clone()),
        ("tokenizer".to_string(), prepared.manifest.tokenizer.clone()),
    ]);
    for (scale, role, subject) in &graph.roles {
        if matches!(role, Role::Seed | Role::Module { .. } | Role::Unit { .. } | Role::Seq { .. }) {
            hashes.insert(graph.name(*scale, role), graph.subjects[*subject].key.clone());
        }
    }
    hashes.extend(prepared.manifest.domains.iter().map(|d| (format!("domain {}", d.name), d.shard.hash.clone())));
    hashes
}
