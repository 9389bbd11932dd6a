//! Weighted averages of checkpoints. `weights` computes the weight of each, `shares` that of each
//! model in a merge of partitions, and `recipe` reads weights from mergekit's YAML. `pool` opens
//! compatible checkpoints, `weighted_sum` is one weighted sum of them, `stream` computes many sums
//! in one pass over the files, in memory that does not grow with the number of checkpoints, and
//! `write` writes the sums as checkpoints. `merger` loads sums into a model on any device, in the
//! order that `schedule` finds, from the checkpoints that `resident` keeps there. Exact: f64 sums
//! in the given order, rounded once.

mod merger;
mod pool;
mod recipe;
mod resident;
mod schedule;
mod shares;
mod stream;
mod weighted_sum;
mod weights;
mod write;

pub use merger::{Merger, memory_for_pool};
pub use pool::Pool;
pub use recipe::Recipe;
pub use schedule::schedule;
pub use shares::{PoolModel, Share, Terms, macro_merge, macro_of_merges, micro_merge, scaled_merge};
pub use stream::{for_each_block, to_files, to_memory};
pub use weighted_sum::{WeightedSum, check_weights, normalized};
pub use weights::{MergeMember, MergePartition, PartitionWeight, Scaled, Scheme, Weights};
pub use write::{MergeJob, MergePass, MergeReport, write_merges};
