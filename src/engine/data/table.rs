//! The amount of text of each partition in each split, from which budgets and mixtures are planned.

use crate::engine::data::{ShardInfo, Split};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The text of one partition in one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionRow {
    /// The partition's name; `all` in a row of [`PartitionTable::totals`].
    pub partition: String,
    /// The counts below are for this split only.
    pub split: Split,
    /// Documents in the shard.
    pub documents: u64,
    /// Tokens in the shard, with the EOS after each document.
    pub tokens: u64,
    /// Bytes of text (UTF-8).
    pub bytes: u64,
}

/// One row per partition and split, in the order they were added; `Display` renders it as text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionTable {
    /// Without the sums of [`PartitionTable::totals`].
    pub rows: Vec<PartitionRow>,
}

impl PartitionTable {
    /// Adds the row of a shard.
    pub fn add(&mut self, partition: &str, split: Split, shard: &ShardInfo) {
        self.rows.push(PartitionRow {
            partition: partition.to_string(),
            split,
            documents: shard.documents,
            tokens: shard.tokens,
            bytes: shard.bytes,
        });
    }

    /// The sum over the partitions, per split, in the order train, validation, test; splits without
    /// rows are omitted.
    pub fn totals(&self) -> Vec<PartitionRow> {
        let total = |split| {
            let sum = |of: fn(&PartitionRow) -> u64| self.rows.iter().filter(|r| r.split == split).map(of).sum();
            PartitionRow {
                partition: "all".to_string(),
                split,
                documents: sum(|r| r.documents),
                tokens: sum(|r| r.tokens),
                bytes: sum(|r| r.bytes),
            }
        };
        let present = |split: &Split| self.rows.iter().any(|r| r.split == *split);
        Split::ALL.into_iter().filter(present).map(total).collect()
    }
}

impl fmt::Display for PartitionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<PartitionRow> = self.rows.iter().cloned().chain(self.totals()).collect();
        let name = all.iter().map(|r| r.partition.chars().count()).max().unwrap_or(0).max("partition".len());
        let header = ["documents", "tokens", "bytes", "bytes/token"];
        writeln!(
            f,
            "{:name$}  {:10}  {:>9}  {:>12}  {:>13}  {:>11}",
            "partition", "split", header[0], header[1], header[2], header[3]
        )?;
        for r in &all {
            // Without tokens there is no ratio; the row shows a dash.
            let ratio =
                if r.tokens == 0 { "-".to_string() } else { format!("{:.2}", r.bytes as f64 / r.tokens as f64) };
            let (documents, tokens, bytes) = (thousands(r.documents), thousands(r.tokens), thousands(r.bytes));
            writeln!(
                f,
                "{:name$}  {:10}  {documents:>9}  {tokens:>12}  {bytes:>13}  {ratio:>11}",
                r.partition, r.split
            )?;
        }
        Ok(())
    }
}

/// 1234567 as 1,234,567.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let first = (digits.len() - 1) % 3 + 1;
    let mut out = digits[..first].to_string();
    for at in (first..digits.len()).step_by(3) {
        out.push(',');
        out.push_str(&digits[at..at + 3]);
    }
    out
}
