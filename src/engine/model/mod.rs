//! Decoder-only language models built from the ops: configuration, layout of the parameters,
//! forward and backward pass.

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
