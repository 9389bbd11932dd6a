//! The executor's proof that it would notice: each row plants a bug in a kernel, and a case of tests/cases must then fail
//! on the host executor. A row whose text no longer stands in the kernel exactly once fails as stale.

mod cases;
mod lab;
mod reference;
mod simt;

use cases::Case;
use cases::kernels::{self, Output, bits};
use rayon::prelude::*;
use simt::{Mode, Patch, Simt};
use stockpot::device::DType;

/// Which modes must find it.
#[derive(Clone, Copy, PartialEq)]
enum By {
    /// One of the fast ones at least: a report, a wrong number, or other bits in another order.
    Fast,
    /// Only the hooked one: whether numbers come out wrong depends on luck.
    Hooked,
}
use By::{Fast, Hooked};

fn run(case: &Case, simt: Simt, compute: DType) -> Result<Vec<Output>, String> {
    Ok(kernels::run(case, simt.device(compute))?.0)
}

struct Mutation {
    file: &'static str,
    what: &'static str,
    from: &'static str,
    to: &'static str,
    /// Name of the case in tests/cases.
    case: &'static str,
    by: By,
}

/// `None` if nothing noticed the change.
fn noticed(mutation: &Mutation) -> Option<String> {
    let case = cases::all().into_iter().find(|case| case.name == mutation.case);
    let case = case.unwrap_or_else(|| panic!("no case is named {}", mutation.case));
    let Mutation { file, from, to, .. } = mutation;
    let patch = Patch { file: file.to_string(), from: from.to_string(), to: to.to_string() };
    let modes: &[Mode] = if mutation.by == Fast { &Mode::FAST } else { &[Mode::HOOKED] };
    let mut first = None;
    for &mode in modes {
        match run(&case, Simt::new(mode).with_source(patch.clone()), DType::Bf16) {
            Err(message) => return Some(message),
            Ok(outputs) => {
                if let Err(message) = outputs.iter().try_for_each(|output| output.check(&case)) {
                    return Some(message);
                }
                if *first.get_or_insert(bits(&outputs)) != bits(&outputs) {
                    return Some(format!("other bits in {mode:?}"));
                }
            }
        }
    }
    None
}

