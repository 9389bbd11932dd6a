//! Tolerances of kernels on every executor: the cases with the bounds of bf16, on the host executor
//! (ops.rs) and on a GPU (cuda.rs).

use crate::cases::{Built, Case, TOLERANCES, relative_error};
use crate::harness::{Harness, Role};
use std::collections::BTreeMap;
use std::fmt;
use stockpot::engine::device::{DType, Device};

/// Maximum error of a kernel's f32 and bf16 outputs against the f64 reference computed from the
/// operands' bf16 values, as `bound` in tests/support/cases.rs.
struct Bound {
    op: &'static str,
    f32: f64,
    bf16: f64,
    reason: &'static str,
}

/// Maximum change of a number of magnitude 1 by one rounding to bf16, which has 8 significant bits.
const ROUNDING: f64 = 1.0 / 256.0;

const fn row(op: &'static str, f32: f64, bf16: f64, reason: &'static str) -> Bound {
    Bound { op, f32, bf16, reason }
}

const KERNEL_TOLERANCES: [Bound; 19] = [
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
    row("loss_sum", 1e-14, 0.0, "sums in f64, in another order"),
    row("adamw_step", 1e-7, 0.0, "computed in f64, rounded once"),
    row("merge", 0.0, 0.0, "the same roundings in the same order, the copy's too"),
    row("inner_products", 1.5e-14, 0.0, "sums of exact products in f64, in another order"),
    row("adamw", 3e-7, 1.01 * ROUNDING, "eight consecutive roundings, and one of the copy"),
];

/// The worst error of each output of each op, and its case.
#[derive(Default)]
pub struct Worst(BTreeMap<String, (f64, String)>);

impl Worst {
    pub fn note(&mut self, case: &Case, outputs: &[Output]) {
        for o in outputs {
            let op = case.name.split(' ').next().unwrap_or_default();
            let entry = self.0.entry(format!("{op} {} {:?}", o.name, o.dtype)).or_default();
            if o.error >= entry.0 {
                *entry = (o.error, case.name.clone());
            }
        }
    }
}

impl fmt::Display for Worst {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|(output, (error, case))| writeln!(f, "{output} is off by up to {error:.2e} ({case})"))
    }
}

pub struct Output {
    pub name: &'static str,
    pub values: Vec<f64>,
    pub dtype: DType,
    /// Its largest error relative to the larger of 0.1 and the largest expected magnitude.
    pub error: f64,
    pub bound: f64,
    pub reason: &'static str,
}

/// The element types of the outputs declared so far.
fn output_types(harness: &Harness) -> Vec<(&'static str, DType)> {
    let outputs = harness.tensors.iter().filter(|t| t.role == Role::Output);
    outputs.map(|t| (t.name, t.runs[0].part.dtype())).collect()
}

/// Runs a case on a device of kernels and returns the device, which on a GPU holds loaded kernels.
/// An error is that of the executor or the harness.
pub fn run(case: &Case, device: Device) -> Result<(Vec<Output>, Device), String> {
    let compute = device.compute_dtype();
    let mut harness = Harness::new(device, case.gap);
    let Built { op, expected } = (case.build)(&mut harness);
    let types = output_types(&harness);
    let outputs = harness.try_run(&*op).map_err(|e| format!("{} {compute:?}: {e}", case.name))?;
    assert_eq!(outputs.len(), expected.len(), "{}", case.name);
    let mut checked = Vec::new();
    for ((name, values), (expected_name, want)) in outputs.into_iter().zip(expected) {
        assert_eq!((name, values.len()), (expected_name, want.len()), "{}", case.name);
        let dtype = types.iter().find(|(n, _)| *n == name).expect("a declared output").1;
        let (bound, reason) = bound_of(op.name(), compute, dtype);
        let error = relative_error(&values, &want, bound == 0.0);
        checked.push(Output { name, values, dtype, error, bound, reason });
    }
    Ok((checked, harness.device))
}

impl Output {
    /// An error if it differs from the reference by more than its bound.
    pub fn check(&self, case: &Case) -> Result<(), String> {
        let Output { name, dtype, error, bound, reason, .. } = self;
        if error <= bound {
            return Ok(());
        }
        Err(format!("{}: {name} {dtype:?} is off by {error:.2e}, allowed {bound:.2e} ({reason})", case.name))
    }
}

fn bound_of(op: &str, compute: DType, output: DType) -> (f64, &'static str) {
    if compute == DType::F32 {
        let row = TOLERANCES.iter().find(|t| t.op == op).expect("every op has a tolerance");
        return (row.bound, row.reason);
    }
    let row = KERNEL_TOLERANCES.iter().find(|t| t.op == op).expect("every kernel has a tolerance");
    (if output == DType::Bf16 { row.bf16 } else { row.f32 }, row.reason)
}

/// All bits of all outputs.
pub fn bits(outputs: &[Output]) -> Vec<u64> {
    outputs.iter().flat_map(|o| o.values.iter().map(|x| x.to_bits())).collect()
}
