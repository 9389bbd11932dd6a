//! AdamW compared with PyTorch's steps, and trainings of a few steps on the fixtures of
//! tests/fixtures/transformers.

use crate::model::{FIXTURES, LOSS, Loaded, NORMS, SHAPE, WEIGHTS, assert_close, gradient, load};
use crate::reference_executor::Reference;
use stockpot::engine::device::{DType, Device};
use stockpot::engine::model::{Activations, Model};
use stockpot::engine::train::{Optimizer, Settings, Update};

/// An update at the learning rate 0.01.
fn update(device: &mut Device, model: &Model, optimizer: &Optimizer, settings: &Settings) -> Update {
    optimizer.set_learning_rate(device, 1e-2).expect("upload");
    optimizer.update(device, model, settings).expect("an update");
    Update::of(&device.to_vec::<f32>(&optimizer.arena.norm).expect("download"))
}

#[test]
fn three_adamw_steps_are_those_of_pytorch() {
    let text = "steps = 3\nbatch = 2\nlearning_rate = 1e-2\nweight_decay = 0.1\nclip = 1.0";
    let settings: Settings = toml::from_str(text).expect("settings");
    for name in FIXTURES {
        let Loaded { mut device, model, expected, tokens, targets } = load(name);
        let acts = Activations::for_training(&mut device, &model.config, SHAPE.rows(), false).expect("memory");
        let optimizer = Optimizer::new(&mut device, &model, None).expect("memory");
        let (losses, norms) = (expected.f32("adamw.losses"), expected.f32("adamw.norms"));
        for step in 0..3 {
            optimizer.zero_gradients(&mut device).expect("zeros");
            let scale = 1.0 / SHAPE.rows() as f32;
            let nats = gradient(&mut device, &model, &acts, &optimizer, SHAPE, (&tokens, &targets), scale);
            let mean = nats.iter().sum::<f32>() / nats.len() as f32;
            assert_close(&format!("{name} loss of step {step}"), &[mean], &losses[step..=step], 10.0 * LOSS);
            let update = update(&mut device, &model, &optimizer, &settings);
            assert!(!update.skipped);
            assert_close(&format!("{name} norm of step {step}"), &[update.grad_norm], &norms[step..=step], NORMS);
        }
        let weights: Vec<f32> = device.to_vec(&model.master).expect("weights");
        for p in &model.table.parameters {
            let theirs = expected.f32(&format!("adamw.{}", p.name));
            assert_close(&format!("{name} {} after AdamW", p.name), &weights[p.range()], &theirs, WEIGHTS);
        }
    }
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    let Loaded { mut device, model, tokens, targets, .. } = load("llama-tied");
    let settings: Settings = toml::from_str("steps = 1\nbatch = 2\nlearning_rate = 1e-2").expect("settings");
    let acts = Activations::for_training(&mut device, &model.config, SHAPE.rows(), false).expect("memory");
    let optimizer = Optimizer::new(&mut device, &model, None).expect("memory");
    gradient(&mut device, &model, &acts, &optimizer, SHAPE, (&tokens, &targets), f32::INFINITY);
    let before: Vec<f32> = device.to_vec(&model.master).expect("weights");
    let update = update(&mut device, &model, &optimizer, &settings);
    assert!(update.skipped);
    assert_eq!(optimizer.updates(&mut device).expect("a count"), 0);
    assert_eq!(device.to_vec::<f32>(&model.master).expect("weights"), before);
}

/// Only launches: kernels can compute whatever this executor computes, without a change to models
/// or training.
#[test]
fn training_by_launches_alone_is_training_on_the_cpu() {
    let settings: Settings = toml::from_str("steps = 2\nbatch = 2\nlearning_rate = 1e-2").expect("settings");
    for name in FIXTURES {
        let steps = |mut device: Device| -> (Vec<f32>, Vec<f32>) {
            let Loaded { device: mut cpu, model, tokens, targets, .. } = load(name);
            let weights: Vec<f32> = cpu.to_vec(&model.master).expect("weights");
            let model = Model::new(&mut device, &model.config, &weights).expect("memory");
            let acts = Activations::for_training(&mut device, &model.config, SHAPE.rows(), false).expect("memory");
            let optimizer = Optimizer::new(&mut device, &model, None).expect("memory");
            let mut losses = Vec::new();
            for _ in 0..2 {
                optimizer.zero_gradients(&mut device).expect("zeros");
                let scale = 1.0 / SHAPE.rows() as f32;
                losses = gradient(&mut device, &model, &acts, &optimizer, SHAPE, (&tokens, &targets), scale);
                update(&mut device, &model, &optimizer, &settings);
            }
            (losses, device.to_vec(&model.master).expect("weights"))
        };
        let (losses, weights) = steps(Device::cpu());
        let reference = Device::with_executor("reference", Box::new(Reference::default()), DType::F32);
        let (launched_losses, launched_weights) = steps(reference);
        assert_close(&format!("{name} losses"), &losses, &launched_losses, 20.0 * LOSS);
        assert_close(&format!("{name} weights"), &weights, &launched_weights, WEIGHTS);
    }
}
