//! src/study, src/analysis, src/report and src/bench: each module here tests the source of its name.

mod analysis;
mod bench;
mod report;
mod study;

#[path = "../support/common.rs"]
mod common;
#[path = "../support/synthetic.rs"]
mod synthetic;
