//! Tests of src/study, src/recipe, src/analysis, src/report, and src/bench with benches/predict. Each module
//! tests the source of the same name.

mod analysis;
mod bench;
mod recipe;
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
