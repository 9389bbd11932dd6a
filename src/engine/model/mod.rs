//! Decoder-only language models over the ops: what they are, where their parameters lie, forward and backward.

mod activations;
mod backward;
mod config;
mod forward;
mod memory;
mod params;
mod settings;
mod weights;

pub use activations::{Activations, Inputs, OptimizerArena};
pub use config::{Architecture, Config};
pub use forward::Batch;
pub use memory::MemoryPlan;
pub use params::{LayerOffsets, Parameter, Table};
pub use settings::ModelSettings;
pub use weights::{Model, initial_weights};
