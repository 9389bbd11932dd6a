//! Logits and losses.

use super::{FIXTURES, LOGITS, LOSS, Loaded, SHAPE, assert_close, load, on_device};
use stockpot::engine::model::Activations;

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
