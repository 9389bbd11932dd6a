//! The report of a study: one struct ([`model::Report`]) that is report.json, and its forms for people: terminal text,
//! a self-contained HTML page with plots, CSV. Training and scoring are left to `study`, which fills the struct.

pub mod answer;
pub mod correlations;
mod csv;
mod html;
mod interchange;
pub mod model;
pub mod plot;
mod tables;
mod text;

pub use answer::answers;
pub use correlations::correlations;
pub use model::*;

use crate::error::Result;
use crate::files;
use std::path::Path;

impl Report {
    /// Writes report.json, report.html, scores.csv, regmix/, olmix/ and plots/ into `dir`, each file whole or not at all. Errors: the file
    /// system's.
    pub fn write(&self, dir: &Path) -> Result<()> {
        files::create_directory(dir)?;
        files::write_atomic(&dir.join("report.json"), |out| out.write_all(self.to_json().as_bytes()))?;
        files::write_atomic(&dir.join("report.html"), |out| out.write_all(self.to_html().as_bytes()))?;
        files::write_atomic(&dir.join("scores.csv"), |out| out.write_all(self.to_csv().as_bytes()))?;
        self.write_interchange(dir)?;
        self.write_plots(&dir.join("plots"))
    }

    /// The averages of each group against each proxy, as SVG files `<group>-<average>-<proxy>.svg`.
    fn write_plots(&self, dir: &Path) -> Result<()> {
        files::create_directory(dir)?;
        for (group, mixtures) in correlations::groups(&self.mixtures) {
            for domain in AVERAGES {
                for (series, proxy) in correlations::proxies(&self.mixtures).iter().enumerate() {
                    let scatter = plot::Scatter::of(&mixtures, domain, proxy, series);
                    if !scatter.points.is_empty() {
                        scatter.write_svg(&dir.join(format!("{group}-{domain}-{proxy}.svg")))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// report.json. A number that is not finite is written as null.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("strings, numbers and maps with string keys");
        json.push('\n');
        json
    }
}
