//! Kernels, merges and whole trainings on the GPU cuda:0: the cases and bounds of the host
//! executor, and equal bits each time. Skipped without a GPU, unless `STOCKPOT_REQUIRE_CUDA=1`
//! (benches/gpu.sh). If `STOCKPOT_CASES` is set, only cases whose names contain it run. With
//! `STOCKPOT_STAND_IN=1` the host executor replaces the GPU: a rehearsal of this program and of its
//! callers.

use crate::conformance;
use crate::nvrtc::recorder::{self, Configuration};
use crate::simt::{Mode, Simt};
use crate::tolerances::{Worst, bits, run};
use crate::training_on::{self, matches_the_cpu_within_bf16, small, trained};
use crate::{cases, merging_on, tiles};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::io::Write;
use std::time::Instant;
use stockpot::engine::device::nvrtc::Nvrtc;
use stockpot::engine::device::{self, DType, Device, Repeat};
use stockpot::engine::model::Architecture;
use stockpot::engine::ops::{Fill, GEMM_TILES, LossSum};
use stockpot::error::Result;

/// Whether there is a GPU to test on; `false` skips the test and reports it on stderr.
fn has_gpu() -> bool {
    let Err(missing) = open() else { return true };
    let required = std::env::var_os("STOCKPOT_REQUIRE_CUDA").is_some_and(|value| value == "1");
    assert!(!required, "STOCKPOT_REQUIRE_CUDA is set, but: {missing}");
    // Directly to stderr: libtest hides the output of a passing test.
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED, no GPU: {missing}\n");
    false
}

/// Whether this is a rehearsal.
fn stand_in() -> bool {
    std::env::var_os("STOCKPOT_STAND_IN").is_some()
}

fn open() -> Result<Device> {
    if stand_in() { Ok(Simt::bf16(Mode::FORWARD)) } else { Device::cuda(0) }
}

fn gpu() -> Device {
    open().expect("a GPU, as a moment ago")
}

/// Compiles kernels on all cores: one after another, the hundred files of the cases take half a
/// minute. The device then loads them from the cache on disk.
fn compile_ahead(device: &Device, configurations: BTreeSet<Configuration>) {
    let Some(architecture) = device.name().strip_prefix("cuda ") else { return };
    let start = Instant::now();
    let units: BTreeSet<_> = configurations.into_iter().map(|c| (c.file, c.options)).collect();
    let compiler = Nvrtc::find(None).expect("the device found one").with_source(conformance::SOURCE);
    units.par_iter().for_each(|(file, options)| {
        compiler.compile(file, options, architecture).unwrap_or_else(|e| panic!("{e}"));
    });
    println!("{} kernels with their defines compiled in {:.1} s", units.len(), start.elapsed().as_secs_f64());
}

