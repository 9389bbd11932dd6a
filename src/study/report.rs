//! From a study's scores to its report: fills the report's struct, which knows the rest.

use super::clock;
use super::history;
use super::layout::Layout;
use super::merges;
use super::mixtures::Mixture;
use super::opened::{Opened, Scale};
use super::plan;
use super::prepare::{self, Prepared};
use super::settings::Study;
use super::shards;
use super::stages::{Subject, Training};
use crate::analysis::{
    self, Analysis, Cost, CrossScale, CurvePoint, DecontaminatedPartition, Decontamination, DomainInfo, DomainScores,
    MixtureInfo, ModelScores, Overlap, PartitionInfo, Report, SampleInfo, Score, Segment, SegmentPoint, Size, Spent,
    TrainingInfo,
};
use crate::engine::data::Split;
use crate::engine::eval::DomainScore;
use crate::engine::model::Table;
use crate::engine::train;
use crate::error::{Error, Result};
use crate::files;
use crate::lock::Lock;
use crate::report::tensorboard;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Dropped documents shown with the reason.
const EXAMPLES: usize = 20;

/// Makes and writes the report of a study whose scores are all there.
pub fn report(study: &Study, settings: &str, root: &Path) -> Result<Report> {
    let layout = Layout { root: root.to_path_buf() };
    let incomplete = |what: &str| {
        Error::input(format!("the study has no report yet: {what}"))
            .at(root)
            .fix("`stockpot run` makes what is missing")
    };
    if !root.exists() {
        return Err(incomplete("its directory does not exist"));
    }
    let _lock = Lock::take(root)?;
    let prepared = prepare::find(study, &layout)?.ok_or_else(|| incomplete("its text is not tokenized"))?;
    let device = layout.device()?;
    let opened = Opened::new(study, layout, prepared, &device)?;
    let domains = opened.prepared.manifest.domains.len();
    for scale in opened.scales() {
        for subject in opened.subjects(scale) {
            if (0..domains).any(|d| !opened.has_score(scale, &subject, d)) {
                return Err(incomplete(&format!("{} is not scored on every domain", subject.name())));
            }
        }
    }
    write(study, settings, &opened)
}

/// Makes the report and writes everything that belongs to it.
pub fn write(study: &Study, settings: &str, opened: &Opened) -> Result<Report> {
    let report = assemble(study, settings, opened)?;
    report.write(&opened.layout.root)?;
    let tensorboard = opened.layout.tensorboard();
    files::recover_directory(&tensorboard)?;
    files::write_directory_atomic(&tensorboard, |aside| {
        for training in opened.scales().flat_map(|s| s.trainings.all()) {
            let rows = train::read_metrics(&opened.layout.model(&training.key))?;
            tensorboard::write(aside, &training.name, &rows)?;
        }
        Ok(())
    })?;
    Ok(report)
}

/// The report from the scores on the disk. Holds no clock time but in `spent`, so that equal scores give equal bytes.
fn assemble(study: &Study, settings: &str, opened: &Opened) -> Result<Report> {
    let prepared = &opened.prepared;
    let domains: Vec<DomainInfo> = prepared.manifest.domains.iter().map(|d| domain_info(study, d)).collect();
    let target = opened.target.as_ref();
    let cost =
        plan::cost(study, &prepared.config, target.map(|t| &t.config), &opened.mixtures, prepared.scored_tokens());
    let filler = Filler { study, opened, domains: &domains };
    let mut report = Report {
        study: study.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        device: Some(opened.device.clone()),
        mixtures: filler.mixtures()?,
        samples: filler.samples()?,
        segments: filler.segments()?,
        cross_scale: target.map(|t| CrossScale {
            parameters: Table::new(&prepared.config).len as u64,
            target_parameters: Table::new(&t.config).len as u64,
            ..CrossScale::default()
        }),
        reuse: history::reuse(opened)?,
        trainings: filler.trainings()?,
        spent: filler.spent(&cost)?,
        cost,
        partitions: partitions(prepared),
        decontamination: (study.data.decontaminate > 0).then(|| decontamination(study, prepared)),
        settings: settings.to_string(),
        hashes: hashes(opened),
        domains: domains.clone(),
        ..Report::default()
    };
    report.analyse(&Analysis { seed: study.random_seed, lambda: study.proxies.lambda });
    Ok(report)
}

/// Points of a training's curve, at most.
const CURVE_POINTS: u64 = 200;

