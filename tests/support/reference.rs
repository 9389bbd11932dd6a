//! Reference implementations of every op as plain loops in f64. Matrices are row-major without
//! gaps. Nothing here is fast, tiled or clever: the rest of the project is compared with it.

use stockpot::engine::ops::{AttentionShape, IGNORED};

/// C (m, n) = op(A) x op(B); A is (k, m) when `transpose_a`, B is (n, k) when `transpose_b`.
pub fn gemm(a: &[f64], b: &[f64], (m, n, k): (usize, usize, usize), transpose_a: bool, transpose_b: bool) -> Vec<f64> {
    let mut c = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            for l in 0..k {
                let x = if transpose_a { a[l * m + i] } else { a[i * k + l] };
                let y = if transpose_b { b[j * k + l] } else { b[l * n + j] };
                c[i * n + j] += x * y;
            }
        }
    }
    c
}

/// x (rows, n), weight (n): the normalized rows, and each row's 1 / sqrt(mean(x^2) + epsilon).
pub fn rms_norm(x: &[f64], weight: &[f64], epsilon: f64) -> (Vec<f64>, Vec<f64>) {
    let (mut out, mut rstd) = (Vec::new(), Vec::new());
    for row in x.chunks(weight.len()) {
        let mean_square = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
        let r = 1.0 / (mean_square + epsilon).sqrt();
        out.extend(row.iter().zip(weight).map(|(x, w)| x * r * w));
        rstd.push(r);
    }
    (out, rstd)
}

/// dx (rows, n) and dweight (n).
pub fn rms_norm_backward(x: &[f64], weight: &[f64], rstd: &[f64], dout: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let n = weight.len();
    let (mut dx, mut dweight) = (vec![0.0; x.len()], vec![0.0; n]);
    for (r, &rstd) in rstd.iter().enumerate() {
        let mut dot = 0.0;
        for i in 0..n {
            dot += dout[r * n + i] * weight[i] * x[r * n + i];
            dweight[i] += dout[r * n + i] * x[r * n + i] * rstd;
        }
        for i in 0..n {
            dx[r * n + i] = rstd * dout[r * n + i] * weight[i] - x[r * n + i] * rstd.powi(3) * dot / n as f64;
        }
    }
    (dx, dweight)
}

/// x (rows, cols) rotated, row r at position r mod T; rotated back if `inverse`.
pub fn rope(x: &[f64], cols: usize, table: &[f64], head_width: usize, inverse: bool) -> Vec<f64> {
    let (half, context) = (head_width / 2, table.len() / head_width);
    let mut out = x.to_vec();
    for r in 0..x.len() / cols {
        for head in 0..cols / head_width {
            for d in 0..half {
                let (cos, mut sin) = (table[r % context * head_width + d], table[r % context * head_width + half + d]);
                if inverse {
                    sin = -sin;
                }
                let (low, high) = (r * cols + head * head_width + d, r * cols + head * head_width + d + half);
                out[low] = x[low] * cos - x[high] * sin;
                out[high] = x[high] * cos + x[low] * sin;
            }
        }
    }
    out
}

/// gate_up (rows, 2n), gate then up: silu(gate) * up, (rows, n).
pub fn swiglu(gate_up: &[f64], n: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for row in gate_up.chunks(2 * n) {
        for i in 0..n {
            out.push(row[i] / (1.0 + (-row[i]).exp()) * row[n + i]);
        }
    }
    out
}

/// dgate_up (rows, 2n).
pub fn swiglu_backward(gate_up: &[f64], dout: &[f64], n: usize) -> Vec<f64> {
    let mut d = vec![0.0; gate_up.len()];
    for r in 0..dout.len() / n {
        for i in 0..n {
            let (gate, up, dout) = (gate_up[r * 2 * n + i], gate_up[r * 2 * n + n + i], dout[r * n + i]);
            let s = 1.0 / (1.0 + (-gate).exp());
            d[r * 2 * n + i] = dout * up * s * (1.0 + gate * (1.0 - s));
            d[r * 2 * n + n + i] = dout * gate * s;
        }
    }
    d
}

