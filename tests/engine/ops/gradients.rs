//! The reference itself (tests/support/reference.rs): every backward formula against finite
//! differences.

use crate::cases::Fill;
use crate::model::reference::rope_table;
use crate::{cases, reference};
use stockpot::engine::ops::*;

/// d f / d x by central differences.
fn finite_differences(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let (mut x, n) = (x.to_vec(), x.len());
    let mut slope = |i: usize| {
        let at = x[i];
        x[i] = at + STEP;
        let above = f(&x);
        x[i] = at - STEP;
        let below = f(&x);
        x[i] = at;
        (above - below) / (2.0 * STEP)
    };
    (0..n).map(&mut slope).collect()
}

/// Compares `gradient` with the slopes of `f`. Central differences with a step of 1e-5 in f64 err
/// by about 1e-10 of the third derivative and 1e-11 of f; the compared values are of order 1.
fn is_gradient(what: &str, gradient: &[f64], x: &[f64], f: impl Fn(&[f64]) -> f64) {
    let slopes = finite_differences(x, f);
    assert_eq!(gradient.len(), slopes.len());
    for (i, (got, want)) in gradient.iter().zip(&slopes).enumerate() {
        assert!((got - want).abs() <= 1e-8 * want.abs().max(1.0), "{what}[{i}] is {got}, slope {want}");
    }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

#[test]
fn the_products_of_a_linear_layer_are_its_gradients() {
    let (m, n, k) = (5, 7, 3);
    let (x, w, dy) = (Fill::Random.values(1, m * k), Fill::Random.values(2, n * k), Fill::Random.values(3, m * n));
    let loss = |x: &[f64], w: &[f64]| dot(&reference::gemm(x, w, (m, n, k), false, true), &dy);
    is_gradient("dx", &reference::gemm(&dy, &w, (m, k, n), false, false), &x, |x| loss(x, &w));
    is_gradient("dw", &reference::gemm(&dy, &x, (n, k, m), true, false), &w, |w| loss(&x, w));
}

#[test]
fn rms_norm_backward_is_the_gradient() {
    let (rows, n) = (3, 7);
    let (x, w, dout) = (Fill::Random.values(1, rows * n), Fill::Random.values(2, n), Fill::Random.values(3, rows * n));
    let loss = |x: &[f64], w: &[f64]| dot(&reference::rms_norm(x, w, 0.01).0, &dout);
    let (dx, dw) = reference::rms_norm_backward(&x, &w, &reference::rms_norm(&x, &w, 0.01).1, &dout);
    is_gradient("dx", &dx, &x, |x| loss(x, &w));
    is_gradient("dweight", &dw, &w, |w| loss(&x, w));
}

#[test]
fn the_inverse_rotation_is_the_gradient_of_the_rotation() {
    let (rows, cols, width) = (6, 24, 8);
    let table = rope_table(3, width, 10_000.0);
    let (x, dout) = (Fill::Random.values(1, rows * cols), Fill::Random.values(2, rows * cols));
    let dx = reference::rope(&dout, cols, &table, width, true);
    is_gradient("dx", &dx, &x, |x| dot(&reference::rope(x, cols, &table, width, false), &dout));
}

#[test]
fn swiglu_backward_is_the_gradient() {
    let (rows, n) = (3, 5);
    let (x, dout) = (Fill::Random.values(1, rows * 2 * n), Fill::Random.values(2, rows * n));
    is_gradient("dgate_up", &reference::swiglu_backward(&x, &dout, n), &x, |x| dot(&reference::swiglu(x, n), &dout));
}

#[test]
fn attention_backward_is_the_gradient() {
    let s = AttentionShape { batch: 2, context: 5, heads: 4, kv_heads: 2, head_width: 8 };
    let wide = s.batch * s.context * s.heads * s.head_width;
    let [q, k, v, dout] = [(1, wide), (2, wide / 2), (3, wide / 2), (4, wide)].map(|(i, n)| Fill::Random.values(i, n));
    let loss = |q: &[f64], k: &[f64], v: &[f64]| dot(&reference::attention(&s, q, k, v).0, &dout);
    let g = reference::attention_backward(&s, &q, &k, &v, &dout);
    is_gradient("dq", &g.dq, &q, |q| loss(q, &k, &v));
    is_gradient("dk", &g.dk, &k, |k| loss(&q, k, &v));
    is_gradient("dv", &g.dv, &v, |v| loss(&q, &k, v));
}

#[test]
fn cross_entropy_gradient_is_the_gradient() {
    let (rows, n) = (5, 11);
    let (x, targets) = (Fill::Random.values(1, rows * n), cases::targets(rows, n));
    let gradient = reference::cross_entropy_gradient(&x, &targets, 0.3);
    is_gradient("logits", &gradient, &x, |x| 0.3 * reference::cross_entropy(x, &targets).iter().sum::<f64>());
}

#[test]
fn embedding_backward_is_the_gradient() {
    let (tokens, n) = ([2, 0, 2, 1], 3);
    let (weight, dout) = (Fill::Random.values(1, 4 * n), Fill::Random.values(2, tokens.len() * n));
    let gradient = reference::embedding_backward(&tokens, &dout, &vec![0.0; weight.len()], n);
    is_gradient("dweight", &gradient, &weight, |w| dot(&reference::embedding(&tokens, w, n), &dout));
}