/// Reads scores into the report's struct.
struct Filler<'a> {
    study: &'a Study,
    opened: &'a Opened,
    domains: &'a [DomainInfo],
}

impl Filler<'_> {
    /// Of each domain, and averages; `members` says whose domains are "own members".
    fn scores(&self, scale: &Scale, subject: &Subject, members: &BTreeMap<String, f64>) -> Result<DomainScores> {
        let of = |(d, domain): (usize, &DomainInfo)| {
            Ok((domain.name.clone(), score(&self.opened.score(scale, subject, d)?)))
        };
        let scores = self.domains.iter().enumerate().map(of).collect::<Result<_>>()?;
        Ok(self.with_averages(members, scores))
    }

    fn with_averages(&self, members: &BTreeMap<String, f64>, mut scores: DomainScores) -> DomainScores {
        scores.extend(analysis::averages(self.domains, members, &scores));
        scores
    }

    fn mixtures(&self) -> Result<Vec<MixtureInfo>> {
        (0..self.opened.mixtures.len()).map(|i| self.mixture(i)).collect()
    }

    fn mixture(&self, number: usize) -> Result<MixtureInfo> {
        let Filler { opened, study, .. } = self;
        let (mixture, small) = (&opened.mixtures[number], &opened.small);
        let merges = opened.merges(small);
        let of = |subject: &Subject| self.scores(small, subject, &mixture.members);
        let mut scores = self.trained(small, mixture, number, 0)?;
        for (name, subject) in [("micro", merges.micro(mixture)), ("macro_of_merges", merges.macro_of_merges(mixture))]
        {
            if let Some(subject) = subject {
                scores.insert(name.into(), of(&subject)?);
            }
        }
        let repeats = small.trainings.seqs[number].len();
        let by_lambda = opened.lambdas.iter().filter_map(|&lambda| Some((lambda, merges.scaled(mixture, lambda)?)));
        let text = mixture.members.keys().map(|name| Ok(opened.prepared.partition(name)?.train.tokens));
        let available_tokens = text.sum::<Result<u64>>()?;
        let context = small.config.context as u64;
        let tokens = plan::seq_units(study, mixture) * study.module.training.windows() * context;
        Ok(MixtureInfo {
            id: mixture.id.clone(),
            group: mixture.group.clone(),
            members: mixture.members.clone(),
            tokens,
            available_tokens,
            scores,
            repeats: (1..repeats).map(|r| self.trained(small, mixture, number, r)).collect::<Result<_>>()?,
            target: match &opened.target {
                Some(target) => self.trained(target, mixture, number, 0)?,
                None => BTreeMap::new(),
            },
            by_lambda: by_lambda.map(|(lambda, subject)| Ok((lambda, of(&subject)?))).collect::<Result<_>>()?,
        })
    }

    /// SEQ, MERGED and IND of a mixture at a scale, of a repeat: those that it has.
    fn trained(&self, scale: &Scale, mixture: &Mixture, number: usize, repeat: usize) -> Result<ModelScores> {
        let t = &scale.trainings;
        let Some(seq) = t.seqs[number].get(repeat) else { return Ok(BTreeMap::new()) };
        let seq = self.scores(scale, &Subject::trained(seq, &self.opened.layout), &mixture.members)?;
        let mut scores = BTreeMap::from([("seq".to_string(), seq)]);
        if let Some(merged) = self.opened.merges(scale).merged(mixture, repeat) {
            scores.insert("merged".into(), self.scores(scale, &merged, &mixture.members)?);
            let modules = if repeat == 0 { &t.modules } else { &t.repeated_modules[repeat - 1] };
            scores.insert("ind".into(), self.individual(scale, mixture, modules)?);
        }
        Ok(scores)
    }

    /// IND: the members' own scores, averaged under the mixture's weights.
    fn individual(
        &self,
        scale: &Scale,
        mixture: &Mixture,
        modules: &BTreeMap<String, Training>,
    ) -> Result<DomainScores> {
        let total: f64 = mixture.members.values().sum();
        let mut own: Vec<(f64, DomainScores)> = Vec::new();
        for (name, weight) in &mixture.members {
            let subject = Subject::trained(&modules[name], &self.opened.layout);
            own.push((weight / total, self.scores(scale, &subject, &BTreeMap::new())?));
        }
        let mean = |domain: &str, of: fn(&Score) -> f64| own.iter().map(|(w, s)| w * of(&s[domain])).sum::<f64>();
        let score = |d: &DomainInfo| Score {
            perplexity: mean(&d.name, |s| s.perplexity),
            bits_per_byte: mean(&d.name, |s| s.bits_per_byte),
            ..Score::default()
        };
        let scores = self.domains.iter().map(|d| (d.name.clone(), score(d))).collect();
        Ok(self.with_averages(&mixture.members, scores))
    }

    fn samples(&self) -> Result<Vec<SampleInfo>> {
        let merges = self.opened.merges(&self.opened.small);
        let subjects = self.opened.samples.iter().filter_map(|members| Some((members, merges.weighted(members)?)));
        let sample = |(members, subject): (&BTreeMap<String, f64>, Subject)| {
            let scores = self.scores(&self.opened.small, &subject, members)?;
            Ok(SampleInfo { members: members.clone(), scores })
        };
        subjects.map(sample).collect()
    }

    fn segments(&self) -> Result<Vec<Segment>> {
        let point = |(at, subject): (f64, Subject)| {
            Ok(SegmentPoint { at, scores: self.scores(&self.opened.small, &subject, &BTreeMap::new())? })
        };
        let segment = |s: merges::Segment| {
            let points = s.points.into_iter().map(point).collect::<Result<_>>()?;
            Ok(Segment { from: s.from, to: s.to, points, barriers: BTreeMap::new() })
        };
        self.opened.segments().into_iter().map(segment).collect()
    }

    /// Each training once.
    fn trainings(&self) -> Result<Vec<TrainingInfo>> {
        let mut keys = BTreeSet::new();
        let mut list = Vec::new();
        for scale in self.opened.scales() {
            for training in scale.trainings.all().filter(|t| keys.insert(&t.key)) {
                let steps = training.settings.steps;
                let tokens = training.settings.windows() * scale.config.context as u64;
                let rows = train::read_metrics(&self.opened.layout.model(&training.key))?;
                list.push(TrainingInfo {
                    name: training.name.clone(),
                    role: format!("{}{}", scale.prefix, training.role.name()),
                    key: training.key.clone(),
                    steps,
                    tokens,
                    flops: tokens as f64 * scale.config.training_flops_per_token(),
                    curve: curve(&rows),
                });
            }
        }
        Ok(list)
    }

    /// Hours, and those that the naive way takes at the speed of SEQ.
    fn spent(&self, cost: &Cost) -> Result<Option<Spent>> {
        let stages: Vec<String> = cost.stages.iter().map(|s| s.stage.clone()).collect();
        let subjects: Vec<Subject> = self.opened.scales().flat_map(|s| self.opened.subjects(s)).collect();
        let trainings = self.opened.scales().flat_map(|s| s.trainings.all()).map(|t| t.key.as_str());
        let keys = trainings.chain(subjects.iter().map(Subject::key)).collect();
        let Some(mut spent) = clock::spent(&self.opened.layout, &history::name(self.opened), &stages, &keys)? else {
            return Ok(None);
        };
        // One speed of training for both ways, that of all modules and SEQ runs; merges at that of scoring.
        let per_flop = |names: &[&str]| {
            let stages = || spent.stages.iter().filter(|s| names.contains(&s.stage.as_str()));
            let flops: f64 = stages().map(|s| s.flops).sum();
            (flops > 0.0).then(|| stages().map(|s| s.hours).sum::<f64>() / flops)
        };
        let (training, scoring) = (per_flop(&["modules", "seq"]), per_flop(&["scoring"]));
        let merges = cost.merging_flops;
        let naive = training.map(|hours| hours * cost.naive_flops);
        let modular = training
            .zip(scoring)
            .map(|(training, scoring)| (cost.modular_flops - merges) * training + merges * scoring);
        (spent.naive_hours, spent.modular_hours) = (naive, modular);
        Ok(Some(spent))
    }
}

/// The mean loss of each of at most [`CURVE_POINTS`] runs of steps of like length, at its last step.
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

fn hashes(opened: &Opened) -> BTreeMap<String, String> {
    let prepared = &opened.prepared;
    let mut hashes = BTreeMap::from([
        ("data".to_string(), prepared.key.clone()),
        ("tokenizer".to_string(), prepared.manifest.tokenizer.clone()),
        ("seed".to_string(), opened.small.trainings.seed.key().to_string()),
    ]);
    hashes.extend(opened.scales().flat_map(|s| s.trainings.all()).map(|t| (t.name.clone(), t.key.clone())));
    hashes.extend(prepared.manifest.domains.iter().map(|d| (format!("domain {}", d.name), d.shard.hash.clone())));
    hashes
}
