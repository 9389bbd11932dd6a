//! Gradients.

use super::{FIXTURES, GRADIENTS, Loaded, SHAPE, assert_close, gradient, load, reference};
use stockpot::engine::device::Device;
use stockpot::engine::model::{Activations, Architecture, Batch, Config, Model, Table, initial_weights};
use stockpot::engine::ops::IGNORED;
use stockpot::engine::train::Optimizer;

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
fn recomputed_activations_give_the_same_bits() {
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

/// Two layers, with sizes that distinguish every field.
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
        // Norm weights other than 1, so that a gradient that ignores them fails.
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
                // f32 sums of terms up to about 1 lose about 1e-6; the differences themselves about
                // 1e-9.
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
