//! Whole models against transformers' logits, losses, gradients and AdamW steps (fixtures/transformers), and against
//! central finite differences in f64 of a plain-loop reference.

use crate::reference;
use crate::reference_executor::Reference;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use stockpot::engine::checkpoint::Reader;
use stockpot::engine::device::{DType, Device};
use stockpot::engine::model::{
    Activations, Architecture, Batch, Config, Inputs, MemoryPlan, Model, Table, initial_weights,
};
use stockpot::engine::ops::IGNORED;
use stockpot::engine::train::{Optimizer, Settings, Update};

/// Directory and parameter values of one fixture.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transformers").join(name)
}

struct Expected(Vec<u8>);

impl Expected {
    fn read(name: &str) -> Expected {
        Expected(std::fs::read(fixture(name).join("expected.safetensors")).expect("the fixture is committed"))
    }
    fn f32(&self, tensor: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.0).expect("a safetensors file");
        let data = file.tensor(tensor).unwrap_or_else(|e| panic!("{tensor}: {e}"));
        data.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
    fn tokens(&self, tensor: &str) -> Vec<u32> {
        let file = SafeTensors::deserialize(&self.0).expect("a safetensors file");
        let data = file.tensor(tensor).expect("token ids");
        data.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
}

/// What the fixtures' README measures as the loss of an honest f32 run against f64, times ten: room for another order of
/// summation, far below any error of formula. The weights after AdamW are looser, since its first steps take the sign of
/// gradients that may be nearly zero.
const LOGITS: f32 = 3e-5;
const LOSS: f32 = 4e-6;
const GRADIENTS: f32 = 6e-6;
const NORMS: f32 = 1e-5;
const WEIGHTS: f32 = 3e-4;

fn assert_close(what: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (&a, &b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= tolerance, "{what}[{i}]: ours {a}, transformers {b}, tolerance {tolerance}");
    }
}

const SHAPE: Batch = Batch { batch: 2, context: 13 };

struct Loaded {
    device: Device,
    model: Model,
    expected: Expected,
    tokens: Vec<u32>,
    targets: Vec<u32>,
}

fn load(name: &str) -> Loaded {
    let reader = Reader::open(&fixture(name)).expect("the fixture opens");
    let mut weights = vec![0.0; reader.table().len];
    reader.read_weights(&mut weights).expect("the weights are read");
    let mut device = Device::cpu();
    let model = Model::new(&mut device, reader.config(), &weights).expect("the model fits");
    let expected = Expected::read(name);
    let (tokens, targets) = (expected.tokens("tokens"), expected.tokens("targets"));
    Loaded { device, model, expected, tokens, targets }
}

fn on_device(device: &mut Device, tokens: &[u32], targets: &[u32]) -> Inputs {
    let inputs = Inputs::new(device, tokens.len()).expect("memory");
    inputs.upload(device, tokens, targets).expect("upload");
    inputs
}

/// Adds the gradient of a batch; the nats of its targets.
fn gradient(
    device: &mut Device,
    model: &Model,
    acts: &Activations,
    optimizer: &Optimizer,
    shape: Batch,
    (tokens, targets): (&[u32], &[u32]),
    scale: f32,
) -> Vec<f32> {
    let inputs = on_device(device, tokens, targets);
    model.accumulate_gradient(device, acts, &optimizer.arena, shape, &inputs, scale).expect("gradients");
    device.to_vec(&acts.losses(shape.rows())).expect("losses")
}

/// An update at the learning rate 0.01.
fn update(device: &mut Device, model: &Model, optimizer: &Optimizer, settings: &Settings) -> Update {
    optimizer.set_learning_rate(device, 1e-2).expect("upload");
    optimizer.update(device, model, settings).expect("an update");
    Update::of(&device.to_vec::<f32>(&optimizer.arena.norm).expect("download"))
}

const FIXTURES: [&str; 3] = ["olmo2", "llama-untied", "llama-tied"];

