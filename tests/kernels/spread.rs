//! Operands over 2^32 elements, in sparse memory: rows so far apart that the third begins after
//! 2^32 elements, and vectors of almost 2^32 elements, of which only the last blocks are computed.

use crate::cases::{self, Builder, Case, Fill};
use crate::harness::Harness;
use crate::simt::{Mode, Patch, Simt};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;
use stockpot::engine::device::{Buffer, DType, Device};
use stockpot::engine::ops::merge::Merge;
use stockpot::engine::ops::{ADAMW_CONSTANTS, AdamW, AttentionShape, GRAD_NORM_OUT};

const ATTENTION: AttentionShape = AttentionShape { batch: 2, context: 3, heads: 2, kv_heads: 2, head_width: 16 };

/// An op with several operands.
struct Spread {
    file: &'static str,
    name: &'static str,
    /// Operands that it declares.
    operands: usize,
    /// Keeps rows on 16-byte boundaries.
    gap: usize,
    build: fn(&mut Harness) -> cases::Built,
}

const fn row(
    file: &'static str,
    name: &'static str,
    operands: usize,
    build: fn(&mut Harness) -> cases::Built,
) -> Spread {
    Spread { file, name, operands, gap: 8, build }
}

const RANDOM: Fill = Fill::Random;

const SPREAD: &[Spread] = &[
    row("gemm.cu", "gemm", 4, |h| cases::gemm(h, RANDOM, (20, 24, 40), false, true, 2)),
    // More steps along k than there are stages, in rows.
    row("gemm.cu", "gemm", 3, |h| cases::gemm(h, RANDOM, (8, 16, 200), true, false, 4)),
    // Single elements.
    row("gemm.cu", "gemm", 3, |h| cases::gemm(h, RANDOM, (9, 5, 7), false, true, 1)),
    row("gemm.cu", "gemm", 3, |h| cases::gemm(h, RANDOM, (9, 5, 7), true, false, 0)),
    row("norm.cu", "rms_norm_forward", 5, |h| cases::norm(h, RANDOM, 9, 40, true)),
    row("norm.cu", "rms_norm_backward", 6, |h| cases::norm_backward(h, RANDOM, 9, 40, true)),
    row("rope.cu", "rope", 2, |h| cases::rope(h, RANDOM, (1, 9, 2, 16), false)),
    row("swiglu.cu", "swiglu_forward", 2, |h| cases::swiglu(h, RANDOM, 9, 40)),
    row("swiglu.cu", "swiglu_backward", 3, |h| cases::swiglu_backward(h, RANDOM, 9, 40)),
    row("attention.cu", "attention_forward", 5, |h| cases::attention(h, RANDOM, ATTENTION)),
    row("attention.cu", "attention_backward", 10, |h| cases::attention_backward(h, RANDOM, ATTENTION)),
    row("cross_entropy.cu", "cross_entropy", 1, |h| cases::cross_entropy(h, RANDOM, 9, 40, true)),
    row("embedding.cu", "embedding_forward", 2, |h| cases::embedding(h, RANDOM, 9, 40)),
    row("embedding.cu", "embedding_backward", 2, |h| cases::embedding_backward(h, RANDOM, 9, 40)),
    row("loss_sum.cu", "loss_sum", 1, |h| cases::loss_sum(h, RANDOM, 9, 40, false)),
    row("merge.cu", "merge", 1, |h| cases::merge(h, RANDOM, 70, &[(4, 1.0), (2, -0.5)], false, false)),
    // With a last incomplete vector.
    Spread {
        gap: 2,
        ..row("inner_products.cu", "inner_products", 3, |h| cases::inner_products(h, RANDOM, (5, 7, 70), false, false))
    },
    row("inner_products.cu", "inner_products", 3, |h| cases::inner_products(h, RANDOM, (5, 7, 64), true, true)),
    row("adamw.cu", "adamw", 0, |h| cases::adamw(h, RANDOM, 40, 1, false, true)),
    row("fill.cu", "fill", 0, |h| cases::fill_with(h, 40)),
    row("grad_norm.cu", "grad_norm", 0, |h| cases::grad_norm(h, RANDOM, 40, 0.5)),
];

fn device(patch: Option<Patch>) -> Device {
    patch.into_iter().fold(Simt::new(Mode::FORWARD), Simt::with_source).device(DType::Bf16)
}

