//! The charts of a report and their content. `draw` draws them, `sections` puts them on the page,
//! and [`Report::write`] writes them to files.

use super::draw::{Axis, AxisScale, Chart, Mark, NEUTRAL, Picture, REFERENCE, Series, TURNS};
use super::first_screen;
use crate::analysis::format::{domain_title, number, percent, proxy_title, signed};
use crate::analysis::statistics::correlation;
use crate::analysis::*;
use std::collections::BTreeSet;

/// A plot with more points than this shows every k-th, to keep a page with many plots small.
const MOST_POINTS: usize = 1000;

/// Perplexities above this (a training that diverged) are left out; they would squeeze all other
/// points into a corner.
const HIGHEST: f64 = 1e12;

/// A chart with more lines than this has thin lines and no legend; each line shows its name under
/// the pointer.
const MOST_KEYS: usize = 8;

/// The style of a proxy, the same in all charts.
pub(super) fn style(proxy: &str) -> usize {
    match proxy.trim_start_matches("target_") {
        "largest" => REFERENCE,
        "random" => NEUTRAL,
        name => Proxy::place(name).min(TURNS - 1),
    }
}

/// One panel: a proxy on the x axis, SEQ on the y axis, and the least-squares line; r measures the
/// scatter around it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scatter {
    /// The panel's chart.
    pub chart: Chart,
    /// Points with both values, drawn or not.
    pub points: usize,
    /// Points not drawn: too many, too large, or not finite.
    pub left_out: usize,
}

impl Scatter {
    /// The mixtures that have a score of `proxy` and of SEQ on `domain`.
    pub fn of(mixtures: &[&MixtureInfo], domain: &str, proxy: &str) -> Scatter {
        let pair = |m: &&MixtureInfo| {
            Some((m.id.clone(), m.score(proxy, domain)?.perplexity, m.score(SEQ, domain)?.perplexity))
        };
        Scatter::between(&domain_title(domain), proxy, "SEQ", mixtures.iter().filter_map(pair).collect())
    }

    /// The scatter of `values`: a mixture's id, its perplexity by `proxy`, and its perplexity by
    /// `y_title`.
    fn between(domain: &str, proxy: &str, y_title: &str, values: Vec<(String, f64, f64)>) -> Scatter {
        let sane = |v: &&(String, f64, f64)| v.1.is_finite() && v.2.is_finite() && v.1.max(v.2) <= HIGHEST;
        let kept: Vec<_> = values.iter().filter(sane).collect();
        let step = kept.len().div_ceil(MOST_POINTS).max(1);
        let name = proxy_title(proxy);
        let mark = |(id, x, y): &(String, f64, f64)| Mark {
            x: *x,
            y: *y,
            label: format!("{id}: {name} {}, {y_title} {}", number(*x), number(*y)),
        };
        let points: Vec<Mark> = kept.into_iter().step_by(step).map(mark).collect();
        let (xs, ys): (Vec<f64>, Vec<f64>) = points.iter().map(|p| (p.x, p.y)).unzip();
        let (fit, left_out) = (correlation::least_squares(&xs, &ys), values.len() - points.len());
        let chart = Chart {
            title: format!("{domain}: perplexity of {name} and of {y_title}"),
            x: Axis::new(&name, AxisScale::Linear),
            y: Axis::new(y_title, AxisScale::Linear),
            series: vec![Series { style: style(proxy), marks: true, points, ..Series::default() }],
            fit,
            ..Chart::default()
        };
        Scatter { chart, points: values.len(), left_out }
    }
}

/// A proxy against the larger model's SEQ; the larger pool's own proxies have the prefix `target_`.
pub(super) fn cross_scale(mixtures: &[&MixtureInfo], domain: &str, proxy: &str) -> Scatter {
    let pair = |m: &&MixtureInfo| {
        let by_proxy = match proxy.strip_prefix("target_") {
            Some(own) => m.target.get(own)?.get(domain)?,
            None => m.score(proxy, domain)?,
        };
        Some((m.id.clone(), by_proxy.perplexity, m.target.get(SEQ)?.get(domain)?.perplexity))
    };
    let values = mixtures.iter().filter_map(pair).collect();
    Scatter::between(&domain_title(domain), proxy, "SEQ (larger model)", values)
}

