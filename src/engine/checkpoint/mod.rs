//! Reads and writes Hugging Face checkpoint directories, with the optimizer's and trainer's state
//! beside them.
//!
//! `config` reads and writes `config.json`; `tensors` handles one safetensors file, `mapping` its
//! bytes in memory; `layout` finds a model's tensors in a set of files; `read`, `write` and `state`
//! handle the parts of the directory. Writers fill a directory made by
//! [`crate::files::write_directory_atomic`], which flushes and renames it.

mod config;
mod content;
mod layout;
mod mapping;
mod read;
mod state;
mod tensors;
mod weights;
mod write;

pub use crate::engine::ops::dtype_convert::StorageDType;
pub use config::{config_json, read_config};
pub use content::content_key;
pub use read::Reader;
pub use state::{OptimizerState, TrainerState};
pub use tensors::{Tensor, TensorFile};
pub use weights::read_weights;
pub use write::{WeightsFile, copy_companions, write_model};
