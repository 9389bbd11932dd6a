//! Conformance: each wrapper of kernels/ptx.cuh, and the built-in functions that kernels use, as one
//! tiny kernel (tests/simt/kernels/conformance.cu) on random operands and special values, compared
//! with plain Rust. The same checks run on the host executor in every mode, and first of all tests
//! on a GPU (cuda.rs), so that a wrong model is known by name before anything else runs.

mod arithmetic;
mod copies;
mod planted;
mod products;

use crate::executor::Kernel;
use crate::nvrtc::recorder::{self, Configuration};
use crate::simt::{Build, Mode, Order, Patch, Simt};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::fmt::Display;
use stockpot::engine::device::{Arg, Buffer, DType, Device, Element, Launch};
use stockpot::error::Result;

/// The kernels, as (file name, text).
pub const SOURCE: (&str, &str) = ("conformance.cu", include_str!("../../simt/kernels/conformance.cu"));

/// What agreed, or which operands gave something else than expected.
type Verdict = std::result::Result<String, String>;
/// An error is the device's.
type Check = fn(&mut Device) -> Result<Verdict>;

/// The check of a copy from an unmapped address is last: where it faults, it ends the context.
pub const CHECKS: [(&str, Check); 14] = [
    ("shared_address", copies::shared_address),
    ("bf16_bits and bf16_pair", arithmetic::bf16),
    ("f32 arithmetic", arithmetic::single),
    ("f64 arithmetic", arithmetic::double),
    ("exp2_approx", arithmetic::exp2),
    ("logf", arithmetic::logarithm),
    ("pow", arithmetic::power),
    ("__shfl_xor_sync, __ballot_sync and __popc", copies::shuffles),
    ("cp_async_16", copies::short_copies),
    ("cp_async_commit and cp_async_wait", copies::ring),
    ("ldmatrix_x4", copies::ldmatrix),
    ("ldmatrix_x4_transposed", copies::ldmatrix_transposed),
    ("mma_16x8x16", products::mma),
    ("cp_async_16 of 0 bytes", copies::empty_copies),
];

/// Runs every check on devices from `open`: a line each, and those that failed. After an error of the
/// device the next check gets another one.
pub fn run(mut open: impl FnMut() -> Result<Device>) -> (Vec<String>, Vec<String>) {
    let (mut lines, mut failures) = (vec![], vec![]);
    let mut device = open();
    for (name, check) in CHECKS {
        let verdict = match &mut device {
            Ok(device) => check(device),
            Err(error) => {
                failures.push(format!("{name}: not run, no device: {error}"));
                continue;
            }
        };
        match verdict {
            Ok(Ok(what)) => lines.push(format!("{name}: {what}")),
            Ok(Err(what)) => failures.push(format!("{name}: {what}")),
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                device = open();
            }
        }
    }
    (lines, failures)
}

