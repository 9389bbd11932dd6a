//! From a study's scores to its report: fills the report's struct, which knows the rest.

use super::layout::Layout;
use super::lock::Lock;
use super::opened::Opened;
use super::plan;
use super::prepare::{self, Prepared};
use super::settings::Study;
use super::shards::{self, DomainKind};
use super::stages::Subject;
use crate::data::Split;
use crate::error::{Error, Result};
use crate::eval::DomainScore;
use crate::report::{
    self, Cost, DecontaminatedPartition, Decontamination, DomainInfo, MixtureInfo, Overlap, PartitionInfo, Report,
    Score, Size,
};
use std::collections::BTreeMap;
use std::path::Path;

/// Dropped documents shown with the reason.
const EXAMPLES: usize = 20;

/// Score of each domain, in the order of the study's domains.
type Scores = Vec<Score>;

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
    for subject in opened.subjects() {
        if (0..domains).any(|d| !opened.has_score(&subject, d)) {
            return Err(incomplete(&format!("{} is not scored on every domain", subject.name())));
        }
    }
    let report = assemble(study, settings, &opened)?;
    report.write(root)?;
    Ok(report)
}

/// The report from the scores on the disk. Holds no clock time, so that equal scores give equal bytes.
pub fn assemble(study: &Study, settings: &str, opened: &Opened) -> Result<Report> {
    let (prepared, trainings) = (&opened.prepared, &opened.trainings);
    let scores = |subject: &Subject| -> Result<Scores> {
        (0..prepared.manifest.domains.len()).map(|d| Ok(score(&opened.score(subject, d)?))).collect()
    };
    let mut modules: BTreeMap<&str, Scores> = BTreeMap::new();
    for (name, training) in &trainings.modules {
        modules.insert(name, scores(&Subject::trained(training, &opened.layout))?);
    }
    let mut mixtures = Vec::new();
    for (mixture, training) in opened.mixtures.iter().zip(&trainings.seqs) {
        let seq = scores(&Subject::trained(training, &opened.layout))?;
        let merged = scores(&Subject::merged(mixture, trainings, &opened.layout))?;
        let named = [("seq", seq), ("merged", merged), ("ind", individual(&mixture.members, &modules))];
        let by_domain = |scores: &Scores| with_averages(prepared, &mixture.members, scores);
        mixtures.push(MixtureInfo {
            id: mixture.id.clone(),
            group: mixture.group.clone(),
            members: mixture.members.clone(),
            scores: named.iter().map(|(model, scores)| (model.to_string(), by_domain(scores))).collect(),
            ..MixtureInfo::default()
        });
    }
    let domains: Vec<DomainInfo> = prepared.manifest.domains.iter().map(domain_info).collect();
    let correlations = report::correlations(&mixtures, &domains, study.random_seed);
    let cost = plan::cost(study, &prepared.config, &opened.mixtures, prepared.scored_tokens());
    Ok(Report {
        study: study.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        device: Some("cpu".into()),
        domains,
        answers: report::answers(&mixtures, &correlations),
        mixtures,
        correlations,
        cost: Cost { modular_flops: cost.modular_flops, naive_flops: cost.naive_flops, ..Cost::default() },
        partitions: partitions(prepared),
        decontamination: (study.data.decontaminate > 0).then(|| decontamination(study, prepared)),
        settings: settings.to_string(),
        hashes: hashes(opened),
        ..Report::default()
    })
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

/// IND: the members' own scores, averaged under the mixture's weights.
fn individual(members: &BTreeMap<String, f64>, modules: &BTreeMap<&str, Scores>) -> Scores {
    let total: f64 = members.values().sum();
    let mean = |domain: usize, of: fn(&Score) -> f64| {
        members.iter().map(|(name, weight)| weight * of(&modules[name.as_str()][domain])).sum::<f64>() / total
    };
    let domains = modules.values().next().map_or(0, Vec::len);
    (0..domains)
        .map(|d| Score {
            perplexity: mean(d, |s| s.perplexity),
            bits_per_byte: mean(d, |s| s.bits_per_byte),
            ..Score::default()
        })
        .collect()
}

/// Scores by domain, with the averages `id`, `ood` and `members` (the domains of the mixture's own partitions).
fn with_averages(prepared: &Prepared, members: &BTreeMap<String, f64>, scores: &Scores) -> BTreeMap<String, Score> {
    let mut all: BTreeMap<String, Score> =
        prepared.manifest.domains.iter().zip(scores).map(|(domain, score)| (domain.name.clone(), *score)).collect();
    type Belongs<'a> = &'a dyn Fn(&shards::Domain) -> bool;
    let averages: [(&str, Belongs); 3] = [
        ("id", &|d| d.kind == DomainKind::Id),
        ("ood", &|d| d.kind == DomainKind::Ood),
        ("members", &|d| d.kind == DomainKind::Id && members.contains_key(&d.name)),
    ];
    for (name, belongs) in averages {
        let chosen: Vec<&Score> =
            prepared.manifest.domains.iter().zip(scores).filter(|(d, _)| belongs(d)).map(|(_, score)| score).collect();
        if !chosen.is_empty() {
            let mean = |of: fn(&Score) -> f64| chosen.iter().map(|s| of(s)).sum::<f64>() / chosen.len() as f64;
            let (perplexity, bits_per_byte) = (mean(|s| s.perplexity), mean(|s| s.bits_per_byte));
            all.insert(name.to_string(), Score { perplexity, bits_per_byte, ..Score::default() });
        }
    }
    all
}

fn domain_info(domain: &shards::Domain) -> DomainInfo {
    DomainInfo {
        name: domain.name.clone(),
        kind: match domain.kind {
            DomainKind::Id => report::DomainKind::Id,
            DomainKind::Ood => report::DomainKind::Ood,
        },
        field: None,
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
        examples: prepared.manifest.dropped.iter().take(EXAMPLES).map(overlap).collect(),
    }
}

fn hashes(opened: &Opened) -> BTreeMap<String, String> {
    let (prepared, trainings) = (&opened.prepared, &opened.trainings);
    let mut hashes = BTreeMap::from([
        ("data".to_string(), prepared.key.clone()),
        ("tokenizer".to_string(), prepared.manifest.tokenizer.clone()),
        ("seed".to_string(), trainings.seed.key().to_string()),
    ]);
    hashes.extend(trainings.modules.values().chain(&trainings.seqs).map(|t| (t.name.clone(), t.key.clone())));
    hashes.extend(prepared.manifest.domains.iter().map(|d| (format!("domain {}", d.name), d.shard.hash.clone())));
    hashes
}