#[test]
fn logits_and_losses_are_those_of_transformers() {
    for name in FIXTURES {
        let Loaded { mut device, model, expected, tokens, targets } = load(name);
        let acts = Activations::for_evaluation(&mut device, &model.config, SHAPE.rows()).expect("memory");
        let inputs = on_device(&mut device, &tokens, &targets);
        let logits = model.logits(&mut device, &acts, SHAPE, &inputs).expect("logits");
        assert_close(&format!("{name} logits"), &logits, &expected.f32("logits"), LOGITS);
        model.losses(&mut device, &acts, SHAPE, &inputs).expect("losses");
        let losses: Vec<f32> = device.to_vec(&acts.losses(SHAPE.rows())).expect("losses");
        let mean = losses.iter().sum::<f32>() / losses.len() as f32;
        assert_close(&format!("{name} loss"), &[mean], &expected.f32("loss"), LOSS);
    }
}

#[test]
fn gradients_are_those_of_transformers() {
    for name in FIXTURES {
        let Loaded { mut device, model, expected, tokens, targets } = load(name);
        let acts = Activations::for_training(&mut device, &model.config, SHAPE.rows(), false).expect("memory");
        let optimizer = Optimizer::new(&mut device, &model, None).expect("memory");
        let scale = 1.0 / SHAPE.rows() as f32;
        gradient(&mut device, &model, &acts, &optimizer, SHAPE, (&tokens, &targets), scale);
        let grads: Vec<f32> = device.to_vec(&optimizer.arena.grads).expect("gradients");
        for p in &model.table.parameters {
            let theirs = expected.f32(&format!("grad.{}", p.name));
            assert_close(&format!("{name} gradient of {}", p.name), &grads[p.range()], &theirs, GRADIENTS);
        }
    }
}

#[test]
fn activations_computed_again_are_the_same_bits() {
    for name in FIXTURES {
        let gradients = |recompute: bool| -> Vec<f32> {
            let Loaded { mut device, model, tokens, targets, .. } = load(name);
            let acts = Activations::for_training(&mut device, &model.config, SHAPE.rows(), recompute).expect("memory");
            let optimizer = Optimizer::new(&mut device, &model, None).expect("memory");
            gradient(&mut device, &model, &acts, &optimizer, SHAPE, (&tokens, &targets), 0.1);
            device.to_vec(&optimizer.arena.grads).expect("gradients")
        };
        assert!(gradients(true) == gradients(false), "{name}");
    }
}

#[test]
fn presets_fit_a_gpu_of_80_gb() {
    for (preset, micro, least) in [("130m", 16, 10e9), ("1b", 8, 30e9)] {
        let config = Config::preset(preset, Architecture::Olmo2, 50_304, 0).expect("a preset");
        let micro = Batch { batch: micro, context: config.context };
        let plan = |recompute| {
            MemoryPlan::of_training(&config, DType::Bf16, micro, 4 * micro.batch, recompute).expect("kernels for it")
        };
        let bytes = plan(false).total() as f64;
        assert!(least < bytes && bytes < 80e9, "{preset}: {}", plan(false));
        assert!(plan(true).activations * 3 < plan(false).activations, "{preset}: {}", plan(true));
        // Six bytes a weight, twelve for its gradient and moments.
        let parameters = Table::new(&config).len as u64;
        assert!(plan(true).weights.abs_diff(6 * parameters) < 1 << 21, "{preset}");
        assert!(plan(true).optimizer.abs_diff(12 * parameters) < 1 << 21, "{preset}");
    }
    let mut config = Config::preset("tiny", Architecture::Olmo2, 300, 0).expect("a preset");
    (config.width, config.heads, config.kv_heads, config.head_width) = (272, 2, 2, 136);
    let refused = MemoryPlan::of_evaluation(&config, DType::Bf16, 64).expect_err("no kernel for this width");
    assert!(refused.to_string().contains("heads of width 136"), "{refused}");
    MemoryPlan::of_evaluation(&config, DType::F32, 64).expect("the CPU takes any");
}

