//! The first screen of the page, and the sections of a search: what it found, how sure it is, and
//! what each module does to each domain.

use super::draw::{Axis, AxisScale, Chart, HeatMap, Mark, NEUTRAL, REFERENCE, Series};
use super::tables::{NONE, TextTable, strings};
use crate::analysis::format::{count, number, percent, signed};
use crate::analysis::statistics::correlation::least_squares;
use crate::analysis::*;
use std::collections::{BTreeMap, BTreeSet};

/// Styles of mixtures in the chart of the best.
const SET: usize = 0;
const OTHERS: usize = 1;
const TRAINED: usize = 2;

/// A score in bits per byte; mixtures near the best differ in the fourth decimal.
fn score(value: f64) -> String {
    if value.is_finite() { format!("{value:.4}") } else { number(value) }
}

/// Partitions that a mixture's cell names.
const NAMED: usize = 6;

/// The best mixtures with their intervals, the baselines, and what SEQ reached. A mixture far above
/// all others is an arrow at the edge.
pub(super) fn choice(s: &SearchSummary) -> Chart {
    let all: Vec<&MixtureEstimate> = s.best.iter().chain(&s.baselines).collect();
    let rows = |chosen: &dyn Fn(usize, &MixtureEstimate) -> bool| -> Vec<(f64, &MixtureEstimate)> {
        let rows = all.iter().enumerate().filter(|(i, m)| chosen(*i, m));
        rows.map(|(i, m)| (i as f64, *m)).collect()
    };
    let best = s.best.len();
    let label = |m: &MixtureEstimate| {
        let told = if m.told_apart { "told apart from the best" } else { "not told apart from the best" };
        format!(
            "{}: {} ({} … {}), the best with probability {:.2}, {told}",
            m.name,
            score(m.expected),
            score(m.low),
            score(m.high),
            m.probability_best
        )
    };
    let series = |name: &str, style: usize, rows: Vec<(f64, &MixtureEstimate)>| Series {
        name: name.into(),
        style,
        marks: true,
        spans: rows.iter().map(|(y, m)| [*y, m.low, m.high]).collect(),
        points: rows.iter().map(|(y, m)| Mark { x: m.expected, y: *y, label: label(m) }).collect(),
        ..Series::default()
    };
    let trained = rows(&|_, m| m.seq.is_some()).into_iter().filter_map(|(y, m)| {
        let x = m.seq?;
        Some(Mark { x, y, label: format!("{}: SEQ reached {}", m.name, score(x)) })
    });
    let trained = Series {
        name: "SEQ reached".into(),
        style: TRAINED,
        marks: true,
        points: trained.collect(),
        ..Series::default()
    };
    let what = if s.expects_seq { "expected of SEQ" } else { "of merges" };
    let mut list = vec![
        series("not told apart from the best", SET, rows(&|i, m| i < best && !m.told_apart)),
        series("told apart", OTHERS, rows(&|i, m| i < best && m.told_apart)),
        series("baselines, told apart", NEUTRAL, rows(&|i, m| i >= best && m.told_apart)),
        series("baselines, not told apart", REFERENCE, rows(&|i, m| i >= best && !m.told_apart)),
        trained,
    ];
    list.retain(|series| !series.points.is_empty());
    Chart {
        title: format!(
            "{} in bits per byte, {what}, with 95% intervals; lower is better. An arrow is a mixture beyond the axis",
            s.objective
        ),
        x: Axis { limits: limits(s), ..Axis::new(&format!("{}, bits per byte", s.objective), AxisScale::Linear) },
        y: Axis::new("", AxisScale::Names(all.iter().map(|m| axis_name(m)).collect())),
        series: list,
        rules: vec![],
        fit: None,
    }
}

/// The mixture's name with the probability that it is the best, where there is one.
fn axis_name(m: &MixtureEstimate) -> String {
    let letters: String = m.name.chars().take(13).collect();
    let name = if m.name.chars().count() > 14 { letters + "…" } else { m.name.clone() };
    if m.probability_best >= 0.005 { format!("{name} ({:.0}%)", 100.0 * m.probability_best) } else { name }
}

