//! Every kernel on the host executor (tests/simt): every case of tests/support/cases.rs against the
//! f64 reference, with operands in bf16 as on a GPU, and bit-identical in every mode. Kernels that
//! also support f32 meet the CPU's bounds.

use crate::cases::{self, Case};
use crate::harness::Harness;
use crate::simt::{Build, Mode, Simt, Source, run_sanitized};
use crate::tolerances::{self, Output, Worst, bits};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use stockpot::engine::device::{DType, Launch};

fn run(case: &Case, simt: Simt, compute: DType) -> Result<Vec<Output>, String> {
    Ok(tolerances::run(case, simt.device(compute))?.0)
}

/// Whether a case runs in a mode. Random numbers find everything that depends on the order of
/// threads; for the hooked mode small shapes suffice, for the largest shapes two orders.
fn runs_in(case: &Case, mode: Mode) -> bool {
    let random = case.name.contains("Random") && (mode == Mode::RANDOM || !case.name.contains(" large "));
    let large = ["(300,", "700 x", "100003"].iter().any(|part| case.name.contains(part));
    match mode {
        Mode::FORWARD => true,
        _ if mode.build == Build::Hooked => random && !large,
        _ => random,
    }
}

fn check_case(case: &Case, compute: DType, worst: &Mutex<Worst>) -> Result<(), String> {
    let first = run(case, Simt::new(Mode::FORWARD), compute)?;
    worst.lock().expect("no panic while locked").note(case, &first);
    first.iter().try_for_each(|output| output.check(case))?;
    for mode in Mode::ALL.into_iter().skip(1).filter(|&mode| runs_in(case, mode)) {
        if bits(&first) != bits(&run(case, Simt::new(mode), compute).map_err(|e| format!("{mode:?}: {e}"))?) {
            return Err(format!("{}: different bits in {mode:?} than in {:?}", case.name, Mode::FORWARD));
        }
    }
    Ok(())
}

fn cases_of(family: &str) -> Vec<Case> {
    let cases: Vec<Case> = cases::all().into_iter().filter(|c| c.name.starts_with(family)).collect();
    assert!(!cases.is_empty(), "no case of {family}");
    cases
}

/// Checks that every case of a family is right in `compute` and the same in every mode. Prints the
/// worst errors.
fn check(family: &str, compute: DType) {
    let worst = Mutex::default();
    if let Err(message) = cases_of(family).par_iter().try_for_each(|case| check_case(case, compute, &worst)) {
        panic!("operands in {compute:?}: {message}");
    }
    println!("operands in {compute:?}:\n{}", worst.into_inner().expect("no panic while locked"));
}

/// One test for each family of ops, so that they run in parallel.
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
    inner_products: "inner_products";
}

#[test]
fn no_case_is_left_out() {
    for case in cases::all() {
        let families = FAMILIES.iter().filter(|prefix| case.name.starts_with(*prefix)).count();
        assert_eq!(families, 1, "{} belongs to one of the tests above", case.name);
    }
}

/// A launch of each kernel, by its name.
fn launches() -> BTreeMap<&'static str, Launch> {
    let (mut ops, mut launches) = (BTreeSet::new(), BTreeMap::new());
    for case in cases::all() {
        let op = case.name.split(' ').next().expect("a name").to_string();
        if ops.insert(op) {
            let built = (case.build)(&mut Harness::new(Simt::bf16(Mode::FORWARD), case.gap));
            launches.extend(built.op.launches().into_iter().map(|launch| (launch.kernel, launch)));
        }
    }
    launches
}

/// (file, kernel) of every `__global__` function in kernels/.
fn kernels_in_files() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for entry in Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels").read_dir().expect("kernels/ can be listed") {
        let path = entry.expect("an entry of kernels/").path();
        let text = std::fs::read_to_string(&path).expect("a kernel's file can be read");
        for head in text.split("__global__ void __launch_bounds__(").skip(1) {
            let (_, signature) = head.split_once(')').expect("the end of the bounds");
            let (name, _) = signature.split_once('(').expect("parameters");
            let file = path.file_stem().expect("a file's name").to_string_lossy().into_owned();
            found.insert((file, name.trim().to_string()));
        }
    }
    found
}

/// A kernel is selected by its name alone, so each file refuses to compile without the name of one
/// of its kernels.
#[test]
fn no_file_compiles_without_the_name_of_one_of_its_kernels() {
    let launches = launches();
    let launched = launches.values().map(|launch| (launch.file.to_string(), launch.kernel.to_string())).collect();
    assert_eq!(kernels_in_files(), launched, "kernels in kernels/, and those that cases launch");
    launches.into_par_iter().for_each(|(kernel, launch)| {
        let source = Source::of(&launch);
        let refusal = format!("{}.cu: define KERNEL_<name> for one kernel of this file", launch.file);
        for name in ["", "unknown"] {
            let rename = |option: &String| match option.strip_prefix("-DKERNEL_") {
                Some(_) => (!name.is_empty()).then(|| format!("-DKERNEL_{name}")),
                None => Some(option.clone()),
            };
            let options: Vec<String> = source.options.iter().filter_map(rename).collect();
            let error = Source { options, ..source.clone() }.library().expect_err(kernel);
            assert!(error.contains(&refusal), "{kernel} as {name:?}: {error}");
        }
    });
}

/// AddressSanitizer finds a fault that the executor's own checks do not: a kernel that leaves one
/// of its local arrays.
#[test]
fn no_kernel_leaves_a_local_array() {
    let (passed, output) = run_sanitized("ops::sanitized_child");
    assert!(passed, "{output}");
}

#[test]
#[ignore = "runs in the process that no_kernel_leaves_a_local_array starts"]
fn sanitized_child() {
    let mode = Mode { build: Build::Sanitized, ..Mode::RANDOM };
    let chosen = |case: &&Case| runs_in(case, Mode::HOOKED) && (case.gap == 0 || case.gap == 5);
    for family in FAMILIES {
        for case in cases_of(family).iter().filter(chosen) {
            run(case, Simt::new(mode), DType::Bf16).expect("no report");
        }
    }
}
