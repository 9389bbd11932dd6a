//! Stockpot: which mixture of data partitions to train a language model on, from one short training
//! per partition. ARCHITECTURE.md lists the layers; dependencies point one way only, from `cli`
//! down to `engine::device`.

#![warn(missing_docs)]

pub mod analysis;
pub mod apportion;
pub mod bench;
pub mod cli;
pub mod engine;
pub mod error;
pub mod files;
pub mod lock;
pub mod progress;
pub mod recipe;
pub mod report;
pub mod search;
pub mod settings_file;
pub mod study;
