//! The search for the best mixture among all. The losses of merges are functions of the weights
//! that a few gradients determine (`form`); within bounds (`constraints`) an objective
//! (`objective`) is minimized over weights (`continuous`), subsets (`subsets`, `branch`) and base
//! units (`units`). `run` is the whole search of a `problem`, on real merges that the caller
//! computes: `expansions` makes the first forms, `polish` improves the best weights, and `outcome`
//! is the result; `calibration` is its relation to SEQ, `confidence` how sure the choice is, `baselines`
//! what it is compared with. A
//! search knows no study and no model.

mod baselines;
mod branch;
mod calibration;
mod confidence;
mod constraints;
mod continuous;
mod expansions;
mod form;
mod objective;
mod outcome;
mod polish;
mod problem;
mod run;
mod subsets;
mod units;

pub use baselines::{natural, unimax};
pub use branch::{Proven, branch_and_bound};
pub use calibration::{Calibration, LambdaFit, Verified, calibrate};
pub use confidence::{Confidence, DocumentNats, Estimate, Evidence, FEWEST, ScoredMerge, SeqRun, confidence};
pub use constraints::{Bounds, Constraints, Group, grouped};
pub use continuous::{Found, minimize};
pub use form::{Cubic, Expansion, Form, FormError, Point};
pub use objective::{Landscape, Objective, Target, divergence};
pub use outcome::{Candidate, ExpansionReport, Outcome, PathPoint, SubsetSearch};
pub use problem::{MOST_PARTITIONS, Merges, Problem};
pub use run::search;
pub use subsets::{MOST_SCANNED, Subset, scan};