#[test]
fn micro_batches_add_up_to_the_batch() {
    let Loaded { mut device, model, expected, tokens, targets } = load("olmo2");
    let acts = Activations::for_training(&mut device, &model.config, SHAPE.rows(), false).expect("memory");
    let optimizer = Optimizer::new(&mut device, &model, None).expect("memory");
    let one = Batch { batch: 1, context: SHAPE.context };
    for rows in [0..13, 13..26] {
        let (tokens, targets) = (&tokens[rows.clone()], &targets[rows]);
        let scale = 1.0 / SHAPE.rows() as f32;
        gradient(&mut device, &model, &acts, &optimizer, one, (tokens, targets), scale);
    }
    let grads: Vec<f32> = device.to_vec(&optimizer.arena.grads).expect("gradients");
    for p in &model.table.parameters {
        assert_close(&p.name, &grads[p.range()], &expected.f32(&format!("grad.{}", p.name)), GRADIENTS);
    }
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

/// Nothing but launches: what this executor computes, kernels can, without a change to models or training.
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

/// Two layers, sizes that tell every field apart.
fn small(architecture: Architecture, tied: bool) -> Config {
    let (heads, kv_heads) = (4, 2);
    Config {
        architecture,
        width: 16,
        layers: 2,
        heads,
        kv_heads,
        head_width: 8,
        feed_forward: 24,
        vocabulary: 19,
        context: 7,
        tied,
        rope_base: 100.0,
        norm_epsilon: 1e-5,
        init_std: 0.3,
        eos: 0,
    }
}

#[test]
fn gradients_are_finite_differences_of_the_reference() {
    let shape = Batch { batch: 2, context: 7 };
    for (architecture, tied) in [
        (Architecture::Olmo2, false),
        (Architecture::Olmo2, true),
        (Architecture::Llama, false),
        (Architecture::Llama, true),
    ] {
        let config = small(architecture, tied);
        let table = Table::new(&config);
        let mut weights = initial_weights(&config, 7);
        // Norm weights off 1, so that a gradient that forgets them shows.
        for p in table.parameters.iter().filter(|p| p.shape.len() == 1) {
            weights[p.range()].iter_mut().enumerate().for_each(|(i, w)| *w = 0.6 + 0.1 * (i % 9) as f32);
        }
        let tokens: Vec<u32> = (0..shape.rows() as u32).map(|i| (i * 5 + 2) % 19).collect();
        let mut targets: Vec<u32> = (0..shape.rows() as u32).map(|i| (i * 11 + 3) % 19).collect();
        targets[4] = IGNORED;
        let counted = (shape.rows() - 1) as f32;

        let mut device = Device::cpu();
        let model = Model::new(&mut device, &config, &weights).expect("memory");
        let acts = Activations::for_training(&mut device, &config, shape.rows(), false).expect("memory");
        let optimizer = Optimizer::new(&mut device, &model, None).expect("memory");
        gradient(&mut device, &model, &acts, &optimizer, shape, (&tokens, &targets), 1.0 / counted);
        let grads: Vec<f32> = device.to_vec(&optimizer.arena.grads).expect("gradients");

        let mut wide: Vec<f64> = weights.iter().map(|&w| w as f64).collect();
        let loss = |w: &[f64]| reference::model_loss(&config, w, &tokens, &targets, shape.batch, shape.context);
        let step = 1e-5;
        for p in &table.parameters {
            for i in p.range() {
                let at = wide[i];
                wide[i] = at + step;
                let above = loss(&wide);
                wide[i] = at - step;
                let below = loss(&wide);
                wide[i] = at;
                let numeric = (above - below) / (2.0 * step);
                // f32 sums of terms up to about 1 lose some 1e-6; the differences themselves some 1e-9.
                let tolerance = 4e-6 + 2e-5 * numeric.abs();
                let ours = grads[i] as f64;
                assert!(
                    (ours - numeric).abs() <= tolerance,
                    "{config:?}\n{} [{}]: {ours} for {numeric}",
                    p.name,
                    i - p.offset
                );
            }
        }
    }
}
