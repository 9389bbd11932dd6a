//! Tests of src/engine/eval: a score is the nats of every token, each counted once, equal to plain
//! loops in f64; gradients in the weights of a merge are the differences of such losses.

use crate::data::{shard, temp};
use crate::model::reference::model_loss;
use stockpot::engine::checkpoint::{StorageDType, write_model};
use stockpot::engine::data::{Shard, eval_windows};
use stockpot::engine::device::Device;
use stockpot::engine::eval::{DomainScore, GradientScorer, MergeGradient, score};
use stockpot::engine::merge::{Pool, WeightedSum};
use stockpot::engine::model::{Activations, Architecture, Config, Model, Table, initial_weights};
use stockpot::error::Result;

const CONTEXT: usize = 16;

fn config(architecture: Architecture) -> Config {
    let mut config = Config::preset("tiny", architecture, 280, 0).expect("a preset");
    (config.width, config.layers, config.heads, config.kv_heads, config.head_width) = (16, 2, 2, 1, 8);
    (config.feed_forward, config.context, config.init_std) = (24, CONTEXT, 0.2);
    config
}

/// Documents of no token, one, a window less one, a window, one more, and several windows.
fn documents() -> Vec<Vec<u32>> {
    let tokens = |(salt, n): (u32, u32)| (0..n).map(|i| 1 + (i * 37 + salt * 11) % 279).collect();
    (0..).zip([0, 1, 15, 16, 17, 40]).map(tokens).collect()
}

/// The score, in passes of at most `rows` tokens, and the progress reported after each pass.
fn scored(shard: &Shard, config: &Config, weights: &[f32], rows: usize) -> Result<(DomainScore, Vec<(u64, u64)>)> {
    let mut device = Device::cpu();
    let model = Model::new(&mut device, config, weights)?;
    let acts = Activations::for_evaluation(&mut device, config, rows)?;
    let mut said = Vec::new();
    let score = score(&mut device, &model, &acts, shard, None, &mut |_, done, all| said.push((done, all)))?;
    Ok((score, said))
}

#[test]
fn a_score_is_the_nats_of_each_window_by_itself() {
    let dir = temp();
    let shard = shard(&dir.path().join("s"), &documents());
    for architecture in [Architecture::Olmo2, Architecture::Llama] {
        let config = config(architecture);
        let weights = initial_weights(&config, 7);
        let wide: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
        let nats = |window: &[u32]| {
            let inputs = [&[config.eos], &window[..window.len() - 1]].concat();
            window.len() as f64 * model_loss(&config, &wide, &inputs, window, 1, window.len())
        };
        let documents = documents();
        let windows = || documents.iter().flat_map(|d| eval_windows(d.len(), CONTEXT).map(|window| &d[window]));
        let expected: f64 = windows().map(nats).sum();
        // One window a pass, three, and all at once.
        for (rows, passes) in [(CONTEXT, 7), (3 * CONTEXT, 3), (2048, 1)] {
            let (score, said) = scored(&shard, &config, &weights, rows).expect("a score");
            assert!((score.nats / expected - 1.0).abs() < 1e-6, "{rows} rows: {}, expected {expected}", score.nats);
            assert_eq!((score.documents, score.tokens, score.bytes), (6, 89, 150));
            let of_document = |d: &Vec<u32>| eval_windows(d.len(), CONTEXT).map(|window| nats(&d[window])).sum::<f64>();
            assert_eq!(score.document_nats.len(), 6);
            for (got, expected) in score.document_nats.iter().zip(documents.iter().map(of_document)) {
                assert!((got - expected).abs() < 1e-5 * expected.max(1.0), "{rows} rows: {got}, expected {expected}");
            }
            let count = windows().count() as u64;
            assert!(said.len() == passes && said.last() == Some(&(count, count)), "{rows} rows: {said:?}");
        }
    }
}

