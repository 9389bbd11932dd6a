//! Tests of src/engine/model against transformers' logits, losses and gradients
//! (tests/fixtures/transformers), and against central finite differences in f64 of a plain-loop
//! reference.

mod backward;
mod forward;
mod memory;
pub mod reference;

use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use stockpot::engine::checkpoint::Reader;
use stockpot::engine::device::Device;
use stockpot::engine::model::{Activations, Batch, Inputs, Model};
use stockpot::engine::train::Optimizer;

/// Directory and parameter values of one fixture.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transformers").join(name)
}

pub struct Expected(Vec<u8>);

impl Expected {
    pub fn read(name: &str) -> Expected {
        Expected(std::fs::read(fixture(name).join("expected.safetensors")).expect("the fixture is committed"))
    }
    pub fn f32(&self, tensor: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.0).expect("a safetensors file");
        let data = file.tensor(tensor).unwrap_or_else(|e| panic!("{tensor}: {e}"));
        data.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
    pub fn tokens(&self, tensor: &str) -> Vec<u32> {
        let file = SafeTensors::deserialize(&self.0).expect("a safetensors file");
        let data = file.tensor(tensor).expect("token ids");
        data.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
}

/// Ten times the error of a plain f32 run against f64, as measured in the fixtures' README: room
/// for another order of summation, far below any error in a formula. The tolerance of weights after
/// AdamW is larger, since its first steps take the sign of gradients that may be nearly zero.
const LOGITS: f32 = 3e-5;

pub const LOSS: f32 = 4e-6;

const GRADIENTS: f32 = 6e-6;

pub const NORMS: f32 = 1e-5;

pub const WEIGHTS: f32 = 3e-4;

pub fn assert_close(what: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (&a, &b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= tolerance, "{what}[{i}]: ours {a}, transformers {b}, tolerance {tolerance}");
    }
}

pub const SHAPE: Batch = Batch { batch: 2, context: 13 };

pub struct Loaded {
    pub device: Device,
    pub model: Model,
    pub expected: Expected,
    pub tokens: Vec<u32>,
    pub targets: Vec<u32>,
}

pub fn load(name: &str) -> Loaded {
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

/// Adds the gradient of a batch; returns the nats of its targets.
pub fn gradient(
    device: &mut Device,
    model: &Model,
    acts: &Activations,
    optimizer: &Optimizer,
    shape: Batch,
    (tokens, targets): (&[u32], &[u32]),
    scale: f32,
) -> Vec<f32> {
    let inputs = on_device(device, tokens, targets);
    model.accumulate_gradient(device, acts, &optimizer.arena.grads, shape, &inputs, scale).expect("gradients");
    device.to_vec(&acts.losses(shape.rows())).expect("losses")
}

pub const FIXTURES: [&str; 3] = ["olmo2", "llama-untied", "llama-tied"];
