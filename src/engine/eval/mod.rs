//! Scoring models on documents.

mod perplexity;
mod scorer;

pub use perplexity::{DomainScore, rows};
pub use scorer::Scorer;
