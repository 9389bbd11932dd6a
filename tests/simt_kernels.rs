//! Every kernel on the host executor (tests/simt): every case of tests/cases against the f64 reference, with operands in
//! bf16 as on a GPU, and bit for bit the same in every mode. Kernels that are written for f32 too meet the bounds that
//! the CPU meets.

mod cases;
mod lab;
mod reference;
mod simt;

use cases::Case;
use cases::kernels::{self, Output, bits};
use rayon::prelude::*;
use simt::{Build, Mode, Simt};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use stockpot::device::DType;

fn run(case: &Case, mode: Mode, compute: DType) -> Vec<Output> {
    kernels::run(case, Simt::new(mode).device(compute)).0
}

/// Whether a case runs in a mode. Random numbers find all that depends on the order of threads, and hooks find it in
/// small shapes.
fn runs_in(case: &Case, mode: Mode) -> bool {
    let random = case.name.contains("Random");
    let large = ["(300,", "700 x", "100003"].iter().any(|part| case.name.contains(part));
    match mode {
        Mode::FORWARD => true,
        _ if mode.build == Build::Hooked => random && !large,
        _ => random,
    }
}

/// Every case whose name begins with `op`: right in `compute`, and the same in every mode. Prints the worst errors.
fn check(op: &str, compute: DType) {
    let cases: Vec<Case> = cases::all().into_iter().filter(|c| c.name.starts_with(op)).collect();
    assert!(!cases.is_empty(), "no case of {op}");
    let worst: Mutex<BTreeMap<String, (f64, String)>> = Mutex::default();
    cases.par_iter().for_each(|case| {
        let first = run(case, Mode::FORWARD, compute);
        for o in &first {
            let (name, dtype, error, bound) = (o.name, o.dtype, o.error, o.bound);
            let key = format!("{} {name} {dtype:?}", case.name.split(' ').next().unwrap_or_default());
            let mut worst = worst.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = worst.entry(key).or_default();
            if error >= entry.0 {
                *entry = (error, case.name.clone());
            }
            drop(worst);
            let what = format!("{} {compute:?}: {name} {dtype:?} is off by {error:.2e}", case.name);
            assert!(error <= bound, "{what}, allowed {bound:.2e} ({})", o.reason);
        }
        for mode in Mode::ALL.into_iter().skip(1).filter(|&mode| runs_in(case, mode)) {
            let same = bits(&first) == bits(&run(case, mode, compute));
            assert!(same, "{} {compute:?}: other bits in {mode:?}", case.name);
        }
    });
    for (what, (error, case)) in worst.into_inner().expect("no panic") {
        println!("{what} {compute:?}: {error:.2e} in {case}");
    }
}

/// One test for each family of ops, so that they run side by side.
macro_rules! families {
    ($($test:ident: $prefix:literal $(, $f32:ident)?;)*) => {
        const FAMILIES: &[&str] = &[$($prefix),*];
        $(
            #[test]
            fn $test() {
                check($prefix, DType::Bf16);
                $(check($prefix, DType::$f32);)?
            }
        )*
    };
}

families! {
    products: "gemm";
    norms: "rms_norm", F32;
    rotations: "rope", F32;
    gates: "swiglu", F32;
    attention: "attention";
    losses: "cross_entropy", F32;
    sums_of_losses: "loss_sum";
    embeddings: "embedding", F32;
    gradient_norms: "grad_norm";
    updates: "adamw", F32;
    fills: "fill";
    merges: "merge";
}

#[test]
fn no_case_is_left_out() {
    for case in cases::all() {
        let families = FAMILIES.iter().filter(|prefix| case.name.starts_with(*prefix)).count();
        assert_eq!(families, 1, "{} belongs to one of the tests above", case.name);
    }
}
