//! Mutation tests of the host executor: each row plants a bug in a kernel, and a case of
//! tests/support/cases.rs must then fail on the executor. A row whose text does not occur exactly
//! once in the kernel fails as stale.

mod attention;
mod elementwise;
mod launches;
mod product;
mod sizes;
mod table;

use crate::cases::{self, Case};
use crate::simt::{Mode, Patch, Simt};
use crate::tolerances::{self, Output, bits};
use attention::ATTENTION;
use elementwise::ELEMENTWISE;
use product::PRODUCT;
use rayon::prelude::*;
use sizes::SIZES;
use stockpot::engine::device::DType;
use table::{By, Mutation};

fn run(case: &Case, simt: Simt, compute: DType) -> Result<Vec<Output>, String> {
    Ok(tolerances::run(case, simt.device(compute))?.0)
}

/// The report of the change; `None` if it was not noticed.
fn noticed(mutation: &Mutation) -> Option<String> {
    let case = cases::all().into_iter().find(|case| case.name == mutation.case);
    let case = case.unwrap_or_else(|| panic!("no case is named {}", mutation.case));
    let Mutation { file, from, to, .. } = mutation;
    let patch = Patch { file: file.to_string(), from: from.to_string(), to: to.to_string() };
    let modes: &[Mode] = if mutation.by == By::Fast { &Mode::FAST } else { &[Mode::HOOKED] };
    let mut first = None;
    for &mode in modes {
        match run(&case, Simt::new(mode).with_source(patch.clone()), DType::Bf16) {
            Err(message) => return Some(message),
            Ok(outputs) => {
                if let Err(message) = outputs.iter().try_for_each(|output| output.check(&case)) {
                    return Some(message);
                }
                if *first.get_or_insert(bits(&outputs)) != bits(&outputs) {
                    return Some(format!("different bits in {mode:?}"));
                }
            }
        }
    }
    None
}

fn check(mutations: &[Mutation]) {
    let failed = mutations.par_iter().filter_map(|mutation| {
        let Mutation { file, what, .. } = mutation;
        match noticed(mutation) {
            None => Some(format!("{file}: nothing noticed: {what}")),
            Some(message) if message.contains("stale patch") || message.contains("g++ failed") => {
                Some(format!("{file}: {what}: {message}"))
            }
            Some(message) => {
                println!("{file}: {what}: {message}");
                None
            }
        }
    });
    let failed: Vec<String> = failed.collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn bugs_in_the_product_are_noticed() {
    check(PRODUCT);
}

#[test]
fn bugs_that_need_large_or_extreme_operands_are_noticed() {
    check(SIZES);
}

#[test]
fn bugs_in_attention_are_noticed() {
    check(ATTENTION);
}

#[test]
fn bugs_in_the_other_kernels_are_noticed() {
    check(ELEMENTWISE);
}
