//! Every op at awkward shapes with three kinds of input, and the results of the f64 reference. Ones
//! find wrong indices, ramps wrong data movement, random numbers wrong arithmetic.

#[path = "cases/bounds.rs"]
mod bounds;
#[path = "cases/extremes.rs"]
mod extremes;
#[path = "cases/fill.rs"]
mod fill;
#[path = "cases/large.rs"]
mod large;
#[path = "cases/shifted.rs"]
mod shifted;

pub use bounds::{TOLERANCES, relative_error};
pub use fill::{FILLS, Fill};

use crate::harness::Harness;
use crate::reference::{self, AdamWConstants};
use stockpot::engine::device::DType;
use stockpot::engine::ops::merge::Merge;
use stockpot::engine::ops::*;

/// An op on a harness's memory, and its expected outputs.
pub struct Built {
    pub op: Box<dyn Op>,
    pub expected: Vec<(&'static str, Vec<f64>)>,
}

/// Declares the operands of an op.
pub type Builder = Box<dyn Fn(&mut Harness) -> Built + Send + Sync>;

pub struct Case {
    pub name: String,
    /// Elements between rows of its first matrix; see `Harness::new`.
    pub gap: usize,
    pub build: Builder,
}

fn built(op: impl Op + 'static, expected: Vec<(&'static str, Vec<f64>)>) -> Built {
    Built { op: Box::new(op), expected }
}

/// Rows and columns: single, one below a warp, one above a tile, primes, whole vectors of 8, and
/// enough for several chunks.
const SHAPES: [(usize, usize); 9] =
    [(1, 1), (1, 31), (31, 1), (65, 17), (3, 127), (9, 8), (34, 776), (67, 513), (700, 97)];

/// A gap that keeps rows on 16-byte boundaries; used if rows are whole vectors.
const ALIGNED_GAP: usize = 8;

pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for fill in FILLS {
        for gap in [0, 5, ALIGNED_GAP] {
            let mut add = |name: String, build: Builder| {
                cases.push(Case { name: format!("{name} {fill:?} gap {gap}"), gap, build });
            };
            for shape in
                [(1, 1, 1), (1, 31, 7), (31, 1, 65), (65, 67, 31), (127, 33, 257), (136, 72, 200), (300, 1100, 67)]
            {
                if shape.0 == 300 && (fill != Fill::Random || gap > 0) {
                    continue; // several tiles: slow in the reference, and random numbers find whatever other fills do
                }
                if gap == ALIGNED_GAP && shape != (136, 72, 200) {
                    continue;
                }
                for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
                    for epilogue in (0..5).filter(|e| shape.0 < 300 || *e == 4) {
                        let name = format!("gemm {shape:?} transposes {ta} {tb} epilogue {epilogue}");
                        add(name, Box::new(move |harness| gemm(harness, fill, shape, ta, tb, epilogue)));
                    }
                }
            }
            for (r, c) in SHAPES.into_iter().filter(|(_, c)| gap != ALIGNED_GAP || c % 8 == 0) {
                for flag in [false, true] {
                    let name = |op: &str| format!("{op} {r} x {c} {flag}");
                    add(name("rms_norm_forward"), Box::new(move |harness| norm(harness, fill, r, c, flag)));
                    add(name("rms_norm_backward"), Box::new(move |harness| norm_backward(harness, fill, r, c, flag)));
                    add(name("cross_entropy"), Box::new(move |harness| cross_entropy(harness, fill, r, c, flag)));
                }
                let name = |op: &str| format!("{op} {r} x {c}");
                add(name("swiglu_forward"), Box::new(move |harness| swiglu(harness, fill, r, c)));
                add(name("swiglu_backward"), Box::new(move |harness| swiglu_backward(harness, fill, r, c)));
                add(name("embedding_forward"), Box::new(move |harness| embedding(harness, fill, r, c)));
                add(name("embedding_backward"), Box::new(move |harness| embedding_backward(harness, fill, r, c)));
                for accumulate in [false, true] {
                    let name = format!("loss_sum {r} x {c} accumulate {accumulate}");
                    add(name, Box::new(move |harness| loss_sum(harness, fill, r, c, accumulate)));
                }
            }
            if fill == Fill::Random && gap == 0 {
                // More rows than the kernel searches at once.
                add(
                    "embedding_backward 1100 x 8".into(),
                    Box::new(move |harness| embedding_backward(harness, fill, 1100, 8)),
                );
                // Rows that a whole block computes, more rows than blocks; a vocabulary for the
                // largest block.
                add("rms_norm_forward 9 x 9000".into(), Box::new(move |harness| norm(harness, fill, 9, 9000, false)));
                add(
                    "rms_norm_backward 300 x 1032".into(),
                    Box::new(move |harness| norm_backward(harness, fill, 300, 1032, false)),
                );
                add(
                    "cross_entropy 2 x 17001".into(),
                    Box::new(move |harness| cross_entropy(harness, fill, 2, 17_001, true)),
                );
            }
            for (b, t, heads, d) in [(1, 1, 1, 8), (2, 31, 3, 24), (1, 67, 2, 2), (3, 127, 5, 64)] {
                for inverse in [false, true] {
                    let name = format!("rope {b} x {t} heads {heads} x {d} inverse {inverse}");
                    add(name, Box::new(move |harness| rope(harness, fill, (b, t, heads, d), inverse)));
                }
            }
            for (batch, context, heads, kv_heads, head_width) in [
                (1, 1, 1, 1, 8),
                (2, 31, 2, 1, 16),
                (1, 65, 4, 2, 24),
                (2, 67, 3, 3, 32),
                (1, 257, 2, 2, 8),
                (1, 130, 2, 1, 128),
                (2, 64, 4, 2, 32),
                (1, 321, 2, 1, 64),
            ] {
                let s = AttentionShape { batch, context, heads, kv_heads, head_width };
                add(format!("attention_forward {s:?}"), Box::new(move |harness| attention(harness, fill, s)));
                add(format!("attention_backward {s:?}"), Box::new(move |harness| attention_backward(harness, fill, s)));
            }
        }
        // One element, fewer than a row of vectors, one more than a tile of the kernel, many tiles.
        for p in [1, 31, 2049, 100_003] {
            for (i, terms) in MERGES.into_iter().enumerate().filter(|(i, _)| p < 10_000 || *i == CANCELLING) {
                // Contiguous rows, and rows of whole vectors, the last of which is used in part.
                for gap in [0, 8 - p % 8] {
                    for (wide, copy) in [(false, false), (false, true), (true, false), (true, true)] {
                        let pool = if wide { "f32" } else { "compute" };
                        let name = format!("merge {i} pool {pool} copy {copy} {p} {fill:?} gap {gap}");
                        let build = Box::new(move |harness: &mut Harness| merge(harness, fill, p, terms, wide, copy));
                        cases.push(Case { name, gap, build });
                    }
                }
            }
        }
        for (d, k, p) in INNER_PRODUCTS {
            // As for merges.
            for gap in [0, 8 - p % 8] {
                for (wide, accumulate) in [(false, false), (false, true), (true, false), (true, true)] {
                    let pool = if wide { "f32" } else { "compute" };
                    let name = format!(
                        "inner_products {d} x {k} x {p} pool {pool} accumulate {accumulate} {fill:?} gap {gap}"
                    );
                    let build = Box::new(move |harness: &mut Harness| {
                        inner_products(harness, fill, (d, k, p), wide, accumulate)
                    });
                    cases.push(Case { name, gap, build });
                }
            }
        }
        for p in [1, 31, 1025, 100_003] {
            let mut add = |name: String, build: Builder| {
                cases.push(Case { name: format!("{name} {p} {fill:?}"), gap: 0, build });
            };
            for max_norm in [0.5, f32::INFINITY] {
                add(
                    format!("grad_norm max {max_norm}"),
                    Box::new(move |harness| grad_norm(harness, fill, p, max_norm)),
                );
            }
            if fill == Fill::Ones {
                add("fill".into(), Box::new(move |harness| fill_with(harness, p)));
            }
            if p == 1 {
                for (step, finite) in [(1, true), (2, false), (1000, true)] {
                    let name = format!("adamw_step {step} finite {finite}");
                    add(name, Box::new(move |harness| adamw_step(harness, step, finite)));
                }
            }
            for (step, copy) in [(1, false), (1000, true)] {
                let name = format!("adamw step {step} copy {copy}");
                add(name, Box::new(move |harness| adamw(harness, fill, p, step, copy, true)));
            }
        }
    }
    cases.extend(large::all());
    cases.extend(extremes::all());
    cases.extend(shifted::all());
    cases
}

