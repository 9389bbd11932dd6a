//! A few training steps of small models on any device, for the host executor
//! (tests/kernels/train.rs) and a GPU (tests/kernels/cuda.rs).

use stockpot::engine::device::Device;
use stockpot::engine::model::{Activations, Architecture, Batch, Config, Inputs, Model, Table, initial_weights};
use stockpot::engine::ops::IGNORED;
use stockpot::engine::train::{Optimizer, Settings, Update};

/// Two layers with grouped heads; sizes differ between fields.
pub fn small(architecture: Architecture, tied: bool) -> Config {
    let mut config = Config::preset("tiny", architecture, 299, 0).expect("a preset");
    (config.width, config.layers, config.heads, config.kv_heads, config.head_width) = (64, 2, 4, 2, 32);
    (config.feed_forward, config.context, config.tied, config.init_std) = (88, 24, tied, 0.1);
    config
}

const SHAPE: Batch = Batch { batch: 3, context: 24 };

pub struct Trained {
    /// Per target, before the first update and after the last.
    pub losses: [Vec<f32>; 2],
    /// (P), before the first update.
    pub gradient: Vec<f32>,
    pub norms: Vec<f32>,
    /// (P), after the last update.
    pub weights: Vec<f32>,
}

/// Trains three steps.
pub fn trained(device: Device, config: &Config, recompute: bool) -> Trained {
    trained_with_logits(device, config, recompute, None)
}

/// As [`trained`], with chunks of at most so many logits.
fn trained_with_logits(mut device: Device, config: &Config, recompute: bool, most: Option<usize>) -> Trained {
    let device = &mut device;
    let rows = SHAPE.rows() as u32;
    let tokens: Vec<u32> = (0..rows).map(|i| (i * 37 + 2) % 299).collect();
    let mut targets: Vec<u32> = (0..rows).map(|i| (i * 11 + 3) % 299).collect();
    targets[5] = IGNORED;
    let settings: Settings = toml::from_str("steps = 3\nbatch = 3\nlearning_rate = 1e-3").expect("settings");
    let model = Model::new(device, config, &initial_weights(config, 7)).expect("memory");
    let mut acts = Activations::for_training(device, config, SHAPE.rows(), recompute).expect("memory");
    if let Some(most) = most {
        acts = acts.with_logits(device, most).expect("memory");
    }
    let optimizer = Optimizer::new(device, &model, None).expect("memory");
    optimizer.set_learning_rate(device, 1e-3).expect("upload");
    let inputs = Inputs::new(device, SHAPE.rows()).expect("memory");
    inputs.upload(device, &tokens, &targets).expect("upload");
    let (mut losses, mut gradient, mut norms) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..3 {
        optimizer.zero_gradients(device).expect("zeros");
        let scale = 1.0 / rows as f32;
        model.accumulate_gradient(device, &acts, &optimizer.arena.grads, SHAPE, &inputs, scale).expect("gradients");
        if step == 0 {
            losses = device.to_vec(&acts.losses(SHAPE.rows())).expect("losses");
            gradient = device.to_vec(&optimizer.arena.grads).expect("gradients");
        }
        optimizer.update(device, &model, &settings).expect("an update");
        norms.push(device.to_vec::<f32>(&optimizer.arena.norm).expect("the norm")[0]);
    }
    model.losses(device, &acts, SHAPE, &inputs).expect("losses");
    let after = device.to_vec(&acts.losses(SHAPE.rows())).expect("losses");
    Trained { losses: [losses, after], gradient, norms, weights: device.to_vec(&model.master).expect("weights") }
}

/// Chunks of logits change nothing except the order in which rows are added to the gradient of the
/// output matrix.
pub fn chunks_of_logits_do_not_matter(open: impl Fn() -> Device) {
    for architecture in [Architecture::Llama, Architecture::Olmo2] {
        let config = small(architecture, false);
        let head = Table::new(&config).head;
        let whole = trained(open(), &config, false);
        // 72 rows: two chunks of 30 and one of 12.
        let chunked = trained_with_logits(open(), &config, false, Some(30 * 299 + 298));
        assert!(whole.losses[0] == chunked.losses[0], "{architecture:?}: different losses");
        let largest = whole.gradient[head.clone()].iter().fold(0.0f32, |a, b| a.max(b.abs()));
        for (i, (a, b)) in whole.gradient.iter().zip(&chunked.gradient).enumerate() {
            let near = if head.contains(&i) { (a - b).abs() <= 1e-6 * largest } else { a == b };
            assert!(near, "{architecture:?}: gradient {i} is {b}, in one chunk {a}");
        }
        // After an update, weights differ by rounding only.
        for (a, b) in whole.losses[1].iter().zip(&chunked.losses[1]) {
            assert!((a - b).abs() < 0.02, "{architecture:?}: a loss of {b} after updates, in one chunk {a}");
        }
    }
}

