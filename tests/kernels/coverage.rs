//! What no case does: lines and branches of kernels that never run, and loops that never make a
//! second turn. tests/simt/coverage.md lists them with a reason each; `STOCKPOT_UPDATE=1` writes
//! the list again and keeps the reasons.

use crate::cases::{self, Case};
use crate::simt::{Build, Coverage, Mode, Simt};
use crate::tolerances;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use stockpot::engine::device::DType;

const HEAD: &str = "# Coverage of the kernels

Written by `STOCKPOT_UPDATE=1 cargo test --release --test kernels coverage` and checked by the same test: what no case of `tests/support/cases.rs` does in any kernel with any defines, on the host executor. A loop is listed if it never makes a second turn. Each entry needs a reason, which an update keeps.

| file | code | not reached | reason |
| --- | --- | --- | --- |
";

/// An entry of the table, without its reason.
type Entry = (String, String, String);

/// Random and extreme values suffice; those of other fills take the same ways.
fn chosen(case: &Case) -> bool {
    !case.name.contains("Ramp") && (!case.name.contains("Ones") || case.name.starts_with("fill"))
}

fn entries() -> Vec<Entry> {
    let mode = Mode { build: Build::Coverage, ..Mode::FORWARD };
    for compute in [DType::Bf16, DType::F32] {
        // Attention and products are in bf16 alone.
        let supports = |case: &&Case| {
            compute == DType::Bf16 || !case.name.starts_with("gemm") && !case.name.starts_with("attention")
        };
        cases::all().par_iter().filter(|case| chosen(case)).filter(supports).for_each(|case| {
            tolerances::run(case, Simt::new(mode).device(compute)).unwrap_or_else(|message| panic!("{message}"));
        });
    }
    let code = |file: &str, line: u64| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels").join(file);
        let text = std::fs::read_to_string(path).expect("a kernel's file");
        text.lines().nth(line as usize - 1).expect("its line").trim().replace('|', "\\|")
    };
    let missing = Coverage::so_far().unwrap_or_else(|message| panic!("{message}")).missing();
    missing.into_iter().map(|(file, line, what)| (file.clone(), code(&file, line), what)).collect()
}

#[test]
fn what_no_case_reaches_has_a_reason() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simt/coverage.md");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    // Equal lines of one file share a reason.
    let mut reasons: BTreeMap<Entry, String> = BTreeMap::new();
    for line in committed
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| file |") && !line.starts_with("| ---"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [file, code, what, reason] = cells[..] else { panic!("not four cells: {line}") };
        reasons.insert((file.into(), code.trim_matches('`').into(), what.into()), reason.into());
    }
    let mut table = HEAD.to_string();
    for entry in entries() {
        let reason = reasons.get(&entry).cloned().unwrap_or_default();
        let (file, code, what) = entry;
        writeln!(table, "| {file} | `{code}` | {what} | {reason} |").expect("a string");
    }
    if std::env::var_os("STOCKPOT_UPDATE").is_some() {
        std::fs::write(&path, &table).expect("the table can be written");
    }
    assert!(!table.contains("|  |"), "entries without a reason:\n{table}");
    assert!(table == committed, "tests/simt/coverage.md differs. If this is intended, set STOCKPOT_UPDATE=1\n{table}");
}
