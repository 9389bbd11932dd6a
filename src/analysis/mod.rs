//! The analysis of a study's scores: pure functions from scores to numbers and sentences. `study`
//! fills a [`Report`] with scores, [`Report::analyse`] completes it, and `report` presents it.

mod answers;
mod averages;
mod barriers;
mod correlations;
mod document_bootstrap;
pub mod format;
mod laws;
mod noise;
mod proxies;
mod report;
mod scaled;
mod search_summary;
mod selection_quality;
pub mod statistics;

pub use answers::{FEW_DOCUMENTS, answers};
pub use averages::{average_names, averages};
pub use correlations::{correlations, groups, own_groups, proxies};
pub use proxies::*;
pub use report::*;
pub use search_summary::*;

/// Options of the analysis.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Analysis {
    /// The bootstrap's seed.
    pub seed: u64,
    /// The lambda of the proxy "scaled", one of those scored. `None` calibrates it on SEQ.
    pub lambda: Option<f64>,
}

impl Report {
    /// Fills everything that follows from the scores: the scores of the proxies "scaled" (from
    /// `by_lambda`), "law" and "ridge" (from `samples`), then `scaled`, `laws`, `correlations`,
    /// `noise`, `picking`, `answers`, the barriers of `segments` and the correlations of
    /// `cross_scale`.
    pub fn analyse(&mut self, options: &Analysis) {
        scaled::score(self, options);
        self.laws = laws::fit(self);
        self.scaled = scaled::scans(self, options);
        self.correlations = correlations::correlations(&self.mixtures, &self.domains, options.seed);
        document_bootstrap::fill(self, options.seed);
        self.noise = noise::noise(&self.mixtures, &self.domains);
        self.picking = selection_quality::selection_quality(&self.mixtures, &self.domains, options.seed);
        self.answers = answers::answers(&self.mixtures, &self.correlations);
        answers::add_caveats(&mut self.answers, &self.mixtures, &self.domains, &self.noise);
        for segment in &mut self.segments {
            segment.barriers = barriers::barriers(segment, &self.domains);
        }
        if let Some(cross_scale) = &mut self.cross_scale {
            cross_scale.correlations = correlations::cross_scale(&self.mixtures, &self.domains, options.seed);
        }
    }
}