/// Weight of key j for query i of head h in sequence b, and each query's log of the sum of
/// exponentials.
struct Weights {
    /// (B, H, T, T)
    p: Vec<f64>,
    /// (B*H, T)
    lse: Vec<f64>,
}

/// Index in (B*T, heads*D) of element d.
fn place(s: &AttentionShape, heads: usize, b: usize, t: usize, h: usize, d: usize) -> usize {
    (b * s.context + t) * heads * s.head_width + h * s.head_width + d
}

/// Calls `body(b, h, kv, i, j)` for every query i and every key j it sees.
fn pairs(s: &AttentionShape, mut body: impl FnMut(usize, usize, usize, usize, usize)) {
    for b in 0..s.batch {
        for h in 0..s.heads {
            for i in 0..s.context {
                (0..=i).for_each(|j| body(b, h, h / (s.heads / s.kv_heads), i, j));
            }
        }
    }
}

fn attention_weights(s: &AttentionShape, q: &[f64], k: &[f64]) -> Weights {
    let t = s.context;
    let mut p = vec![0.0; s.batch * s.heads * t * t];
    let mut lse = vec![0.0; s.batch * s.heads * t];
    pairs(s, |b, h, kv, i, j| {
        let score: f64 =
            (0..s.head_width).map(|d| q[place(s, s.heads, b, i, h, d)] * k[place(s, s.kv_heads, b, j, kv, d)]).sum();
        p[((b * s.heads + h) * t + i) * t + j] = score / (s.head_width as f64).sqrt();
    });
    for (row, lse) in lse.iter_mut().enumerate() {
        let scores = &mut p[row * t..][..row % t + 1];
        let top = scores.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        *lse = top + scores.iter().map(|x| (x - top).exp()).sum::<f64>().ln();
        scores.iter_mut().for_each(|x| *x = (*x - *lse).exp());
    }
    Weights { p, lse }
}

/// out (B*T, H*D) and lse (B*H, T).
pub fn attention(s: &AttentionShape, q: &[f64], k: &[f64], v: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let Weights { p, lse } = attention_weights(s, q, k);
    let mut out = vec![0.0; q.len()];
    pairs(s, |b, h, kv, i, j| {
        let weight = p[((b * s.heads + h) * s.context + i) * s.context + j];
        for d in 0..s.head_width {
            out[place(s, s.heads, b, i, h, d)] += weight * v[place(s, s.kv_heads, b, j, kv, d)];
        }
    });
    (out, lse)
}

/// The outputs of attention's backward.
pub struct AttentionGradient {
    pub dq: Vec<f64>,
    pub dk: Vec<f64>,
    pub dv: Vec<f64>,
    /// (B*H, T): sum of out * dout
    pub delta: Vec<f64>,
}

pub fn attention_backward(s: &AttentionShape, q: &[f64], k: &[f64], v: &[f64], dout: &[f64]) -> AttentionGradient {
    let (t, scale) = (s.context, 1.0 / (s.head_width as f64).sqrt());
    let p = attention_weights(s, q, k).p;
    let out = attention(s, q, k, v).0;
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    let mut delta = vec![0.0; s.batch * s.heads * t];
    for (row, delta) in delta.iter_mut().enumerate() {
        let (b, h, i) = (row / t / s.heads, row / t % s.heads, row % t);
        let at = |d| place(s, s.heads, b, i, h, d);
        *delta = (0..s.head_width).map(|d| out[at(d)] * dout[at(d)]).sum();
    }
    pairs(s, |b, h, kv, i, j| {
        let row = (b * s.heads + h) * t + i;
        let (weight, width) = (p[row * t + j], s.head_width);
        let (at, key) = (|d| place(s, s.heads, b, i, h, d), |d| place(s, s.kv_heads, b, j, kv, d));
        let dweight: f64 = (0..width).map(|d| dout[at(d)] * v[key(d)]).sum();
        let dscore = weight * (dweight - delta[row]) * scale;
        for d in 0..width {
            dv[key(d)] += weight * dout[at(d)];
            dq[at(d)] += dscore * k[key(d)];
            dk[key(d)] += dscore * q[at(d)];
        }
    });
    AttentionGradient { dq, dk, dv, delta }
}

