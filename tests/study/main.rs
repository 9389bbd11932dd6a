//! src/study, src/analysis, src/report, src/bench with benches/predict: each module tests the source of its name.

mod analysis;
mod bench;
mod report;
mod study;

#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/runs.rs"]
mod runs;
#[path = "../support/studies.rs"]
mod studies;
#[path = "../support/synthetic.rs"]
mod synthetic;
#[path = "../support/texts.rs"]
mod texts;
#[path = "../support/trees.rs"]
mod trees;