pub fn gemm(
    harness: &mut Harness,
    fill: Fill,
    shape: (usize, usize, usize),
    ta: bool,
    tb: bool,
    epilogue: usize,
) -> Built {
    let (m, n, k) = shape;
    let [a, b, r] = [(1, m * k), (2, k * n), (3, m * n)].map(|(salt, n)| harness.rounded(fill.values(salt, n)));
    let product = reference::gemm(&a, &b, shape, ta, tb);
    let sum: Vec<f64> = product.iter().zip(&r).map(|(x, y)| x + y).collect();
    let (a_rows, a_cols) = if ta { (k, m) } else { (m, k) };
    let (b_rows, b_cols) = if tb { (n, k) } else { (k, n) };
    let (a, b) = (harness.input("a", a_rows, a_cols, &a), harness.input("b", b_rows, b_cols, &b));
    let (c, epilogue, expected) = match epilogue {
        0 => (harness.output("c", m, n), Epilogue::Store, product),
        1 => (harness.update("c", m, n, &r), Epilogue::Accumulate, sum),
        2 => (harness.output("c", m, n), Epilogue::Residual(harness.input("residual", m, n, &r)), sum),
        3 => (harness.output_f32("c", m, n), Epilogue::Store, product),
        _ => (harness.update_f32("c", m, n, &r), Epilogue::Accumulate, sum),
    };
    built(Gemm { a, b, c, transpose_a: ta, transpose_b: tb, epilogue }, vec![("c", expected)])
}

const EPSILON: f32 = 1e-5;

pub fn norm(harness: &mut Harness, fill: Fill, r: usize, c: usize, residual: bool) -> Built {
    let (x, w, res) =
        (harness.rounded(fill.values(1, r * c)), fill.values(2, c), harness.rounded(fill.values(3, r * c)));
    let (mut out, rstd) = reference::rms_norm(&x, &w, EPSILON as f64);
    if residual {
        out.iter_mut().zip(&res).for_each(|(out, res)| *out += res);
    }
    let op = RmsNorm {
        x: harness.input("x", r, c, &x),
        weight: harness.input_f32("weight", 1, c, &w),
        residual: residual.then(|| harness.input("residual", r, c, &res)),
        out: harness.output("out", r, c),
        rstd: harness.output_f32("rstd", 1, r),
        epsilon: EPSILON,
    };
    built(op, vec![("out", out), ("rstd", rstd)])
}

pub fn norm_backward(harness: &mut Harness, fill: Fill, r: usize, c: usize, accumulate: bool) -> Built {
    let [x, dout, before] = [1, 3, 4].map(|salt| harness.rounded(fill.values(salt, r * c)));
    let (w, dw_before) = (fill.values(2, c), fill.values(5, c));
    let rstd: Vec<f64> = reference::rms_norm(&x, &w, 0.01).1.iter().map(|&x| x as f32 as f64).collect();
    let (mut dx, mut dw) = reference::rms_norm_backward(&x, &w, &rstd, &dout);
    dw.iter_mut().zip(&dw_before).for_each(|(x, y)| *x += y);
    if accumulate {
        dx.iter_mut().zip(&before).for_each(|(x, y)| *x += y);
    }
    let op = RmsNormBackward {
        x: harness.input("x", r, c, &x),
        weight: harness.input_f32("weight", 1, c, &w),
        rstd: harness.input_f32("rstd", 1, r, &rstd),
        dout: harness.input("dout", r, c, &dout),
        dx: if accumulate { harness.update("dx", r, c, &before) } else { harness.output("dx", r, c) },
        accumulate_dx: accumulate,
        dweight: harness.update_f32("dweight", 1, c, &dw_before),
        parts: harness.scratch(DType::F32, NORM_PARTS, c),
    };
    built(op, vec![("dx", dx), ("dweight", dw)])
}

