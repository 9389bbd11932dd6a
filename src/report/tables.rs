//! The report's tables as plain cells, shared by terminal and HTML.

use crate::analysis::format::{count, domain_title, number, percent, proxy_title, signed};
use crate::analysis::*;
use serde::Serialize;
use std::collections::BTreeMap;

/// Rows of cells. The first `left` columns hold words (left-aligned), the others numbers.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct TextTable {
    /// The heading above the table.
    pub title: String,
    /// Names of the columns.
    pub header: Vec<String>,
    /// Number of word columns; they come first.
    pub left: usize,
    /// Each has as many cells as the header.
    pub rows: Vec<Vec<String>>,
    /// Sentences below the table.
    pub notes: Vec<String>,
}

pub(super) const NONE: &str = "–";

pub(super) fn or_none(value: Option<f64>, write: impl Fn(f64) -> String) -> String {
    value.map_or(NONE.into(), write)
}

pub(super) fn interval(low: Option<f64>, high: Option<f64>) -> String {
    match (low, high) {
        (Some(low), Some(high)) => format!("{} … {}", signed(low), signed(high)),
        _ => NONE.into(),
    }
}

pub(super) fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| w.to_string()).collect()
}

/// One table per group, in the order of the correlations.
pub(super) fn correlations(list: &[Correlation]) -> Vec<TextTable> {
    let list: Vec<&Correlation> = list.iter().collect();
    list.chunk_by(|a, b| a.group == b.group).map(correlation_table).collect()
}

pub(super) fn correlation_table(list: &[&Correlation]) -> TextTable {
    let row = |c: &&Correlation| {
        let relative = c.seq_standard_deviation.zip(c.seq_mean).map(|(deviation, mean)| deviation / mean);
        vec![
            domain_title(&c.domain),
            proxy_title(&c.proxy),
            c.n.to_string(),
            or_none(c.pearson, signed),
            interval(c.pearson_low, c.pearson_high),
            interval(c.documents_low, c.documents_high),
            or_none(c.pearson_bits_per_byte, signed),
            interval(c.pearson_bits_per_byte_low, c.pearson_bits_per_byte_high),
            or_none(c.spearman, signed),
            or_none(c.kendall, signed),
            or_none(c.regret_at_1, percent),
            or_none(c.decision_accuracy, percent),
            or_none(relative, percent),
        ]
    };
    TextTable {
        title: list.first().map_or(String::new(), |c| c.group.clone()),
        header: strings(&[
            "domain",
            "proxy",
            "n",
            "r",
            "95%, partitions",
            "95%, documents",
            "r (bits per byte)",
            "95% (bits)",
            "Spearman",
            "Kendall",
            "regret@1",
            "pairwise accuracy",
            "CV of SEQ",
        ]),
        left: 2,
        rows: list.iter().map(row).collect(),
        notes: correlation_notes(list),
    }
}

/// Notes on where mixtures hardly differ and why statistics are missing; each reason once, with its
/// domains.
fn correlation_notes(list: &[&Correlation]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut flat: Vec<String> = list.iter().filter(|c| c.hardly_differs).map(|c| domain_title(&c.domain)).collect();
    flat.dedup();
    if !flat.is_empty() {
        notes.push(format!(
            "These mixtures hardly differ here (CV below 1%), so a low r means little: {}.",
            some_of(&flat)
        ));
    }
    let mut reasons: BTreeMap<&str, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for c in list {
        for (field, reason) in &c.not_defined {
            let (fields, cells) = reasons.entry(reason).or_default();
            let cell = format!("{} {}", domain_title(&c.domain), proxy_title(&c.proxy));
            let field = match field.as_str() {
                "pearson" => "r",
                "pearson_low" | "pearson_high" | "bootstrap_replicates" => "bootstrap",
                "pearson_bits_per_byte" => "r (bits per byte)",
                "pearson_bits_per_byte_low" | "pearson_bits_per_byte_high" => "bootstrap (bits)",
                "spearman" => "Spearman",
                "kendall" => "Kendall",
                "regret_at_1" => "regret@1",
                "decision_accuracy" => "pairwise accuracy",
                "seq_mean" | "seq_standard_deviation" | "seq_range" => "CV of SEQ",
                // Not in the table; report.json has its reason.
                _ => continue,
            };
            for (list, word) in [(fields, field.to_string()), (cells, cell)] {
                if !list.contains(&word) {
                    list.push(word);
                }
            }
        }
    }
    for (reason, (fields, cells)) in reasons.into_iter().filter(|(_, (fields, _))| !fields.is_empty()) {
        notes.push(format!("{} {reason} ({}).", fields.join(", "), some_of(&cells)));
    }
    notes
}

