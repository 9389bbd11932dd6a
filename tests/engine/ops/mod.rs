//! Tests of src/engine/ops: every op against plain loops in f64, on the CPU and through its launch,
//! on any number of threads.

mod dtype_convert;
mod gradients;

use crate::cases::{Built, Case, Fill, TOLERANCES, relative_error};
use crate::harness::Harness;
use crate::reference_executor::Reference;
use crate::{cases, reference};
use stockpot::engine::device::{Buffer, DType, Device, Matrix};
use stockpot::engine::ops::*;

type Outputs = Vec<(&'static str, Vec<f64>)>;

/// Runs a case and compares its outputs with the reference.
fn check(case: &Case, device: Device) -> Outputs {
    let mut harness = Harness::new(device, case.gap);
    let Built { op, expected } = (case.build)(&mut harness);
    let outputs = harness.run(&*op);
    let tolerance = TOLERANCES.iter().find(|t| t.op == op.name()).expect("every op has a tolerance");
    let names = |list: &mut dyn Iterator<Item = &'static str>| list.collect::<Vec<_>>();
    assert_eq!(names(&mut outputs.iter().map(|o| o.0)), names(&mut expected.iter().map(|e| e.0)), "{}", case.name);
    for ((name, got), (_, want)) in outputs.iter().zip(&expected) {
        assert_eq!(got.len(), want.len(), "{}: {name}", case.name);
        let error = relative_error(got, want, tolerance.bound == 0.0);
        let message = || format!("{}: {name} is off by {error:.2e} ({})", case.name, tolerance.reason);
        assert!(error <= tolerance.bound, "{}", message());
    }
    outputs
}

#[test]
fn every_op_agrees_with_the_reference() {
    for case in cases::all() {
        check(&case, Device::cpu());
    }
}

#[test]
fn every_launch_contains_all_that_an_executor_needs() {
    for case in cases::all() {
        check(&case, Device::with_executor("reference", Box::new(Reference::default()), DType::F32));
    }
}

#[test]
fn results_have_the_same_bits_on_any_number_of_threads() {
    let on = |threads: usize| -> Vec<Vec<u64>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let bits = |case: &Case| {
            let mut harness = Harness::new(Device::cpu(), case.gap);
            let built = (case.build)(&mut harness);
            harness.run(&*built.op).into_iter().flat_map(|(_, values)| values).map(f64::to_bits).collect()
        };
        pool.install(|| cases::all().iter().filter(|case| case.name.contains("Random")).map(bits).collect())
    };
    let alone = on(1);
    for threads in [2, 7] {
        assert!(alone == on(threads), "{threads} threads");
    }
}

/// Memory of a CPU device with these numbers.
fn vector(device: &mut Device, values: &[f32]) -> Buffer {
    let buffer = device.alloc(DType::F32, values.len()).expect("memory");
    device.upload(&buffer, values).expect("upload");
    buffer
}

#[test]
fn a_nan_among_the_logits_is_not_hidden_and_an_ignored_row_is_not_read() {
    let mut device = Device::cpu();
    for gradient_scale in [None, Some(1.0)] {
        let mut values = vec![0.5; 3 * 40];
        values[33] = f32::NAN;
        values[2 * 40 + 7] = f32::NAN;
        let (logits, losses) = (vector(&mut device, &values), vector(&mut device, &[9.0; 3]));
        let targets = device.alloc(DType::U32, 3).expect("memory");
        device.upload(&targets, &[3u32, 5, IGNORED]).expect("upload");
        let (targets, out) = (targets.vector(), losses.vector());
        let op = CrossEntropy { logits: logits.matrix(3, 40), targets, losses: out, gradient_scale };
        device.run(&op).expect("the op runs");
        let losses: Vec<f32> = device.to_vec(&losses).expect("download");
        assert!(losses[0].is_nan() && (losses[1] - 40f32.ln()).abs() < 1e-5 && losses[2] == 0.0, "{losses:?}");
        let after: Vec<f32> = device.to_vec(&logits).expect("download");
        if gradient_scale.is_some() {
            assert!(after[..40].iter().all(|x| x.is_nan()) && after[80..].iter().all(|&x| x == 0.0));
        }
    }
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut device = Device::cpu();
        let mut grads = vec![1.0; 70_000];
        grads[69_999] = bad;
        let grads = vector(&mut device, &grads);
        let [params, m, v, copy] = [1.0, 2.0, 3.0, 4.0].map(|x| vector(&mut device, &vec![x; 70_000]));
        let norm = vector(&mut device, &[0.0; GRAD_NORM_OUT]);
        let parts = device.alloc(DType::F64, GRAD_NORM_PARTS).expect("memory").vector();
        let op = GradNorm { grads: grads.vector(), out: norm.vector(), parts, max_norm: 1.0 };
        device.run(&op).expect("the op runs");
        let out: Vec<f32> = device.to_vec(&norm).expect("download");
        assert!(!out[0].is_finite() && out[1..] == [0.0, 0.0], "{out:?}");
        let op = AdamW {
            params: params.vector(),
            grads: grads.vector(),
            m: m.vector(),
            v: v.vector(),
            compute: Some(copy.vector()),
            norm: norm.vector(),
            constants: vector(&mut device, &[0.99, 1.0, 0.2]).vector(),
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
        };
        device.run(&op).expect("the op runs");
        for (buffer, x) in [(&params, 1.0), (&m, 2.0), (&v, 3.0), (&copy, 4.0)] {
            assert!(device.to_vec::<f32>(buffer).expect("download").iter().all(|&y| y == x));
        }
    }
}

