//! From a study's scores to all that is said of them, in the order in which one thing needs another.

use super::model::*;
use super::{answer, correlations, laws, noise, picking, scaled, segments};

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
        self.picking = picking::picking(&self.mixtures, &self.domains, how.seed);
        self.answers = answer::answers(&self.mixtures, &self.correlations);
        answer::add_doubts(&mut self.answers, &self.mixtures, &self.noise);
        for segment in &mut self.segments {
            segment.barriers = segments::barriers(segment, &self.domains);
        }
        if let Some(cross_scale) = &mut self.cross_scale {
            cross_scale.correlations = correlations::cross_scale(&self.mixtures, &self.domains, how.seed);
        }
    }
}
