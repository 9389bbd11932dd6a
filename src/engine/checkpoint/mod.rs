//! Hugging Face checkpoint directories in and out, and the optimizer's and trainer's state beside them.
//!
//! `config` reads and writes `config.json`; `tensors` one safetensors file, `mapping` its bytes in memory; `layout`
//! finds a model's tensors in a set of files; `read`, `write` and `state` are the directory's parts. Writers fill a
//! directory that [`crate::files::write_directory_atomic`] made, and leave flushing and renaming to it.

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