/// Every fifth row is not scored.
pub fn targets(rows: usize, vocabulary: usize) -> Vec<u32> {
    (0..rows).map(|r| if r % 5 == 3 { IGNORED } else { (r * 7 % vocabulary) as u32 }).collect()
}

pub fn cross_entropy(harness: &mut Harness, fill: Fill, r: usize, c: usize, gradient: bool) -> Built {
    let logits = fill.values(1, r * c).iter().map(|x| 8.0 * x).collect();
    cross_entropy_of(harness, logits, r, c, gradient)
}

fn cross_entropy_of(harness: &mut Harness, logits: Vec<f64>, r: usize, c: usize, gradient: bool) -> Built {
    let logits = harness.rounded(logits);
    let targets = targets(r, c);
    let losses = reference::cross_entropy(&logits, &targets);
    let mut expected = vec![("losses", losses)];
    let scale = 0.5f32;
    let matrix = if gradient {
        expected.insert(0, ("logits", reference::cross_entropy_gradient(&logits, &targets, scale as f64)));
        harness.update("logits", r, c, &logits)
    } else {
        harness.input("logits", r, c, &logits)
    };
    let op = CrossEntropy {
        logits: matrix,
        targets: harness.tokens(&targets),
        losses: harness.output_f32("losses", 1, r),
        gradient_scale: gradient.then_some(scale),
    };
    built(op, expected)
}

pub fn fill_with(harness: &mut Harness, n: usize) -> Built {
    let op = stockpot::engine::ops::Fill { x: harness.output_f32("x", 1, n), value: -0.75 };
    built(op, vec![("x", vec![-0.75; n])])
}

pub fn swiglu(harness: &mut Harness, fill: Fill, r: usize, c: usize) -> Built {
    let gate_up = harness.rounded(fill.values(1, r * 2 * c).iter().map(|x| 4.0 * x).collect());
    let op = SwiGlu { gate_up: harness.input("gate_up", r, 2 * c, &gate_up), out: harness.output("out", r, c) };
    built(op, vec![("out", reference::swiglu(&gate_up, c))])
}

pub fn swiglu_backward(harness: &mut Harness, fill: Fill, r: usize, c: usize) -> Built {
    let gate_up = harness.rounded(fill.values(1, r * 2 * c).iter().map(|x| 4.0 * x).collect());
    let dout = harness.rounded(fill.values(2, r * c));
    let op = SwiGluBackward {
        gate_up: harness.input("gate_up", r, 2 * c, &gate_up),
        dout: harness.input("dout", r, c, &dout),
        dgate_up: harness.output("dgate_up", r, 2 * c),
    };
    built(op, vec![("dgate_up", reference::swiglu_backward(&gate_up, &dout, c))])
}

/// Rows of the table in the embedding cases.
const VOCABULARY: usize = 131;

/// Thirteen tokens that repeat, spread over the vocabulary: some rows with other tokens than their
/// neighbours, then some in runs of three.
fn repeated_tokens(rows: usize) -> Vec<u32> {
    let run = |r: usize| if (r / 16).is_multiple_of(2) { r } else { r / 3 };
    (0..rows).map(|r| (run(r) * 5 % 13 * 10) as u32).collect()
}

pub fn embedding(harness: &mut Harness, fill: Fill, r: usize, c: usize) -> Built {
    let tokens = repeated_tokens(r);
    let weight = harness.rounded(fill.values(1, VOCABULARY * c));
    let op = Embedding {
        tokens: harness.tokens(&tokens),
        weight: harness.input("weight", VOCABULARY, c, &weight),
        out: harness.output("out", r, c),
    };
    built(op, vec![("out", reference::embedding(&tokens, &weight, c))])
}

pub fn embedding_backward(harness: &mut Harness, fill: Fill, r: usize, c: usize) -> Built {
    let tokens = repeated_tokens(r);
    let (dout, before) = (harness.rounded(fill.values(1, r * c)), fill.values(2, VOCABULARY * c));
    let op = EmbeddingBackward {
        tokens: harness.tokens(&tokens),
        dout: harness.input("dout", r, c, &dout),
        dweight: harness.update_f32("dweight", VOCABULARY, c, &before),
    };
    built(op, vec![("dweight", reference::embedding_backward(&tokens, &dout, &before, c))])
}

