//! report.html: one self-contained page that fetches nothing, from report.html.jinja and report.js.
//! `sections` supplies its content, the template its layout. minijinja escapes all text; only the
//! SVG of `draw` is inserted unescaped. The script sorts tables and labels points for keyboard and
//! touch; without it the page still has all of its content.

use super::draw::{self, Chart};
use super::first_screen;
use super::sections::{Figure, Section, figure};
use super::tables;
use crate::analysis::format::domain_title;
use crate::analysis::*;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde::Serialize;

const SCRIPT: &str = include_str!("report.js");

#[derive(Serialize)]
struct Page<'a> {
    study: &'a str,
    version: &'a str,
    device: Option<&'a str>,
    /// What the search found.
    found: Option<FoundView<'a>>,
    answers: Vec<AnswerView<'a>>,
    /// The cost of both ways in a sentence.
    cost: Option<String>,
    sections: Vec<Section>,
    script: Value,
    /// CSS rules of the charts, for light and dark pages.
    charts: Value,
    dark_charts: Value,
}

/// The first screen.
#[derive(Serialize)]
struct FoundView<'a> {
    headline: &'a str,
    lines: &'a [String],
    warnings: &'a [String],
    figure: Figure,
    /// Instead of the chart of SEQ runs, if there are none.
    without_seq: bool,
}

#[derive(Serialize)]
struct AnswerView<'a> {
    title: String,
    text: &'a str,
    confidence: &'a str,
    warning: Option<&'a str>,
    noise: Option<&'a str>,
}

impl Report {
    /// report.html as text.
    pub fn to_html(&self) -> String {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("the delimiters are the usual ones"));
        let page = Page {
            study: &self.study,
            version: &self.version,
            device: self.device.as_deref(),
            found: self.search.as_ref().map(found),
            answers: self.answers.iter().map(|a| self.answer(a)).collect(),
            cost: tables::cost_sentence(&self.cost),
            sections: self.sections(),
            script: Value::from_safe_string(SCRIPT.into()),
            charts: Value::from_safe_string(draw::style_sheet(false)),
            dark_charts: Value::from_safe_string(draw::style_sheet(true)),
        };
        environment
            .render_str(include_str!("report.html.jinja"), Value::from(Serde(&page)))
            .expect("the template is part of the program and names only fields of `Page`")
    }

    fn answer<'a>(&'a self, a: &'a Answer) -> AnswerView<'a> {
        AnswerView {
            title: format!("{}, {}", a.group, domain_title(&a.domain)),
            text: &a.text,
            confidence: &a.confidence,
            warning: self.warning(&a.group, &a.domain),
            noise: self.noise_text(&a.group, &a.domain),
        }
    }

    /// The warning that a proxy selects worse than always taking the largest mixture.
    pub(super) fn warning(&self, group: &str, domain: &str) -> Option<&str> {
        self.picking.iter().find(|p| p.group == group && p.domain == domain)?.warning.as_deref()
    }

    /// The noise of repeated trainings in a sentence.
    pub(super) fn noise_text(&self, group: &str, domain: &str) -> Option<&str> {
        let found = self.noise.iter().find(|n| n.group == group && n.domain == domain)?;
        Some(found.text.as_str()).filter(|text| !text.is_empty())
    }
}

fn found(s: &SearchSummary) -> FoundView<'_> {
    let (headline, lines) = s.lines.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let charts: Vec<Chart> = [Some(first_screen::choice(s)), first_screen::verified(s)].into_iter().flatten().collect();
    FoundView {
        headline,
        lines,
        warnings: &s.warnings,
        figure: figure("", &charts),
        without_seq: s.verified.is_empty(),
    }
}
