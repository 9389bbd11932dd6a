//! The report for a terminal: the answer, then tables in plain characters.

use super::experiments;
use super::tables::{self, TextTable};
use crate::analysis::format::domain_title;
use crate::analysis::{AVERAGES, Correlation, Report};
use std::fmt::Write;

/// Mixtures listed per group; scores.csv has all.
const LISTED: usize = 10;

/// Most lines of the short answer.
const SHORT: usize = 9;

/// The most correlations printed per group; a group with more shows only the three averages.
const MOST_ROWS: usize = 60;

impl Report {
    /// The answer in at most nine lines: what the search found, or, without a search, the first
    /// sentences of the answers.
    pub fn to_short_text(&self) -> String {
        let answers = || self.answers.iter().map(|a| format!("{}, {}: {}", a.group, domain_title(&a.domain), a.text));
        let lines: Vec<String> = match &self.search {
            Some(search) => search.lines.clone(),
            None if self.answers.is_empty() => vec!["No mixture has been scored yet.".into()],
            None => answers().collect(),
        };
        let mut short: Vec<String> = lines.iter().take(SHORT).map(|line| visible(line)).collect();
        if lines.len() > SHORT {
            short[SHORT - 1] = format!("{} more answers: --full", lines.len() - SHORT + 1);
        }
        short.join("\n")
    }

    /// The report as text: answers, cost, correlations, selection quality, noise, scaled merges,
    /// best mixtures, data and hashes. Only report.html has plots, single trainings and settings.
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
            table.title = format!("Selection, {}", table.title);
            push(&mut out, &table);
        }
        // The answers include the noise of their own averages.
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

    /// The correlations of the small pool with SEQ, and with the larger model's SEQ.
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

/// A title and the lines below it; nothing if there are no lines.
fn sentences(out: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    for (i, line) in lines.enumerate() {
        if i == 0 {
            *out += &format!("\n{}\n", visible(title));
        }
        *out += &format!("  {}\n", visible(&line));
    }
}

/// The text with control characters escaped: those in names and documents would control the
/// terminal.
pub fn visible(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Appends a table, each column as wide as its widest cell; nothing for a table without rows.
fn push(out: &mut String, table: &TextTable) {
    if table.rows.is_empty() {
        return;
    }
    let cells: Vec<Vec<String>> = table.rows.iter().map(|row| row.iter().map(|cell| visible(cell)).collect()).collect();
    let mut rows = header_lines(&table.header, &cells);
    rows.extend(cells);
    let width = |column: usize| rows.iter().map(|row| letters(&row[column])).max().unwrap_or(0);
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

/// The header as one row, or as two if a name wraps. A name wraps if it is longer than all cells of
/// its column: at the space that leaves the longer line shortest. Other names are on the last line.
fn header_lines(header: &[String], cells: &[Vec<String>]) -> Vec<Vec<String>> {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for (column, name) in header.iter().enumerate() {
        let name = visible(name);
        let widest = cells.iter().map(|row| letters(&row[column])).max().unwrap_or(0);
        let splits = name.match_indices(' ').map(|(at, _)| name.split_at(at));
        let (start, end) = match splits.min_by_key(|(start, end)| letters(start).max(letters(end) - 1)) {
            Some((start, end)) if letters(&name) > widest => (start, &end[1..]),
            _ => ("", name.as_str()),
        };
        first.push(start.to_string());
        last.push(end.to_string());
    }
    if first.iter().all(String::is_empty) { vec![last] } else { vec![first, last] }
}

fn letters(text: &str) -> usize {
    text.chars().count()
}