/// The launches of all checks.
pub fn configurations() -> BTreeSet<Configuration> {
    let (mut device, seen) = recorder::device(DType::Bf16);
    for (name, check) in CHECKS {
        let _ = check(&mut device).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    std::mem::take(&mut seen.lock().expect("no launch panics"))
}

fn simt(mode: Mode, patch: Option<Patch>) -> Device {
    let simt = Simt::new(mode).with_folder("tests/simt/kernels");
    patch.into_iter().fold(simt, Simt::with_source).device(DType::Bf16)
}

/// The stand-in for a GPU that runs these kernels.
pub fn stand_in() -> Device {
    simt(Mode::FORWARD, None)
}

#[test]
fn the_host_executor_conforms_in_every_mode() {
    let late = |late| Mode { order: Order::Random(7), late, build: Build::Hooked };
    for mode in Mode::ALL.into_iter().chain([true, false].map(late)) {
        let (lines, failures) = run(|| Ok(simt(mode, None)));
        assert!(failures.is_empty(), "{mode:?}:\n{}", failures.join("\n"));
        assert_eq!(lines.len(), CHECKS.len());
    }
}

#[test]
fn a_check_without_a_device_fails_by_name() {
    let (lines, failures) = run(|| Device::cuda(usize::MAX));
    assert!(lines.is_empty() && failures.len() == CHECKS.len(), "{failures:?}");
    assert!(CHECKS.iter().zip(&failures).all(|((name, _), failure)| failure.starts_with(name)), "{failures:?}");
}

/// An element of an output, compared by its bits.
trait Value: Copy + Display {
    fn word(self) -> u64;
    fn is_nan(self) -> bool {
        false
    }
    fn text(self) -> String;
}

impl Value for u32 {
    fn word(self) -> u64 {
        self.into()
    }
    fn text(self) -> String {
        format!("{self:#010x}")
    }
}

impl Value for f32 {
    fn word(self) -> u64 {
        self.to_bits().into()
    }
    fn is_nan(self) -> bool {
        self.is_nan()
    }
    fn text(self) -> String {
        format!("{self:e} ({:#010x})", self.to_bits())
    }
}

impl Value for f64 {
    fn word(self) -> u64 {
        self.to_bits()
    }
    fn is_nan(self) -> bool {
        self.is_nan()
    }
    fn text(self) -> String {
        format!("{self:e} ({:#018x})", self.to_bits())
    }
}

/// Equal bits, or both NaN: the bits of a NaN are nowhere relied on.
fn same<T: Value>(got: T, want: T) -> bool {
    got.word() == want.word() || got.is_nan() && want.is_nan()
}

/// Mismatches to show.
const SHOWN: usize = 3;

/// Compares element by element; `operands` describes those of an element.
fn compare<T: Value>(
    got: &[T],
    want: &[T],
    agree: impl Fn(usize) -> bool,
    operands: impl Fn(usize) -> String,
) -> Verdict {
    assert_eq!(got.len(), want.len());
    let wrong: Vec<usize> = (0..got.len()).filter(|&i| !agree(i)).collect();
    if wrong.is_empty() {
        return Ok(format!("{} values", got.len()));
    }
    let line = |&i: &usize| format!("\n  {}: got {}, expected {}", operands(i), got[i].text(), want[i].text());
    let shown: String = wrong.iter().take(SHOWN).map(line).collect();
    Err(format!("{} of {} values are wrong:{shown}", wrong.len(), got.len()))
}

/// As [`compare`], by [`same`].
fn exact<T: Value>(got: &[T], want: &[T], operands: impl Fn(usize) -> String) -> Verdict {
    compare(got, want, |i| same(got[i], want[i]), operands).map(|values| format!("{values}, bit for bit"))
}

/// The verdicts of several outputs as one.
fn all(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let mut verdicts: Vec<String> = verdicts.into_iter().collect::<std::result::Result<_, _>>()?;
    let count = verdicts.len();
    verdicts.dedup();
    if verdicts.len() == 1 { Ok(format!("{count} x {}", verdicts[0])) } else { Ok(verdicts.join("; ")) }
}

fn random(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn words(rng: &mut ChaCha8Rng, n: usize) -> Vec<u32> {
    (0..n).map(|_| rng.random()).collect()
}

fn upload<T: Element>(device: &mut Device, values: &[T]) -> Result<Buffer> {
    let buffer = device.alloc(T::DTYPE, values.len())?;
    device.upload(&buffer, values)?;
    Ok(buffer)
}

/// Launches `kernel` with `blocks` of `block` threads.
fn launch(
    device: &mut Device,
    kernel: &'static str,
    defines: Vec<(&'static str, String)>,
    (blocks, block, shared_bytes): (usize, u32, u32),
    args: Vec<Arg>,
) -> Result<()> {
    let grid = [blocks as u32, 1, 1];
    device.run(&Kernel(Launch { file: "conformance", kernel, defines, grid, block, shared_bytes, args }))
}

fn whole(buffer: &Buffer) -> Arg {
    Arg::Matrix(buffer.vector())
}
