//! Training metrics as a TensorBoard event file.
//!
//! A file is a sequence of TFRecord records: the length of the data (u64), the masked CRC-32C of
//! these eight bytes (u32), the data, its masked CRC-32C (u32); little-endian. The data is an
//! `Event` in protobuf. Formats: tensorflow/core/lib/io/record_writer.h,
//! tensorflow/core/lib/hash/crc32c.h, tensorflow/core/util/event.proto,
//! core/framework/summary.proto.
//!
//! No clock is read: equal metrics give equal bytes. An event's `wall_time` is its step, in seconds
//! since 1970, so TensorBoard's "relative" axis shows steps as seconds.

use crate::engine::train::Metrics;
use crate::error::Result;
use crate::files;
use prost::Message;
use std::path::{Path, PathBuf};

/// TensorBoard finds files by "tfevents" in their name; a time and a host usually follow it.
const FILE: &str = "events.out.tfevents.0.stockpot";

/// Fields of `event.proto` that are written.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    /// Only in the first event.
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<EventSummary>,
}

#[derive(Clone, PartialEq, Message)]
struct EventSummary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    /// A case of a `oneof`; optional, so that 0 is written too.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// The bytes of an event file: `loss` (nats per token), `learning_rate` and `grad_norm` of each
/// row, at its step.
pub fn events(rows: &[Metrics]) -> Vec<u8> {
    let mut out = Vec::new();
    let version = Event { file_version: Some("brain.Event:2".into()), ..Event::default() };
    record(&mut out, &version);
    for row in rows {
        let values =
            [("loss", row.loss as f32), ("learning_rate", row.learning_rate as f32), ("grad_norm", row.grad_norm)];
        let value = values.map(|(tag, v)| SummaryValue { tag: tag.into(), simple_value: Some(v) }).to_vec();
        let summary = Some(EventSummary { value });
        let event = Event { wall_time: row.step as f64, step: row.step as i64, file_version: None, summary };
        record(&mut out, &event);
    }
    out
}

/// Writes the event file of the training `name` into its own directory in `dir`, which TensorBoard
/// shows as a run. Errors: the file system's.
pub fn write(dir: &Path, name: &str, rows: &[Metrics]) -> Result<()> {
    let run = run_directory(dir, name);
    files::create_directory(&run)?;
    files::write_atomic(&run.join(FILE), |out| out.write_all(&events(rows)))
}

/// `dir/name`, with its spaces, so that the run has the same name in TensorBoard as in the report.
/// If `name` is not a valid directory name on every system, invalid characters become `_` and a
/// part of its hash is appended, so no two names share a directory.
pub fn run_directory(dir: &Path, name: &str) -> PathBuf {
    const LONGEST: usize = 120;
    let fits = |c: char| c.is_ascii_alphanumeric() || " -_+.@=".contains(c);
    let ends = |name: &str| name.starts_with(['.', ' ']) || name.ends_with(['.', ' ']);
    if !name.is_empty() && name.len() <= LONGEST && name.chars().all(fits) && !ends(name) {
        return dir.join(name);
    }
    let clean: String = name.chars().map(|c| if fits(c) { c } else { '_' }).take(LONGEST).collect();
    dir.join(format!("{}_{}", clean.trim_start_matches(['.', ' ']), &blake3::hash(name.as_bytes()).to_hex()[..8]))
}

fn record(out: &mut Vec<u8>, event: &Event) {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    out.extend(length);
    out.extend(masked_crc(&length).to_le_bytes());
    out.extend(&data);
    out.extend(masked_crc(&data).to_le_bytes());
}

/// TFRecord's masked CRC: rotated and offset, because the plain CRC of data that contains CRCs
/// could be a special value.
fn masked_crc(bytes: &[u8]) -> u32 {
    const CRC32C: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    CRC32C.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}
