//! The report of a study: one struct ([`Report`]) that is report.json, and its forms for people: terminal text,
//! a self-contained HTML page with plots, CSV. Training and scoring are left to `study`, which fills the struct.

mod csv;
pub mod draw;
mod experiments;
mod html;
mod interchange;
pub mod plot;
mod sections;
mod tables;
pub mod tensorboard;
mod text;

use crate::analysis::Report;
use crate::error::Result;
use crate::files;
use draw::Chart;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

impl Report {
    /// Writes report.json, report.html, scores.csv, regmix/, olmix/, plots/ and, where a clock was read, cost.json into
    /// `dir`, each file whole or not at all. Errors: the file system's.
    pub fn write(&self, dir: &Path) -> Result<()> {
        files::create_directory(dir)?;
        files::write_atomic(&dir.join("report.json"), |out| out.write_all(self.to_json().as_bytes()))?;
        files::write_atomic(&dir.join("report.html"), |out| out.write_all(self.to_html().as_bytes()))?;
        files::write_atomic(&dir.join("scores.csv"), |out| out.write_all(self.to_csv().as_bytes()))?;
        if let Some(spent) = &self.spent {
            files::write_atomic(&dir.join("cost.json"), |out| out.write_all(pretty(spent).as_bytes()))?;
        }
        self.write_interchange(dir)?;
        self.write_plots(&dir.join("plots"))
    }

    /// Each chart as an SVG file: the averages of each group against each proxy (`<group>-<average>-<proxy>`), and
    /// those of the experiments (`scaled-...`, `picking-...`, `cost`, ...). Replaces whatever was in `dir`.
    fn write_plots(&self, dir: &Path) -> Result<()> {
        let mut taken = BTreeSet::new();
        let charts: Vec<(String, Chart)> =
            self.files().into_iter().map(|(name, chart)| (file_name(&name, &mut taken), chart)).collect();
        files::recover_directory(dir)?;
        files::write_directory_atomic(dir, |aside| {
            charts.par_iter().try_for_each(|(name, chart)| {
                let svg = chart.standalone();
                files::write_atomic(&aside.join(format!("{name}.svg")), |out| out.write_all(svg.as_bytes()))
            })
        })
    }

    /// report.json. A number that is not finite is written as null.
    pub fn to_json(&self) -> String {
        pretty(self)
    }
}

fn pretty(value: &impl Serialize) -> String {
    let mut json = serde_json::to_string_pretty(value).expect("strings, numbers and maps with string keys");
    json.push('\n');
    json
}

/// A file's name from names of the study: what is no letter, digit or one of `._+` becomes `-`, long names are cut, and
/// a name that is taken gets a number.
fn file_name(name: &str, taken: &mut BTreeSet<String>) -> String {
    let safe = |c: char| if c.is_alphanumeric() || "._+".contains(c) { c } else { '-' };
    let mut plain = String::new();
    for letter in name.chars().map(safe) {
        if plain.len() + letter.len_utf8() > 180 {
            break;
        }
        plain.push(letter);
    }
    let mut unique = plain.clone();
    let mut number = 2;
    while !taken.insert(unique.to_lowercase()) {
        unique = format!("{plain}-{number}");
        number += 1;
    }
    unique
}