/// An error if an operand of the op, spread, makes the result wrong.
fn check(spread: &Spread, patch: Option<&Patch>) -> Result<(), String> {
    let build = spread.build;
    (0..spread.operands).into_par_iter().try_for_each(|operand| {
        let build: Builder = Box::new(move |harness| {
            harness.spread = Some(operand);
            build(harness)
        });
        let case = Case { name: format!("{} with operand {operand} spread", spread.name), gap: spread.gap, build };
        let (outputs, _) = crate::tolerances::run(&case, device(patch.cloned()))?;
        outputs.iter().try_for_each(|output| output.check(&case))
    })
}

#[test]
fn rows_may_begin_after_2_to_32_elements() {
    for spread in SPREAD {
        check(spread, None).unwrap_or_else(|message| panic!("{message}"));
    }
}

/// Places at which 32 bits suffice, though the kernel has 64: file, line, and why.
const SUFFICES: &[(&str, &str, &str)] = &[
    ("adamw.cu", "const size_t start = (", "8 more than the last element; a launch refuses counts near 2^32"),
    ("fill.cu", "const size_t start = (", "as in adamw.cu"),
    ("merge.cu", "const size_t start = (", "as in adamw.cu"),
    ("embedding.cu", "token[k] = row < R - base ? tokens[", "less than R"),
    ("grad_norm.cu", "const size_t thread = (", "at most 1024 blocks"),
    ("inner_products.cu", "const size_t start = (", "P is at most 2^22"),
    ("inner_products.cu", "for (size_t i = start + (", "P is at most 2^22"),
    ("inner_products.cu", "partial[", "scratch of 256 x D K doubles: over 2^32 only with 2^24 products"),
    ("norm.cu", "const size_t row = (", "a block's width more than R; a launch refuses counts near 2^32"),
    ("norm.cu", "for (size_t row = (", "as in the forward kernel"),
    ("norm.cu", "partial[", "scratch of 256 x C floats: over 2^32 only with 2^24 columns"),
];

/// The file with each of its 64-bit factors in turn in 32 bits, and the line of that factor.
fn narrowed(file: &str) -> Vec<(String, Patch)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels").join(file);
    let text = std::fs::read_to_string(path).expect("a kernel's file");
    let mut narrowed = Vec::new();
    for wide in ["(size_t)", "const size_t row = blockIdx.x"] {
        for (at, _) in text.match_indices(wide) {
            let line = text[..at].lines().last().unwrap_or_default().to_string()
                + text[at..].lines().next().unwrap_or_default();
            let end = at + wide.len();
            let to = format!("{}{}{}", &text[..at], wide.replace("size_t", "u32"), &text[end..]);
            narrowed.push((line.trim().into(), Patch { file: file.into(), from: text.clone(), to }));
        }
    }
    narrowed
}

#[test]
fn every_factor_of_64_bits_is_needed_or_listed() {
    let mut patches = Vec::new();
    let mut listed = vec![false; SUFFICES.len()];
    for file in SPREAD.iter().map(|spread| spread.file).collect::<BTreeSet<_>>() {
        for (line, patch) in narrowed(file) {
            match SUFFICES.iter().position(|(of, text, _)| *of == file && line.contains(text)) {
                Some(i) => listed[i] = true,
                None => patches.push((line, patch)),
            }
        }
    }
    assert!(listed.into_iter().all(|used| used), "an entry of SUFFICES is stale");
    let unnoticed = patches.par_iter().filter(|(line, patch)| {
        let mut ops = SPREAD.iter().filter(|spread| spread.file == patch.file);
        ops.all(|spread| match check(spread, Some(patch)) {
            Ok(()) => true,
            Err(message) => {
                assert!(!message.contains("g++ failed"), "{line}: {message}");
                false
            }
        })
    });
    let unnoticed: Vec<_> = unnoticed.map(|(line, patch)| format!("{}: {line}", patch.file)).collect();
    assert!(unnoticed.is_empty(), "32 bits suffice for all cases:\n{}", unnoticed.join("\n"));
}

/// Elements of the longest vector that a launch accepts; not whole vectors.
const LONGEST: usize = (1 << 32) - (1 << 16) - 9;
/// The elements at its end that are checked.
const LAST: usize = 40;

