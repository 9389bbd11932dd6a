//! Bank conflicts of shared memory: each kernel's worst access in the hooked mode of the host
//! executor, and swizzles whose removal must be noticed.

use crate::cases::{self, Case};
use crate::harness::Harness;
use crate::simt::{Banks, Mode, Patch, Simt};
use crate::tiles::{LAYOUTS, product};
use rayon::prelude::*;
use std::collections::BTreeMap;
use stockpot::engine::device::{DType, Device};
use stockpot::engine::ops::{GEMM_TILES, GemmTile};

/// A kernel's most words for one bank in one phase of an access (1: no conflicts).
struct Bound {
    kernel: &'static str,
    degree: u32,
    reason: &'static str,
}

const fn row(kernel: &'static str, degree: u32, reason: &'static str) -> Bound {
    Bound { kernel, degree, reason }
}

const FREE: &str = "swizzled, or neighbours in neighbouring banks";

const BOUNDS: &[Bound] = &[
    row("attention_backward_kv", 1, FREE),
    row("attention_backward_q", 1, FREE),
    row("attention_forward", 1, FREE),
    row("cross_entropy", 1, FREE),
    row("embedding_backward", 1, FREE),
    row("grad_norm", 1, FREE),
    row("grad_norm_partial", 1, FREE),
    row("inner_products_partial", 1, FREE),
    row("loss_sum", 1, FREE),
    row("rms_norm_backward", 2, "a thread's 8 floats of the sums of dweight are two vectors, 32 bytes apart"),
    row("rms_norm_backward_weight", 1, FREE),
];

/// Small, with whole tiles and vectors: attention of each tile width.
const CASES: &[&str] = &[
    "attention_forward AttentionShape { batch: 2, context: 31",
    "attention_forward AttentionShape { batch: 2, context: 67",
    "attention_forward AttentionShape { batch: 1, context: 130",
    "attention_forward extreme AttentionShape { batch: 1, context: 67",
    "attention_backward AttentionShape { batch: 2, context: 31",
    "attention_backward AttentionShape { batch: 2, context: 67",
    "attention_backward AttentionShape { batch: 1, context: 130",
    "attention_backward AttentionShape { batch: 1, context: 321",
    "rms_norm_forward 34 x 776",
    "rms_norm_forward 67 x 513",
    "rms_norm_backward 34 x 776",
    "rms_norm_backward 67 x 513",
    "cross_entropy 34 x 776",
    "embedding_backward 34 x 776",
    "loss_sum 34 x 776",
    "grad_norm max 0.5 1025",
    "inner_products 9 x 11 x 2049",
];

fn chosen() -> Vec<Case> {
    let named = |case: &Case| CASES.iter().any(|name| case.name.starts_with(name));
    cases::all().into_iter().filter(|case| case.name.contains("Random") && named(case)).collect()
}

fn device(banks: &Banks, patch: Option<&Patch>) -> Device {
    let simt = Simt::new(Mode::HOOKED).with_banks(banks);
    patch.cloned().into_iter().fold(simt, Simt::with_source).device(DType::Bf16)
}

/// Runs the cases whose names begin with `name`; the worst conflict of each kernel, with its line.
fn conflicts(name: &str, patch: Option<&Patch>) -> BTreeMap<&'static str, (u32, String)> {
    let banks = Banks::default();
    chosen().par_iter().filter(|case| case.name.starts_with(name)).for_each(|case| {
        let mut harness = Harness::new(device(&banks, patch), case.gap);
        let op = (case.build)(&mut harness).op;
        harness.run(&*op);
    });
    let mut banks = banks.lock().expect("no panic while locked");
    std::mem::take(&mut *banks)
}

#[test]
fn no_kernel_has_more_bank_conflicts_than_its_bound() {
    let found = conflicts("", None);
    let bounds: BTreeMap<_, _> = BOUNDS.iter().map(|bound| (bound.kernel, bound)).collect();
    let mut wrong = Vec::new();
    for (kernel, (degree, line)) in found.iter().filter(|(_, (degree, _))| *degree > 0) {
        println!("{kernel}: {degree}, {line}");
        match bounds.get(kernel) {
            Some(bound) if bound.degree == *degree => {}
            Some(bound) => {
                wrong.push(format!("{kernel}: {degree} instead of {} ({}), {line}", bound.degree, bound.reason))
            }
            None => wrong.push(format!("{kernel}: {degree}, {line}, and no bound")),
        }
    }
    wrong.extend(BOUNDS.iter().filter(|b| !found.contains_key(b.kernel)).map(|b| format!("{}: no case", b.kernel)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The worst conflict of a product, in two layouts: k along the rows of both operands, and across.
fn degree_of_product(tile: &'static GemmTile, patch: Option<&Patch>) -> u32 {
    let banks = Banks::default();
    [LAYOUTS[0], LAYOUTS[2]].par_iter().for_each(|&layout| {
        product(tile, layout, device(&banks, patch));
    });
    let banks = banks.lock().expect("no panic while locked");
    println!("{tile:?}: {banks:?}");
    banks["gemm"].0
}

#[test]
fn products_have_no_more_bank_conflicts_than_their_bound() {
    for tile in &GEMM_TILES {
        // In the epilogue, two rows of 32 floats and a pitch of 40 meet in half of the banks.
        let bound = if tile.warp_n == 32 { 2 } else { 1 };
        assert_eq!(degree_of_product(tile, None), bound, "{tile:?}");
    }
}

fn patch(file: &str, from: &str, to: &str) -> Patch {
    Patch { file: file.into(), from: from.into(), to: to.into() }
}

#[test]
fn a_removed_swizzle_of_a_product_is_noticed() {
    for (from, to) in [
        ("16 * (chunk ^ (WIDTH == 32 ? row / 2 % 4 : row % 8))", "16 * chunk"),
        ("return column + column / 32 * 4;", "return column;"),
        ("PITCH = WARP_N + 8", "PITCH = WARP_N + 16"),
    ] {
        let degree = degree_of_product(&GEMM_TILES[1], Some(&patch("gemm.cu", from, to)));
        assert!(degree > 1, "`{from}` removed: {degree} words for a bank");
    }
}

#[test]
fn a_removed_swizzle_of_attention_is_noticed() {
    let patch = patch("attention.cu", "(chunk ^ (row * SPAN / 8 % SPAN)) << 4", "chunk << 4");
    let found = conflicts("attention_backward AttentionShape { batch: 1, context: 130", Some(&patch));
    for kernel in ["attention_backward_kv", "attention_backward_q"] {
        assert!(found[kernel].0 > 1, "{kernel}: {:?}", found[kernel]);
    }
}
