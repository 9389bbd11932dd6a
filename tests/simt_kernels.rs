//! Every kernel on the host executor (tests/simt): every case of tests/cases against the f64 reference, with operands in
//! bf16 as on a GPU, and bit for bit the same in every mode. Kernels that are written for f32 too meet the bounds that
//! the CPU meets.

mod cases;
mod lab;
mod reference;
mod simt;

use cases::{Built, Case, Fill, TOLERANCES};
use lab::Lab;
use rayon::prelude::*;
use simt::{Build, Mode, Simt};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use stockpot::device::DType;

/// How far a kernel's outputs may be from the f64 reference computed from the operands' bf16 values, as `bound` in
/// tests/cases: f32 outputs, and bf16 outputs.
struct Tolerance {
    op: &'static str,
    f32: f64,
    bf16: f64,
    reason: &'static str,
}

/// The most that one rounding to bf16, which has 8 significant bits, changes a number of magnitude 1.
const ROUNDING: f64 = 1.0 / 256.0;

const fn row(op: &'static str, f32: f64, bf16: f64, reason: &'static str) -> Tolerance {
    Tolerance { op, f32, bf16, reason }
}

const KERNEL_TOLERANCES: [Tolerance; 19] = [
    row("gemm", 2e-6, 1.01 * ROUNDING, "sums in f32, one rounding at the end"),
    row("rms_norm_forward", 1e-6, 1.01 * ROUNDING, "computed in f32, one rounding at the end"),
    row("rms_norm_backward", 4e-6, 1.01 * ROUNDING, "computed in f32, one rounding at the end"),
    row("rope", 0.0, 1.01 * ROUNDING, "computed in f32, one rounding at the end"),
    row("swiglu_forward", 0.0, 1.01 * ROUNDING, "computed in f32, one rounding at the end"),
    row("swiglu_backward", 0.0, 1.01 * ROUNDING, "computed in f32, one rounding at the end"),
    row("attention_forward", 4e-6, 2.0 * ROUNDING, "the weights are rounded before the product, its sum after"),
    row(
        "attention_backward",
        2.0 * ROUNDING,
        4.0 * ROUNDING,
        "weights and their gradients are rounded before products",
    ),
    row("cross_entropy", 1e-6, 0.0, "exponentials and one logarithm in f32"),
    row("cross_entropy_gradient", 1e-6, 1.01 * ROUNDING, "computed in f32, one rounding at the end"),
    row("embedding_forward", 0.0, 0.0, "a copy"),
    row("embedding_backward", 2e-6, 0.0, "sums of up to 80 rows in f32"),
    row("grad_norm", 1e-7, 0.0, "sums in f64, rounded once"),
    row("fill", 0.0, 0.0, "a copy"),
    row("loss_sum", 1e-7, 0.0, "a sum in f64, read as f32"),
    row("adamw_step", 1e-7, 0.0, "computed in f64, rounded once"),
    row("merge_add", 0.0, 0.0, "the same roundings to f64 in the same order"),
    row("merge_round", 0.0, 1.01 * ROUNDING, "one rounding"),
    row("adamw", 3e-7, 1.01 * ROUNDING, "eight roundings in a row, and one of the copy"),
];

struct Output {
    name: &'static str,
    values: Vec<f64>,
    dtype: DType,
    /// Its largest error as a part of the larger of 0.1 and the largest expected magnitude.
    error: f64,
    bound: f64,
    reason: &'static str,
}

/// Runs a case in one mode.
fn run(case: &Case, mode: Mode, compute: DType) -> Vec<Output> {
    let mut lab = Lab::new(Simt::new(mode).device(compute), case.gap);
    let Built { op, expected } = (case.build)(&mut lab);
    let types = lab.output_types();
    let outputs = lab.run(&*op);
    assert_eq!(outputs.len(), expected.len(), "{}", case.name);
    let mut checked = Vec::new();
    for ((name, values), (expected_name, want)) in outputs.into_iter().zip(expected) {
        assert_eq!((name, values.len()), (expected_name, want.len()), "{}", case.name);
        let largest = want.iter().fold(0.1f64, |a, b| a.max(b.abs()));
        // A NaN that is not expected is an infinite error.
        let error_of = |(&got, &want): (&f64, &f64)| {
            let error = (got - want).abs();
            if error.is_nan() { f64::INFINITY } else { error }
        };
        let error = values.iter().zip(&want).map(error_of).fold(0.0, f64::max) / largest;
        let dtype = types.iter().find(|(n, _)| *n == name).map_or(DType::F64, |(_, dtype)| *dtype);
        let (bound, reason) = bound_of(op.name(), compute, dtype);
        checked.push(Output { name, values, dtype, error, bound, reason });
    }
    checked
}

fn bound_of(op: &str, compute: DType, output: DType) -> (f64, &'static str) {
    if compute == DType::F32 {
        let row = TOLERANCES.iter().find(|t| t.op == op).expect("every op has a tolerance");
        return (row.bound, row.reason);
    }
    let row = KERNEL_TOLERANCES.iter().find(|t| t.op == op).expect("every kernel has a tolerance");
    (if output == DType::Bf16 { row.bf16 } else { row.f32 }, row.reason)
}

fn bits(outputs: &[Output]) -> Vec<u64> {
    outputs.iter().flat_map(|o| o.values.iter().map(|x| x.to_bits())).collect()
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
    let cases: Vec<Case> = cases::all().into_iter().filter(|c| c.has_kernel && c.name.starts_with(op)).collect();
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
