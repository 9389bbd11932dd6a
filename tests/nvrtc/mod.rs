//! The NVRTC tests, a module of tests/kernels, which need no GPU: every kernel, in every
//! configuration launched by training, scoring, merging and the cases of tests/support/cases.rs,
//! compiles for every architecture, spills nothing, fits the GPU, and takes the arguments that its
//! op passes. `table.md` has the registers and the occupancy of the configurations of training,
//! scoring and merging; `STOCKPOT_UPDATE=1` regenerates it.
//!
//! Without NVRTC these tests are skipped, unless `STOCKPOT_REQUIRE_NVRTC=1` (.ci/run).

mod cubin;
pub mod recorder;

use crate::conformance;
use cubin::Usage;
use rayon::prelude::*;
use recorder::Configuration;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use stockpot::engine::device::nvrtc::Nvrtc;

/// Limits of one multiprocessor and of a block (CUDA C++ Programming Guide, compute capabilities).
struct Architecture {
    name: &'static str,
    threads: u32,
    blocks: u32,
    shared_bytes: u32,
    shared_bytes_per_block: u32,
}

const fn architecture(name: &'static str, threads: u32, blocks: u32, shared_kb: u32) -> Architecture {
    let shared_bytes = shared_kb << 10;
    // The system reserves one KB per block.
    Architecture { name, threads, blocks, shared_bytes, shared_bytes_per_block: shared_bytes - SYSTEM_SHARED }
}

const SYSTEM_SHARED: u32 = 1 << 10;
const ARCHITECTURES: [Architecture; 6] = [
    architecture("sm_80", 2048, 32, 164),
    architecture("sm_86", 1536, 16, 100),
    architecture("sm_89", 1536, 24, 100),
    architecture("sm_90a", 2048, 32, 228),
    architecture("sm_100", 2048, 32, 228),
    architecture("sm_120", 1536, 24, 100),
];
/// 32-bit registers of a multiprocessor; warps allocate them in units of 256.
const REGISTERS: u32 = 65_536;
const REGISTER_UNIT: u32 = 256;
/// The NVRTC release of `table.md`; `.ci/run` installs it.
const PINNED: (u32, u32) = (13, 2);

impl Architecture {
    /// Concurrent blocks of a configuration on one multiprocessor.
    fn occupancy(&self, configuration: &Configuration, usage: &Usage) -> u32 {
        let warps = configuration.block.div_ceil(32);
        let registers = warps * (usage.registers * 32).next_multiple_of(REGISTER_UNIT);
        let shared = usage.shared_bytes + configuration.shared_bytes + SYSTEM_SHARED;
        let limits =
            [self.threads / configuration.block, self.blocks, REGISTERS / registers, self.shared_bytes / shared];
        limits.into_iter().min().expect("four limits")
    }

    /// The faults of a configuration on this architecture.
    fn faults(&self, configuration: &Configuration, usage: &Usage) -> Vec<String> {
        let shared = usage.shared_bytes + configuration.shared_bytes;
        let checks = [
            (usage.spilled > 0, format!("{} bytes of registers are spilled", usage.spilled)),
            (usage.stack > 0, format!("{} bytes of local memory", usage.stack)),
            (configuration.block > usage.most_threads, {
                format!("{} threads, __launch_bounds__({})", configuration.block, usage.most_threads)
            }),
            (shared > self.shared_bytes_per_block, format!("{shared} bytes of shared memory")),
            (self.occupancy(configuration, usage) == 0, "not one block fits a multiprocessor".into()),
            (configuration.arguments != usage.parameters, {
                format!("arguments of {:?} bytes, parameters of {:?}", configuration.arguments, usage.parameters)
            }),
        ];
        checks.into_iter().filter_map(|(wrong, what)| wrong.then_some(what)).collect()
    }
}

/// Finds NVRTC; `None` skips the test and reports it on stderr.
fn nvrtc() -> Option<Nvrtc> {
    match Nvrtc::find(None) {
        Ok(nvrtc) => Some(nvrtc),
        Err(missing) if required() => panic!("STOCKPOT_REQUIRE_NVRTC is set, but: {}", missing.what()),
        Err(missing) => {
            // Directly to stderr: libtest hides the output of a passing test.
            let (what, fix) = (missing.what(), missing.fix());
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("\n*** SKIPPED: no kernel was compiled. {what}\n*** {fix}\n\n"),
            );
            None
        }
    }
}