/// The first six of a list, and how many more.
pub(super) fn some_of(list: &[String]) -> String {
    let shown = &list[..list.len().min(6)];
    let more = list.len() - shown.len();
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

/// The best `limit` mixtures of each group by the first proxy, on the first average that was
/// scored.
pub(super) fn rankings(mixtures: &[MixtureInfo], limit: usize) -> Vec<TextTable> {
    let proxies = proxies(mixtures);
    let Some(first) = proxies.first() else {
        return Vec::new();
    };
    let mut tables = Vec::new();
    let groups = groups(mixtures);
    for (group, mut members) in groups.into_iter().filter(|(group, _)| mixtures.iter().any(|m| m.group == *group)) {
        let has = |domain: &&&str| members.iter().any(|m| m.score(first, domain).is_some());
        let Some(domain) = AVERAGES.iter().find(has) else {
            continue;
        };
        let by_first = |m: &MixtureInfo| m.score(first, domain).map_or(f64::INFINITY, |s| s.perplexity);
        members.sort_by(|a, b| by_first(a).total_cmp(&by_first(b)));
        let models: Vec<&str> = proxies.iter().map(String::as_str).chain([SEQ]).collect();
        let row = |m: &&MixtureInfo| {
            let scores = models.iter().map(|model| or_none(m.score(model, domain).map(|s| s.perplexity), number));
            let weights = m.members.iter().map(|(name, w)| format!("{name} {}", weight(*w))).collect::<Vec<_>>();
            [m.id.clone(), weights.join(", ")].into_iter().chain(scores).collect()
        };
        let more = members.len().saturating_sub(limit);
        tables.push(TextTable {
            title: format!("{group}: {} by {}", domain_title(domain), proxy_title(first)),
            header: strings(&["mixture", "weights"]).into_iter().chain(models.iter().map(|m| proxy_title(m))).collect(),
            left: 2,
            rows: members.iter().take(limit).map(row).collect(),
            notes: if more > 0 { vec![format!("{more} more in scores.csv.")] } else { Vec::new() },
        });
    }
    tables
}

fn weight(w: f64) -> String {
    let text = format!("{w:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

pub(super) fn partitions(list: &[PartitionInfo]) -> TextTable {
    let header =
        ["train docs", "tokens", "bytes", "validation docs", "tokens", "bytes", "test docs", "tokens", "bytes"];
    let row = |p: &PartitionInfo| {
        let sizes = [p.train, p.validation, p.test].into_iter().flat_map(|s| [s.documents, s.tokens, s.bytes]);
        [p.name.clone()].into_iter().chain(sizes.map(count)).collect()
    };
    TextTable {
        title: "Partitions".into(),
        header: strings(&["partition"]).into_iter().chain(strings(&header)).collect(),
        left: 1,
        rows: list.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

pub(super) fn domains(list: &[DomainInfo]) -> TextTable {
    let row = |d: &DomainInfo| {
        let kind = d.kind.name().to_uppercase();
        vec![
            d.name.clone(),
            kind,
            d.field.clone().unwrap_or(NONE.into()),
            count(d.documents),
            count(d.tokens),
            count(d.bytes),
        ]
    };
    TextTable {
        title: "Evaluation domains".into(),
        header: strings(&["domain", "kind", "field", "documents", "tokens", "bytes"]),
        left: 3,
        rows: list.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

/// Dropped documents per partition; examples of them are the notes.
pub(super) fn decontamination(d: &Decontamination) -> TextTable {
    let row = |p: &DecontaminatedPartition| {
        let share = if p.documents == 0 { None } else { Some(p.dropped_documents as f64 / p.documents as f64) };
        vec![
            p.name.clone(),
            count(p.documents),
            count(p.dropped_documents),
            or_none(share, percent),
            count(p.dropped_bytes),
        ]
    };
    let note = |o: &Overlap| {
        format!(
            "{} of {} shares text with {} of {}: “{}”",
            o.document, o.partition, o.evaluation_document, o.domain, o.shared
        )
    };
    let late = d.left_out.iter().map(|(name, documents)| {
        format!("{name}: {documents} held-out documents are not scored because earlier training text contains them.")
    });
    TextTable {
        title: format!("Decontamination (shared runs of {} words)", d.ngram),
        header: strings(&["partition", "documents", "dropped", "share", "bytes dropped"]),
        left: 1,
        rows: d.partitions.iter().map(row).collect(),
        notes: late.chain(d.examples.iter().map(note)).collect(),
    }
}

/// The cost of both ways in a sentence; `None` if it is unknown.
pub(super) fn cost_sentence(cost: &Cost) -> Option<String> {
    let ratio = cost.naive_flops / cost.modular_flops;
    if !ratio.is_finite() {
        return None;
    }
    let (modular, naive) = (flops(cost.modular_flops), flops(cost.naive_flops));
    let times = |ratio: f64| match ratio {
        r if r >= 1.0 => format!("{r:.1} times as much"),
        r => format!("{} as much", percent(r)),
    };
    let target = cost.target_naive_flops.map_or(String::new(), |target| {
        format!(
            ", and {} with a training of the larger model per mixture ({})",
            flops(target),
            times(target / cost.modular_flops)
        )
    });
    Some(format!(
        "Cost: {modular} FLOPs with a training per partition, {naive} with a training per mixture ({}){target}. \
         Seeds are not counted.",
        times(ratio)
    ))
}

pub(super) fn cost(cost: &Cost) -> TextTable {
    let row = |name: &str, value: f64| vec![name.to_string(), flops(value)];
    TextTable {
        title: "Cost".into(),
        header: strings(&["method", "FLOPs"]),
        left: 1,
        rows: vec![
            row("modular (a training per partition)", cost.modular_flops),
            row("naive (a training per mixture)", cost.naive_flops),
        ],
        notes: Vec::new(),
    }
}

/// The study's work, stage by stage.
pub(super) fn stages(cost: &Cost) -> TextTable {
    let row = |s: &StageCost| vec![s.stage.clone(), count(s.models), count(s.tokens), flops(s.flops)];
    TextTable {
        title: "Stages".into(),
        header: strings(&["stage", "models", "tokens", "FLOPs"]),
        left: 1,
        rows: cost.stages.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

pub(super) fn flops(value: f64) -> String {
    if value.is_finite() { format!("{value:.2e}") } else { NONE.into() }
}

/// Hours, in a readable unit.
fn duration(hours: f64) -> String {
    match hours * 3600.0 {
        s if !s.is_finite() => number(s),
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 6000.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// Time planned and spent, by stage; no rows if no time was measured.
pub(super) fn hours(spent: Option<&Spent>) -> TextTable {
    let row =
        |s: &SpentStage| vec![s.stage.clone(), or_none(s.planned_hours, duration), duration(s.hours), flops(s.flops)];
    let both = spent.and_then(|s| s.modular_hours.zip(s.naive_hours));
    let note = both.map(|(modular, naive)| {
        let (modular, naive) = (duration(modular), duration(naive));
        format!(
            "At the speed of this study's trainings, training each partition and scoring the merges takes {modular}, \
             and training each mixture {naive}."
        )
    });
    TextTable {
        title: "Time on this machine".into(),
        header: strings(&["stage", "planned", "spent", "FLOPs done"]),
        left: 1,
        rows: spent.map_or(Vec::new(), |s| s.stages.iter().map(row).collect()),
        notes: note.into_iter().collect(),
    }
}

pub(super) fn hashes(hashes: &BTreeMap<String, String>) -> TextTable {
    TextTable {
        title: "Hashes".into(),
        header: strings(&["item", "hash"]),
        left: 2,
        rows: hashes.iter().map(|(what, hash)| vec![what.clone(), hash.clone()]).collect(),
        notes: Vec::new(),
    }
}
