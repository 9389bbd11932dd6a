//! The kernels, merges and whole trainings on the GPU cuda:0: the cases and bounds of the host executor, and equal bits each time.
//! Without a GPU these are skipped, unless `STOCKPOT_REQUIRE_CUDA=1` (benches/gpu.sh).

mod cases;
mod lab;
mod merging_on;
mod reference;
mod training_on;

use cases::kernels::{bits, run};
use std::io::Write;
use stockpot::device::{DType, Device, Repeat};
use stockpot::model::Architecture;
use stockpot::ops::Fill;
use training_on::{is_training_on_the_cpu_but_for_bf16, small, trained};

/// Whether there is a GPU to test on; `false` is a skip, which is said loudly.
fn has_gpu() -> bool {
    let Err(missing) = Device::cuda(0) else { return true };
    let required = std::env::var_os("STOCKPOT_REQUIRE_CUDA").is_some_and(|value| value == "1");
    assert!(!required, "STOCKPOT_REQUIRE_CUDA is set, but: {missing}");
    // Past libtest, which would swallow what a passing test prints.
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED, no GPU: {missing}\n");
    false
}

fn gpu() -> Device {
    Device::cuda(0).expect("a GPU, as a moment ago")
}

#[test]
fn every_case_is_within_its_bound_and_has_the_same_bits_again() {
    if !has_gpu() {
        return;
    }
    let mut device = gpu();
    for case in cases::all() {
        let (outputs, again);
        (outputs, device) = run(&case, device).unwrap_or_else(|message| panic!("{message}"));
        for o in &outputs {
            let what = format!("{}: {} {:?} is off by {:.2e}", case.name, o.name, o.dtype, o.error);
            assert!(o.error <= o.bound, "{what}, allowed {:.2e} ({})", o.bound, o.reason);
        }
        (again, device) = run(&case, device).unwrap_or_else(|message| panic!("{message}"));
        assert!(bits(&outputs) == bits(&again), "{}: other bits the second time", case.name);
    }
}

#[test]
fn training_is_training_on_the_cpu_but_for_bf16() {
    if has_gpu() {
        is_training_on_the_cpu_but_for_bf16(gpu);
    }
}

#[test]
fn training_has_the_same_bits_again_and_with_activations_computed_again() {
    if !has_gpu() {
        return;
    }
    let config = small(Architecture::Olmo2, false);
    let one = trained(gpu(), &config, false);
    for recompute in [false, true] {
        let other = trained(gpu(), &config, recompute);
        assert!(one.gradient == other.gradient, "recompute {recompute}: other gradients");
        assert!(one.weights == other.weights, "recompute {recompute}: other weights");
        assert!(one.losses == other.losses, "recompute {recompute}: other losses");
    }
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    if has_gpu() {
        training_on::a_gradient_that_is_not_finite_changes_nothing(gpu());
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

#[test]
fn merges_have_the_bits_of_the_cpu_whatever_the_memory() {
    if has_gpu() {
        merging_on::merges_have_the_bits_of_the_cpu(gpu);
    }
}

#[test]
fn recorded_launches_do_what_queued_ones_do() {
    if !has_gpu() {
        return;
    }
    let mut device = gpu();
    let x = device.alloc(DType::F32, 1000).expect("memory");
    let mut repeat = Repeat::default();
    // The first time they run, the second time they are recorded, the third the record runs alone.
    for _ in 0..4 {
        device.upload(&x, &[0f32; 1000]).expect("upload");
        let fill = |device: &mut Device| device.run(&Fill { x: x.vector(), value: 2.5 });
        device.repeat(&mut repeat, fill).expect("the work");
        assert_eq!(device.to_vec::<f32>(&x).expect("download"), [2.5; 1000]);
    }
}

#[test]
fn memory_that_the_gpu_has_not_is_an_error_with_a_remedy() {
    if !has_gpu() {
        return;
    }
    let error = gpu().alloc(DType::F32, 1 << 44).map(|_| ()).expect_err("64 TiB");
    let text = error.to_string();
    assert!(text.contains("are free") && text.contains("micro_batch"), "{text}");
}
