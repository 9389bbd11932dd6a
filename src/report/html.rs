//! report.html: one page without scripts and without anything fetched, from report.html.jinja. This file decides what
//! stands on it, the template how it looks; minijinja escapes all text, and only the SVG of `plot` goes in as it is.

use super::correlations::{groups, proxies};
use super::model::*;
use super::plot::{Point, Scatter};
use super::tables::{self, Table, domain_title, signed};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde::Serialize;

/// Mixtures listed per group; scores.csv has all of them.
const LISTED: usize = 30;

/// Width and height of a panel, in CSS pixels before scaling.
const PANEL: (u32, u32) = (360, 290);

#[derive(Serialize)]
struct Section {
    title: String,
    text: &'static str,
    /// Folded until asked for.
    folded: bool,
    tables: Vec<Table>,
    figures: Vec<Figure>,
    /// Shown letter by letter.
    verbatim: String,
}

/// One domain of one group: a panel per proxy, beside each other.
#[derive(Serialize)]
struct Figure {
    title: String,
    panels: Vec<Panel>,
}

#[derive(Serialize)]
struct Panel {
    caption: String,
    /// Markup, drawn by `plot`.
    svg: Value,
}

#[derive(Serialize)]
struct Page<'a> {
    study: &'a str,
    version: &'a str,
    generated: Option<&'a str>,
    device: Option<&'a str>,
    answers: Vec<AnswerView<'a>>,
    sections: Vec<Section>,
}

#[derive(Serialize)]
struct AnswerView<'a> {
    title: String,
    text: &'a str,
    confidence: &'a str,
}

impl Report {
    /// report.html as text.
    pub fn to_html(&self) -> String {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("the delimiters are the usual ones"));
        let answers = self.answers.iter().map(|a| AnswerView {
            title: format!("{}, {}", a.group, domain_title(&a.domain)),
            text: &a.text,
            confidence: &a.confidence,
        });
        let page = Page {
            study: &self.study,
            version: &self.version,
            generated: self.generated.as_deref(),
            device: self.device.as_deref(),
            answers: answers.collect(),
            sections: self.sections(),
        };
        environment
            .render_str(include_str!("report.html.jinja"), Value::from(Serde(&page)))
            .expect("the template is part of the program and names only fields of `Page`")
    }

    fn sections(&self) -> Vec<Section> {
        let section = |title: &str, text, tables: Vec<Table>| Section {
            title: title.into(),
            text,
            folded: false,
            tables: tables.into_iter().filter(|t| !t.rows.is_empty()).collect(),
            figures: Vec::new(),
            verbatim: String::new(),
        };
        let mut list = vec![section("How well the proxies follow SEQ", CORRELATION_TEXT, {
            tables::correlations(&self.correlations)
        })];
        for (i, (group, mixtures)) in groups(&self.mixtures).into_iter().enumerate() {
            let mut plots = section(&format!("Plots: {group}"), PLOT_TEXT, Vec::new());
            plots.folded = i > 0;
            plots.figures = self.figures(&group, &mixtures);
            list.push(plots);
        }
        list.push(section("Best mixtures", RANKING_TEXT, tables::rankings(&self.mixtures, LISTED)));
        list.push(section("Data", "", vec![tables::domains(&self.domains), tables::partitions(&self.partitions)]));
        if let Some(decontamination) = &self.decontamination {
            list.push(section("Decontamination", "", vec![tables::decontamination(decontamination)]));
        }
        let cost = vec![tables::cost(&self.cost), tables::hours(self.spent.as_ref())];
        list.push(section("Cost", COST_TEXT, cost));
        let mut settings = section("Settings and hashes", "", vec![tables::hashes(&self.hashes)]);
        settings.folded = true;
        settings.verbatim = self.settings.clone();
        list.push(settings);
        list.retain(|s| !(s.tables.is_empty() && s.figures.is_empty() && s.verbatim.is_empty()));
        list
    }

    /// The averages, then each domain; domains without a mixture scored both ways are left out.
    fn figures(&self, group: &str, mixtures: &[&MixtureInfo]) -> Vec<Figure> {
        let domains = AVERAGES.into_iter().chain(self.domains.iter().map(|d| d.name.as_str()));
        let figure = |domain: &str| {
            let proxies = proxies(&self.mixtures);
            let panels = proxies.iter().enumerate().filter_map(|(i, p)| self.panel(group, mixtures, domain, p, i));
            Figure { title: domain_title(domain), panels: panels.collect() }
        };
        domains.map(figure).filter(|f| !f.panels.is_empty()).collect()
    }

    fn panel(&self, group: &str, mixtures: &[&MixtureInfo], domain: &str, proxy: &str, series: usize) -> Option<Panel> {
        let scatter = Scatter::of(mixtures, domain, proxy, series);
        let drawing = scatter.draw(PANEL)?;
        let found = self.correlations.iter().find(|c| c.group == group && c.domain == domain && c.proxy == proxy);
        let mut caption = match found.and_then(|c| c.pearson) {
            Some(r) => format!("{}: r = {}", proxy.to_uppercase(), signed(r)),
            None => format!("{}: r not defined", proxy.to_uppercase()),
        };
        if found.is_some_and(|c| c.hardly_differs) {
            caption += "; these mixtures hardly differ here";
        }
        if drawing.left_out > 0 {
            caption += &format!("; {} of {} points not drawn", drawing.left_out, scatter.points.len());
        }
        Some(Panel { caption, svg: Value::from_safe_string(drawing.svg) })
    }
}

impl Scatter {
    /// The mixtures that have a score of `proxy` and of SEQ on `domain`; `series` picks the colour.
    pub fn of(mixtures: &[&MixtureInfo], domain: &str, proxy: &str, series: usize) -> Scatter {
        let point = |m: &&MixtureInfo| {
            let (by_proxy, by_seq) = (m.score(proxy, domain)?, m.score(SEQ, domain)?);
            Some(Point { label: m.id.clone(), proxy: by_proxy.perplexity, seq: by_seq.perplexity })
        };
        let name = proxy.to_uppercase();
        Scatter {
            title: format!("{}: perplexity of {name} and of SEQ", domain_title(domain)),
            x_title: name,
            y_title: "SEQ".into(),
            series,
            points: mixtures.iter().filter_map(point).collect(),
        }
    }
}

const CORRELATION_TEXT: &str = "Pearson's r, ranks and choices between the perplexity of a proxy and that of SEQ, the \
    model really trained on the mixture. The bootstrap resamples partitions, because mixtures share them; Fisher's \
    interval takes mixtures as independent and is usually too narrow. r (bits) is r of bits per byte. regret@1 is what \
    choosing by the proxy costs in SEQ's perplexity; decisions is the share of pairs of mixtures that the proxy orders \
    as SEQ does; spread is SEQ's standard deviation as a share of its mean.";

const PLOT_TEXT: &str = "A point is a mixture: the proxy's perplexity to the right, SEQ's upwards, lower is better. Point \
    at one to see which it is. The line is the least-squares fit.";

const RANKING_TEXT: &str = "Perplexities, best first. A dash under SEQ means that the mixture was not trained.";

const COST_TEXT: &str = "What the answer takes with one training per partition, and with one per mixture.";
