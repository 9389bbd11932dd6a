//! The runtime: kernels and their launches, models, training, merging and scoring. It knows no
//! study: nothing here uses the layers above (checked by `tests/engine/layers.rs`).

pub mod checkpoint;
pub mod data;
pub mod device;
pub mod eval;
pub mod merge;
pub mod model;
pub mod ops;
pub mod train;