/// r of each proxy on each average and domain of one group, a row each. The first proxy has its
/// interval; if trainings were repeated, a bar marks the ceiling set by noise.
pub(super) fn overview(group: &str, list: &[&Correlation], noise: &[Noise]) -> Chart {
    let mut domains: Vec<&str> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for c in list {
        if !domains.contains(&c.domain.as_str()) {
            domains.push(&c.domain);
        }
        if !names.contains(&c.proxy.as_str()) {
            names.push(&c.proxy);
        }
    }
    let row = |domain: &str| domains.iter().position(|d| *d == domain).map(|row| row as f64);
    let mut series: Vec<Series> = names
        .iter()
        .enumerate()
        .map(|(i, proxy)| {
            let offset = 0.11 * (i as f64 - (names.len() - 1) as f64 / 2.0);
            let of = list.iter().filter(|c| c.proxy == *proxy);
            let found: Vec<(f64, &&Correlation)> = of.filter_map(|c| Some((row(&c.domain)? + offset, c))).collect();
            let mark = |(y, c): &(f64, &&Correlation)| Some(Mark { x: c.pearson?, y: *y, label: summary(c) });
            let span = |(y, c): &(f64, &&Correlation)| Some([*y, c.pearson_low?, c.pearson_high?]);
            Series {
                name: proxy_title(proxy),
                style: style(proxy),
                marks: true,
                spans: if i == 0 { found.iter().filter_map(span).collect() } else { Vec::new() },
                points: found.iter().filter_map(mark).collect(),
                ..Series::default()
            }
        })
        .collect();
    let ceiling = |n: &Noise| {
        let (y, x) = (row(&n.domain)?, n.ceiling?);
        Some(Mark { x, y, label: format!("{}: noise ceiling {}", domain_title(&n.domain), signed(x)) })
    };
    let ceilings: Vec<Mark> = noise.iter().filter(|n| n.group == group).filter_map(ceiling).collect();
    if !ceilings.is_empty() {
        let name = "noise ceiling".into();
        series.push(Series { name, style: NEUTRAL, marks: true, points: ceilings, ..Series::default() });
    }
    Chart {
        title: format!(
            "{group}: r of each proxy with SEQ, by domain, n = {}",
            list.iter().map(|c| c.n).max().unwrap_or(0)
        ),
        x: Axis::new("Pearson's r with SEQ", AxisScale::Linear),
        y: Axis::new("", AxisScale::Names(domains.iter().map(|d| domain_title(d)).collect())),
        series,
        rules: vec![1.0],
        fit: None,
    }
}

/// A correlation in a few words.
fn summary(c: &Correlation) -> String {
    let r = c.pearson.map_or("not defined".into(), signed);
    let interval = c.pearson_low.zip(c.pearson_high);
    let interval = interval.map_or(String::new(), |(low, high)| format!(" ({} … {})", signed(low), signed(high)));
    format!("{}: {} r = {r}{interval}, n = {}", domain_title(&c.domain), proxy_title(&c.proxy), c.n)
}

/// r against lambda with its interval; vertical lines at 1 (MERGED) and at the lambda in use.
pub(super) fn scaled(scan: &ScaledScan) -> Chart {
    let mark = |p: &ScaledPoint| {
        let r = p.pearson?;
        let error = percent(p.log_error.exp_m1());
        let label = format!("lambda {}: r = {}, error in value {error}", number(p.lambda), signed(r));
        Some(Mark { x: p.lambda, y: r, label })
    };
    let band = |p: &ScaledPoint| Some([p.lambda, p.pearson_low?, p.pearson_high?]);
    let series = Series {
        style: style(SCALED),
        line: true,
        marks: true,
        points: scan.points.iter().filter_map(mark).collect(),
        band: scan.points.iter().filter_map(band).collect(),
        ..Series::default()
    };
    Chart {
        title: format!(
            "{}, {}: r of scaled merges against lambda, n = {}",
            scan.group,
            domain_title(&scan.domain),
            scan.n
        ),
        x: Axis::new("lambda (1 is MERGED)", AxisScale::Linear),
        y: Axis::new("r with SEQ", AxisScale::Linear),
        series: vec![series],
        rules: [1.0].into_iter().chain(scan.lambda).collect(),
        fit: None,
    }
}

/// regret@k of each selection rule.
pub(super) fn picking(p: &SelectionQuality) -> Chart {
    let series = p.rows.iter().map(|row| {
        let name = proxy_title(&row.by);
        let mark = |(k, regret): (usize, &f64)| Mark {
            x: (k + 1) as f64,
            y: *regret,
            label: format!("{name}: regret@{} is {}", k + 1, percent(*regret)),
        };
        let points = row.regret_at.iter().enumerate().map(mark).collect();
        Series { name: name.clone(), style: style(&row.by), line: true, marks: true, points, ..Series::default() }
    });
    Chart {
        title: format!("{}, {}: regret@k of each selection rule", p.group, domain_title(&p.domain)),
        x: Axis::new("k, number of mixtures tried", AxisScale::Linear),
        y: Axis::new("regret in SEQ's perplexity", AxisScale::Percent),
        series: series.collect(),
        ..Chart::default()
    }
}