/// Nats of each row of logits (rows, n); 0 where the target is [`IGNORED`].
pub fn cross_entropy(logits: &[f64], targets: &[u32]) -> Vec<f64> {
    let n = logits.len() / targets.len();
    let nats = |(row, &target): (&[f64], &u32)| {
        if target == IGNORED {
            return 0.0;
        }
        let top = row.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        top + row.iter().map(|x| (x - top).exp()).sum::<f64>().ln() - row[target as usize]
    };
    logits.chunks(n).zip(targets).map(nats).collect()
}

/// (softmax - onehot(target)) * scale, (rows, n).
pub fn cross_entropy_gradient(logits: &[f64], targets: &[u32], scale: f64) -> Vec<f64> {
    let n = logits.len() / targets.len();
    let mut d = vec![0.0; logits.len()];
    for (r, &target) in targets.iter().enumerate() {
        let row = &logits[r * n..(r + 1) * n];
        let top = row.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let sum: f64 = row.iter().map(|x| (x - top).exp()).sum();
        for (i, x) in row.iter().enumerate() {
            let hit = if i == target as usize { 1.0 } else { 0.0 };
            d[r * n + i] = if target == IGNORED { 0.0 } else { ((x - top).exp() / sum - hit) * scale };
        }
    }
    d
}

/// Rows of weight (V, n) by token.
pub fn embedding(tokens: &[u32], weight: &[f64], n: usize) -> Vec<f64> {
    tokens.iter().flat_map(|&t| &weight[t as usize * n..][..n]).copied().collect()
}

/// dweight (V, n) with the rows of dout added to those of their tokens.
pub fn embedding_backward(tokens: &[u32], dout: &[f64], dweight: &[f64], n: usize) -> Vec<f64> {
    let mut sum = dweight.to_vec();
    for (r, &t) in tokens.iter().enumerate() {
        (0..n).for_each(|i| sum[t as usize * n + i] += dout[r * n + i]);
    }
    sum
}

/// L2 norm, clip factor, 1 when all gradients are finite.
pub fn grad_norm(grads: &[f64], max_norm: f64) -> [f64; 3] {
    let norm = grads.iter().map(|g| g * g).sum::<f64>().sqrt();
    if norm.is_finite() { [norm, (max_norm / (norm + 1e-6)).min(1.0), 1.0] } else { [norm, 0.0, 0.0] }
}

/// The constants of one step of AdamW, already corrected for the step's number.
pub struct AdamWConstants {
    pub decay: f64,
    pub grad_weight: f64,
    pub beta2: f64,
    pub square_weight: f64,
    pub step_size: f64,
    pub correction: f64,
    pub epsilon: f64,
}

/// One element after a step: (p, m, v).
pub fn adamw(c: &AdamWConstants, p: f64, g: f64, m: f64, v: f64) -> (f64, f64, f64) {
    let m = m + c.grad_weight * (g - m);
    let v = c.beta2 * v + c.square_weight * g * g;
    (p * c.decay - c.step_size * m / (v.sqrt() / c.correction + c.epsilon), m, v)
}

/// gradients (D, p), pool (K, p): every gradient times every row of the pool, (D, K).
pub fn inner_products(gradients: &[f64], pool: &[f64], p: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for gradient in gradients.chunks(p) {
        for checkpoint in pool.chunks(p) {
            out.push(gradient.iter().zip(checkpoint).map(|(x, y)| x * y).sum());
        }
    }
    out
}
