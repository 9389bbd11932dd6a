//! Cases with extreme values, for every sum and every maximum. The right result is that of the
//! formula in f64: an infinity or a NaN reaches exactly the sums that contain it, and a subnormal
//! number counts as a number near 0.

use super::*;

const GEMM: (usize, usize, usize) = (40, 24, 72);

pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, build: Builder| {
        cases.push(Case { name: format!("{name} Random gap {ALIGNED_GAP}"), gap: ALIGNED_GAP, build });
    };
    for fill in [Fill::Subnormal, Fill::Infinite, Fill::NotFinite] {
        let mut each = |op: &str, build: fn(&mut Harness, Fill) -> Built| {
            add(format!("{op} extreme {fill:?}"), Box::new(move |harness| build(harness, fill)));
        };
        each("gemm", |harness, fill| gemm(harness, fill, GEMM, false, true, 0));
        each("rms_norm_forward", |harness, fill| norm(harness, fill, 9, 72, true));
        each("rms_norm_backward", |harness, fill| norm_backward(harness, fill, 9, 72, true));
        each("cross_entropy", |harness, fill| cross_entropy(harness, fill, 9, 72, true));
        each("swiglu_forward", |harness, fill| swiglu(harness, fill, 9, 72));
        each("loss_sum", |harness, fill| loss_sum(harness, fill, 9, 72, true));
        each("embedding_backward", |harness, fill| embedding_backward(harness, fill, 65, 72));
        each("grad_norm", |harness, fill| grad_norm(harness, fill, 2049, 0.5));
        each("merge", |harness, fill| merge(harness, fill, 2049, MERGES[0], true, true));
        each("inner_products", |harness, fill| inner_products(harness, fill, (5, 4, 72), true, true));
    }
    add(
        "adamw extreme, a gradient that is not finite,".into(),
        Box::new(|harness| adamw(harness, Fill::NotFinite, 31, 1, false, false)),
    );
    // Narrow rows, rows of several vectors for each thread, and single elements.
    for (r, c) in [(80, 40), (240, 520), (240, 513)] {
        add(format!("cross_entropy extreme {r} x {c}"), Box::new(move |harness| outliers(harness, r, c)));
    }
    // Full tiles, and tiles with padding.
    for (context, head_width) in [(64, 16), (67, 64), (130, 16)] {
        let s = AttentionShape { batch: 1, context, heads: 2, kv_heads: 1, head_width };
        add(format!("attention_forward extreme {s:?}"), Box::new(move |harness| low_scores(harness, s)));
    }
    cases
}

/// Rows with one logit far above or far below the others, over the rows in every position of a
/// vector, lane and warp; in every third row all logits are far below 0.
fn outliers(harness: &mut Harness, r: usize, c: usize) -> Built {
    let mut logits = Fill::Random.values(1, r * c);
    for (row, logits) in logits.chunks_mut(c).enumerate() {
        // Exact in f32 after a subtraction of 300.
        logits.iter_mut().for_each(|x| *x = (1024.0 * *x).round() / 128.0);
        match row % 3 {
            0 => logits[row / 3 * 9 % c] = 300.0,
            1 => logits[row / 3 * 9 % c] = -300.0,
            _ => logits.iter_mut().for_each(|x| *x -= 300.0),
        }
    }
    cross_entropy_of(harness, logits, r, c, true)
}

/// Queries and keys whose products are far below 0, and exact: their exponentials are 0 unless the
/// highest score is subtracted.
fn low_scores(harness: &mut Harness, s: AttentionShape) -> Built {
    let [q, k, v, _] = heads(harness, Fill::Random, s);
    let near = |sign: f64, values: Vec<f64>| values.iter().map(|x| sign * (9.0 + (2.0 * x.abs()).floor())).collect();
    attention_of(harness, s, [near(1.0, q), near(-1.0, k), v])
}
