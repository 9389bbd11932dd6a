//! Tables of the experiments beyond correlation: selection quality, noise, scaled merges, mixing
//! laws, segments, trainings, reuse.

use super::tables::{NONE, TextTable, flops, interval, or_none, some_of, strings};
use crate::analysis::format::{count, domain_title, number, percent, proxy_title, signed};
use crate::analysis::*;
use std::collections::{BTreeMap, BTreeSet};

/// The k of regret@k that the table shows.
const TRIED: [usize; 4] = [1, 3, 5, 10];

pub(super) fn picking(p: &SelectionQuality) -> TextTable {
    let longest = p.rows.iter().map(|r| r.regret_at.len()).max().unwrap_or(0);
    let tried: Vec<usize> = TRIED.into_iter().filter(|k| *k <= longest).collect();
    let row = |r: &SelectionQualityRow| {
        let regrets = tried.iter().map(|k| or_none(r.regret_at.get(k - 1).copied(), percent));
        let r = [
            proxy_title(&r.by),
            r.n.to_string(),
            or_none(r.pearson, signed),
            interval(r.pearson_low, r.pearson_high),
            or_none(r.decision_accuracy, percent),
        ];
        r.into_iter().chain(regrets).collect()
    };
    let header = strings(&["by", "n", "r", "95%", "pairwise accuracy"])
        .into_iter()
        .chain(tried.iter().map(|k| format!("regret@{k}")));
    TextTable {
        title: format!("{}: {}", p.group, domain_title(&p.domain)),
        header: header.collect(),
        left: 1,
        rows: p.rows.iter().map(row).collect(),
        notes: p.warning.iter().cloned().collect(),
    }
}

/// Notes on missing statistics: each reason once, with its rows.
fn reasons<'a>(list: impl Iterator<Item = (String, &'a BTreeMap<String, String>)>) -> Vec<String> {
    let mut rows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (row, reasons) in list {
        for reason in reasons.values().collect::<BTreeSet<_>>() {
            rows.entry(reason).or_default().push(row.clone());
        }
    }
    rows.into_iter().map(|(reason, rows)| format!("A dash in {}: {reason}.", some_of(&rows))).collect()
}

/// The noise of one group.
pub(super) fn noise(group: &str, list: &[&Noise]) -> TextTable {
    let row = |n: &&Noise| {
        vec![
            domain_title(&n.domain),
            n.n.to_string(),
            n.repeats.to_string(),
            or_none(n.seq_mean, number),
            or_none(n.within, number),
            or_none(n.between, number),
            or_none(n.reliability, percent),
            or_none(n.ceiling, signed),
            interval(n.ceiling_low, n.ceiling_high),
            or_none(n.pearson_between_repeats, signed),
            or_none(n.pearson_merged_across_repeats, signed),
        ]
    };
    let header = [
        "domain",
        "n",
        "trainings each",
        "SEQ mean",
        "SD of repeats",
        "SD of mixtures",
        "reliability",
        "ceiling of r",
        "95% interval",
        "r of repeats",
        "r of MERGED, other repeat",
    ];
    // The answers include the noise of their own averages.
    let texts = list.iter().filter(|n| n.domain == "members" && !n.text.is_empty());
    let notes = texts.map(|n| format!("{}: {}", domain_title(&n.domain), n.text));
    TextTable {
        title: group.into(),
        header: strings(&header),
        left: 1,
        rows: list.iter().map(row).collect(),
        notes: notes.chain(reasons(list.iter().map(|n| (domain_title(&n.domain), &n.not_defined)))).collect(),
    }
}

/// The gain from scaling, a row for each group and domain.
pub(super) fn scaled(list: &[ScaledScan]) -> TextTable {
    let row = |s: &ScaledScan| {
        vec![
            s.group.clone(),
            domain_title(&s.domain),
            s.n.to_string(),
            or_none(s.lambda, number),
            if s.calibrated { "calibrated".into() } else { "given".into() },
            or_none(s.pearson, signed),
            interval(s.pearson_low, s.pearson_high),
            or_none(s.gain, signed),
            interval(s.gain_low, s.gain_high),
        ]
    };
    let title = |s: &ScaledScan| format!("{} {}", s.group, domain_title(&s.domain));
    let text = |s: &ScaledScan| format!("{}, {}: {}", s.group, domain_title(&s.domain), s.text);
    let texts = list.iter().filter(|s| AVERAGES.contains(&s.domain.as_str()) && !s.text.is_empty()).map(text);
    TextTable {
        title: "Gain from scaling".into(),
        header: strings(&["group", "domain", "n", "lambda", "", "r", "95%", "gain over MERGED", "95%"]),
        left: 2,
        rows: list.iter().map(row).collect(),
        notes: texts.chain(reasons(list.iter().map(|s| (title(s), &s.not_defined)))).collect(),
    }
}

