//! The report of a study: the struct [`Report`] as report.json, terminal text, CSV, and a
//! self-contained HTML page with plots. `study` trains and scores, and fills the struct.

mod csv;
pub mod draw;
mod experiments;
mod first_screen;
mod html;
mod interchange;
pub mod plot;
mod sections;
mod tables;
pub mod tensorboard;
mod text;

pub use text::visible;

use crate::analysis::Report;
use crate::error::Result;
use crate::files;
use draw::Picture;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

impl Report {
    /// Writes report.json, report.html, scores.csv, regmix/, olmix/, plots/ and, if times were
    /// measured, cost.json into `dir`, each file atomically. Errors: the file system's.
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

    /// Writes each chart as an SVG file: SEQ against each proxy on each group's averages
    /// (`<group>-<average>-<proxy>`), and the charts of the experiments (`scaled-...`,
    /// `picking-...`, `cost`, ...). Replaces the contents of `dir`.
    fn write_plots(&self, dir: &Path) -> Result<()> {
        let mut taken = BTreeSet::new();
        let charts: Vec<(String, Picture)> =
            self.files().into_iter().map(|(name, chart)| (file_name(&name, &mut taken), chart)).collect();
        files::recover_directory(dir)?;
        files::write_directory_atomic(dir, |temporary| {
            charts.par_iter().try_for_each(|(name, chart)| {
                let svg = chart.standalone();
                files::write_atomic(&temporary.join(format!("{name}.svg")), |out| out.write_all(svg.as_bytes()))
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

/// A unique file name: characters other than letters, digits and `._+` become `-`, long names are
/// cut, and a name in `taken` gets a number.
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