fn required() -> bool {
    std::env::var_os("STOCKPOT_REQUIRE_NVRTC").is_some_and(|value| value == "1")
}

type Measured = BTreeMap<(Configuration, &'static str), Usage>;

/// Measures every configuration on every architecture, and returns their faults. `options` are
/// added to each configuration's.
fn measure(nvrtc: &Nvrtc, configurations: &BTreeSet<Configuration>, options: &[String]) -> (Measured, Vec<String>) {
    // One compilation serves every block size, shared memory and arguments of a kernel's launches.
    let mut units: BTreeMap<_, Vec<&Configuration>> = BTreeMap::new();
    for c in configurations {
        units.entry((c.file, &c.options)).or_default().push(c);
    }
    let jobs: Vec<_> =
        units.into_values().flat_map(|unit| ARCHITECTURES.iter().map(move |a| (unit.clone(), a))).collect();
    let done: Vec<_> = jobs.into_par_iter().map(|(unit, a)| measure_unit(nvrtc, &unit, options, a)).collect();
    let (measured, faults): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    (measured.into_iter().flatten().collect(), faults.into_iter().flatten().collect())
}

/// The configurations of one kernel and one set of defines.
fn measure_unit(
    nvrtc: &Nvrtc,
    unit: &[&Configuration],
    options: &[String],
    a: &Architecture,
) -> (Measured, Vec<String>) {
    let (mut measured, mut faults) = (Measured::new(), vec![]);
    let first = unit[0];
    let place = format!("{} {} [{}]", a.name, first.kernel, first.flags());
    let compiled = match nvrtc.compile(first.file, &[&first.options, options].concat(), a.name) {
        Ok(compiled) => compiled,
        Err(e) => return (measured, vec![format!("{place}: {e}")]),
    };
    match compiled.log.matches("Compiling entry function").count() {
        1 => {}
        kernels => faults.push(format!("{place}: {kernels} kernels are compiled, not only the selected one")),
    }
    // Including the warning that wgmma was serialized.
    faults.extend(compiled.log.lines().filter(|line| line.contains("warning")).map(String::from));
    for &c in unit {
        match Usage::of(c.kernel, &compiled.log, &compiled.cubin) {
            None => faults.push(format!("{place}: no such kernel in\n{}", compiled.log)),
            Some(usage) => {
                faults.extend(a.faults(c, &usage).iter().map(|fault| format!("{place}: {fault}")));
                measured.insert((c.clone(), a.name), usage);
            }
        }
    }
    (measured, faults)
}

/// The committed table: registers and concurrent blocks on one multiprocessor, for each
/// architecture.
fn table(shipped: &BTreeSet<Configuration>, measured: &Measured) -> String {
    let (major, minor) = PINNED;
    let mut text = format!(
        "# Kernels as NVRTC {major}.{minor} compiles them\n\n\
         Written by `STOCKPOT_UPDATE=1 cargo test --release --test kernels nvrtc` and checked by the same test: \
         the kernels launched by training, scoring and merging the presets.\n\
         A cell is registers per thread / concurrent blocks per multiprocessor. \
         Shared memory is static plus dynamic, in bytes per block.\n\
         Spills and local memory are 0 everywhere: anything else fails the test.\n\n"
    );
    let names = ARCHITECTURES.map(|a| a.name).join(" | ");
    writeln!(text, "| kernel | configuration | threads | shared | {names} |").expect("text");
    writeln!(text, "|---|---|--:|--:|{}", "--:|".repeat(ARCHITECTURES.len())).expect("text");
    for c in shipped {
        writeln!(text, "{}", row(c, measured)).expect("text");
    }
    text
}

fn row(c: &Configuration, measured: &Measured) -> String {
    let usage = |a: &Architecture| &measured[&(c.clone(), a.name)];
    let cells = ARCHITECTURES.each_ref().map(|a| format!("{} / {}", usage(a).registers, a.occupancy(c, usage(a))));
    let shared = usage(&ARCHITECTURES[0]).shared_bytes + c.shared_bytes;
    let (kernel, flags, threads) = (c.kernel, c.flags(), c.block);
    format!("| {kernel} | {flags} | {threads} | {shared} | {} |", cells.join(" | "))
}

/// A row that differs from the committed table is compiled again, up to this many compilations in
/// all. NVRTC 13.2 is not deterministic: of 250 compilations of `attention_forward` for sm_120 in
/// one process, 9 used a different number of registers (benches/runs/2026-11-28-cpu/nvrtc).
const COMPILATIONS: usize = 5;

#[test]
fn every_kernel_compiles_and_fits_every_architecture() {
    let Some(nvrtc) = nvrtc() else { return };
    let shipped = recorder::of_presets();
    let (mut measured, faults) = measure(&nvrtc, &shipped.union(&recorder::of_cases()).cloned().collect(), &[]);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    if nvrtc.version() != PINNED {
        assert!(!required(), "NVRTC {:?}, the table is for {PINNED:?}", nvrtc.version());
        eprintln!("NVRTC {:?}: not compared with the table for {PINNED:?}", nvrtc.version());
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nvrtc/table.md");
    if std::env::var_os("STOCKPOT_UPDATE").is_some() {
        std::fs::write(&path, table(&shipped, &measured)).expect("the table can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    for compilation in 1..COMPILATIONS {
        let differs = |c: &&Configuration| !committed.lines().any(|line| line == row(c, &measured));
        let differing: BTreeSet<Configuration> = shipped.iter().filter(differs).cloned().collect();
        // No kernel reads this macro; it only makes the cache miss.
        let (again, faults) = measure(&nvrtc, &differing, &[format!("-DCOMPILATION={compilation}")]);
        assert!(faults.is_empty(), "compiled again, {} faults:\n{}", faults.len(), faults.join("\n"));
        measured.extend(again);
    }
    let now = table(&shipped, &measured);
    let changed = |a: &str, b: &str| {
        let b: BTreeSet<&str> = b.lines().collect();
        a.lines().filter(|line| !b.contains(line)).collect::<Vec<_>>().join("\n")
    };
    assert!(
        committed == now,
        "tests/nvrtc/table.md differs. If this is intended, set STOCKPOT_UPDATE=1\ncommitted:\n{}\nmeasured:\n{}",
        changed(&committed, &now),
        changed(&now, &committed)
    );
}

/// The only f32 arithmetic of `attention_delta` is multiplication and addition; fused, it would
/// have FFMA instructions.
#[test]
fn multiplications_and_additions_are_not_fused() {
    let Some(nvrtc) = nvrtc() else { return };
    let shipped = recorder::of_presets();
    let c = shipped.iter().find(|c| c.kernel == "attention_delta").expect("training launches it");
    for a in &ARCHITECTURES {
        let compiled = nvrtc.compile(c.file, &c.options, a.name).expect("it compiles");
        let operations = cubin::operations(c.kernel, &compiled.cubin).expect("its instructions");
        let count = |operation| operations.iter().filter(|&&o| o == operation).count();
        assert!(count(cubin::FMUL) > 0 && count(cubin::FADD) > 0, "{}: {operations:x?}", a.name);
        assert_eq!(count(cubin::FFMA), 0, "{}: fused", a.name);
    }
}

#[test]
fn the_kernels_of_the_conformance_checks_compile_for_every_architecture() {
    let Some(nvrtc) = nvrtc() else { return };
    let configurations = conformance::configurations();
    // The ring has four depths, and both forms of ldmatrix and of cp.async_16's lengths are one kernel.
    assert!(configurations.len() > 12, "{}", configurations.len());
    let (_, faults) = measure(&nvrtc.with_source(conformance::SOURCE), &configurations, &[]);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_kernel_that_does_not_compile_is_an_error_with_the_compilers_message() {
    let Some(nvrtc) = nvrtc() else { return };
    // Without most of its defines.
    let options = ["-DKERNEL_rope", "-DHEAD_WIDTH=nonsense"].map(String::from);
    let error = nvrtc.compile("rope", &options, "sm_80").expect_err("it cannot compile");
    let text = error.to_string();
    assert!(text.contains("kernels/rope.cu") && text.contains("HEAD_WIDTH") && text.contains("error"), "{text}");
}

#[test]
fn the_architecture_is_the_devices_own_or_an_older_one_that_it_runs() {
    let Some(nvrtc) = nvrtc() else { return };
    let of = |major, minor| nvrtc.architecture((major, minor));
    assert_eq!(of(8, 0).as_deref(), Some("sm_80"));
    assert_eq!(of(8, 9).as_deref(), Some("sm_89"));
    assert_eq!(of(9, 0).as_deref(), Some("sm_90a"));
    assert_eq!(of(99, 0), None);
}
