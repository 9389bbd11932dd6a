//! Stockpot: which mixture of data partitions to train a language model on, from one short training per
//! partition. ARCHITECTURE.md has the layers; they point one way only, from `cli` down to `device`.

pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod correlate;
pub mod data;
pub mod device;
pub mod error;
pub mod eval;
pub mod files;
pub mod merge;
pub mod model;
pub mod ops;
pub mod report;
pub mod settings_file;
pub mod study;
pub mod terminal;
pub mod train;
