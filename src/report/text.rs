//! The report for a terminal: the answer, then tables in plain characters.

use super::experiments;
use super::tables::{self, TextTable};
use crate::analysis::format::domain_title;
use crate::analysis::{AVERAGES, Correlation, Report};
use std::fmt::Write;

/// Mixtures listed per group; scores.csv has all of them.
const LISTED: usize = 10;

/// Correlations printed per group; a study of more shows the three averages alone.
const MOST_ROWS: usize = 60;

impl Report {
    /// Answers, what it costs, correlations, choices, noise, scaled merges, best mixtures, data and hashes; plots, single
    /// trainings and settings are left to report.html.
    pub fn to_text(&self) -> String {
        let mut out = format!("Stockpot report: {}\n", visible(&self.study));
        for answer in &self.answers {
            let title = format!("{}, {}", answer.group, domain_title(&answer.domain));
            let warning = self.warning(&answer.group, &answer.domain).map(|w| format!("Warning: {w}"));
            let noise = self.noise_text(&answer.group, &answer.domain).map(String::from);
            let lines = [Some(answer.text.clone()), Some(answer.confidence.clone()), noise, warning];
            sentences(&mut out, &title, lines.into_iter().flatten());
        }
        sentences(&mut out, "Cost", tables::cost_sentence(&self.cost).into_iter().chain(self.reuse_text()));
        self.push_correlations(&mut out);
        let on_averages = |domain: &str| AVERAGES.contains(&domain);
        for p in self.picking.iter().filter(|p| on_averages(&p.domain) && p.group != "all") {
            let mut table = experiments::picking(p);
            table.title = format!("Choosing, {}", table.title);
            push(&mut out, &table);
        }
        // Those of the answers stand there.
        let noise = self.noise.iter().filter(|n| n.domain == "members" && !n.text.is_empty());
        sentences(&mut out, "Noise", noise.map(|n| format!("{}, {}: {}", n.group, domain_title(&n.domain), n.text)));
        let scaled = self.scaled.iter().filter(|s| on_averages(&s.domain) && !s.text.is_empty());
        sentences(
            &mut out,
            "Scaled merges",
            scaled.map(|s| format!("{}, {}: {}", s.group, domain_title(&s.domain), s.text)),
        );
        for mut table in tables::rankings(&self.mixtures, LISTED) {
            table.title = format!("Best mixtures, {}", table.title);
            push(&mut out, &table);
        }
        push(&mut out, &tables::domains(&self.domains));
        push(&mut out, &tables::partitions(&self.partitions));
        if let Some(decontamination) = &self.decontamination {
            push(&mut out, &tables::decontamination(decontamination));
        }
        push(&mut out, &tables::cost(&self.cost));
        push(&mut out, &tables::hours(self.spent.as_ref()));
        push(&mut out, &tables::hashes(&self.hashes));
        out
    }

    fn reuse_text(&self) -> Option<String> {
        self.reuse.as_ref().map(|r| r.text.clone()).filter(|text| !text.is_empty())
    }

    /// Of the small pool with SEQ, and with the larger model's.
    fn push_correlations(&self, out: &mut String) {
        let larger = self.cross_scale.as_ref().map_or(&[][..], |c| &c.correlations);
        for (of, list) in [("SEQ", &self.correlations[..]), ("SEQ of the larger model", larger)] {
            let list: Vec<&Correlation> = list.iter().collect();
            for group in list.chunk_by(|a, b| a.group == b.group) {
                let kept = group.iter().filter(|c| group.len() <= MOST_ROWS || AVERAGES.contains(&c.domain.as_str()));
                let mut table = tables::correlation_table(&kept.copied().collect::<Vec<_>>());
                if table.rows.len() < group.len() {
                    table.notes.push("Fields and domains are in report.html.".into());
                }
                table.title = format!("Correlation with {of}: {}", table.title);
                push(out, &table);
            }
        }
    }
}

/// A title and lines below it; nothing without lines.
fn sentences(out: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    for (i, line) in lines.enumerate() {
        if i == 0 {
            *out += &format!("\n{}\n", visible(title));
        }
        *out += &format!("  {}\n", visible(&line));
    }
}

/// Control characters from names and documents would drive the terminal; they are shown as escapes.
fn visible(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Appends a table, each column as wide as its widest cell; nothing for a table without rows.
fn push(out: &mut String, table: &TextTable) {
    if table.rows.is_empty() {
        return;
    }
    let rows: Vec<Vec<String>> = std::iter::once(&table.header)
        .chain(&table.rows)
        .map(|row| row.iter().map(|cell| visible(cell)).collect())
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..table.header.len()).map(width).collect();
    write!(out, "\n{}\n", visible(&table.title)).expect("a string takes all");
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column < table.left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(out, "  {}", line.trim_end()).expect("a string takes all");
    }
    for note in &table.notes {
        writeln!(out, "  {}", visible(note)).expect("a string takes all");
    }
}
