//! Weighted averages of checkpoints. `weights` says how much each counts, `recipe` reads that from mergekit's YAML.
//! `pool` opens checkpoints that fit each other, `mixture` is one weighted sum of them, `stream` sums many in one pass
//! over the files, in memory that does not grow with the number of checkpoints, and `write` makes checkpoints of the
//! sums. Exact: f64 sums in the given order, rounded once. `on_device` does the same on a GPU, into a model.

mod mixture;
mod on_device;
mod pool;
mod recipe;
mod stream;
mod weights;
mod write;

pub use mixture::{Mixture, check_weights, normalized};
pub use on_device::load_average;
pub use pool::Pool;
pub use recipe::Recipe;
pub use stream::{for_each_block, to_files, to_memory};
pub use weights::{MergeMember, Partition, PartitionWeight, Scaled, Scheme, Weights};
pub use write::{Merge, MergeOptions, MergeReport, Pass, merge_to_directory, write_merges};