pub fn rope(harness: &mut Harness, fill: Fill, (b, t, heads, d): (usize, usize, usize, usize), inverse: bool) -> Built {
    let x = harness.rounded(fill.values(1, b * t * heads * d));
    let table: Vec<f64> = rope_table(t, d, 10_000.0).iter().map(|&x| x as f64).collect();
    let op = Rope {
        x: harness.update("x", b * t, heads * d, &x),
        table: harness.input_f32("table", t, d, &table),
        head_width: d,
        inverse,
    };
    built(op, vec![("x", reference::rope(&x, heads * d, &table, d, inverse))])
}

/// q, k, v and dout of attention.
fn heads(harness: &Harness, fill: Fill, s: AttentionShape) -> [Vec<f64>; 4] {
    let (wide, narrow) = (s.heads * s.head_width, s.kv_heads * s.head_width);
    let rows = s.batch * s.context;
    [(1, wide), (2, narrow), (3, narrow), (4, wide)]
        .map(|(salt, width)| harness.rounded(fill.values(salt, rows * width)))
}

pub fn attention(harness: &mut Harness, fill: Fill, s: AttentionShape) -> Built {
    let [q, k, v, _] = heads(harness, fill, s);
    attention_of(harness, s, [q, k, v])
}

fn attention_of(harness: &mut Harness, s: AttentionShape, [q, k, v]: [Vec<f64>; 3]) -> Built {
    let (rows, wide, narrow) = (s.batch * s.context, s.heads * s.head_width, s.kv_heads * s.head_width);
    let (out, lse) = reference::attention(&s, &q, &k, &v);
    let op = Attention {
        shape: s,
        q: harness.input("q", rows, wide, &q),
        k: harness.input("k", rows, narrow, &k),
        v: harness.input("v", rows, narrow, &v),
        out: harness.output("out", rows, wide),
        lse: harness.output_f32("lse", s.batch * s.heads, s.context),
    };
    built(op, vec![("out", out), ("lse", lse)])
}

pub fn attention_backward(harness: &mut Harness, fill: Fill, s: AttentionShape) -> Built {
    let (rows, wide, narrow) = (s.batch * s.context, s.heads * s.head_width, s.kv_heads * s.head_width);
    let [q, k, v, dout] = heads(harness, fill, s);
    let (out, lse) = reference::attention(&s, &q, &k, &v);
    let g = reference::attention_backward(&s, &q, &k, &v, &dout);
    let op = AttentionBackward {
        shape: s,
        q: harness.input("q", rows, wide, &q),
        k: harness.input("k", rows, narrow, &k),
        v: harness.input("v", rows, narrow, &v),
        out: harness.input("out", rows, wide, &out),
        lse: harness.input_f32("lse", s.batch * s.heads, s.context, &lse),
        dout: harness.input("dout", rows, wide, &dout),
        dq: harness.output("dq", rows, wide),
        dk: harness.output("dk", rows, narrow),
        dv: harness.output("dv", rows, narrow),
        delta: harness.output_f32("delta", s.batch * s.heads, s.context),
    };
    built(op, vec![("dq", g.dq), ("dk", g.dk), ("dv", g.dv), ("delta", g.delta)])
}

pub fn grad_norm(harness: &mut Harness, fill: Fill, p: usize, max_norm: f32) -> Built {
    let grads = fill.values(1, p);
    let expected = reference::grad_norm(&grads, max_norm as f64).to_vec();
    let op = GradNorm {
        grads: harness.input_f32("grads", 1, p, &grads),
        out: harness.output_f32("out", 1, GRAD_NORM_OUT),
        parts: harness.scratch(DType::F64, 1, GRAD_NORM_PARTS),
        max_norm,
    };
    built(op, vec![("out", expected)])
}

const RATE: f32 = 0.01;
const BETAS: (f32, f32) = (0.9, 0.95);
const WEIGHT_DECAY: f32 = 0.1;