/// A step whose gradient is not finite changes no weight and is not counted; a NaN among the logits
/// is not hidden.
pub fn a_gradient_that_is_not_finite_changes_nothing(mut device: Device) {
    let device = &mut device;
    let config = small(Architecture::Llama, true);
    let settings: Settings = toml::from_str("steps = 1\nbatch = 3\nlearning_rate = 1e-3").expect("settings");
    let mut weights = initial_weights(&config, 7);
    let model = Model::new(device, &config, &weights).expect("memory");
    let acts = Activations::for_training(device, &config, SHAPE.rows(), false).expect("memory");
    let optimizer = Optimizer::new(device, &model, None).expect("memory");
    optimizer.set_learning_rate(device, 1e-3).expect("upload");
    let inputs = Inputs::new(device, SHAPE.rows()).expect("memory");
    let tokens: Vec<u32> = (0..SHAPE.rows() as u32).collect();
    inputs.upload(device, &tokens, &tokens).expect("upload");
    model.accumulate_gradient(device, &acts, &optimizer.arena.grads, SHAPE, &inputs, f32::INFINITY).expect("gradients");
    optimizer.update(device, &model, &settings).expect("an update");
    assert!(Update::of(&device.to_vec::<f32>(&optimizer.arena.norm).expect("the norm")).skipped);
    assert_eq!(optimizer.updates(device).expect("a count"), 0);
    assert!(device.to_vec::<f32>(&model.master).expect("weights") == weights);
    let rounded: Vec<half::bf16> = weights.iter().map(|&w| half::bf16::from_f32(w)).collect();
    assert!(device.to_vec::<half::bf16>(&model.compute).expect("weights") == rounded);

    weights[Table::new(&config).final_norm.start] = f32::NAN;
    model.load(device, &weights).expect("upload");
    model.losses(device, &acts, SHAPE, &inputs).expect("losses");
    let losses: Vec<f32> = device.to_vec(&acts.losses(SHAPE.rows())).expect("losses");
    assert!(losses.iter().all(|loss| loss.is_nan()));
}

/// A model of more weights than are uploaded at a time holds them all, and their copy in bf16.
pub fn weights_of_several_uploads_arrive_whole(mut device: Device) {
    let mut config = small(Architecture::Olmo2, false);
    (config.vocabulary, config.width) = (9000, 128);
    let weights = initial_weights(&config, 3);
    assert!(weights.len() > 2 << 20, "three uploads of 2^20");
    let model = Model::new(&mut device, &config, &weights).expect("memory");
    assert!(device.to_vec::<f32>(&model.master).expect("weights") == weights);
    let rounded: Vec<half::bf16> = weights.iter().map(|&w| half::bf16::from_f32(w)).collect();
    assert!(device.to_vec::<half::bf16>(&model.compute).expect("weights") == rounded);
}

/// |a - b| / |b| in the L2 norm.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (difference / b.iter().map(|&b| square(b)).sum::<f64>().max(1e-30)).sqrt()
}

/// Compares training on a device of kernels with training on the CPU.
pub fn matches_the_cpu_within_bf16(device: impl Fn() -> Device) {
    for (architecture, tied) in
        [(Architecture::Olmo2, false), (Architecture::Llama, false), (Architecture::Llama, true)]
    {
        let config = small(architecture, tied);
        let (cpu, kernels) = (trained(Device::cpu(), &config, false), trained(device(), &config, false));
        for (ours, theirs) in kernels.losses.iter().zip(&cpu.losses) {
            // bf16 rounds some twenty consecutive activations by up to 1/256 each, and the logits,
            // which are of order 1.
            let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 0.06, "{architecture:?}: a loss is off by {worst}");
            let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
            let off = (mean(ours) - mean(theirs)).abs();
            assert!(off < 4e-3, "{architecture:?}: the mean loss is off by {off}");
        }
        for p in &Table::new(&config).parameters {
            let off = distance(&kernels.gradient[p.range()], &cpu.gradient[p.range()]);
            println!("{architecture:?} {}: {off:.2e}", p.name);
            assert!(off < 0.04, "{architecture:?}: the gradient of {} is off by {off}", p.name);
        }
        for (ours, theirs) in kernels.norms.iter().zip(&cpu.norms) {
            assert!((ours / theirs - 1.0).abs() < 0.01, "{architecture:?}: norm {ours}, on the CPU {theirs}");
        }
        let off = distance(&kernels.weights, &cpu.weights);
        assert!(off < 0.01, "{architecture:?}: weights are off by {off}");
    }
}
