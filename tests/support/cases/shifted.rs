//! Cases in which one operand begins 8 bytes after a 16-byte boundary and all others on one: a
//! launch must not read it in vectors of 16 bytes.

use super::*;

const SHAPE: (usize, usize, usize) = (24, 40, 16);
const ATTENTION: AttentionShape = AttentionShape { batch: 1, context: 5, heads: 2, kv_heads: 1, head_width: 16 };
/// Whole vectors, so that only the address rules them out.
const P: usize = 64;

pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |op: &str, operands: usize, build: fn(&mut Harness) -> Built| {
        for operand in 0..operands {
            let build: Builder = Box::new(move |harness| {
                harness.shifted = Some(operand);
                build(harness)
            });
            let name = format!("{op} with operand {operand} off its boundary, Random");
            cases.push(Case { name, gap: ALIGNED_GAP, build });
        }
    };
    // Those before the last that a kernel reads or writes in vectors.
    add("gemm", 4, |harness| gemm(harness, Fill::Random, SHAPE, false, true, 2));
    add("rms_norm_forward", 4, |harness| norm(harness, Fill::Random, 3, 40, true));
    add("rms_norm_backward", 5, |harness| norm_backward(harness, Fill::Random, 3, 40, true));
    add("rope", 2, |harness| rope(harness, Fill::Random, (1, 3, 2, 16), false));
    add("swiglu_forward", 2, |harness| swiglu(harness, Fill::Random, 3, 40));
    add("swiglu_backward", 3, |harness| swiglu_backward(harness, Fill::Random, 3, 40));
    add("attention_forward", 4, |harness| attention(harness, Fill::Random, ATTENTION));
    add("attention_backward", 9, |harness| attention_backward(harness, Fill::Random, ATTENTION));
    add("cross_entropy", 1, |harness| cross_entropy(harness, Fill::Random, 3, 40, true));
    add("embedding_forward", 2, |harness| embedding(harness, Fill::Random, 3, 40));
    add("embedding_backward", 2, |harness| embedding_backward(harness, Fill::Random, 3, 40));
    add("grad_norm", 1, |harness| grad_norm(harness, Fill::Random, P, 0.5));
    add("fill", 1, |harness| fill_with(harness, P));
    add("merge", 3, |harness| merge(harness, Fill::Random, P, MERGES[0], false, true));
    add("inner_products", 2, |harness| inner_products(harness, Fill::Random, (5, 4, P), false, false));
    add("adamw", 5, |harness| adamw(harness, Fill::Random, P, 1, true, true));
    cases
}
