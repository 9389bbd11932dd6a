//! From a study's scores to all that is said of them: numbers and sentences, by pure functions. [`Report`] is the struct
//! that `study` fills with scores and [`Report::analyse`] completes; how it is shown is left to `report`.

mod answers;
mod averages;
mod barriers;
mod correlations;
pub mod format;
mod laws;
mod noise;
mod proxies;
mod report;
mod scaled;
mod selection_quality;
pub mod statistics;

pub use answers::answers;
pub use averages::{average_names, averages};
pub use correlations::{correlations, groups, own_groups, proxies};
pub use proxies::*;
pub use report::*;

/// What the analysis needs beside the scores.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Analysis {
    /// Of the bootstrap.
    pub seed: u64,
    /// The lambda of the proxy "scaled": one of those that were scored. Without it, it is calibrated on SEQ.
    pub lambda: Option<f64>,
}

impl Report {
    /// Fills what follows from the scores, which are there: the scores of the proxies "scaled" (from `by_lambda`),
    /// "law" and "ridge" (from `samples`), then `scaled`, `laws`, `correlations`, `noise`, `picking`, `answers`, the
    /// barriers of `segments` and the correlations of `cross_scale`.
    pub fn analyse(&mut self, how: &Analysis) {
        scaled::score(self, how);
        self.laws = laws::fit(self);
        self.scaled = scaled::scans(self, how);
        self.correlations = correlations::correlations(&self.mixtures, &self.domains, how.seed);
        self.noise = noise::noise(&self.mixtures, &self.domains);
        self.picking = selection_quality::selection_quality(&self.mixtures, &self.domains, how.seed);
        self.answers = answers::answers(&self.mixtures, &self.correlations);
        answers::add_doubts(&mut self.answers, &self.mixtures, &self.noise);
        for segment in &mut self.segments {
            segment.barriers = barriers::barriers(segment, &self.domains);
        }
        if let Some(cross_scale) = &mut self.cross_scale {
            cross_scale.correlations = correlations::cross_scale(&self.mixtures, &self.domains, how.seed);
        }
    }
}
