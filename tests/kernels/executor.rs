//! The host executor of kernels (tests/simt), on its own small kernels (tests/simt/kernels): each
//! gives the right result in every mode, and each bug planted in it is reported by the modes that
//! must report it.

use crate::simt::{Build, Mode, Order, Patch, Simt, run_sanitized};
use half::bf16;
use std::time::Duration;
use stockpot::engine::device::{Arg, Buffer, DType, Device, Element, Host, Launch, Matrix, Op, Operands, Repeat};
use stockpot::error::Result;

/// An op that is one launch.
pub struct Kernel(pub Launch);

impl Op for Kernel {
    fn name(&self) -> &'static str {
        self.0.kernel
    }
    fn operands(&self) -> Operands {
        let matrices = self.0.args.iter().filter_map(|arg| if let Arg::Matrix(m) = arg { Some(m) } else { None });
        matrices.fold(Operands::default(), |operands, m| operands.update(m))
    }
    fn flops(&self) -> u64 {
        0
    }
    fn cpu(&self, _: &Host) {
        unreachable!("only kernels")
    }
    fn launches(&self) -> Vec<Launch> {
        vec![self.0.clone()]
    }
}

/// The launch of the kernel that has its file's name.
fn launch(name: &'static str, blocks: u32, block: u32, shared_bytes: u32, args: Vec<Arg>) -> Kernel {
    Kernel(Launch { file: name, kernel: name, defines: vec![], grid: [blocks, 1, 1], block, shared_bytes, args })
}

fn device(mode: Mode, patch: Option<Patch>) -> Device {
    let simt = Simt::new(mode).with_folder("tests/simt/kernels");
    patch.into_iter().fold(simt, Simt::with_source).device(DType::F32)
}

fn upload<T: Element>(device: &mut Device, values: &[T]) -> Buffer {
    let buffer = device.alloc(T::DTYPE, values.len()).expect("memory");
    device.upload(&buffer, values).expect("upload");
    buffer
}

fn whole(buffer: &Buffer) -> Arg {
    Arg::Matrix(buffer.vector())
}

/// Numbers that depend on their position, small enough for exact sums.
fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7 + 3) % 61) as f32 - 30.0).collect()
}

fn nothing(n: usize) -> Vec<f32> {
    vec![f32::NAN; n]
}

fn sum(device: &mut Device) -> Result<bool> {
    let x = upload(device, &numbers(1000));
    let out = upload(device, &nothing(3));
    device.run(&launch("sum", 3, 256, 0, vec![whole(&x), whole(&out), Arg::U32(1000)]))?;
    let sums: Vec<f32> = device.to_vec(&out)?;
    Ok(sums.iter().sum::<f32>() == numbers(1000).iter().sum::<f32>())
}

fn tiles(device: &mut Device) -> Result<bool> {
    const N: usize = 48;
    let (a, b) = (numbers(N * N), numbers(N * N + 5)[5..].to_vec());
    let [x, y, out] = [&a, &b, &nothing(N * N)].map(|values| upload(device, values));
    let mut kernel = launch("tiles", 3, 256, 0, vec![whole(&x), whole(&y), whole(&out), Arg::U32(N as u32)]);
    kernel.0.grid[1] = 3;
    device.run(&kernel)?;
    let product = |r: usize, c: usize| (0..N).map(|k| a[r * N + k] * b[k * N + c]).sum::<f32>();
    Ok(device.to_vec::<f32>(&out)?.iter().enumerate().all(|(i, &got)| got == product(i / N, i % N)))
}

fn pipeline(device: &mut Device) -> Result<bool> {
    const N: usize = 5 * 1024;
    let x = upload(device, &numbers(N));
    let out = upload(device, &nothing(N));
    device.run(&launch("pipeline", 1, 256, 3 * 4096, vec![whole(&x), whole(&out), Arg::U32(N as u32)]))?;
    let want = numbers(N).chunks(1024).flat_map(|run| run.iter().rev().map(|x| 2.0 * x)).collect::<Vec<f32>>();
    Ok(device.to_vec::<f32>(&out)? == want)
}