/// r and the error in value at each lambda.
pub(super) fn scan(s: &ScaledScan) -> TextTable {
    let row = |p: &ScaledPoint| {
        let r = [or_none(p.pearson, signed), interval(p.pearson_low, p.pearson_high)];
        [number(p.lambda)].into_iter().chain(r).chain([percent(p.log_error.exp_m1())]).collect()
    };
    TextTable {
        title: format!("{}: {}", s.group, domain_title(&s.domain)),
        header: strings(&["lambda", "r", "95%", "error in value"]),
        left: 0,
        rows: s.points.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

/// Fits of both forms, a row for each domain and form.
pub(super) fn laws(list: &[Law]) -> TextTable {
    let row = |l: &Law| {
        vec![
            domain_title(&l.domain),
            proxy_title(&l.form),
            l.n.to_string(),
            number(l.c),
            if l.form == "ridge" { NONE.into() } else { number(l.k) },
            or_none(l.penalty, |p| format!("{p:.1e}")),
            format!("{:.4}", Finite(l.residual)),
            or_none(l.r_squared, signed),
        ]
    };
    TextTable {
        title: "Fits".into(),
        header: strings(&["domain", "form", "merges", "c", "k", "penalty", "residual", "R²"]),
        left: 2,
        rows: list.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

/// The coefficients of one form: domains down, partitions across.
pub(super) fn coefficients(list: &[Law], form: &str) -> TextTable {
    let of: Vec<&Law> = list.iter().filter(|l| l.form == form).collect();
    let partitions: BTreeSet<&str> = of.iter().flat_map(|l| l.t.keys().map(String::as_str)).collect();
    let row = |l: &&Law| {
        let values = partitions.iter().map(|p| or_none(l.t.get(*p).copied(), signed));
        [domain_title(&l.domain)].into_iter().chain(values).collect()
    };
    TextTable {
        title: format!("{}: t of each partition", proxy_title(form)),
        header: [String::from("domain")].into_iter().chain(partitions.iter().map(|p| p.to_string())).collect(),
        left: 1,
        rows: of.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

/// A number that is written as "not finite" if it is not.
struct Finite(f64);

impl std::fmt::Display for Finite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_finite() { self.0.fmt(f) } else { f.write_str("not finite") }
    }
}

/// Heights of barriers in nats per token: segments down, averages across.
pub(super) fn barriers(list: &[Segment], averages: &[String]) -> TextTable {
    let shown: Vec<&String> = averages.iter().filter(|a| list.iter().any(|s| s.barriers.contains_key(*a))).collect();
    let row = |s: &Segment| {
        let cells = shown.iter().flat_map(|a| match s.barriers.get(*a) {
            Some(b) => [format!("{:.4}", Finite(b.height)), number(b.at)],
            None => [NONE.into(), NONE.into()],
        });
        [s.from.clone(), s.to.clone()].into_iter().chain(cells).collect()
    };
    let header = shown.iter().flat_map(|a| [domain_title(a), "at".into()]);
    TextTable {
        title: "Barriers".into(),
        header: strings(&["from", "to"]).into_iter().chain(header).collect(),
        left: 2,
        rows: if shown.is_empty() { Vec::new() } else { list.iter().map(row).collect() },
        notes: Vec::new(),
    }
}

pub(super) fn trainings(list: &[TrainingInfo]) -> TextTable {
    let row = |t: &TrainingInfo| {
        let last = t.curve.last().map(|p| p.loss);
        vec![
            t.name.clone(),
            t.role.clone(),
            t.key.clone(),
            count(t.steps),
            count(t.tokens),
            flops(t.flops),
            or_none(last, number),
        ]
    };
    TextTable {
        title: "Trainings".into(),
        header: strings(&["training", "role", "key", "steps", "tokens", "FLOPs", "final loss"]),
        left: 3,
        rows: list.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

pub(super) fn reuse(r: &Reuse) -> TextTable {
    let row = |name: &str, models: &[String], flops_: f64, scores: u64| {
        vec![name.into(), count(models.len() as u64), flops(flops_), count(scores)]
    };
    let list = |what: &str, names: &[String]| (!names.is_empty()).then(|| format!("{what}: {}.", names.join(", ")));
    TextTable {
        title: "Reused work".into(),
        header: strings(&["", "trainings", "FLOPs", "scores"]),
        left: 1,
        rows: vec![
            row("reused", &r.reused, r.reused_flops, r.reused_scores),
            row("new", &r.trained, r.trained_flops, r.made_scores),
        ],
        notes: [list("Trained", &r.trained), list("Reused", &r.reused)].into_iter().flatten().collect(),
    }
}
