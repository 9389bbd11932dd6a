//! Scoring models on documents.

mod perplexity;

pub use perplexity::{DomainScore, rows, score};
