//! The content of the page below the answers: sections of parts, each with tables and figures.
//! report.html.jinja has the layout.

use super::draw::{Chart, HeatMap};
use super::experiments;
use super::first_screen;
use super::plot::{self, Scatter, distinct};
use super::tables::{self, TextTable};
use crate::analysis::format::{count, domain_title, proxy_title, signed};
use crate::analysis::*;
use minijinja::Value;
use serde::Serialize;

/// Mixtures listed per group; scores.csv has all.
const LISTED: usize = 30;

/// The most points in the plots of single domains on a page, except that each domain has at least
/// one plot. A point takes about 120 bytes.
const MOST_MARKS: usize = 30_000;

#[derive(Serialize)]
pub(super) struct Section {
    /// The element's id, for links within the page.
    pub id: &'static str,
    /// Its heading, and the link to it.
    pub title: &'static str,
    /// A paragraph below the heading; none if empty.
    pub text: &'static str,
    /// The parts, in the order of the page; a section without any is not shown.
    pub parts: Vec<Part>,
}

#[derive(Default, Serialize)]
pub(super) struct Part {
    /// Its heading; none if empty.
    pub title: String,
    /// Whether it is collapsed until the reader opens it.
    pub folded: bool,
    /// A paragraph below the heading; none if empty.
    pub text: String,
    /// Shown below the figures.
    pub tables: Vec<TextTable>,
    /// Shown below the text.
    pub figures: Vec<Figure>,
    /// Preformatted text.
    pub verbatim: String,
}

/// Panels side by side.
#[derive(Serialize)]
pub(super) struct Figure {
    /// The heading above the panels; none if empty.
    pub title: String,
    /// The panels, from left to right.
    pub panels: Vec<Panel>,
}

#[derive(Serialize)]
pub(super) struct Panel {
    /// The text below the chart.
    pub caption: String,
    /// The chart as markup, drawn by `draw`.
    pub svg: Value,
}

impl Part {
    fn new(title: &str, tables: Vec<TextTable>, figures: Vec<Figure>) -> Part {
        let tables = tables.into_iter().filter(|t| !t.rows.is_empty()).collect();
        let figures = figures.into_iter().filter(|f| !f.panels.is_empty()).collect();
        Part { title: title.into(), tables, figures, ..Part::default() }
    }

    fn fold(mut self, folded: bool) -> Part {
        self.folded = folded;
        self
    }

    fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.figures.is_empty() && self.text.is_empty() && self.verbatim.is_empty()
    }
}

/// A chart with its title below it.
fn panel(chart: &Chart) -> Option<Panel> {
    Some(Panel { caption: chart.title.clone(), svg: Value::from_safe_string(chart.svg()?) })
}

/// A heat map with its title below it.
fn map(map: &HeatMap) -> Figure {
    let panel = map.svg().map(|svg| Panel { caption: map.title.clone(), svg: Value::from_safe_string(svg) });
    Figure { title: String::new(), panels: panel.into_iter().collect() }
}

pub(super) fn figure<'a>(title: &str, charts: impl IntoIterator<Item = &'a Chart>) -> Figure {
    Figure { title: title.into(), panels: charts.into_iter().filter_map(panel).collect() }
}

