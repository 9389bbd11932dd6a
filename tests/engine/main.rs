//! src/engine: each module here tests the source of its name.

mod checkpoint;
mod data;
mod merge;
mod model;
mod ops;
mod train {
    mod run;
}

#[path = "../support/cases.rs"]
mod cases;
#[path = "../support/common.rs"]
mod common;
#[path = "../support/harness.rs"]
mod harness;
#[path = "../support/reference.rs"]
mod reference;
#[path = "../support/reference_executor.rs"]
mod reference_executor;