/// The constants of AdamW's update `step`.
fn adamw_constants(step: u32) -> AdamWConstants {
    let (rate, b1, b2) = (RATE as f64, BETAS.0 as f64, BETAS.1 as f64);
    AdamWConstants {
        decay: 1.0 - rate * WEIGHT_DECAY as f64,
        grad_weight: 1.0 - b1,
        beta2: b2,
        square_weight: 1.0 - b2,
        step_size: rate / (1.0 - b1.powf(step as f64)),
        correction: (1.0 - b2.powf(step as f64)).sqrt(),
        epsilon: 1e-8f32 as f64,
    }
}

fn adamw_step(harness: &mut Harness, step: u32, finite: bool) -> Built {
    let c = adamw_constants(step);
    let before = [7.0, 8.0, 9.0];
    let expected = if finite { vec![c.decay, c.step_size, c.correction] } else { before.to_vec() };
    let op = AdamWStep {
        norm: harness.input_f32("norm", 1, GRAD_NORM_OUT, &[2.0, 0.5, f64::from(finite)]),
        rate: harness.input_f32("rate", 1, 1, &[RATE as f64]),
        updates: harness.tokens(&[step - 1]),
        constants: harness.update_f32("constants", 1, ADAMW_CONSTANTS, &before),
        beta1: BETAS.0,
        beta2: BETAS.1,
        weight_decay: WEIGHT_DECAY,
    };
    built(op, vec![("constants", expected)])
}

/// If the gradient is not `finite`, nothing changes.
pub fn adamw(harness: &mut Harness, fill: Fill, p: usize, step: u32, copy: bool, finite: bool) -> Built {
    let c = adamw_constants(step);
    let (params, grads, m) = (fill.values(1, p), fill.values(2, p), fill.values(3, p));
    let v: Vec<f64> = fill.values(4, p).iter().map(|x| x.abs()).collect();
    let clip = 0.5;
    let updated = |i: usize| reference::adamw(&c, params[i], clip * grads[i], m[i], v[i]);
    let after: Vec<_> = (0..p).map(|i| if finite { updated(i) } else { (params[i], m[i], v[i]) }).collect();
    let new: Vec<f64> = after.iter().map(|a| a.0).collect();
    let mut expected = vec![
        ("params", new.clone()),
        ("m", after.iter().map(|a| a.1).collect()),
        ("v", after.iter().map(|a| a.2).collect()),
    ];
    if copy {
        expected.push(("compute", new));
    }
    let op = AdamW {
        params: harness.update_f32("params", 1, p, &params),
        grads: harness.input_f32("grads", 1, p, &grads),
        m: harness.update_f32("m", 1, p, &m),
        v: harness.update_f32("v", 1, p, &v),
        compute: copy.then(|| harness.output("compute", 1, p)),
        norm: harness.input_f32("norm", 1, GRAD_NORM_OUT, &[2.0, clip, f64::from(finite)]),
        constants: harness.input_f32("constants", 1, ADAMW_CONSTANTS, &[c.decay, c.step_size, c.correction]),
        beta1: BETAS.0,
        beta2: BETAS.1,
        epsilon: 1e-8,
    };
    built(op, expected)
}

pub fn loss_sum(harness: &mut Harness, fill: Fill, r: usize, c: usize, accumulate: bool) -> Built {
    let (losses, before) = (fill.values(1, r * c), fill.values(2, r));
    let sums = losses
        .chunks(c)
        .zip(&before)
        .map(|(row, before)| row.iter().sum::<f64>() + if accumulate { *before } else { 0.0 });
    let expected = vec![("out", sums.collect())];
    let losses = harness.input_f32("losses", r, c, &losses);
    built(LossSum { losses, out: harness.update_f64("out", 1, r, &before), accumulate }, expected)
}

/// Rows of the merged pools.
const SLOTS: usize = 5;

