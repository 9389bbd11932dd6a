//! Training: settings and learning-rate schedule, AdamW over the arena, the loop with its resumable
//! checkpoints.

mod observed;
mod optimizer;
mod run;
mod settings;

pub use observed::train_observed;
pub use optimizer::{Optimizer, Update};
pub use run::{
    Metrics, Start, TrainingRun, memory_plan, partial_path, partial_steps, read_metrics, read_start,
    remove_finished_partial, train,
};
pub use settings::{Schedule, Settings};
