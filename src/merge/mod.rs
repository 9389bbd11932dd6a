//! Weighted averages of checkpoints: `plan` checks what is to be summed with which weights, `stream` sums it in one
//! pass over the files, in memory that does not grow with their number. Exact: f64 sums in the given order, rounded
//! once. `on_device` does the same on a GPU, into a model.

mod on_device;
mod plan;
mod stream;

pub use on_device::load_average;
pub use plan::{Mixture, Plan, check_weights, normalized};
pub use stream::{MergeOptions, MergeReport, merge_to_directory};
