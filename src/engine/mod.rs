//! The runtime: kernels and their launches, models, training, merging and scoring. It knows no study: nothing here uses
//! the storeys above (`tests/engine/layers.rs` checks it).

pub mod checkpoint;
pub mod data;
pub mod device;
pub mod eval;
pub mod merge;
pub mod model;
pub mod ops;
pub mod train;
