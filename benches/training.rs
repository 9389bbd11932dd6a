//! Tokens per second of whole training steps (forward, backward, clip, AdamW) and of scoring, in
//! f32 on the CPU device. `benches/peers/torch_training.py` runs the same models in PyTorch.
//!
//! `cargo bench --bench training`; `-- quickstart` or another name for one row.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::time::Duration;
use stockpot::engine::device::Device;
use stockpot::engine::model::{Activations, Architecture, Batch, Config, Inputs, Model, initial_weights};
use stockpot::engine::train::{Optimizer, Settings};

struct Row {
    name: &'static str,
    config: Config,
    shape: Batch,
}

/// (C, L, H, F, V), tied or not; B and T.
fn row(
    name: &'static str,
    architecture: Architecture,
    (width, layers, heads, feed_forward, vocabulary): (usize, usize, usize, usize, usize),
    tied: bool,
    (batch, context): (usize, usize),
) -> Row {
    let preset = Config::preset("tiny", architecture, vocabulary, 0).expect("a preset");
    let head_width = width / heads;
    let sizes = Config { width, layers, heads, kv_heads: heads, head_width, feed_forward, context, tied, ..preset };
    Row { name, config: sizes, shape: Batch { batch, context } }
}

fn rows() -> Vec<Row> {
    use Architecture::{Llama, Olmo2};
    vec![
        row("quickstart 0.5M olmo2", Olmo2, (96, 3, 3, 256, 1024), false, (32, 64)),
        row("tiny 5.3M llama", Llama, (256, 4, 4, 688, 4096), false, (16, 256)),
        row("small 42M llama", Llama, (512, 8, 8, 1376, 16384), false, (4, 512)),
        row("130m 124M llama tied", Llama, (768, 12, 12, 2048, 50304), true, (1, 1024)),
    ]
}

fn bench(c: &mut Criterion) {
    let settings: Settings = toml::from_str("steps = 1\nbatch = 1\nlearning_rate = 1e-4").expect("settings");
    for Row { name, config, shape } in rows() {
        let tokens: Vec<u32> = (0..shape.rows() as u64).map(|i| (i * 7919 % config.vocabulary as u64) as u32).collect();
        let targets: Vec<u32> = tokens.iter().map(|t| (t * 31 + 7) % config.vocabulary as u32).collect();
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(shape.rows() as u64)).sample_size(10);
        group.warm_up_time(Duration::from_secs(2)).measurement_time(Duration::from_secs(8));
        group.bench_function("train", |b| {
            let mut device = Device::cpu();
            let inputs = Inputs::new(&mut device, shape.rows()).expect("memory");
            inputs.upload(&mut device, &tokens, &targets).expect("upload");
            let model = Model::new(&mut device, &config, &initial_weights(&config, 0)).expect("memory");
            let acts = Activations::for_training(&mut device, &config, shape.rows(), false).expect("memory");
            let optimizer = Optimizer::new(&mut device, &model, None).expect("memory");
            optimizer.set_learning_rate(&mut device, 1e-4).expect("upload");
            // As in a study, the loop runs on a thread of the pool, so no op pays to enter it.
            rayon::scope(|_| {
                b.iter(|| {
                    optimizer.zero_gradients(&mut device).expect("zeros");
                    let scale = 1.0 / shape.rows() as f32;
                    model
                        .accumulate_gradient(&mut device, &acts, &optimizer.arena.grads, shape, &inputs, scale)
                        .expect("gradients");
                    optimizer.update(&mut device, &model, &settings).expect("an update")
                });
            });
        });
        group.bench_function("score", |b| {
            let mut device = Device::cpu();
            let inputs = Inputs::new(&mut device, shape.rows()).expect("memory");
            inputs.upload(&mut device, &tokens, &targets).expect("upload");
            let model = Model::new(&mut device, &config, &initial_weights(&config, 0)).expect("memory");
            let acts = Activations::for_evaluation(&mut device, &config, shape.rows()).expect("memory");
            rayon::scope(|_| {
                b.iter(|| model.losses(&mut device, &acts, shape, &inputs).expect("losses"));
            });
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