impl Report {
    pub(super) fn sections(&self) -> Vec<Section> {
        let section = |id, title, text, parts| Section { id, title, text, parts };
        let mut list = vec![
            section("search", "Search", SEARCH_TEXT, self.search_parts()),
            section("proxies", "Correlation of each proxy with SEQ", CORRELATION_TEXT, self.correlation_parts()),
            section("picking", "Selection by each proxy", PICKING_TEXT, self.picking_parts()),
            section("noise", "Noise", NOISE_TEXT, self.noise_parts()),
            section("scaled", "Scaled merges", SCALED_TEXT, self.scaled_parts()),
            section("scales", "The larger model", SCALES_TEXT, self.scales_parts()),
            section("laws", "Mixing laws", LAW_TEXT, self.law_parts()),
            section("segments", "Linear mode connectivity", SEGMENT_TEXT, self.segment_parts()),
            section("plots", "Proxies against SEQ", PLOT_TEXT, self.scatter_parts()),
            section(
                "mixtures",
                "Best mixtures",
                RANKING_TEXT,
                vec![Part::new("", tables::rankings(&self.mixtures, LISTED), Vec::new())],
            ),
            section("cost", "Cost", COST_TEXT, self.cost_parts()),
            section(
                "clock",
                "Time",
                CLOCK_TEXT,
                vec![Part::new("", vec![tables::hours(self.spent.as_ref())], Vec::new())],
            ),
            section("training", "Trainings", TRAINING_TEXT, self.training_parts()),
            section("data", "Data", "", self.data_parts()),
            section("reuse", "Reused work", "", self.reuse_parts()),
            section("settings", "Settings and hashes", SETTINGS_TEXT, self.settings_parts()),
        ];
        list.iter_mut().for_each(|s| s.parts.retain(|p| !p.is_empty()));
        list.retain(|s| !s.parts.is_empty());
        list
    }

    /// What a search found, below the first screen.
    fn search_parts(&self) -> Vec<Part> {
        let Some(s) = &self.search else { return Vec::new() };
        let path = first_screen::path(s);
        let front = first_screen::front(s);
        let mut parts = vec![
            Part::new(
                "",
                first_screen::before(s).into_iter().collect(),
                vec![map(&first_screen::effects(s, &self.domains))],
            ),
            Part::new("", vec![first_screen::mixtures(s), first_screen::undetermined(s)], Vec::new()),
            Part::new("", Vec::new(), vec![figure("", [&path, &front])]),
            Part::new("Mixtures on the path", vec![first_screen::path_table(s)], Vec::new()).fold(true),
        ];
        parts.retain(|part| !part.is_empty());
        parts
    }

    fn is_average(&self, domain: &str) -> bool {
        self.averages().iter().any(|a| a == domain)
    }

    /// A chart per group of r by domain; then per group the table of the averages, and that of the
    /// domains collapsed.
    fn correlation_parts(&self) -> Vec<Part> {
        let all: Vec<&Correlation> = self.correlations.iter().collect();
        let groups: Vec<&[&Correlation]> = all.chunk_by(|a, b| a.group == b.group).collect();
        let charts: Vec<Chart> = groups.iter().map(|list| plot::overview(&list[0].group, list, &self.noise)).collect();
        let mut parts = vec![Part::new("", Vec::new(), vec![figure("", &charts)])];
        for (i, list) in groups.into_iter().enumerate() {
            let (averages, domains): (Vec<&Correlation>, Vec<&Correlation>) =
                list.iter().partition(|c| self.is_average(&c.domain));
            for (what, chosen) in [("averages", averages), ("each domain", domains)] {
                let table = tables::correlation_table(&chosen);
                let title = format!("{}: {what}", list[0].group);
                let folded = i > 0 || what != "averages";
                parts.push(
                    Part::new(&title, vec![TextTable { title: title.clone(), ..table }], Vec::new()).fold(folded),
                );
            }
        }
        parts
    }

