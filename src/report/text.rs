//! The report for a terminal: the answer, then tables in plain characters.

use super::model::Report;
use super::tables::{self, Table, domain_title};
use std::fmt::Write;

/// Mixtures listed per group; scores.csv has all of them.
const LISTED: usize = 10;

impl Report {
    /// Answers, correlations, best mixtures, data, cost and hashes; the settings are left to report.html.
    pub fn to_text(&self) -> String {
        let mut out = format!("Stockpot report: {}\n", visible(&self.study));
        for answer in &self.answers {
            let title = format!("{}, {}", answer.group, domain_title(&answer.domain));
            out += &format!("\n{}\n  {}\n  {}\n", visible(&title), visible(&answer.text), visible(&answer.confidence));
        }
        for mut table in tables::correlations(&self.correlations) {
            table.title = format!("Correlation with SEQ: {}", table.title);
            push(&mut out, &table);
        }
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
}

/// Control characters from names and documents would drive the terminal; they are shown as escapes.
fn visible(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Appends a table, each column as wide as its widest cell; nothing for a table without rows.
fn push(out: &mut String, table: &Table) {
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
