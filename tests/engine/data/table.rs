//! The table of partitions.

use super::{shard, temp};
use stockpot::engine::data::*;

#[test]
fn the_table_counts_partitions_and_splits() {
    let dir = temp();
    let shard = shard(&dir.path().join("s"), &[vec![1; 1_234_567], vec![2; 3]]);
    let mut table = PartitionTable::default();
    table.add("law", Split::Train, shard.info());
    table.add("law", Split::Test, shard.info());
    table.add("physics", Split::Train, shard.info());
    let totals = table.totals();
    assert_eq!(totals.iter().map(|r| r.split).collect::<Vec<_>>(), [Split::Train, Split::Test]);
    assert_eq!((totals[0].documents, totals[0].tokens, totals[0].bytes), (4, 2 * 1_234_572, 20));
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6);
    assert!(lines[0].starts_with("partition") && lines[0].ends_with("bytes/token"));
    assert!(lines[1].contains("1,234,572") && lines[2].contains("test"), "{text}");
    assert!(lines.iter().all(|l| l.chars().count() == lines[0].chars().count()), "{text}");
    let back: PartitionTable = serde_json::from_str(&serde_json::to_string(&table).unwrap()).unwrap();
    assert_eq!(back, table);
}