/// Losses along the segments on one average or domain: of the segments with the seed as an end if
/// `seed`, else of those between modules. With `above`, the height above the straight line between
/// the ends.
pub(super) fn segments(report: &Report, domain: &str, seed: bool, above: bool) -> Chart {
    let chosen: Vec<&Segment> =
        report.segments.iter().filter(|s| seed == (s.from == "seed" || s.to == "seed")).collect();
    let many = chosen.len() > MOST_KEYS;
    let series = chosen.iter().enumerate().map(|(i, s)| {
        let name = format!("{} – {}", s.from, s.to);
        let at = |p: &SegmentPoint| Some((p.at, segment_loss(report, s, p, domain)?));
        let losses: Vec<(f64, f64)> = s.points.iter().filter_map(at).collect();
        let (first, last) = (losses.first().copied().unwrap_or_default(), losses.last().copied().unwrap_or_default());
        let line = |at: f64| first.1 + (last.1 - first.1) * ((at - first.0) / (last.0 - first.0));
        let mark = |&(at, loss): &(f64, f64)| {
            let y = if above && losses.len() > 1 { loss - line(at) } else { loss };
            Mark { x: at, y, label: format!("{name}, at {}: {}", number(at), number(y)) }
        };
        let points = losses.iter().map(mark).collect();
        Series {
            name: if many { String::new() } else { name.clone() },
            style: i % TURNS,
            line: true,
            marks: !many,
            thin: many,
            points: if many { named(points, &name) } else { points },
            ..Series::default()
        }
    });
    let (ends, value) = (
        if seed { "from the seed to a module" } else { "between modules" },
        if above { "loss above the line between the ends" } else { "loss, nats per token" },
    );
    Chart {
        title: format!("{}: {value}, {ends}", domain_title(domain)),
        x: Axis::new("weight of the second end", AxisScale::Linear),
        y: Axis::new(value, AxisScale::Linear),
        series: series.collect(),
        ..Chart::default()
    }
}

/// The points of a line without marks; the first point's label is the line's name.
fn named(mut points: Vec<Mark>, name: &str) -> Vec<Mark> {
    if let Some(first) = points.first_mut() {
        first.label = name.into();
    }
    points
}

/// Nats per token on a domain, or their mean over the domains of an average.
fn segment_loss(report: &Report, segment: &Segment, point: &SegmentPoint, domain: &str) -> Option<f64> {
    let belongs = |d: &&DomainInfo| match domain {
        "id" => d.kind == DomainKind::Id,
        "ood" => d.kind == DomainKind::Ood,
        "members" => d.name == segment.from || d.name == segment.to,
        name => d.name == name || name.strip_prefix("field:").is_some_and(|f| d.field.as_deref() == Some(f)),
    };
    let loss = |d: &DomainInfo| Some(point.scores.get(&d.name)?.perplexity.ln());
    let losses: Option<Vec<f64>> = report.domains.iter().filter(belongs).map(loss).collect();
    losses.filter(|l| !l.is_empty()).map(|l| l.iter().sum::<f64>() / l.len() as f64)
}

/// FLOPs against the number of partitions, for modules and for trained mixtures.
pub(super) fn cost(cost: &Cost) -> Chart {
    type Way = (&'static str, usize, fn(&CostPoint) -> f64);
    let ways: [Way; 4] = [
        ("modular, n", 0, |c| c.modular),
        ("each pair, n²", 1, |c| c.pairs),
        ("each triple, n³", 2, |c| c.triples),
        ("each subset, 2ⁿ", 3, |c| c.subsets),
    ];
    let series = ways.map(|(name, style, of)| {
        let label = |c: &CostPoint| format!("{} partitions, {name}: {:.2e} FLOPs", c.partitions, of(c));
        let mark = |c: &CostPoint| Mark { x: c.partitions as f64, y: of(c), label: label(c) };
        let points = cost.curves.iter().map(mark).collect();
        Series { name: name.into(), style, line: true, marks: true, points, ..Series::default() }
    });
    Chart {
        title: "FLOPs to evaluate the mixtures of n partitions".into(),
        x: Axis::new("partitions", AxisScale::Linear),
        y: Axis::new("FLOPs", AxisScale::Log),
        series: series.into(),
        ..Chart::default()
    }
}

/// Training losses of all models of one role.
pub(super) fn curves(trainings: &[TrainingInfo], role: &str) -> Chart {
    let chosen: Vec<&TrainingInfo> = trainings.iter().filter(|t| t.role == role).collect();
    let many = chosen.len() > MOST_KEYS;
    let series = chosen.iter().enumerate().map(|(i, t)| {
        let points = t.curve.iter().map(|p| Mark { x: p.step as f64, y: p.loss, label: String::new() }).collect();
        let last = t.curve.last().map_or(String::new(), |p| format!(", ends at {}", number(p.loss)));
        Series {
            name: if many { String::new() } else { t.name.clone() },
            style: i % TURNS,
            line: true,
            thin: many,
            points: named(points, &format!("{}{last}", t.name)),
            ..Series::default()
        }
    });
    Chart {
        title: format!("Training loss: {}", role_title(role)),
        x: Axis::new("step", AxisScale::Linear),
        y: Axis::new("loss, nats per token", AxisScale::Linear),
        series: series.collect(),
        ..Chart::default()
    }
}

pub(super) fn role_title(role: &str) -> String {
    match role.strip_prefix("target ") {
        Some(role) => format!("{} of the larger model", role_title(role)),
        None if role == "module" => "modules".into(),
        None if role == "seq" => "SEQ".into(),
        None => role.into(),
    }
}

/// The distinct words, in order of appearance.
pub(super) fn distinct<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    words.filter(|word| seen.insert(*word)).collect()
}