fn check(mutations: &[Mutation]) {
    let failed = mutations.par_iter().filter_map(|mutation| {
        let Mutation { file, what, .. } = mutation;
        match noticed(mutation) {
            None => Some(format!("{file}: nothing noticed: {what}")),
            Some(message) if message.contains("stale patch") || message.contains("g++ failed") => {
                Some(format!("{file}: {what}: {message}"))
            }
            Some(message) => {
                println!("{file}: {what}: {message}");
                None
            }
        }
    });
    let failed: Vec<String> = failed.collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

// ---- the bugs

const fn row(
    file: &'static str,
    what: &'static str,
    from: &'static str,
    to: &'static str,
    case: &'static str,
    by: By,
) -> Mutation {
    Mutation { file, what, from, to, case, by }
}

const GEMM_NT_0: &str = "gemm (136, 72, 200) transposes false true epilogue 0 Random gap 8";
const GEMM_TN_4: &str = "gemm (136, 72, 200) transposes true false epilogue 4 Random gap 8";
const GEMM_NT_4_65: &str = "gemm (65, 67, 31) transposes false true epilogue 4 Random gap 5";
const FORWARD: &str =
    "attention_forward AttentionShape { batch: 1, context: 321, heads: 2, kv_heads: 1, head_width: 64 } Random gap 8";
const BACKWARD: &str =
    "attention_backward AttentionShape { batch: 1, context: 321, heads: 2, kv_heads: 1, head_width: 64 } Random gap 8";
const FORWARD_GROUPS: &str =
    "attention_forward AttentionShape { batch: 2, context: 64, heads: 4, kv_heads: 2, head_width: 32 } Random gap 0";
const BACKWARD_GROUPS: &str =
    "attention_backward AttentionShape { batch: 2, context: 64, heads: 4, kv_heads: 2, head_width: 32 } Random gap 0";

const PRODUCT: &[Mutation] = &[
    row(
        "gemm.cu",
        "barrier in the loop removed",
        "        cp_async_wait<STAGES - 2>();\n        __syncthreads();\n",
        "        cp_async_wait<STAGES - 2>();\n",
        GEMM_NT_0,
        Fast,
    ),
    row(
        "gemm.cu",
        "wait depth + 1 in the loop",
        "        cp_async_wait<STAGES - 2>();\n        __syncthreads();\n",
        "        cp_async_wait<STAGES - 1>();\n        __syncthreads();\n",
        GEMM_NT_0,
        Fast,
    ),
    row(
        "gemm.cu",
        "wait in the loop removed",
        "        cp_async_wait<STAGES - 2>();\n        __syncthreads();\n",
        "        __syncthreads();\n",
        GEMM_NT_0,
        Fast,
    ),
    row(
        "gemm.cu",
        "first wait depth + 1",
        "  cp_async_wait<STAGES - 2>();\n  __syncthreads();\n  fragments[0]",
        "  cp_async_wait<STAGES - 1>();\n  __syncthreads();\n  fragments[0]",
        GEMM_NT_0,
        Fast,
    ),
    row(
        "gemm.cu",
        "first barrier removed",
        "  cp_async_wait<STAGES - 2>();\n  __syncthreads();\n  fragments[0]",
        "  cp_async_wait<STAGES - 2>();\n  fragments[0]",
        GEMM_NT_0,
        Fast,
    ),
    row(
        "gemm.cu",
        "barrier before the epilogue reuses the ring removed",
        "  cp_async_wait<0>();\n  __syncthreads();\n",
        "  cp_async_wait<0>();\n",
        GEMM_NT_0,
        Hooked,
    ),
    row(
        "gemm.cu",
        "prefetch into the slot that is being read",
        "fill(slot == 0 ? STAGES - 1 : slot - 1, step",
        "fill(slot, step",
        GEMM_NT_0,
        Fast,
    ),
    row(
        "gemm.cu",
        "prefetch one step too far: the last is never filled",
        "step + STAGES - 1);",
        "step + STAGES);",
        GEMM_NT_0,
        Fast,
    ),
    row("gemm.cu", "prefetch half a step late", "if (k == 0) fill(", "if (k + 16 == TILE_K) fill(", GEMM_NT_0, Fast),
    row(
        "gemm.cu",
        "registers of B's fragment swapped",
        "f.b[j / 2][j % 2 * 2], f.b[j / 2][j % 2 * 2 + 1]",
        "f.b[j / 2][j % 2 * 2 + 1], f.b[j / 2][j % 2 * 2]",
        GEMM_NT_0,
        Fast,
    ),
    row(
        "gemm.cu",
        "order of A's 8x8 parts wrong",
        "IS_A ? first : second, deep",
        "IS_A ? second : first, deep",
        GEMM_NT_0,
        Fast,
    ),
    row("gemm.cu", "k added instead of XORed (k along rows)", "lane ^ 2 * k", "lane + 2 * k", GEMM_NT_0, Fast),
    row(
        "gemm.cu",
        "row added instead of XORed (k across rows)",
        "lane ^ 2 * 16 * i",
        "lane + 2 * 16 * i",
        GEMM_TN_4,
        Fast,
    ),
    row(
        "gemm.cu",
        "swizzle differs between copy and ldmatrix",
        "to = offset(r, chunk);",
        "to = offset(r, chunk ^ 1);",
        GEMM_TN_4,
        Fast,
    ),
    row(
        "gemm.cu",
        "row bound of a copy off by one",
        "row + i < rows ? count : 0",
        "row + i <= rows ? count : 0",
        GEMM_NT_0,
        Fast,
    ),
    row("gemm.cu", "epilogue row wrong", "(row + 8 * h) * PITCH", "(row + 4 * h) * PITCH", GEMM_NT_0, Fast),
    row(
        "gemm.cu",
        "warp barrier after spread removed",
        "    spread(sum, i, rows);\n    __syncwarp();\n",
        "    spread(sum, i, rows);\n",
        GEMM_NT_0,
        Fast,
    ),
    row(
        "gemm.cu",
        "tile column of the raster wrong",
        "n = place / height * TILE_N",
        "n = place % height * TILE_N",
        GEMM_NT_0,
        Fast,
    ),
    row(
        "gemm.cu",
        "warp's column wrong",
        "warp_n = warp % WARPS_N * WARP_N",
        "warp_n = warp / WARPS_N * WARP_N",
        GEMM_NT_0,
        Fast,
    ),
    row(
        "gemm.cu",
        "operand advances along the row, not along k",
        "from += TILE_K * (K_ALONG_ROWS ? 1 : (size_t)stride);",
        "from += TILE_K;",
        GEMM_TN_4,
        Fast,
    ),
    row("gemm.cu", "bound of k not advanced", "(K_ALONG_ROWS ? column : row) += TILE_K;", "", GEMM_NT_0, Fast),
    row("gemm.cu", "rows of the epilogue overlap", "PITCH = WARP_N + 8", "PITCH = WARP_N - 4", GEMM_NT_0, Fast),
    row(
        "gemm.cu",
        "tail of C or of the residual read past the row",
        "e < count ? to_float(from[e]) : 0.0f",
        "to_float(from[e])",
        GEMM_NT_4_65,
        Hooked,
    ),
    row(
        "gemm.cu",
        "all chunks of a row in one place",
        "return row * (WIDTH * 2) + 16 * (chunk ^",
        "return row * (WIDTH * 2) + 0 * (chunk ^",
        GEMM_NT_0,
        Fast,
    ),
    row(
        "gemm.cu",
        "B reads its first columns twice",
        "const u32 down = IS_A ? first : second",
        "const u32 down = IS_A ? first : first",
        GEMM_NT_0,
        Fast,
    ),
];

const ATTENTION: &[Mutation] = &[
    row(
        "attention.cu",
        "forward: barrier after the wait removed",
        "    __syncthreads();\n    if (tile + 1 < tiles) prefetch(tile + 1);\n    const u32 key = tile * KEYS, query",
        "    if (tile + 1 < tiles) prefetch(tile + 1);\n    const u32 key = tile * KEYS, query",
        FORWARD,
        Fast,
    ),
    row(
        "attention.cu",
        "forward: wait removed",
        "    cp_async_wait<0>();\n    // Every thread's copies have arrived, and every warp is done with the other stage.\n    __syncthreads();\n    if (tile + 1 < tiles) prefetch(tile + 1);\n    const u32 key = tile * KEYS, query",
        "    // Every thread's copies have arrived, and every warp is done with the other stage.\n    __syncthreads();\n    if (tile + 1 < tiles) prefetch(tile + 1);\n    const u32 key = tile * KEYS, query",
        FORWARD,
        Fast,
    ),
    row(
        "attention.cu",
        "backward_kv: barrier after the wait removed",
        "    __syncthreads();\n    if (i + 1 < group * tiles) prefetch",
        "    if (i + 1 < group * tiles) prefetch",
        BACKWARD,
        Fast,
    ),
    row(
        "attention.cu",
        "backward_kv: wait removed",
        "    cp_async_wait<0>();\n    // Every thread's copies have arrived, and every warp is done with the other stage.\n    __syncthreads();\n    if (i + 1 < group * tiles) prefetch",
        "    // Every thread's copies have arrived, and every warp is done with the other stage.\n    __syncthreads();\n    if (i + 1 < group * tiles) prefetch",
        BACKWARD,
        Fast,
    ),
    row(
        "attention.cu",
        "backward_q: barrier after the wait removed",
        "    __syncthreads();\n    if (tile + 1 < tiles) prefetch(tile + 1);\n    const u32 key = tile * KEYS;\n",
        "    if (tile + 1 < tiles) prefetch(tile + 1);\n    const u32 key = tile * KEYS;\n",
        BACKWARD,
        Fast,
    ),
    row(
        "attention.cu",
        "backward_q: wait removed",
        "    cp_async_wait<0>();\n    // Every thread's copies have arrived, and every warp is done with the other stage.\n    __syncthreads();\n    if (tile + 1 < tiles) prefetch(tile + 1);\n    const u32 key = tile * KEYS;\n",
        "    // Every thread's copies have arrived, and every warp is done with the other stage.\n    __syncthreads();\n    if (tile + 1 < tiles) prefetch(tile + 1);\n    const u32 key = tile * KEYS;\n",
        BACKWARD,
        Fast,
    ),
    row(
        "attention.cu",
        "both stages in one place",
        "shared + (QUERIES + tile % 2 * 2 * KEYS) * ROW",
        "shared + QUERIES * ROW",
        FORWARD,
        Fast,
    ),
    row(
        "attention.cu",
        "lse and delta of two tiles in one place",
        "statistic + i % 2 * 2 * QUERIES",
        "statistic",
        BACKWARD,
        Hooked,
    ),
    row("attention.cu", "a query does not see itself", "if (k > q) scores", "if (k >= q) scores", FORWARD, Fast),
    row("attention.cu", "a query sees one key too far", "if (k > q) scores", "if (k > q + 1) scores", FORWARD, Fast),
    row(
        "attention.cu",
        "forward: tile on the diagonal not masked",
        "if (key + KEYS > query + 1) mask",
        "if (key > query) mask",
        FORWARD,
        Fast,
    ),
    row(
        "attention.cu",
        "backward_kv: tile on the diagonal not masked",
        "if (key + 16 * M > query + 1) mask",
        "if (key > query) mask",
        BACKWARD,
        Fast,
    ),
    row(
        "attention.cu",
        "scale missing",
        "exponentiate(scores, rows, sum, scale * LOG2_E)",
        "exponentiate(scores, rows, sum, LOG2_E)",
        FORWARD,
        Fast,
    ),
    row(
        "attention.cu",
        "lse without the scale",
        "rows.top[m][h] * scale + logf(sum)",
        "rows.top[m][h] + logf(sum)",
        FORWARD,
        Fast,
    ),
    row(
        "attention.cu",
        "a lane's share of the sum not added",
        "      sum += __shfl_xor_sync(0xffffffffu, sum, 2);\n      const float inverse",
        "      const float inverse",
        FORWARD,
        Fast,
    ),
    row(
        "attention.cu",
        "half of the output does not shrink",
        "out[m][n][2 * h] *= shrink, out[m][n][2 * h + 1] *= shrink;",
        "out[m][n][2 * h] *= shrink;",
        FORWARD,
        Fast,
    ),
    row(
        "attention.cu",
        "registers of the right operand swapped",
        "mma_16x8x16(scores[m][n], a[m], b[0], b[1]);",
        "mma_16x8x16(scores[m][n], a[m], b[0], b[2]);",
        FORWARD,
        Fast,
    ),
    row(
        "attention.cu",
        "key/value head of a query head wrong",
        "const u32 kv = h / (H / Hkv);",
        "const u32 kv = h % Hkv;",
        FORWARD_GROUPS,
        Fast,
    ),
    row(
        "attention.cu",
        "query heads of a key/value head wrong",
        "return kv * group + i / tiles;",
        "return kv + i / tiles;",
        BACKWARD_GROUPS,
        Fast,
    ),
    row("attention.cu", "delta dropped", "(ds[m][n][i] - delta[col_of(n, i)])", "ds[m][n][i]", BACKWARD, Fast),
    row("attention.cu", "rows behind T are written", "      if (r >= T) continue;\n", "", FORWARD, Fast),
    row(
        "attention.cu",
        "row T is read",
        "const bool inside = first + r < T &&",
        "const bool inside = first + r <= T &&",
        FORWARD,
        Fast,
    ),
];

const ELEMENTWISE: &[Mutation] = &[
    row(
        "norm.cu",
        "backward: barrier before the blocks' sums are read removed",
        "  __syncthreads();\n  for (u32 c = threadIdx.x; c < C; c += BLOCK) {\n    float total",
        "  for (u32 c = threadIdx.x; c < C; c += BLOCK) {\n    float total",
        "rms_norm_backward 65 x 17 true Random gap 0",
        Fast,
    ),
    row(
        "norm.cu",
        "weight: barrier between warps removed",
        "  __syncthreads();\n  if (warp != 0",
        "  if (warp != 0",
        "rms_norm_backward 67 x 513 true Random gap 0",
        Fast,
    ),
    row(
        "norm.cu",
        "mean over one column too many",
        "row_sum(sum, parts) / C + epsilon",
        "row_sum(sum, parts) / (C + 1) + epsilon",
        "rms_norm_forward 67 x 513 false Random gap 0",
        Fast,
    ),
    row(
        "norm.cu",
        "dx replaced where it should be added to",
        "if (ACCUMULATE) {",
        "if (false) {",
        "rms_norm_backward 67 x 513 true Random gap 0",
        Fast,
    ),
    row(
        "norm.cu",
        "one row too many",
        "  if (row >= R) return;\n  const u32 first",
        "  if (row > R) return;\n  const u32 first",
        "rms_norm_forward 65 x 17 false Random gap 0",
        Fast,
    ),
    row(
        "norm.cu",
        "vectors behind the row are written",
        "    if (first + k * STEP < C) finish(first + k * STEP, kept[k]);",
        "    finish(first + k * STEP, kept[k]);",
        "rms_norm_forward 65 x 17 true Random gap 0",
        Fast,
    ),
    row(
        "norm.cu",
        "a block's sums of dweight begin where another's are",
        "block_sums + group * C",
        "block_sums",
        "rms_norm_backward 65 x 17 true Random gap 0",
        Fast,
    ),
    row(
        "common.cuh",
        "block_max leaves its parts while they are read",
        "parts[i] != parts[i] ? parts[i] : top;\n  __syncthreads();",
        "parts[i] != parts[i] ? parts[i] : top;",
        "cross_entropy 67 x 513 true Random gap 0",
        Hooked,
    ),
    row(
        "common.cuh",
        "block_sum reads parts before they are there",
        "  __syncthreads();\n  T sum = parts[0];",
        "  T sum = parts[0];",
        "cross_entropy 67 x 513 true Random gap 0",
        Fast,
    ),
    row(
        "common.cuh",
        "vectors of a ragged row are written whole",
        "      if (i < left) p[i] = from_float<T>(x[i]);",
        "      p[i] = from_float<T>(x[i]);",
        "swiglu_forward 65 x 17 Random gap 0",
        Fast,
    ),
    row(
        "cross_entropy.cu",
        "the target's logit is read while the row is overwritten",
        "  const float scored = to_float(row[target]);\n  const Softmax s = row_softmax(row, V, parts);\n",
        "  const Softmax s = row_softmax(row, V, parts);\n  const float scored = to_float(row[target]);\n",
        "cross_entropy 67 x 513 true Random gap 0",
        Hooked,
    ),
    row(
        "cross_entropy.cu",
        "the sum does not follow a new maximum",
        "    s.sum *= relative_exp(s.top, top);\n",
        "",
        "cross_entropy 67 x 513 true Random gap 0",
        Fast,
    ),
    row(
        "cross_entropy.cu",
        "gradient of the wrong column",
        "c + i == target ?",
        "c + i == target + 1 ?",
        "cross_entropy 67 x 513 true Random gap 0",
        Fast,
    ),
    row(
        "cross_entropy.cu",
        "one logit behind the row is read",
        "  if (whole + threadIdx.x < V) {\n    float x[1]",
        "  if (whole + threadIdx.x <= V) {\n    float x[1]",
        "cross_entropy 67 x 513 true Random gap 5",
        Hooked,
    ),
    row(
        "embedding.cu",
        "matches are read before they are there",
        "  __syncthreads();\n  return total;",
        "  return total;",
        "embedding_backward 700 x 97 Random gap 0",
        Hooked,
    ),
    row(
        "embedding.cu",
        "counts are read before they are there",
        "  __syncthreads();  // which",
        "  // which",
        "embedding_backward 700 x 97 Random gap 0",
        Hooked,
    ),
    row(
        "embedding.cu",
        "a match counts itself",
        "hits[k] & ((1u << lane) - 1)",
        "hits[k] & ((2u << lane) - 1)",
        "embedding_backward 700 x 97 Random gap 0",
        Fast,
    ),
    row(
        "embedding.cu",
        "the last token's sum is lost",
        "  if (current != TOKENS) flush();\n}",
        "}",
        "embedding_backward 700 x 97 Random gap 0",
        Fast,
    ),
    row(
        "embedding.cu",
        "another token's sum is lost",
        "          if (current != TOKENS) flush();\n",
        "",
        "embedding_backward 700 x 97 Random gap 0",
        Fast,
    ),
    row(
        "rope.cu",
        "rotates forward only",
        "INVERSE ? -sine[i] : sine[i]",
        "sine[i]",
        "rope 2 x 31 heads 3 x 24 inverse true Random gap 0",
        Fast,
    ),
    row(
        "rope.cu",
        "positions go on into the next sequence",
        "(row % T) * stride_table",
        "row * stride_table",
        "rope 2 x 31 heads 3 x 24 inverse false Random gap 0",
        Fast,
    ),
    row(
        "swiglu.cu",
        "derivative of the sigmoid wrong",
        "1.0f + gate[i] * (1.0f - s)",
        "1.0f + gate[i] * s",
        "swiglu_backward 67 x 513 Random gap 0",
        Fast,
    ),
    row(
        "grad_norm.cu",
        "one gradient too many",
        "if (whole + thread < P)",
        "if (whole + thread <= P)",
        "grad_norm max 0.5 1025 Random",
        Fast,
    ),
    row(
        "grad_norm.cu",
        "small gradients are scaled up",
        "(float)(factor < 1 ? factor : 1)",
        "(float)factor",
        "grad_norm max inf 31 Random",
        Fast,
    ),
    row(
        "adamw.cu",
        "a step that is not finite is counted",
        "threadIdx.x != 0 || norm[2] == 0",
        "threadIdx.x != 0",
        "adamw_step 2 finite false 1 Random",
        Fast,
    ),
    row(
        "adamw.cu",
        "the gradient instead of its square",
        "c.square_weight * g[i] * g[i]",
        "c.square_weight * g[i]",
        "adamw step 1 copy false 1025 Random",
        Fast,
    ),
    row(
        "adamw.cu",
        "elements behind the last are updated",
        "i < P && i < start + 8",
        "i < start + 8",
        "adamw step 1 copy false 1025 Random",
        Fast,
    ),
    row(
        "loss_sum.cu",
        "replaced where it should be added to",
        "ACCUMULATE ? out[blockIdx.x] + sum : sum",
        "sum",
        "loss_sum 67 x 513 accumulate true Random gap 0",
        Fast,
    ),
    row(
        "loss_sum.cu",
        "one loss too many",
        "t < T; t += BLOCK",
        "t <= T; t += BLOCK",
        "loss_sum 67 x 513 accumulate false Random gap 5",
        Fast,
    ),
    row(
        "merge.cu",
        "only the last source",
        "__dadd_rn(total[e], product)",
        "product",
        "merge_add of 3 first false 1025 Random",
        Fast,
    ),
    row(
        "merge.cu",
        "elements behind the last are written",
        "    if (i >= n) return;\n",
        "",
        "merge_round copy true 1025 Random",
        Fast,
    ),
    row(
        "fill.cu",
        "elements behind the last are filled",
        "VECTOR == 8 && start + 8 <= n",
        "VECTOR == 8 && start < n",
        "fill 1025 Ones",
        Fast,
    ),
];

#[test]
fn bugs_in_the_product_are_noticed() {
    check(PRODUCT);
}

#[test]
fn bugs_in_attention_are_noticed() {
    check(ATTENTION);
}

#[test]
fn bugs_in_the_other_kernels_are_noticed() {
    check(ELEMENTWISE);
}
