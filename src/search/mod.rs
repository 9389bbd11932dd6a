//! The search for the best mixture among all. The losses of merges are functions of the weights
//! that a few gradients determine (`form`); within bounds (`constraints`) an objective
//! (`objective`) is minimized over weights (`continuous`), subsets (`subsets`, `branch`) and base
//! units (`units`). `run` is the whole search, on real merges that the caller computes; `outcome`
//! is its result, `calibration` its relation to SEQ, `baselines` what it is compared with. A search
//! knows no study and no model.

mod baselines;
mod branch;
mod calibration;
mod constraints;
mod continuous;
mod form;
mod objective;
mod outcome;
mod run;
mod subsets;
mod units;

pub use baselines::{natural, unimax};
pub use branch::{Proven, branch_and_bound};
pub use calibration::{Calibration, FEWEST, LambdaFit, Verified, calibrate};
pub use constraints::{Bounds, Constraints, Group, grouped};
pub use continuous::{Found, minimize};
pub use form::{Cubic, Expansion, Form, FormError, Point};
pub use objective::{Landscape, Objective, Target, divergence};
pub use outcome::{Candidate, ExpansionReport, Outcome, PathPoint, SubsetSearch};
pub use run::{Merges, Problem, search};
pub use subsets::{MOST_SCANNED, Subset, scan};