fn tensor(device: &mut Device) -> Result<bool> {
    let rounded = |values: &[f32]| values.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<bf16>>();
    let (a, b) = (numbers(16 * 16), numbers(16 * 8 + 9)[9..].to_vec());
    let (x, y) = (upload(device, &rounded(&a)), upload(device, &rounded(&b)));
    let out = upload(device, &nothing(16 * 8));
    device.run(&launch("tensor", 1, 32, 0, vec![whole(&x), whole(&y), whole(&out)]))?;
    let product = |r: usize, c: usize| (0..16).map(|k| a[r * 16 + k] * b[k * 8 + c]).sum::<f32>();
    Ok(device.to_vec::<f32>(&out)?.iter().enumerate().all(|(i, &got)| got == product(i / 8, i % 8)))
}

fn votes(device: &mut Device) -> Result<bool> {
    let out = upload(device, &[0u32; 64]);
    device.run(&launch("votes", 1, 64, 0, vec![whole(&out)]))?;
    let want = |t: u32| {
        let (lane, first) = (t % 32, t / 32 * 32);
        let threes = (0..32).filter(|l| (first + l) % 3 == 0).map(|l| 1u32 << l).sum::<u32>();
        let odd = if lane < 16 { 0xaaaa } else { 0 };
        let any = u32::from(t < 32);
        let (next, before) = (if lane == 31 { t } else { t + 1 }, if lane == 0 { t } else { t - 1 });
        let rest = 1000 * next + 100 * before + 10 * (first + 3);
        threes.wrapping_add(odd + 2 * any + 4 + rest)
    };
    Ok(device.to_vec::<u32>(&out)?.iter().zip(0..).all(|(&got, t)| got == want(t)))
}

const ROWS: usize = 3;
const COLS: usize = 36;
const STRIDE: usize = 40;

fn copies(device: &mut Device) -> Result<bool> {
    let x = upload(device, &numbers(ROWS * STRIDE));
    let out = upload(device, &nothing(ROWS * STRIDE));
    let part = |buffer: &Buffer| -> Matrix { buffer.matrix(ROWS, STRIDE).col_range(0..COLS) };
    let mut args = vec![Arg::Matrix(part(&x)), Arg::Matrix(part(&out))];
    args.extend([ROWS, COLS, STRIDE].map(|n| Arg::U32(n as u32)));
    device.run(&launch("copies", ROWS as u32, 32, 0, args))?;
    let (want, got) = (numbers(ROWS * STRIDE), device.to_vec::<f32>(&out)?);
    Ok((0..ROWS * STRIDE).all(|i| if i % STRIDE < COLS { got[i] == want[i] } else { got[i].is_nan() }))
}

type Check = fn(&mut Device) -> Result<bool>;

const CHECKS: [(&str, Check); 6] = [
    ("sum.cu", sum),
    ("tiles.cu", tiles),
    ("pipeline.cu", pipeline),
    ("tensor.cu", tensor),
    ("votes.cu", votes),
    ("copies.cu", copies),
];

#[test]
fn right_kernels_give_right_results_in_every_mode() {
    let mut modes = Mode::ALL.to_vec();
    for build in [Build::Fast, Build::Hooked] {
        for order in [Order::Reverse, Order::Random(2), Order::Random(3)] {
            modes.extend([true, false].map(|late| Mode { order, late, build }));
        }
    }
    for mode in modes {
        for (name, check) in CHECKS {
            match check(&mut device(mode, None)) {
                Ok(right) => assert!(right, "{name} gives a wrong result in {mode:?}"),
                Err(error) => panic!("{name} in {mode:?}: {error}"),
            }
        }
    }
}

/// A bug: in a kernel's file, `from` becomes `to`; a run in `mode` must say `says`.
struct Bug {
    file: &'static str,
    from: &'static str,
    to: &'static str,
    mode: Mode,
    says: &'static str,
}

const fn bug(file: &'static str, from: &'static str, to: &'static str, mode: Mode, says: &'static str) -> Bug {
    Bug { file, from, to, mode, says }
}

/// The lanes of a warp part and meet in different calls of one function: on a device they do not.
const TWO_SUMS: &str = "float total; if (t % 2) total = warp_sum(parts[t]); else total = 0 + warp_sum(parts[t]);";
const TWO_READS: &str = "if (lane < 16) ldmatrix_x4(y, shared_address(left)); else ldmatrix_x4_transposed(y, \
                         shared_address(left)); ldmatrix_x4(x, shared";

/// The report of a wrong result without an error.
const WRONG: &str = "wrong result";
const HOOKED: Mode = Mode::HOOKED;
const HOOKED_EARLY: Mode = Mode { late: false, ..Mode::HOOKED };