    /// Per group, the averages (open for the first group) and the domains (collapsed). "all" has
    /// only averages, because its mixtures have different budgets. With many domains only the first
    /// proxies are drawn, to keep the page small.
    fn scatter_parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        let (averages, groups) = (self.averages(), groups(&self.mixtures));
        let together = groups.len() > 1;
        let proxies = proxies(&self.mixtures);
        let drawn = (MOST_MARKS / (self.domains.len() * self.mixtures.len()).max(1)).clamp(1, proxies.len().max(1));
        for (i, (group, mixtures)) in groups.iter().enumerate() {
            let of = |domain: &str, proxies: &[String]| self.scatters(group, mixtures, domain, proxies);
            let figures = averages.iter().map(|a| of(a, &proxies)).collect();
            parts.push(Part::new(&format!("{group}: averages"), Vec::new(), figures).fold(i > 0));
            if !(together && i + 1 == groups.len()) {
                let first = &proxies[..drawn.min(proxies.len())];
                let figures = self.domains.iter().map(|d| of(&d.name, first)).collect();
                let mut part = Part::new(&format!("{group}: each domain"), Vec::new(), figures).fold(true);
                if drawn < proxies.len() && !part.is_empty() {
                    part.text = format!(
                        "Drawn for {} of {} proxies, to keep the page small; scores.csv has all.",
                        drawn,
                        proxies.len()
                    );
                }
                parts.push(part);
            }
        }
        parts
    }

    /// A panel per proxy; none on domains where no mixture has both scores.
    fn scatters(&self, group: &str, mixtures: &[&MixtureInfo], domain: &str, proxies: &[String]) -> Figure {
        let panel = |proxy: &String| {
            let found = self.correlations.iter().find(|c| c.group == group && c.domain == domain && c.proxy == *proxy);
            scatter_panel(&Scatter::of(mixtures, domain, proxy), proxy, found)
        };
        Figure { title: domain_title(domain), panels: proxies.iter().filter_map(panel).collect() }
    }

    /// The curves of the averages, then a table for each group and domain.
    fn picking_parts(&self) -> Vec<Part> {
        let open = |p: &&SelectionQuality| AVERAGES.contains(&p.domain.as_str()) && p.group != "all";
        let charts: Vec<Chart> = self.picking.iter().filter(open).map(plot::picking).collect();
        let part = |p: &SelectionQuality| {
            let figures = if open(&p) { Vec::new() } else { vec![figure("", [&plot::picking(p)])] };
            let title = format!("{}: {}", p.group, domain_title(&p.domain));
            Part::new(&title, vec![experiments::picking(p)], figures).fold(!open(&p))
        };
        [Part::new("", Vec::new(), vec![figure("", &charts)])]
            .into_iter()
            .chain(self.picking.iter().map(part))
            .collect()
    }

    fn noise_parts(&self) -> Vec<Part> {
        let all: Vec<&Noise> = self.noise.iter().collect();
        let tables = all.chunk_by(|a, b| a.group == b.group).map(|list| experiments::noise(&list[0].group, list));
        vec![Part::new("", tables.collect(), Vec::new())]
    }

    fn scaled_parts(&self) -> Vec<Part> {
        let (averages, domains): (Vec<&ScaledScan>, Vec<&ScaledScan>) =
            self.scaled.iter().partition(|s| self.is_average(&s.domain));
        let charts = |list: &[&ScaledScan]| figure("", &list.iter().map(|s| plot::scaled(s)).collect::<Vec<_>>());
        let scans = self.scaled.iter().map(experiments::scan).collect();
        vec![
            Part::new("", vec![experiments::scaled(&self.scaled)], vec![charts(&averages)]),
            Part::new("Each domain", Vec::new(), vec![charts(&domains)]).fold(true),
            Part::new("Each lambda", scans, Vec::new()).fold(true),
        ]
    }

    fn scales_parts(&self) -> Vec<Part> {
        let Some(scales) = &self.cross_scale else {
            return Vec::new();
        };
        let sizes = Part {
            text: format!(
                "The small model has {} parameters, the larger one {}.",
                count(scales.parameters),
                count(scales.target_parameters)
            ),
            ..Part::new("", tables::correlations(&scales.correlations), Vec::new())
        };
        let mut parts = vec![sizes];
        for (i, (group, mixtures)) in groups(&self.mixtures).iter().enumerate() {
            let figures = self.averages().into_iter().map(|domain| {
                let panel = |proxy: String| {
                    let mut all = scales.correlations.iter();
                    let found = all.find(|c| c.group == *group && c.domain == domain && c.proxy == proxy);
                    scatter_panel(&plot::cross_scale(mixtures, &domain, &proxy), &proxy, found)
                };
                let panels = self.cross_proxies(group, &domain).into_iter().filter_map(panel).collect();
                Figure { title: domain_title(&domain), panels }
            });
            parts.push(Part::new(&format!("Plots: {group}"), Vec::new(), figures.collect()).fold(i > 0));
        }
        parts
    }

    fn law_parts(&self) -> Vec<Part> {
        let forms = distinct(self.laws.iter().map(|l| l.form.as_str()));
        let tables = forms.into_iter().map(|form| experiments::coefficients(&self.laws, form)).collect();
        vec![
            Part::new("", vec![experiments::laws(&self.laws)], Vec::new()),
            Part::new("Coefficients", tables, Vec::new()).fold(true),
        ]
    }

    fn segment_parts(&self) -> Vec<Part> {
        let averages = self.averages();
        let table = experiments::barriers(&self.segments, &averages);
        let mut parts = vec![];
        for (i, domain) in averages.iter().enumerate() {
            let views = [(true, false), (true, true), (false, false), (false, true)];
            let charts = views.map(|(seed, above)| plot::segments(self, domain, seed, above));
            let title = domain_title(domain);
            parts.push(Part::new(&title, Vec::new(), vec![figure("", &charts)]).fold(i > 0));
        }
        parts.push(Part::new("Barriers", vec![table], Vec::new()).fold(self.segments.len() > LISTED));
        parts
    }

    fn cost_parts(&self) -> Vec<Part> {
        let tables = vec![tables::cost(&self.cost), tables::stages(&self.cost)];
        vec![Part::new("", tables, vec![figure("", [&plot::cost(&self.cost)])])]
    }

    fn training_parts(&self) -> Vec<Part> {
        let roles = distinct(self.trainings.iter().map(|t| t.role.as_str()));
        let charts: Vec<Chart> = roles.into_iter().map(|role| plot::curves(&self.trainings, role)).collect();
        vec![
            Part::new("", Vec::new(), vec![figure("", &charts)]),
            Part::new("Each training", vec![experiments::trainings(&self.trainings)], Vec::new()).fold(true),
        ]
    }

    fn data_parts(&self) -> Vec<Part> {
        let sizes = vec![tables::partitions(&self.partitions), tables::domains(&self.domains)];
        let mut parts = vec![Part::new("", sizes, Vec::new())];
        if let Some(d) = &self.decontamination {
            // The examples are long, so they are in a collapsed part of their own.
            let mut table = tables::decontamination(d);
            let text = std::mem::take(&mut table.notes).join("\n");
            parts.push(Part::new("", vec![table], Vec::new()));
            let title = "Dropped documents".into();
            parts.push(Part { title, folded: true, text, ..Part::default() });
        }
        parts
    }

    fn reuse_parts(&self) -> Vec<Part> {
        let part = |r: &Reuse| Part { text: r.text.clone(), ..Part::new("", vec![experiments::reuse(r)], Vec::new()) };
        self.reuse.iter().map(part).collect()
    }

    fn settings_parts(&self) -> Vec<Part> {
        let settings =
            Part { title: "study.toml".into(), folded: true, verbatim: self.settings.clone(), ..Part::default() };
        vec![settings, Part::new("Hashes", vec![tables::hashes(&self.hashes)], Vec::new()).fold(true)]
    }
}

