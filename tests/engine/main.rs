//! Tests of src/engine: each module tests the source of its name. No study is used here.

mod checkpoint;
mod data;
mod device;
mod eval;
mod layers;
mod merge;
mod model;
mod ops;
mod type_names;
mod train {
    mod optimizer;
    mod run;
}

#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/cases.rs"]
mod cases;
#[path = "../support/checkpoints.rs"]
mod checkpoints;
#[path = "../support/harness.rs"]
mod harness;
#[path = "../support/reference.rs"]
mod reference;
#[path = "../support/reference_executor.rs"]
mod reference_executor;
#[path = "../support/texts.rs"]
mod texts;
#[path = "../support/trees.rs"]
mod trees;
