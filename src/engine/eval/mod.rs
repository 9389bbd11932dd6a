//! Scoring models on documents: losses, and their gradients in the weights of a merge.

mod gradient;
mod perplexity;
mod scorer;

pub use gradient::{GradientScorer, MergeGradient};
pub use perplexity::{DomainScore, rows, score};
pub use scorer::Scorer;