fn scatter_panel(scatter: &Scatter, proxy: &str, found: Option<&Correlation>) -> Option<Panel> {
    let svg = scatter.chart.svg()?;
    let name = proxy_title(proxy);
    let mut caption = match found.and_then(|c| c.pearson) {
        Some(r) => format!("{name}: r = {}", signed(r)),
        None => format!("{name}: r not defined"),
    };
    if let Some((low, high)) = found.and_then(|c| c.pearson_low.zip(c.pearson_high)) {
        caption += &format!(" ({} … {})", signed(low), signed(high));
    }
    caption += &format!(", n = {}", found.map_or(scatter.points, |c| c.n));
    if found.is_some_and(|c| c.hardly_differs) {
        caption += "; these mixtures hardly differ here";
    }
    if scatter.left_out > 0 {
        caption += &format!("; {} of {} points not drawn", scatter.left_out, scatter.points);
    }
    Some(Panel { caption, svg: Value::from_safe_string(svg) })
}

const SEARCH_TEXT: &str = "The best of all mixtures by the search. Expected scores are those of SEQ where SEQ runs of \
    the budget calibrate the merges, otherwise those of merges. Told apart: the best mixture is better in at least 95% of \
    draws of documents and errors. In the map, each row is \
    a module, each column a domain; a framed cell is the module on held-out text of its own partition, and numbers beyond \
    the scale have its last colour. The path pulls the best mixture towards the natural one.";