/// Terms of merges: rows of the pool, each with its weight.
const CANCELLING: usize = 3;
const MERGES: [&[(u32, f64)]; 5] = [
    // Rounded to f32, then to bf16: of ones, 1 + 2^-8 + 2^-40 becomes a tie, which rounds down;
    // rounded at once it rounds up.
    &[(1, 1.0), (3, 0.003_906_25), (0, 9.094_947_017_729_282e-13)],
    &[(4, 1.0)],
    // A third twice with opposite signs, so that the sum is 0; fused with the sum, the product
    // leaves its rounding error.
    &[(2, 1.0 / 3.0), (2, -1.0 / 3.0)],
    // In order, the small terms before the large one is subtracted are lost; in any other order
    // they are not.
    &[(0, 1e15), (1, 0.7), (2, -0.3), (3, 1.1), (0, -1e15), (4, 0.1), (1, 1.0 / 7.0), (1, 1.0 / 7.0), (3, -0.9)],
    // Weights do not sum to 1, or sentinels would merge to sentinels.
    &[(3, 0.5), (1, -0.25), (4, 0.7)],
];

/// Plain sum of the terms.
pub fn merge(
    harness: &mut Harness,
    fill: Fill,
    p: usize,
    terms: &'static [(u32, f64)],
    wide: bool,
    copy: bool,
) -> Built {
    // Including zeros of both signs.
    let row =
        |k: u64| fill.values(k, p).into_iter().enumerate().map(move |(i, x)| if i % 11 == 5 { x * -0.0 } else { x });
    let values: Vec<f64> = (0..SLOTS as u64).flat_map(row).collect();
    let (values, pool) = if wide {
        let pool = harness.input_f32("pool", SLOTS, p, &values);
        (values, pool)
    } else {
        let values = harness.rounded(values);
        let pool = harness.input("pool", SLOTS, p, &values);
        (values, pool)
    };
    let term = |i: usize, e: usize| terms[i].1 * values[terms[i].0 as usize * p + e];
    let sum = |e: usize| (1..terms.len()).fold(term(0, e), |sum, i| sum + term(i, e));
    let rounded: Vec<f64> = (0..p).map(|e| sum(e) as f32 as f64).collect();
    let (out, copied) = (harness.output_f32("out", 1, p), copy.then(|| harness.output("copy", 1, p)));
    let mut expected = vec![("out", rounded.clone())];
    if copy {
        expected.push(("copy", harness.rounded(rounded)));
    }
    let rows: Vec<u32> = terms.iter().map(|term| term.0).collect();
    let weights: Vec<f64> = terms.iter().map(|term| term.1).collect();
    let op = Merge { pool, rows: harness.tokens(&rows), weights: harness.input_f64(&weights), out, copy: copied };
    built(op, expected)
}

/// Gradients, checkpoints and elements: single, tiles that are not full in either direction, more
/// products than a block of the second kernel has threads, one element more than a vector for each
/// thread, parts with and without a ragged end.
const INNER_PRODUCTS: [(usize, usize, usize); 6] =
    [(1, 1, 1), (5, 10, 7), (19, 17, 31), (9, 11, 2049), (5, 4, 40_003), (1, 2, 32_768)];

/// Columns of the gradients beyond P: an op is passed the first P, so its two strides differ.
const BESIDE: usize = 8;

pub fn inner_products(
    harness: &mut Harness,
    fill: Fill,
    (d, k, p): (usize, usize, usize),
    wide: bool,
    accumulate: bool,
) -> Built {
    let (all, before) = (fill.values(1, d * (p + BESIDE)), fill.values(3, d * k));
    let values = fill.values(2, k * p);
    let (values, pool) = if wide {
        let pool = harness.input_f32("pool", k, p, &values);
        (values, pool)
    } else {
        let values = harness.rounded(values);
        let pool = harness.input("pool", k, p, &values);
        (values, pool)
    };
    let gradients: Vec<f64> = all.chunks(p + BESIDE).flat_map(|row| &row[..p]).copied().collect();
    let mut expected = reference::inner_products(&gradients, &values, p);
    if accumulate {
        expected.iter_mut().zip(&before).for_each(|(sum, before)| *sum += before);
    }
    let op = InnerProducts {
        gradients: harness.input_f32("gradients", d, p + BESIDE, &all).col_range(0..p),
        pool,
        out: if accumulate { harness.update_f64("out", d, k, &before) } else { harness.output_f64("out", d, k) },
        parts: harness.scratch(DType::F64, INNER_PRODUCT_PARTS, d * k),
        accumulate,
    };
    built(op, vec![("out", expected)])
}
