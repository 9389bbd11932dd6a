//! The kernels: on the host executor (tests/simt), through NVRTC (tests/nvrtc), on a GPU (cuda.rs),
//! and with the shipped program on the software GPU (tests/driver).

mod banks;
mod conformance;
mod coverage;
mod cuda;
mod executor;
mod gemm;
mod gradient;
mod merger;
mod mutations;
mod ops;
mod spread;
mod study;
mod tiles;
mod tolerances;
mod train;

#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/cases.rs"]
mod cases;
#[path = "../driver/mod.rs"]
mod driver;
#[path = "../support/harness.rs"]
mod harness;
#[path = "../support/merging_on.rs"]
mod merging_on;
#[path = "../nvrtc/mod.rs"]
mod nvrtc;
#[path = "../support/reference.rs"]
mod reference;
#[path = "../simt/mod.rs"]
mod simt;
#[path = "../support/studies.rs"]
mod studies;
#[path = "../support/texts.rs"]
mod texts;
#[path = "../support/training_on.rs"]
mod training_on;
#[path = "../support/trees.rs"]
mod trees;
