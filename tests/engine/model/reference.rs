//! A whole model as plain loops in f64, from the ops of tests/support/reference.rs; and a test of
//! it.

use crate::cases::{self, Fill};
use crate::reference::{attention, cross_entropy, embedding, gemm, rms_norm, rope, swiglu};
use stockpot::engine::model::{Architecture, Config, Table};
use stockpot::engine::ops::{AttentionShape, IGNORED};

/// (T, D): cosines of position * base^(-2d/D), then sines.
pub fn rope_table(context: usize, head_width: usize, base: f64) -> Vec<f64> {
    let mut table = Vec::new();
    for position in 0..context {
        let angle = |d: usize| position as f64 * base.powf(-2.0 * d as f64 / head_width as f64);
        table.extend((0..head_width / 2).map(|d| angle(d).cos()));
        table.extend((0..head_width / 2).map(|d| angle(d).sin()));
    }
    table
}

/// The mean nats of the targets that are not [`IGNORED`], of a model with `weights` laid out as
/// [`Table`] says.
pub fn model_loss(
    config: &Config,
    weights: &[f64],
    tokens: &[u32],
    targets: &[u32],
    batch: usize,
    context: usize,
) -> f64 {
    let table = Table::new(config);
    assert_eq!((weights.len(), tokens.len()), (table.len, batch * context));
    let (rows, c) = (batch * context, config.width);
    let mut h = embedding(tokens, &weights[table.embedding.clone()], c);
    for layer in &table.layers {
        let norm = |x: &[f64], w: &std::ops::Range<usize>| rms_norm(x, &weights[w.clone()], config.norm_epsilon).0;
        let linear = |x: &[f64], w: &std::ops::Range<usize>| {
            let (k, n) = (x.len() / rows, w.len() / (x.len() / rows));
            gemm(x, &weights[w.clone()], (rows, n, k), false, true)
        };
        let attention =
            |x: &[f64]| linear(&mixed(config, layer, weights, &linear(x, &layer.qkv), batch), &layer.attention_out);
        let mlp = |x: &[f64]| linear(&swiglu(&linear(x, &layer.gate_up), config.feed_forward), &layer.down);
        let add = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x + y).collect::<Vec<f64>>();
        match config.architecture {
            Architecture::Olmo2 => {
                h = add(&h, &norm(&attention(&h), &layer.attention_norm));
                h = add(&h, &norm(&mlp(&h), &layer.feed_forward_norm));
            }
            Architecture::Llama => {
                h = add(&h, &attention(&norm(&h, &layer.attention_norm)));
                h = add(&h, &mlp(&norm(&h, &layer.feed_forward_norm)));
            }
        }
    }
    let h = rms_norm(&h, &weights[table.final_norm], config.norm_epsilon).0;
    let logits = gemm(&h, &weights[table.head], (rows, config.vocabulary, c), false, true);
    let scored = targets.iter().filter(|&&t| t != IGNORED).count();
    cross_entropy(&logits, targets).iter().sum::<f64>() / scored as f64
}

/// The heads' outputs (rows, q_width) from the packed queries, keys and values.
fn mixed(
    config: &Config,
    layer: &stockpot::engine::model::LayerOffsets,
    weights: &[f64],
    qkv: &[f64],
    batch: usize,
) -> Vec<f64> {
    let (qw, kw) = (config.q_width(), config.kv_width());
    let rows = qkv.len() / (qw + 2 * kw);
    let cut = |from: usize, width: usize| -> Vec<f64> {
        qkv.chunks(qw + 2 * kw).flat_map(|row| row[from..from + width].to_vec()).collect()
    };
    let (mut q, mut k, v) = (cut(0, qw), cut(qw, kw), cut(qw + kw, kw));
    if let Some((q_norm, k_norm)) = &layer.qk_norm {
        q = rms_norm(&q, &weights[q_norm.clone()], config.norm_epsilon).0;
        k = rms_norm(&k, &weights[k_norm.clone()], config.norm_epsilon).0;
    }
    let table = rope_table(rows / batch, config.head_width, config.rope_base);
    q = rope(&q, qw, &table, config.head_width, false);
    k = rope(&k, kw, &table, config.head_width, false);
    let shape = AttentionShape {
        batch,
        context: rows / batch,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_width: config.head_width,
    };
    attention(&shape, &q, &k, &v).0
}

#[test]
fn a_model_with_a_zero_output_matrix_is_uniform() {
    for architecture in [Architecture::Olmo2, Architecture::Llama] {
        let mut config = Config::preset("tiny", architecture, 50, 0).expect("a preset");
        (config.width, config.heads, config.kv_heads, config.head_width) = (16, 2, 1, 8);
        (config.layers, config.feed_forward, config.tied) = (2, 24, false);
        let table = Table::new(&config);
        let mut weights = Fill::Random.values(1, table.len);
        weights[table.head.clone()].fill(0.0);
        let tokens: Vec<u32> = (0..14).collect();
        let targets = cases::targets(14, 50);
        let loss = |weights: &[f64]| model_loss(&config, weights, &tokens, &targets, 2, 7);
        assert!((loss(&weights) - 50f64.ln()).abs() < 1e-12, "uniform over the vocabulary");
        // A batch is the mean of its sequences: each is scored only by its own tokens.
        weights[table.head].copy_from_slice(&Fill::Random.values(2, 50 * 16));
        let one = |b: usize| {
            let rows = 7 * b..7 * b + 7;
            let scored = targets[rows.clone()].iter().filter(|&&t| t != IGNORED).count() as f64;
            scored * model_loss(&config, &weights, &tokens[rows.clone()], &targets[rows], 1, 7)
        };
        let scored = targets.iter().filter(|&&t| t != IGNORED).count() as f64;
        assert!((loss(&weights) - (one(0) + one(1)) / scored).abs() < 1e-12);
    }
}