/// libtest runs tests by name: this is the first, and takes seconds. A failure here explains those
/// that follow.
#[test]
fn a_device_does_what_the_models_of_its_instructions_say() {
    if !has_gpu() {
        return;
    }
    let open = || {
        if stand_in() {
            return Ok(conformance::stand_in());
        }
        let cuda = device::cuda::open(0)?.with_source(conformance::SOURCE);
        let name = format!("cuda {}", cuda.architecture());
        Ok(Device::with_executor(&name, Box::new(cuda), DType::Bf16))
    };
    compile_ahead(&gpu(), conformance::configurations());
    let (lines, failures) = conformance::run(open);
    lines.iter().for_each(|line| println!("conforms: {line}"));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Failures to collect before the remaining cases are skipped.
const MOST_FAILURES: usize = 50;

#[test]
fn every_case_is_within_its_bound_and_has_the_same_bits_again() {
    if !has_gpu() {
        return;
    }
    let mut device = gpu();
    compile_ahead(&device, recorder::of_cases());
    let chosen = std::env::var("STOCKPOT_CASES").unwrap_or_default();
    let (mut worst, mut failures) = (Worst::default(), vec![]);
    for case in cases::all().into_iter().filter(|case| case.name.contains(&chosen)) {
        let twice = run(&case, device).and_then(|(outputs, device)| Ok((outputs, run(&case, device)?)));
        match twice {
            Ok((outputs, (again, same_device))) => {
                device = same_device;
                worst.note(&case, &outputs);
                failures.extend(outputs.iter().filter_map(|output| output.check(&case).err()));
                if bits(&outputs) != bits(&again) {
                    failures.push(format!("{}: different bits the second time", case.name));
                }
            }
            Err(message) => {
                failures.push(message);
                // A fault invalidates the context; another context may be available.
                match open() {
                    Ok(another) => device = another,
                    Err(e) => {
                        failures.push(format!("and then: {e}"));
                        break;
                    }
                }
            }
        }
        if failures.len() > MOST_FAILURES {
            failures.push("and the remaining cases were skipped".into());
            break;
        }
    }
    print!("{worst}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_tile_of_the_product_gives_the_same_right_bits() {
    if !has_gpu() {
        return;
    }
    for layout in tiles::LAYOUTS {
        let first = tiles::product(&GEMM_TILES[0], layout, gpu());
        for tile in &GEMM_TILES {
            assert!(first == tiles::product(tile, layout, gpu()), "{layout:?} {tile:?}: different bits");
        }
    }
}

#[test]
fn training_matches_the_cpu_within_bf16() {
    if has_gpu() {
        matches_the_cpu_within_bf16(gpu);
    }
}

#[test]
fn training_has_the_same_bits_again_and_with_recomputed_activations() {
    if !has_gpu() {
        return;
    }
    let config = small(Architecture::Olmo2, false);
    let one = trained(gpu(), &config, false);
    for recompute in [false, true] {
        let other = trained(gpu(), &config, recompute);
        assert!(one.gradient == other.gradient, "recompute {recompute}: different gradients");
        assert!(one.weights == other.weights, "recompute {recompute}: different weights");
        assert!(one.losses == other.losses, "recompute {recompute}: different losses");
    }
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    if has_gpu() {
        training_on::a_gradient_that_is_not_finite_changes_nothing(gpu());
    }
}

#[test]
fn weights_of_several_uploads_arrive_whole() {
    if has_gpu() {
        training_on::weights_of_several_uploads_arrive_whole(gpu());
    }
}

#[test]
fn copies_of_every_size_arrive_whole_and_in_order() {
    if !has_gpu() {
        return;
    }
    let mut device = gpu();
    // Around a staging slot of 1 MiB, and more than all slots hold.
    for len in [1, 3, 262_143, 262_144, 262_145, 6_000_000] {
        let buffer = device.alloc(DType::U32, len).expect("memory");
        assert!(device.to_vec::<u32>(&buffer).expect("download").iter().all(|&x| x == 0), "new memory is zero");
        let pending: Vec<_> = (0..3u32)
            .map(|round| {
                let values: Vec<u32> = (0..len as u32).map(|i| i.wrapping_mul(2_654_435_761) ^ round).collect();
                device.upload(&buffer, &values).expect("upload");
                (values, device.fetch::<u32>(&buffer).expect("fetch"))
            })
            .collect();
        for (values, pending) in pending {
            assert!(pending.wait().expect("the copy") == values, "{len} elements");
        }
    }
}

/// Uploads on both streams are still queued when their device ends.
#[test]
fn a_device_may_end_under_its_copies() {
    if !has_gpu() {
        return;
    }
    let mut device = gpu();
    let (first, side) = (device.alloc(DType::U32, 1_000_000), device.alloc(DType::U32, 1_000_000));
    let (first, side) = (first.expect("memory"), side.expect("memory"));
    device.fork_uploads().expect("a fork");
    device.upload(&first, &vec![7u32; 1_000_000]).expect("upload");
    device.upload_on_side_stream(&side, &vec![7u32; 1_000_000]).expect("upload");
    drop((first, side));
    drop(device);
    // Memory that was given back too early would fail the next device.
    let mut next = gpu();
    let buffer = next.alloc(DType::U32, 1000).expect("memory");
    assert_eq!(next.to_vec::<u32>(&buffer).expect("download"), [0; 1000]);
}

#[test]
fn merges_have_the_bits_of_the_cpu_whatever_the_memory() {
    if has_gpu() {
        merging_on::merges_have_the_bits_of_the_cpu(gpu);
    }
}

#[test]
fn inner_products_do_not_depend_on_the_memory() {
    if has_gpu() {
        merging_on::inner_products_do_not_depend_on_the_memory(gpu);
    }
}

#[test]
fn captured_launches_do_the_same_as_queued_ones() {
    if !has_gpu() {
        return;
    }
    let mut device = gpu();
    let losses = device.alloc(DType::F32, 1000).expect("memory");
    let sum = device.alloc(DType::F64, 1).expect("memory");
    let mut repeat = Repeat::default();
    // The first call runs the launches, the second captures them, later ones launch only the graph.
    for turn in 1..5 {
        device.upload(&losses, &[2.5f32; 1000]).expect("upload");
        let add = LossSum { losses: losses.vector(), out: sum.vector(), accumulate: true };
        device.repeat(&mut repeat, |device| device.run(&add)).expect("the work");
        assert_eq!(device.to_vec::<f64>(&sum).expect("download"), [2500.0 * f64::from(turn)]);
    }
}

#[test]
fn captured_launches_keep_their_memory() {
    if !has_gpu() {
        return;
    }
    let mut device = gpu();
    let mut repeat = Repeat::default();
    {
        let x = device.alloc(DType::F32, 1000).expect("memory");
        for _ in 0..2 {
            let fill = |device: &mut Device| device.run(&Fill { x: x.vector(), value: 2.5 });
            device.repeat(&mut repeat, fill).expect("the work");
        }
    }
    let others: Vec<_> = (0..8).map(|_| device.alloc(DType::F32, 1000).expect("memory")).collect();
    device.repeat(&mut repeat, |_| unreachable!("a graph")).expect("the work");
    for other in others {
        assert_eq!(device.to_vec::<f32>(&other).expect("download"), [0.0; 1000]);
    }
}

/// A device may be handed from thread to thread: each call binds its context.
#[test]
fn each_call_works_on_a_thread_of_its_own() {
    if !has_gpu() {
        return;
    }
    let mut device = gpu();
    let x = device.alloc(DType::F32, 1000).expect("memory");
    let fill = |device: &mut Device| device.run(&Fill { x: x.vector(), value: 2.5 }).expect("a launch");
    // Compiled and loaded here.
    fill(&mut device);
    let mut device = on_a_thread(device, |device| device.upload(&x, &[1f32; 1000]).expect("upload"));
    device = on_a_thread(device, fill);
    device = on_a_thread(device, |device| {
        let pending = device.fetch::<f32>(&x).expect("a fetch");
        assert_eq!(pending.wait().expect("the copy"), [2.5; 1000]);
    });
    on_a_thread(device, |device| {
        let mut values = [0f32; 1000];
        device.download(&x, &mut values).expect("download");
        assert_eq!(values, [2.5; 1000]);
    });
}

/// The device, after `work` on a new thread.
fn on_a_thread(mut device: Device, work: impl FnOnce(&mut Device) + Send) -> Device {
    std::thread::scope(|scope| {
        let done = scope.spawn(move || {
            work(&mut device);
            device
        });
        done.join().expect("the work")
    })
}

#[test]
fn memory_of_uploads_on_the_side_stream_is_free_after_the_join() {
    if !has_gpu() || stand_in() {
        return;
    }
    const LEN: usize = 16 << 20;
    let mut device = gpu();
    device.fork_uploads().expect("a fork");
    let before = device.free_memory().expect("free memory");
    let large = device.alloc(DType::F32, LEN).expect("memory");
    device.fork_uploads().expect("a fork");
    device.upload_on_side_stream(&large, &[1.0f32]).expect("upload");
    drop(large);
    device.join_uploads().expect("a join");
    let missing = before.saturating_sub(device.free_memory().expect("free memory"));
    assert!(missing < 2 * LEN as u64, "{missing} bytes are not free again");
}

#[test]
fn memory_that_the_gpu_has_not_is_an_error_with_a_remedy() {
    if !has_gpu() {
        return;
    }
    if stand_in() {
        let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: the host executor's memory has no limit of its own\n");
        return;
    }
    let error = gpu().alloc(DType::F32, 1 << 44).map(|_| ()).expect_err("64 TiB");
    let text = error.to_string();
    assert!(text.contains("are free") && text.contains("micro_batch"), "{text}");
}
