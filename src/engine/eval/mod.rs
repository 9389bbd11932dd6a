//! Scoring models on documents.

mod perplexity;
mod scorer;

pub use perplexity::{DomainScore, rows, score};
pub use scorer::Scorer;