struct Long {
    device: Device,
}

impl Long {
    /// Only the first and the last block of a launch run.
    fn new() -> Long {
        Long { device: Simt::new(Mode::FORWARD).with_cut_grid(1, 1).device(DType::Bf16) }
    }
    fn vector(&mut self, dtype: DType, ends: &[f32]) -> Buffer {
        let buffer = self.device.alloc(dtype, LONGEST).expect("memory");
        for at in [0, LONGEST - LAST] {
            self.device.upload(&buffer.slice(at..at + LAST), ends).expect("upload");
        }
        buffer
    }
    /// The elements at both ends.
    fn ends(&mut self, buffer: &Buffer) -> [Vec<f32>; 2] {
        [0, LONGEST - LAST].map(|at| self.device.to_vec(&buffer.slice(at..at + LAST)).expect("download"))
    }
}

fn numbers(salt: u64) -> Vec<f32> {
    RANDOM.values(salt, LAST).into_iter().map(|x| x as f32).collect()
}

#[test]
fn vectors_may_have_almost_2_to_32_elements() {
    let mut long = Long::new();
    let filled = long.vector(DType::F32, &numbers(1));
    let fill = stockpot::engine::ops::Fill { x: filled.vector(), value: 2.5 };
    long.device.run(&fill).expect("a launch");
    assert_eq!(long.ends(&filled), [vec![2.5; LAST], vec![2.5; LAST]]);

    let [params, grads, m] = [1, 2, 3].map(|salt| long.vector(DType::F32, &numbers(salt)));
    let v = long.vector(DType::F32, &[0.25; LAST]);
    let mut small = |values: &[f32]| {
        let buffer = long.device.alloc(DType::F32, values.len()).expect("memory");
        long.device.upload(&buffer, values).expect("upload");
        buffer
    };
    let norm = small(&[1.0, 1.0, 1.0][..GRAD_NORM_OUT]);
    // Without decay and with a step of 1, m - p is left in p where v is 1.
    let constants = small(&[1.0, 0.5, 1.0][..ADAMW_CONSTANTS]);
    let op = AdamW {
        params: params.vector(),
        grads: grads.vector(),
        m: m.vector(),
        v: v.vector(),
        compute: None,
        norm: norm.vector(),
        constants: constants.vector(),
        beta1: 0.5,
        beta2: 1.0,
        epsilon: 0.0,
    };
    long.device.run(&op).expect("a launch");
    let (p, g, m) = (numbers(1), numbers(2), numbers(3));
    // beta2 of 1 keeps v, whose root is 0.5.
    let expected: Vec<f32> = (0..LAST).map(|i| p[i] - 0.5 * ((m[i] + (g[i] - m[i]) * 0.5) / 0.5)).collect();
    assert_eq!(long.ends(&params), [expected.clone(), expected]);
}

#[test]
fn checkpoints_may_have_almost_2_to_32_elements() {
    let mut long = Long::new();
    let stride = LONGEST.next_multiple_of(8);
    let pool = long.device.alloc(DType::F32, 3 * stride).expect("memory");
    for row in 0..3 {
        for at in [0, LONGEST - LAST] {
            let part = row * stride + at..row * stride + at + LAST;
            long.device.upload(&pool.slice(part), &numbers(row as u64)).expect("upload");
        }
    }
    let [rows, weights, out] = [(DType::U32, 2), (DType::F64, 2), (DType::F32, LONGEST)]
        .map(|(dtype, n)| long.device.alloc(dtype, n).expect("memory"));
    long.device.upload(&rows, &[2u32, 1]).expect("upload");
    long.device.upload(&weights, &[0.5f64, 0.25]).expect("upload");
    let pool = pool.matrix(3, stride).col_range(0..LONGEST);
    let op = Merge { pool, rows: rows.vector(), weights: weights.vector(), out: out.vector(), copy: None };
    long.device.run(&op).expect("a launch");
    let sum = |(&x, &y): (&f32, &f32)| (0.5 * f64::from(x) + 0.25 * f64::from(y)) as f32;
    let expected: Vec<f32> = numbers(2).iter().zip(&numbers(1)).map(sum).collect();
    assert_eq!(long.ends(&out), [expected.clone(), expected]);
}
