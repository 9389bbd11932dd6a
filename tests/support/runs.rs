//! The small study (studies.rs), run by the binary.

use crate::binary::stockpot;
use crate::studies::write_study;
use tempfile::TempDir;

pub const RUN: [&str; 6] = ["run", "study.toml", "--device", "cpu", "--out", "out"];

pub fn fresh() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    write_study(dir.path());
    dir
}

pub fn finished() -> TempDir {
    let dir = fresh();
    stockpot(dir.path(), &RUN).done();
    dir
}