/// The range of the mixtures without those far above: the highest is left out while its distance to
/// the others is more than twice their range.
fn limits(s: &SearchSummary) -> Option<[f64; 2]> {
    let ends = |m: &MixtureEstimate| {
        let values = [m.low, m.high, m.expected].into_iter().chain(m.seq).filter(|x| x.is_finite());
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
    };
    let mut all: Vec<(f64, f64)> =
        s.best.iter().chain(&s.baselines).map(ends).filter(|(low, high)| low <= high).collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1));
    let low = all.iter().map(|(low, _)| *low).fold(f64::INFINITY, f64::min);
    while let [.., (_, below), (from, _)] = all[..] {
        if from - below <= 2.0 * (below - low) {
            break;
        }
        all.pop();
    }
    let high = all.last()?.1;
    (low < high).then_some([low - 0.05 * (high - low), high + 0.15 * (high - low)])
}

/// SEQ runs of the budget against their merges; `None` without any.
pub(super) fn verified(s: &SearchSummary) -> Option<Chart> {
    if s.verified.is_empty() {
        return None;
    }
    let mark = |v: &VerifiedPoint| Mark {
        x: v.merged,
        y: v.seq,
        label: format!("{}: merge {}, SEQ {}", v.name, score(v.merged), score(v.seq)),
    };
    let (xs, ys): (Vec<f64>, Vec<f64>) = s.verified.iter().map(|v| (v.merged, v.seq)).unzip();
    let r = s.pearson.map_or("r not defined".into(), |r| format!("r = {}", signed(r)));
    let interval = s.pearson_low.zip(s.pearson_high);
    let interval = interval.map_or(String::new(), |(low, high)| format!(" ({} … {})", signed(low), signed(high)));
    let title = format!(
        "{} in bits per byte: merges at lambda {} and SEQ of budget {}; {r}{interval}, n = {}",
        s.objective,
        number(s.lambda),
        s.budget,
        s.verified.len()
    );
    Some(Chart {
        title,
        x: Axis::new("merge", AxisScale::Linear),
        y: Axis::new("SEQ", AxisScale::Linear),
        series: vec![Series {
            style: TRAINED,
            marks: true,
            points: s.verified.iter().map(mark).collect(),
            ..Series::default()
        }],
        rules: vec![],
        fit: least_squares(&xs, &ys),
    })
}

/// What each module does to each domain, ID then OOD.
pub(super) fn effects(s: &SearchSummary, domains: &[DomainInfo]) -> HeatMap {
    let of_kind = |kind: DomainKind| -> Vec<String> {
        domains.iter().filter(|d| d.kind == kind).map(|d| d.name.clone()).collect()
    };
    let groups = [("ID", of_kind(DomainKind::Id)), ("OOD", of_kind(DomainKind::Ood))];
    let names: Vec<&String> = groups.iter().flat_map(|(_, names)| names).collect();
    let cells = |e: &ModuleEffects| names.iter().map(|n| e.change.get(*n).copied().unwrap_or(f64::NAN)).collect();
    HeatMap {
        title: "Bits per byte of each module (rows) on each domain (columns) against the seed".into(),
        rows: s.effects.iter().map(|e| e.partition.clone()).collect(),
        cells: s.effects.iter().map(cells).collect(),
        groups: groups.iter().map(|(title, names)| (title.to_string(), names.clone())).collect(),
        ends: ["better".into(), "worse".into()],
    }
}

/// The score of the best mixture against its divergence from the natural one.
pub(super) fn path(s: &SearchSummary) -> Chart {
    let mark = |p: &PathEstimate| Mark {
        x: p.divergence,
        y: p.merged,
        label: format!("divergence {}: {}; {}", number(p.divergence), score(p.merged), members(&p.members)),
    };
    curve(
        "From the best to the natural mixture",
        "divergence from the natural mixture, nats",
        s,
        s.path.iter().map(mark).collect(),
    )
}

/// The best mixtures between two objectives.
pub(super) fn front(s: &SearchSummary) -> Chart {
    let mark = |p: &FrontEstimate| Mark {
        x: p.against,
        y: p.objective,
        label: format!("{} and {}; {}", score(p.objective), score(p.against), members(&p.members)),
    };
    let second = format!("{}, bits per byte", s.against.as_deref().unwrap_or_default());
    curve("The best mixtures between both objectives", &second, s, s.front.iter().map(mark).collect())
}