#[test]
fn gradients_of_queries_keys_and_values_may_share_rows() {
    let shape = AttentionShape { batch: 2, context: 67, heads: 4, kv_heads: 2, head_width: 8 };
    let (rows, wide, narrow) = (134, 32, 16);
    let mut device = Device::cpu();
    let numbers = |salt, n| Fill::Random.values(salt, n).iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let parts = |m: Matrix| [0..wide, wide..wide + narrow, wide + narrow..wide + 2 * narrow].map(|r| m.col_range(r));
    let packed = vector(&mut device, &numbers(1, rows * (wide + 2 * narrow)));
    let gradient = vector(&mut device, &vec![f32::NAN; rows * (wide + 2 * narrow)]);
    let dout = vector(&mut device, &numbers(2, rows * wide));
    let [out, lse, delta] = [rows * wide, 8 * 67, 8 * 67].map(|n| vector(&mut device, &vec![f32::NAN; n]));
    let [q, k, v] = parts(packed.matrix(rows, wide + 2 * narrow));
    let [dq, dk, dv] = parts(gradient.matrix(rows, wide + 2 * narrow));
    let (out, lse, delta) = (out.matrix(rows, wide), lse.matrix(8, 67), delta.matrix(8, 67));
    let [q2, k2, v2] = [&q, &k, &v].map(Matrix::clone);
    let forward = Attention { shape, q: q2, k: k2, v: v2, out: out.clone(), lse: lse.clone() };
    device.run(&forward).expect("the op runs");
    let dout_rows = dout.matrix(rows, wide);
    let op = AttentionBackward { shape, q, k, v, out, lse, dout: dout_rows, dq, dk, dv, delta };
    device.run(&op).expect("the op runs");

    let read = |device: &mut Device, b: &Buffer| device.to_vec::<f32>(b).expect("download");
    let (packed, dout) = (read(&mut device, &packed), read(&mut device, &dout));
    let got = read(&mut device, &gradient);
    let cut = |from: usize, width: usize| -> Vec<f64> {
        let rows = packed.chunks(wide + 2 * narrow);
        rows.flat_map(|row| row[from..from + width].iter().map(|&x| x as f64)).collect()
    };
    let dout: Vec<f64> = dout.iter().map(|&x| x as f64).collect();
    let (q, k, v) = (cut(0, wide), cut(wide, narrow), cut(wide + narrow, narrow));
    let want = reference::attention_backward(&shape, &q, &k, &v, &dout);
    for (r, got) in got.chunks(wide + 2 * narrow).enumerate() {
        let (dk, dv) = (&want.dk[r * narrow..][..narrow], &want.dv[r * narrow..][..narrow]);
        let want = want.dq[r * wide..][..wide].iter().chain(dk).chain(dv);
        for (c, (got, want)) in got.iter().zip(want).enumerate() {
            assert!((*got as f64 - want).abs() < 1e-5, "row {r}, column {c}: {got}, expected {want}");
        }
    }
}

#[test]
fn the_copy_of_the_weights_is_rounded_to_bf16() {
    let mut device = Device::cpu();
    let [params, grads, m, v] = [0.3, 0.1, 0.0, 0.0].map(|x| vector(&mut device, &[x; 33]));
    let norm = vector(&mut device, &[1.0, 1.0, 1.0]);
    let copy = device.alloc(DType::Bf16, 33).expect("memory");
    let op = AdamW {
        params: params.vector(),
        grads: grads.vector(),
        m: m.vector(),
        v: v.vector(),
        compute: Some(copy.vector()),
        norm: norm.vector(),
        // Without decay, at a learning rate of 0.01.
        constants: vector(&mut device, &[1.0, 0.1, 0.05f32.sqrt()]).vector(),
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
    };
    device.run(&op).expect("the op runs");
    let (new, copy): (Vec<f32>, Vec<half::bf16>) = (device.to_vec(&params).unwrap(), device.to_vec(&copy).unwrap());
    // The first step moves each weight by the learning rate against the sign of its gradient.
    assert!(new.iter().all(|x| (x - 0.29).abs() < 1e-6), "{new:?}");
    assert!(new.iter().zip(&copy).all(|(&x, &y)| half::bf16::from_f32(x) == y));
}

#[test]
fn every_op_has_a_case_and_a_tolerance() {
    let names: Vec<&str> =
        cases::all().iter().map(|case| (case.build)(&mut Harness::new(Device::cpu(), 0)).op.name()).collect();
    for tolerance in &TOLERANCES {
        assert!(names.contains(&tolerance.op), "{} has no case", tolerance.op);
    }
}
