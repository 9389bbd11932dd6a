//! Documents to tokens to training windows:
//!
//! ```text
//! files -> documents -> split -> decontaminate -> tokenizer -> shard -> batch
//! ```
//!
//! Everything here is a pure function of the files and the settings: the order of documents is the
//! order of sorted paths and lines, splits and windows come from hashes and seeds, and no result
//! depends on the number of threads. `study` decides which partitions exist and what is trained on
//! them.

pub mod batch;
pub mod decontaminate;
mod document;
pub mod documents;
mod parquet;
pub mod shard;
pub mod split;
pub mod table;
pub mod tokenizer;

pub use batch::{Stream, StreamMember, WindowOrder, eval_windows, fill_eval_window, windows_in};
pub use decontaminate::{Contamination, DEFAULT_NGRAM, Decontaminator, NgramPlace};
pub use document::Document;
pub use documents::{expand, for_each_document, hash_files};
pub use shard::{Shard, ShardInfo, ShardWriter, TokenType};
pub use split::{Split, SplitRule};
pub use table::{PartitionRow, PartitionTable};
pub use tokenizer::Tokenizer;