#[test]
fn models_and_texts_without_a_score_are_refused() {
    let (dir, config) = (temp(), config(Architecture::Llama));
    let mut weights = initial_weights(&config, 7);
    let refused = |shard: &Shard, weights: &[f32], part: &str| {
        let error = scored(shard, &config, weights, 2048).expect_err("no score").to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(&shard(&dir.path().join("empty"), &[vec![], vec![]]), &weights, "there is no text to score");
    weights[Table::new(&config).final_norm.start] = f32::NAN;
    refused(&shard(&dir.path().join("s"), &documents()), &weights, "values that are not finite");
}

/// A pool of four checkpoints: a seed and three models near it.
fn write_pool(dir: &std::path::Path, config: &Config) -> (Pool, Vec<Vec<f32>>) {
    let seed = initial_weights(config, 7);
    let moved = |k: u64| {
        let move_by = initial_weights(config, 100 + k);
        seed.iter().zip(&move_by).map(|(s, m)| if k == 0 { *s } else { s + 0.2 * m }).collect::<Vec<f32>>()
    };
    let weights: Vec<Vec<f32>> = (0..4).map(moved).collect();
    let write = |(k, weights): (usize, &Vec<f32>)| {
        let path = dir.join(k.to_string());
        std::fs::create_dir(&path).expect("a directory");
        write_model(&path, config, weights, StorageDType::F32, None).expect("a checkpoint");
        path
    };
    let paths: Vec<_> = weights.iter().enumerate().map(write).collect();
    (Pool::open(&paths).expect("a pool"), weights)
}

#[test]
fn gradients_in_the_weights_of_a_merge_are_its_central_differences() {
    for architecture in [Architecture::Olmo2, Architecture::Llama] {
        let (dir, config) = (temp(), config(architecture));
        let (pool, weights) = write_pool(dir.path(), &config);
        let all = documents();
        let texts = [all[1..4].to_vec(), all[4..].to_vec()];
        let shards: Vec<Shard> = (0..2).map(|d| shard(&dir.path().join(format!("s{d}")), &texts[d])).collect();
        let shards: Vec<&Shard> = shards.iter().collect();
        let merge = [-0.2, 0.5, 0.4, 0.3];
        let terms = merge.iter().copied().enumerate().collect();
        let sums = [WeightedSum { terms }];
        let gradients = || -> Vec<MergeGradient> {
            let mut scorer = GradientScorer::on(Device::cpu(), &config, &pool, &sums, 2).expect("a scorer");
            scorer.load_merge(0).expect("a merge");
            scorer.gradients(&shards).expect("gradients")
        };
        let found = gradients();
        let loss = |d: usize, merge: &[f64]| -> f64 {
            let sum = |i: usize| merge.iter().zip(&weights).map(|(m, w)| m * f64::from(w[i])).sum::<f64>();
            let wide: Vec<f64> = (0..weights[0].len()).map(sum).collect();
            let windows = texts[d].iter().flat_map(|t| eval_windows(t.len(), CONTEXT).map(|window| &t[window]));
            let nats = |window: &[u32]| {
                let inputs = [&[config.eos], &window[..window.len() - 1]].concat();
                window.len() as f64 * model_loss(&config, &wide, &inputs, window, 1, window.len())
            };
            windows.map(nats).sum()
        };
        for (d, MergeGradient { score, gradient }) in found.iter().enumerate() {
            assert!((score.nats / loss(d, &merge) - 1.0).abs() < 1e-6, "domain {d}");
            let largest = gradient.iter().map(|g| g.abs()).fold(0.0, f64::max);
            for (k, ours) in gradient.iter().enumerate() {
                let at = |step: f64| {
                    let mut merge = merge;
                    merge[k] += step;
                    loss(d, &merge)
                };
                let step = 1e-4;
                let exact = (at(step) - at(-step)) / (2.0 * step);
                assert!(
                    (ours - exact).abs() < 2e-5 * largest,
                    "{architecture:?}, domain {d}, weight {k}: {ours} {exact}"
                );
            }
        }
        // The bits depend neither on the threads nor on the domains that are computed together.
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            assert_eq!(pool.install(gradients), found);
        }
        let mut scorer = GradientScorer::on(Device::cpu(), &config, &pool, &sums, 1).expect("a scorer");
        scorer.load_merge(0).expect("a merge");
        assert_eq!(scorer.gradients(&shards).expect("gradients"), found);
    }
}