impl Report {
    /// The averages: [`AVERAGES`], then those of fields of study.
    pub(super) fn averages(&self) -> Vec<String> {
        let fields = distinct(self.domains.iter().filter_map(|d| d.field.as_deref()));
        AVERAGES.iter().map(|a| a.to_string()).chain(fields.iter().map(|f| format!("field:{f}"))).collect()
    }

    /// Every chart that is written to a file, with the file's name without extension.
    pub(super) fn files(&self) -> Vec<(String, Picture)> {
        let averages = self.averages();
        let is_average = |domain: &str| averages.iter().any(|a| a == domain);
        let mut list: Vec<(String, Chart)> = Vec::new();
        for (group, mixtures) in groups(&self.mixtures) {
            for domain in &averages {
                for proxy in proxies(&self.mixtures) {
                    list.push((format!("{group}-{domain}-{proxy}"), Scatter::of(&mixtures, domain, &proxy).chart));
                }
                for proxy in self.cross_proxies(&group, domain) {
                    let scatter = cross_scale(&mixtures, domain, &proxy);
                    list.push((format!("cross-scale-{group}-{domain}-{proxy}"), scatter.chart));
                }
            }
            let found: Vec<&Correlation> = self.correlations.iter().filter(|c| c.group == group).collect();
            list.push((format!("domains-{group}"), overview(&group, &found, &self.noise)));
        }
        for scan in self.scaled.iter().filter(|s| is_average(&s.domain)) {
            list.push((format!("scaled-{}-{}", scan.group, scan.domain), scaled(scan)));
        }
        for p in self.picking.iter().filter(|p| is_average(&p.domain)) {
            list.push((format!("picking-{}-{}", p.group, p.domain), picking(p)));
        }
        for domain in &averages {
            for (from, seed) in [("seed", true), ("modules", false)] {
                list.push((format!("segments-{from}-{domain}"), segments(self, domain, seed, false)));
                list.push((format!("segments-{from}-{domain}-above"), segments(self, domain, seed, true)));
            }
        }
        list.push(("cost".into(), cost(&self.cost)));
        for role in distinct(self.trainings.iter().map(|t| t.role.as_str())) {
            list.push((format!("training-{role}"), curves(&self.trainings, role)));
        }
        let mut list: Vec<(String, Picture)> =
            list.into_iter().map(|(name, chart)| (name, Picture::Chart(chart))).collect();
        if let Some(s) = &self.search {
            let charts = [("search-best", Some(first_screen::choice(s))), ("search-seq", first_screen::verified(s))];
            let more = [("search-path", Some(first_screen::path(s))), ("search-front", Some(first_screen::front(s)))];
            let charts = charts.into_iter().chain(more).filter_map(|(name, chart)| Some((name, chart?)));
            list.extend(charts.map(|(name, chart)| (name.to_string(), Picture::Chart(chart))));
            list.push(("search-modules".into(), Picture::HeatMap(first_screen::effects(s, &self.domains))));
        }
        list.retain(|(_, picture)| !picture.is_empty());
        list
    }

    /// The proxies that have a correlation with the larger model's SEQ.
    pub(super) fn cross_proxies(&self, group: &str, domain: &str) -> Vec<String> {
        let all = self.cross_scale.iter().flat_map(|c| &c.correlations);
        let of = all.filter(|c| c.group == group && c.domain == domain).map(|c| c.proxy.as_str());
        distinct(of).into_iter().map(String::from).collect()
    }
}