const BUGS: [Bug; 40] = [
    // Barriers
    bug("sum.cu", "__syncthreads();  // parts are complete", "", Mode::FORWARD, WRONG),
    bug("sum.cu", "__syncthreads();  // parts are complete", "", HOOKED, "no thread has written"),
    bug("sum.cu", "__syncthreads();  // this half is complete", "", Mode::FORWARD, WRONG),
    bug("sum.cu", "__syncthreads();  // this half is complete", "", HOOKED, "race: "),
    bug("tiles.cu", "__syncthreads();  // the tiles are complete", "", Mode::REVERSE, WRONG),
    bug("tiles.cu", "__syncthreads();  // the tiles are complete", "", HOOKED, "no thread has written"),
    bug("tiles.cu", "__syncthreads();  // all reads of the tiles are done", "", Mode::REVERSE, WRONG),
    bug("tiles.cu", "__syncthreads();  // all reads of the tiles are done", "", HOOKED, "race: "),
    bug("tensor.cu", "__syncwarp();  // both are complete", "", HOOKED, "race: "),
    bug("sum.cu", "parts are complete", "parts\n  if (t > 99) return;", Mode::FORWARD, "threads wait at __syncthreads"),
    bug("sum.cu", "if (t < half) parts", "if (t < half) __syncthreads(), parts", Mode::FORWARD, "while others wait"),
    bug("sum.cu", "__syncthreads();  // parts", "if (t) __syncthreads();  // parts", Mode::REVERSE, "__syncthreads"),
    // Warp operations
    bug("votes.cu", "__shfl_sync(0xffffffffu, t, 3)", "__shfl_sync(0xfffffff7u, t, 3)", Mode::FORWARD, "mask"),
    bug("votes.cu", "if (lane < 16) odd", "if (lane < 15) odd", Mode::FORWARD, "deadlock"),
    bug("votes.cu", "__syncwarp();  // both halves", "if (lane < 16) __syncwarp();", Mode::FORWARD, "diverged"),
    bug("sum.cu", "const float total = warp_sum(parts[t]);", TWO_SUMS, Mode::FORWARD, "called elsewhere"),
    bug("votes.cu", "const u32 any", "if (lane == 7) return;\n  const u32 any", Mode::FORWARD, "deadlock"),
    // Asynchronous copies
    bug("pipeline.cu", "cp_async_wait<STAGES - 2>();", "", Mode::FORWARD, WRONG),
    bug("pipeline.cu", "cp_async_wait<STAGES - 2>();", "", HOOKED, "in flight"),
    bug("pipeline.cu", "cp_async_wait<STAGES - 2>();", "cp_async_wait<STAGES - 1>();", HOOKED, "in flight"),
    bug("pipeline.cu", "__syncthreads();  // run", "// run", Mode::REVERSE, WRONG),
    bug("pipeline.cu", "__syncthreads();  // run", "// run", HOOKED_EARLY, "no thread has written"),
    bug("pipeline.cu", "fetch(run + STAGES - 1)", "fetch(run + STAGES)", HOOKED, "race: "),
    bug("pipeline.cu", "  cp_async_wait<0>();\n", "  fetch(runs - 1);\n", Mode::FORWARD, "did not wait for"),
    bug("pipeline.cu", "stages + run % STAGES * RUN + 4 * t)", "stages + 3)", Mode::FORWARD, "boundary of 16"),
    bug("pipeline.cu", "x + run * RUN + 4 * t, 16", "x + run * RUN + 4 * t + 4096, 16", Mode::FORWARD, "outside every"),
    bug("pipeline.cu", "STAGES = 3", "STAGES = 4", Mode::FORWARD, "of dynamic shared memory"),
    // Tensor operations
    bug("tensor.cu", "  ldmatrix_x4(x, shared", TWO_READS, Mode::FORWARD, "diverged: ldmatrix"),
    bug("tensor.cu", "float d[4] = {0, 0, 0, 0};", "float d[4];", Mode::FORWARD, WRONG),
    bug("tensor.cu", "left + lane % 16 * 16 + lane / 16 * 8", "left + lane % 8 * 16 + lane / 8 * 8", HOOKED, WRONG),
    bug("tensor.cu", "x, y[0], y[1]", "x, y[1], y[0]", Mode::FORWARD, WRONG),
    bug("tensor.cu", "right + lane % 16 * 8", "right + lane % 16 * 8 + 1", Mode::FORWARD, "16-byte boundary"),
    // Memory
    bug("sum.cu", "i < n; i +=", "i <= n; i +=", HOOKED, "outside every row"),
    bug("sum.cu", "out[blockIdx.x] = total", "out[blockIdx.x + 1] = total", Mode::FORWARD, "after an operand"),
    bug("sum.cu", "out[blockIdx.x] = total", "out[-1] = total", Mode::FORWARD, "before an operand"),
    bug("sum.cu", "out[blockIdx.x] = total", "out[2000] = total", Mode::FORWARD, "memory fault"),
    bug("copies.cu", "i < cols; i", "i < cols + 1; i", HOOKED, "outside every row"),
    bug("copies.cu", "= blockIdx.x", "= blockIdx.x & 1", HOOKED, "race between blocks"),
    bug("copies.cu", "x + row * stride + i, four", "x + row * stride + i + 1, four", HOOKED, "boundary"),
    bug("tiles.cu", "k < 16; k++", "k < 17; k++", HOOKED, "outside its array"),
];