const CORRELATION_TEXT: &str = "Agreement between the perplexity of a proxy and that of SEQ, the model really trained on \
    the mixture: Pearson's r, rank correlations, regret and pairwise accuracy. In the chart, lines are the 95% intervals \
    of the first proxy. One interval resamples partitions, because mixtures share them, the other the documents of each \
    domain, which needs five. regret@1 is how much choosing by the proxy raises SEQ's perplexity; \
    pairwise accuracy is the share of pairs of mixtures that the proxy orders as SEQ does; CV of SEQ, the coefficient of \
    variation, is its standard deviation divided by its mean. Read \"all\" and \"in-mixture domains\" with care: they mix \
    training budgets, or test texts, which inflates r for any proxy.";

const PLOT_TEXT: &str = "Each point is a mixture: the proxy's perplexity on the x axis, SEQ's on the y axis, lower is \
    better. Point at one, tap it, or use the arrow keys, to see its name. The line is the least-squares fit.";

const PICKING_TEXT: &str = "regret@k is how much higher SEQ's perplexity is for the best of the k mixtures that a proxy \
    ranks first than for the best of all mixtures. \"largest\" ranks mixtures by their amount of text, the most first; \
    \"random\" is the average over random choices.";

const NOISE_TEXT: &str = "Repeated trainings of the same mixture, with the data in another order. SD of repeats is the \
    standard deviation of SEQ's perplexity between them; SD of mixtures is that between mixtures, with the noise \
    removed. The ceiling of r is the r, with single trainings, of a proxy that knows each mixture's true mean. MERGED and \
    IND can exceed it: their modules saw the same windows as SEQ and share a part of its noise. Against SEQ of another \
    repeat, the last column, they do not.";

const SCALED_TEXT: &str = "The proxy seed + lambda (average - seed); lambda 1 is MERGED. The area is the 95% interval of \
    r; the dotted lines are lambda 1 and the lambda in use. A calibrated lambda is the one with the highest mean r over \
    the domains; for r in the table, each mixture uses a lambda that was calibrated without it.";

const SCALES_TEXT: &str =
    "Prediction of the larger model's SEQ by the small pool, and by the small model's own trainings (SEQ).";

const LAW_TEXT: &str = "Nats per token as a function of the weights w, fitted to merges that were scored but never \
    trained. MIXING LAW: c + k exp(sum of t w); RIDGE: c + sum of t w. Residual is the root mean square \
    error of the fit. Both are also proxies in the sections above, compared with SEQ.";

const SEGMENT_TEXT: &str = "Losses of the models (1 - x) from + x to. A barrier is how far the loss rises above the \
    straight line between the two ends, in nats per token; merging works where barriers are low. Below zero, the inside \
    is better than the line.";

const RANKING_TEXT: &str = "Perplexities, best first. A dash under SEQ means that the mixture was not trained.";

const COST_TEXT: &str = "The cost of the answer with one training per partition, and with one training per mixture.";

const CLOCK_TEXT: &str = "Measured times. Nothing else on this page depends on them.";

const TRAINING_TEXT: &str = "Training loss of each model by step; each point is the mean since the previous point.";

const SETTINGS_TEXT: &str = "The same settings and inputs give the same hashes, and the same bytes of this report.";
