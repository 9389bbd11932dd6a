//! Decoder-only language models over the ops: what they are, where their parameters lie, forward and backward.

mod config;
mod params;

pub use config::{Architecture, Config};
pub use params::{LayerOffsets, Parameter, Table};