#[test]
fn every_planted_bug_is_reported() {
    let mut missed = Vec::new();
    for Bug { file, from, to, mode, says } in BUGS {
        let check = CHECKS.iter().find(|(name, _)| *name == file).expect("a check of this kernel").1;
        let patch = Patch { file: file.into(), from: from.into(), to: to.into() };
        let report = match check(&mut device(mode, Some(patch))) {
            Ok(true) => "nothing".into(),
            Ok(false) => WRONG.into(),
            Err(error) => error.to_string(),
        };
        if !report.contains(says) {
            missed.push(format!("{file}, {from:?} -> {to:?}, {mode:?}: expected {says:?}, got: {report}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_message_names_kernel_block_thread_and_line() {
    let patch = Patch { file: "sum.cu".into(), from: "i < n; i +=".into(), to: "i <= n; i +=".into() };
    let error = sum(&mut device(Mode::HOOKED, Some(patch))).expect_err("a read behind x").to_string();
    // Element 1000 is read by thread 232 of block 0 in its second turn.
    for part in ["kernel sum:", "read of 4 bytes", "block (0, 0, 0), thread 232", "at sum.cu:8"] {
        assert!(error.contains(part), "{part:?} is missing: {error}");
    }
}

#[test]
fn a_launch_whose_arguments_are_not_the_kernels_parameters_is_refused() {
    let mut device = device(Mode::FORWARD, None);
    let (x, out) = (upload(&mut device, &numbers(8)), upload(&mut device, &nothing(1)));
    for args in [vec![whole(&x), whole(&out)], vec![whole(&x), whole(&out), Arg::F32(8.0)]] {
        let error = device.run(&launch("sum", 1, 256, 0, args)).expect_err("wrong arguments").to_string();
        assert!(error.contains("parameters 44u"), "{error}");
    }
}

#[test]
fn a_stale_patch_is_refused() {
    for (from, count) in [("no such text", 0), ("__syncthreads();", 2)] {
        let patch = Patch { file: "sum.cu".into(), from: from.into(), to: String::new() };
        let error = sum(&mut device(Mode::FORWARD, Some(patch))).expect_err("a stale patch").to_string();
        assert!(error.contains(&format!("stale patch of sum.cu: `{from}` occurs {count} times")), "{error}");
    }
}

#[test]
fn a_launch_forgets_the_operands_of_the_one_before() {
    let mut device = device(Mode::FORWARD, None);
    let (x, out) = (upload(&mut device, &numbers(2048)), upload(&mut device, &nothing(2048)));
    let kernel = |x: Buffer| launch("pipeline", 1, 256, 3 * 4096, vec![whole(&x), whole(&out), Arg::U32(2048)]);
    device.run(&kernel(x.clone())).expect("a right launch");
    let error = device.run(&kernel(x.slice(0..1024))).expect_err("an operand of half the size").to_string();
    assert!(error.contains("outside every operand"), "{error}");
}

#[test]
fn a_failed_launch_leaves_the_executor_usable() {
    let patch = Patch { file: "sum.cu".into(), from: "out[blockIdx.x]".into(), to: "out[5000]".into() };
    for _ in 0..3 {
        sum(&mut device(Mode::FORWARD, Some(patch.clone()))).expect_err("a fault");
        assert!(sum(&mut device(Mode::FORWARD, None)).expect("a right kernel"));
    }
}

#[test]
fn launches_run_in_parallel_threads() {
    std::thread::scope(|scope| {
        for start in 0..4 {
            scope.spawn(move || {
                for i in 0..20 {
                    let (name, check) = CHECKS[(start + i) % CHECKS.len()];
                    let mode = Mode::ALL[(start + i) % Mode::ALL.len()];
                    assert!(check(&mut device(mode, None)).expect(name), "{name} in {mode:?}");
                }
            });
        }
    });
}

#[test]
fn a_captured_graph_runs_repeatedly() {
    let mut device = device(Mode::FORWARD, None);
    let (x, out) = (upload(&mut device, &numbers(1000)), upload(&mut device, &nothing(3)));
    let kernel = launch("sum", 3, 256, 0, vec![whole(&x), whole(&out), Arg::U32(1000)]);
    let mut repeat = Repeat::default();
    for value in 0..4 {
        device.upload(&x, &[value as f32; 1000]).expect("upload");
        device.repeat(&mut repeat, |device| device.run(&kernel)).expect("the kernel runs");
        assert_eq!(device.to_vec::<f32>(&out).expect("download").iter().sum::<f32>(), 1000.0 * value as f32);
    }
}

#[test]
#[should_panic(expected = "an upload while a graph is being captured")]
fn a_copy_during_capture_is_refused() {
    let mut device = device(Mode::FORWARD, None);
    let x = upload(&mut device, &numbers(8));
    let mut repeat = Repeat::default();
    for _ in 0..2 {
        device.repeat(&mut repeat, |device| device.upload(&x, &numbers(8))).expect("the copy");
    }
}

#[test]
fn a_block_that_does_not_end_is_given_up_and_its_threads_are_located() {
    let run = |mode: Mode, how: u32| {
        let simt = Simt::new(mode).with_folder("tests/simt/kernels").with_limit(Duration::from_millis(200));
        let mut device = simt.device(DType::F32);
        let out = upload(&mut device, &[0u32; 64]);
        device.run(&launch("endless", 1, 64, 0, vec![whole(&out), Arg::U32(how)]))?;
        device.to_vec::<u32>(&out)
    };
    for mode in Mode::ALL {
        assert_eq!(run(mode, 0).expect("a kernel that ends"), [1; 64]);
        for (how, line) in [(1, "endless.cu:7"), (2, "endless.cu:8"), (3, "endless.cu:9")] {
            let error = run(mode, how).expect_err("a kernel that does not end").to_string();
            for part in ["kernel endless: the block has not ended after 200 ms", "block (0, 0, 0)", line] {
                assert!(error.contains(part), "{mode:?} {how}: {part:?} is missing: {error}");
            }
            let reverse = mode.order == Order::Reverse;
            let whereabouts = match how {
                3 => "a shuffle in line 9",
                // In reverse the second warp runs first, and no thread of the first has begun.
                _ if reverse => "40 runs; thread 41-63 waits at __syncthreads in line 10",
                _ => "40 runs",
            };
            assert!(error.contains(whereabouts), "{mode:?} {how}: {whereabouts:?} is missing: {error}");
        }
        assert_eq!(run(mode, 0).expect("the executor is usable"), [1; 64]);
    }
}

#[test]
fn a_grid_or_shared_memory_that_no_device_has_is_refused() {
    let run = |grid: [u32; 3], shared_bytes| {
        let mut device = device(Mode::FORWARD, None);
        let (x, out) = (upload(&mut device, &numbers(8)), upload(&mut device, &nothing(1)));
        let mut kernel = launch("sum", 1, 256, shared_bytes, vec![whole(&x), whole(&out), Arg::U32(8)]);
        kernel.0.grid = grid;
        device.run(&kernel).map_err(|e| e.to_string())
    };
    for grid in [[0, 1, 1], [1, 65536, 1], [1, 1, 65536]] {
        let error = run(grid, 0).expect_err("a grid that no device has");
        assert!(error.contains("a grid of"), "{error}");
    }
    // The kernel has 1 KiB of its own.
    run([1, 1, 1], 226 << 10).expect("all that a block of sm_90 may have");
    let error = run([1, 1, 1], 227 << 10).expect_err("more shared memory than a block may have");
    assert!(error.contains("1024 bytes of static and"), "{error}");
}

/// As found on Ampere by arXiv 2511.10909: eight products and the sum so far are truncated to 24
/// bits below the largest.
#[test]
fn products_are_truncated_as_by_tensor_cores() {
    let mut device = device(Mode::FORWARD, None);
    let (mut a, mut b) = ([0f32; 16 * 16], [0f32; 16 * 8]);
    // Row 0 of a times column 0 of b: 2^24 + 1.5 + 0.5, then 2.
    for (k, left, right) in [(0, 4096.0, 4096.0), (1, 1.5, 1.0), (2, 0.5, 1.0), (8, 2.0, 1.0)] {
        (a[k], b[k * 8]) = (left, right);
    }
    // Row 1: the same, negative; row 2: infinity.
    (0..16).for_each(|k| a[16 + k] = -a[k]);
    a[32] = f32::INFINITY;
    let rounded = |values: &[f32]| values.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<bf16>>();
    let (x, y) = (upload(&mut device, &rounded(&a)), upload(&mut device, &rounded(&b)));
    let out = upload(&mut device, &nothing(16 * 8));
    device.run(&launch("tensor", 1, 32, 0, vec![whole(&x), whole(&y), whole(&out)])).expect("a right kernel");
    let out: Vec<f32> = device.to_vec(&out).expect("download");
    // 1.5 and 0.5 are truncated to 1 and 0, and 2^24 + 1 to 24 bits. Rounded one by one to nearest,
    // the sum would be 2^24 + 4.
    assert_eq!([out[0], out[8], out[16]], [16_777_218.0, -16_777_218.0, f32::INFINITY]);
}

#[test]
fn powers_have_the_error_allowed_on_the_device() {
    let mut device = device(Mode::FORWARD, None);
    let values: Vec<f32> =
        (0..4000).map(|i| (i - 2000) as f32 / 64.0 + 0.3).chain([0.0, -0.0, 200.0, -127.0]).collect();
    let (x, out) = (upload(&mut device, &values), upload(&mut device, &nothing(values.len())));
    let args = vec![whole(&x), whole(&out), Arg::U32(values.len() as u32)];
    device.run(&launch("powers", values.len().div_ceil(64) as u32, 64, 0, args)).expect("a right kernel");
    let out: Vec<f32> = device.to_vec(&out).expect("download");
    let error = |(x, y): (&f32, &f32)| (*y as f64 / (*x as f64).exp2() - 1.0) * 4_194_304.0;
    let errors: Vec<f64> = values.iter().zip(&out).take(4000).map(error).collect();
    assert!(errors.iter().all(|e| (0.16..=1.0).contains(&e.abs())), "in parts of 2^-22");
    let above = errors.iter().filter(|e| **e > 0.0).count();
    assert!((1500..2500).contains(&above), "{above} of 4000 are too large");
    assert_eq!(out[4000..], [1.0, 1.0, f32::INFINITY, 0.0]);
}

/// The kernel's local array has 4 elements.
fn sum_local_array(mode: Mode, n: u32) -> Result<Vec<f32>> {
    let mut device = device(mode, None);
    let out = upload(&mut device, &nothing(64));
    device.run(&launch("local", 1, 64, 0, vec![whole(&out), Arg::U32(n)]))?;
    device.to_vec(&out)
}

#[test]
fn leaving_a_local_array_is_found() {
    for mode in Mode::ALL {
        assert!(
            sum_local_array(mode, 4).expect("a right launch").iter().zip(0..).all(|(&x, t)| x == (4 * t + 6) as f32)
        );
    }
    let error = sum_local_array(Mode::HOOKED, 5).expect_err("an index outside the array").to_string();
    assert!(error.contains("outside its array"), "{error}");
    let (passed, output) = run_sanitized("executor::sanitized_child");
    assert!(!passed && output.contains("AddressSanitizer: stack-buffer-overflow"), "{output}");
}

#[test]
#[ignore = "runs in the process that leaving_a_local_array_is_found starts, and ends it"]
fn sanitized_child() {
    let mode = Mode { build: Build::Sanitized, ..Mode::FORWARD };
    sum_local_array(mode, 4).expect("a right launch");
    println!("{:?}", sum_local_array(mode, 5));
}