fn curve(title: &str, x: &str, s: &SearchSummary, points: Vec<Mark>) -> Chart {
    Chart {
        title: format!("{title}: {} of merges", s.objective),
        x: Axis::new(x, AxisScale::Linear),
        y: Axis::new(&format!("{}, bits per byte", s.objective), AxisScale::Linear),
        series: vec![Series { style: REFERENCE, line: true, marks: true, points, ..Series::default() }],
        rules: vec![],
        fit: None,
    }
}

/// `38% law, 34% physics, ...`, the largest first.
fn members(members: &BTreeMap<String, f64>) -> String {
    let mut order: Vec<(&String, f64)> = members.iter().map(|(name, weight)| (name, *weight)).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    let part = |(name, weight): &(&String, f64)| format!("{} {name}", percent(*weight));
    let mut parts: Vec<String> = order.iter().take(NAMED).map(part).collect();
    if order.len() > NAMED {
        let rest: f64 = order[NAMED..].iter().map(|(_, weight)| weight).sum();
        parts.push(format!("{} of {} others", percent(rest), count((order.len() - NAMED) as u64)));
    }
    parts.join(", ")
}

/// Every mixture that the page shows.
pub(super) fn mixtures(s: &SearchSummary) -> TextTable {
    let row = |m: &MixtureEstimate| {
        vec![
            m.name.clone(),
            members(&m.members),
            score(m.merged),
            score(m.expected),
            format!("{} … {}", score(m.low), score(m.high)),
            format!("{:.2}", m.probability_best),
            if m.told_apart { "yes" } else { "no" }.into(),
            m.seq.map_or(NONE.into(), score),
        ]
    };
    let header = ["mixture", "weights", "merge", "expected", "95%", "probability best", "told apart", "SEQ"];
    TextTable {
        title: "Best mixtures and baselines".into(),
        header: strings(&header),
        left: 2,
        rows: s.best.iter().chain(&s.baselines).map(row).collect(),
        notes: vec![],
    }
}

/// The weights that the evidence does not determine.
pub(super) fn undetermined(s: &SearchSummary) -> TextTable {
    let row = |(name, low, high): &(String, f64, f64)| vec![name.clone(), percent(*low), percent(*high)];
    TextTable {
        title: "Weights that are not determined".into(),
        header: strings(&["partition", "lowest", "highest"]),
        left: 1,
        rows: s.undetermined.iter().map(row).collect(),
        notes: vec!["Mixtures with weights in this range are not told apart from the best one.".into()],
    }
}

/// The recipe before and after partitions were added.
pub(super) fn before(s: &SearchSummary) -> Option<TextTable> {
    let (before, now) = (s.before.as_ref()?, s.best.first()?);
    let names: BTreeSet<&String> = before.members.keys().chain(now.members.keys()).collect();
    let weight = |all: &BTreeMap<String, f64>, name: &String| all.get(name).map_or(NONE.into(), |w| percent(*w));
    let mut rows: Vec<Vec<String>> = names
        .into_iter()
        .map(|name| vec![name.clone(), weight(&before.members, name), weight(&now.members, name)])
        .collect();
    rows.push(vec![format!("{}, bits per byte, of the merge", s.objective), score(before.merged), score(now.merged)]);
    Some(TextTable {
        title: format!("Before and after adding {}", before.added.join(", ")),
        header: strings(&["partition", "before", "now"]),
        left: 1,
        rows,
        notes: vec![],
    })
}

/// The weights along the path, a row for each partition that has one.
pub(super) fn path_table(s: &SearchSummary) -> TextTable {
    let names: BTreeSet<&String> = s.path.iter().flat_map(|p| p.members.keys()).collect();
    let weight = |p: &PathEstimate, name: &String| p.members.get(name).map_or(NONE.into(), |w| percent(*w));
    let row = |name: &String| [name.clone()].into_iter().chain(s.path.iter().map(|p| weight(p, name))).collect();
    let mut rows: Vec<Vec<String>> = names.into_iter().map(row).collect();
    let scores = s.path.iter().map(|p| score(p.merged));
    rows.push([format!("{}, of the merge", s.objective)].into_iter().chain(scores).collect());
    let divergence = |p: &PathEstimate| format!("divergence {}", number(p.divergence));
    TextTable {
        title: "Mixtures on the path".into(),
        header: ["partition".to_string()].into_iter().chain(s.path.iter().map(divergence)).collect(),
        left: 1,
        rows: if s.path.is_empty() { Vec::new() } else { rows },
        notes: vec![],
    }
}
