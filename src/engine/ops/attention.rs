//! Causal attention with grouped query heads, tiled so that no T x T matrix is stored (flash
//! attention: Dao et al. 2022, arXiv 2205.14135). Query head h uses key/value head h / (H / Hkv).
//! Rows are (b, t) in row-major order; columns of q are (head, d).

use super::cpu_gemm::{View, ViewMut, multiply};
use super::launch_args::{OperandLayout, expect_shape, launch, number, stride, type_of, vector};
use super::simd::{dot, exp, exp_and_sum, max, vectorized};
use super::{Op, parallel};
use crate::engine::device::{Arg, Host, Launch, Matrix, Operands, RowsMut};

/// The widest head that the kernels support; narrower ones in all multiples of 8. The CPU supports
/// any width.
pub const WIDEST_KERNEL_HEAD: usize = 128;
/// Queries of one tile. A taller tile wastes more of the diagonal, a shorter one repeats more reads
/// of keys; measured speed from 32 to 128 is equal within 10 percent.
const QUERIES: usize = 64;
/// Keys of one tile, a multiple of QUERIES: a tile of scores is 64 KiB and stays in L2.
const KEYS: usize = 256;

/// The sizes that determine the operands' shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// B
    pub batch: usize,
    /// T
    pub context: usize,
    /// H
    pub heads: usize,
    /// Hkv; divides H
    pub kv_heads: usize,
    /// D; scores are scaled by 1/sqrt(D)
    pub head_width: usize,
}

/// out = softmax(q k^T / sqrt(D)) v for each query, over the keys up to its own position.
pub struct Attention {
    /// Sizes of all operands below.
    pub shape: AttentionShape,
    /// (B*T, H*D)
    pub q: Matrix,
    /// (B*T, Hkv*D)
    pub k: Matrix,
    /// (B*T, Hkv*D)
    pub v: Matrix,
    /// (B*T, H*D)
    pub out: Matrix,
    /// (B*H, T) f32: log of the sum of exponentials of each query's scaled scores
    pub lse: Matrix,
}

/// Gradients of [`Attention`] with respect to q, k and v. The weights are recomputed as
/// `P = exp(S - lse)`, with S the scaled scores; then `dS = P (dout v^T - delta) / sqrt(D)`,
/// `dq = dS k`, `dk = dS^T q` and `dv = P^T dout`.
pub struct AttentionBackward {
    /// Sizes of all operands below.
    pub shape: AttentionShape,
    /// (B*T, H*D)
    pub q: Matrix,
    /// (B*T, Hkv*D)
    pub k: Matrix,
    /// (B*T, Hkv*D)
    pub v: Matrix,
    /// (B*T, H*D), the forward's output
    pub out: Matrix,
    /// (B*H, T) f32, from the forward
    pub lse: Matrix,
    /// (B*T, H*D)
    pub dout: Matrix,
    /// (B*T, H*D)
    pub dq: Matrix,
    /// (B*T, Hkv*D): summed over the query heads of a group
    pub dk: Matrix,
    /// (B*T, Hkv*D): summed over the query heads of a group
    pub dv: Matrix,
    /// (B*H, T) f32 scratch: sum of out * dout over D
    pub delta: Matrix,
}

impl AttentionShape {
    /// The columns of head `h` in the rows of sequence `b`: (T, D).
    fn part<'a>(&self, m: View<'a>, b: usize, h: usize) -> View<'a> {
        m.block(b * self.context..(b + 1) * self.context, h * self.head_width..(h + 1) * self.head_width)
    }
    fn head<'a>(&self, q: View<'a>, k: View<'a>, v: View<'a>, b: usize, h: usize) -> Head<'a> {
        let kv = h / (self.heads / self.kv_heads);
        Head {
            q: self.part(q, b, h),
            k: self.part(k, b, kv),
            v: self.part(v, b, kv),
            context: self.context,
            scale: 1.0 / (self.head_width as f32).sqrt(),
        }
    }
    /// Panics unless the operands have this shape.
    fn check(&self, wide: &[&Matrix], narrow: &[&Matrix], per_row: &[&Matrix]) {
        assert!(self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads), "attention: uneven groups of heads");
        let rows = self.batch * self.context;
        wide.iter().for_each(|m| expect_shape("q or out", m, rows, self.heads * self.head_width));
        narrow.iter().for_each(|m| expect_shape("k or v", m, rows, self.kv_heads * self.head_width));
        per_row.iter().for_each(|m| expect_shape("lse or delta", m, self.batch * self.heads, self.context));
    }
    /// One block for every `rows` rows of each head and sequence. `activations` are all bf16
    /// operands of the op.
    fn layout(&self, rows: usize, heads: usize, shared: usize, activations: &[&Matrix]) -> OperandLayout {
        assert!(
            heads.max(self.batch) <= 65535,
            "attention: {heads} heads or {} sequences exceed a grid's 65535",
            self.batch
        );
        // backward_kv numbers the tiles of queries of all heads of a group.
        let queries = self.heads * self.context;
        assert!(u32::try_from(queries).is_ok(), "attention: {queries} queries of a sequence do not fit 32 bits");
        let Tiles { forward, backward_kv, backward_q, .. } = Tiles::of(self.head_width);
        let counts = [
            ("HEAD_WIDTH", self.head_width),
            ("WARPS", WARPS),
            ("FORWARD_QUERIES", forward.owned),
            ("FORWARD_KEYS", forward.streamed),
            ("BACKWARD_KV_KEYS", backward_kv.owned),
            ("BACKWARD_KV_QUERIES", backward_kv.streamed),
            ("BACKWARD_Q_QUERIES", backward_q.owned),
            ("BACKWARD_Q_KEYS", backward_q.streamed),
        ];
        let mut defines = vec![("TYPE", type_of(activations[0])), vector(activations)];
        defines.extend(counts.map(|(name, n)| (name, n.to_string())));
        OperandLayout {
            grid: [self.context.div_ceil(rows), heads, self.batch],
            block: 32 * WARPS as u32,
            shared,
            defines,
        }
    }
    /// Scalars: B, T, H, Hkv, strides of the operands in their order, 1/sqrt(D).
    fn launch(&self, kernel: &'static str, layout: OperandLayout, operands: &[&Matrix]) -> Launch {
        let sizes = [self.batch, self.context, self.heads, self.kv_heads].map(number);
        let strides = operands.iter().map(|m| stride(m));
        let scale = Arg::F32(1.0 / (self.head_width as f32).sqrt());
        launch("attention", kernel, layout, operands, sizes.into_iter().chain(strides).chain([scale]))
    }
    /// Multiply-adds of one T x T product over the causal half, all heads and rows of the batch.
    fn causal_macs(&self) -> u64 {
        let t = self.context as u64;
        (self.batch * self.heads * self.head_width) as u64 * t * (t + 1) / 2
    }
}

/// Warps of a block.
const WARPS: usize = 4;

/// A kernel's tiles of rows: a block owns `owned` rows, 16 or 32 per warp, and streams tiles of
/// `streamed` rows past them.
#[derive(Clone, Copy)]
struct Tile {
    owned: usize,
    streamed: usize,
}

/// The tiles for heads of up to `width` columns; a head takes `width` columns in shared memory and
/// registers.
struct Tiles {
    width: usize,
    /// Owns queries.
    forward: Tile,
    /// Owns keys.
    backward_kv: Tile,
    /// Owns queries.
    backward_q: Tile,
}

const fn tile(owned: usize, streamed: usize) -> Tile {
    Tile { owned, streamed }
}

/// Chosen by what fits, not by measurement: no GPU was available. For each width: registers (the
/// maximum over sm_80, sm_86, sm_89, sm_90a, sm_100 and sm_120), KiB of shared memory, each for
/// forward, backward_kv and backward_q; and what rules out larger tiles:
///
/// * 16 and 32: 160, 168, 141; 24, 24.5, 24. Larger tiles fit; they would waste more of the
///   diagonal.
/// * 64: 221, 252, 215; 48, 48.5, 48, so that an SM of sm_86 and sm_89 holds two blocks.
///   backward_kv with 64 queries spills 276 bytes, backward_q with 64 keys 16 bytes (sm_120).
/// * 128: 168, 243, 206; 80, 64.5, 64. forward with 128 queries spills 52 bytes, backward_kv with
///   64 queries 4 bytes (sm_90a); backward_q with 128 queries takes 96 KiB, so that an SM of sm_80
///   holds one block.
const TILES: [Tiles; 4] = [
    Tiles { width: 16, forward: tile(128, 64), backward_kv: tile(128, 64), backward_q: tile(128, 64) },
    Tiles { width: 32, forward: tile(128, 64), backward_kv: tile(128, 32), backward_q: tile(128, 32) },
    Tiles { width: 64, forward: tile(128, 64), backward_kv: tile(128, 32), backward_q: tile(128, 32) },
    Tiles { width: 128, forward: tile(64, 64), backward_kv: tile(64, 32), backward_q: tile(64, 32) },
];

impl Tiles {
    /// Panics if no kernel supports heads of this width.
    fn of(head_width: usize) -> &'static Tiles {
        let fits = TILES.iter().find(|t| head_width <= t.width);
        fits.filter(|_| head_width > 0 && head_width.is_multiple_of(8)).unwrap_or_else(|| {
            panic!("attention kernels take heads of 8, 16, 24 .. 128 columns, not of {head_width}");
        })
    }
    /// Bytes of `owned` resident tiles and of two stages of two streamed tiles, all bf16.
    fn shared(&self, owned: usize, tile: Tile) -> usize {
        (owned * tile.owned + 4 * tile.streamed) * 2 * self.width
    }
    /// Rows of a block of attention_delta: a lane for each 8 columns.
    fn delta_rows(&self) -> usize {
        32 * WARPS / (self.width / 8)
    }
}

/// Transposes `from` (rows, D), contiguous row-major: products need the key index to vary fastest.
/// Rows are copied in sixteens, so that each write fills a cache line: lines T elements apart map
/// to the same cache set.
fn transpose(from: View, rows: usize, to: &mut [f32]) {
    const LINE: usize = 16;
    let width = to.len() / rows;
    for first in (0..rows).step_by(LINE) {
        let n = LINE.min(rows - first);
        let mut lines = [from.row(first); LINE];
        lines.iter_mut().enumerate().take(n).for_each(|(i, line)| *line = from.row(first + i));
        for c in 0..width {
            to[c * rows + first..][..n].iter_mut().zip(&lines).for_each(|(to, line)| *to = line[c]);
        }
    }
}

/// One head of one sequence: its operands and sizes.
struct Head<'a> {
    /// (T, D)
    q: View<'a>,
    k: View<'a>,
    v: View<'a>,
    /// T
    context: usize,
    /// 1/sqrt(D)
    scale: f32,
}

impl Head<'_> {
    /// out (T, D) and lse (T); `keys` is K transposed (D, T), `scores` a tile.
    fn forward(&self, keys: View, scores: &mut [f32], out: &mut RowsMut<f32>, lse: &mut [f32]) {
        let (t, width) = (self.context, out.cols());
        for first in (0..t).step_by(QUERIES) {
            let queries = first..(first + QUERIES).min(t);
            let (mut top, mut sum) = ([f32::NEG_INFINITY; QUERIES], [0.0f32; QUERIES]);
            for start in (0..queries.end).step_by(KEYS) {
                let span = start..(start + KEYS).min(queries.end);
                let n = span.len();
                let tile = ViewMut::slice(scores, queries.len(), n, n);
                multiply(self.q.row_block(queries.clone()), keys.block(0..width, span.clone()), tile, false);
                let shrink = vectorized(
                    #[inline(always)]
                    || {
                        weigh_tile(
                            &mut scores[..queries.len() * n],
                            n,
                            first + 1 - start,
                            self.scale,
                            &mut top,
                            &mut sum,
                        )
                    },
                );
                if start > 0 {
                    for (r, shrink) in queries.clone().zip(shrink) {
                        out.row(r).iter_mut().for_each(|x| *x *= shrink);
                    }
                }
                let weights = View::slice(scores, queries.len(), n, n);
                let tile = ViewMut::of(out).block(queries.clone(), 0..width);
                multiply(weights, self.v.row_block(span), tile, start > 0);
            }
            for (i, r) in queries.enumerate() {
                lse[r] = top[i] + (sum[i] as f64).ln() as f32;
                let inverse = 1.0 / sum[i];
                out.row(r).iter_mut().for_each(|x| *x *= inverse);
            }
        }
    }
}

/// The inputs of one head's backward besides q, k and v.
struct Saved<'a> {
    /// (T, D)
    dout: View<'a>,
    /// (T)
    lse: &'a [f32],
    /// (T)
    delta: &'a [f32],
}

impl Head<'_> {
    /// dq = dS K, dk += dS^T Q, dv += P^T dout, with P = exp(S - lse) recomputed and dS = P (dout
    /// V^T - delta) / sqrt(D). `keys` and `values` are transposed (D, T).
    fn backward(
        &self,
        saved: &Saved,
        (keys, values): (View, View),
        tiles: &mut [f32],
        mut dq: ViewMut,
        dk: &mut RowsMut<f32>,
        dv: &mut RowsMut<f32>,
    ) {
        let (t, width) = (self.context, dk.cols());
        for first in (0..t).step_by(QUERIES) {
            let queries = first..(first + QUERIES).min(t);
            let (q, dout) = (self.q.row_block(queries.clone()), saved.dout.row_block(queries.clone()));
            for start in (0..queries.end).step_by(KEYS) {
                let span = start..(start + KEYS).min(queries.end);
                let (m, n) = (queries.len(), span.len());
                let (p, ds) = tiles.split_at_mut(QUERIES * KEYS);
                multiply(q, keys.block(0..width, span.clone()), ViewMut::slice(p, m, n, n), false);
                multiply(dout, values.block(0..width, span.clone()), ViewMut::slice(ds, m, n, n), false);
                let (lse, delta) = (&saved.lse[queries.clone()], &saved.delta[queries.clone()]);
                vectorized(
                    #[inline(always)]
                    || {
                        score_gradient(
                            (&mut p[..m * n], &mut ds[..m * n]),
                            n,
                            first + 1 - start,
                            self.scale,
                            lse,
                            delta,
                        )
                    },
                );
                let (p, ds) = (View::slice(p, m, n, n), View::slice(ds, m, n, n));
                multiply(p.transposed(), dout, ViewMut::of(dv).block(span.clone(), 0..width), true);
                multiply(ds.transposed(), q, ViewMut::of(dk).block(span.clone(), 0..width), true);
                multiply(ds, self.k.row_block(span), dq.reborrow().block(queries.clone(), 0..width), start > 0);
            }
        }
    }
}

/// On a tile with `n` columns, of which row i sees the first `seen + i`, turns scores into weights
/// P and products dout V^T into the gradient of the unscaled scores.
#[inline(always)]
fn score_gradient((p, ds): (&mut [f32], &mut [f32]), n: usize, seen: usize, scale: f32, lse: &[f32], delta: &[f32]) {
    for (i, (p, ds)) in p.chunks_exact_mut(n).zip(ds.chunks_exact_mut(n)).enumerate() {
        let (lse, delta) = (lse[i], delta[i]);
        let seen = (seen + i).min(n);
        p[seen..].fill(0.0);
        ds[seen..].fill(0.0);
        for (p, ds) in p[..seen].iter_mut().zip(&mut ds[..seen]) {
            *p = exp(p.mul_add(scale, -lse));
            *ds = *p * (*ds - delta) * scale;
        }
    }
}

/// One step of the online softmax on a tile of scores with `n` columns; row i sees the first
/// `seen + i` of them. Scores become exponentials under the new maxima `top`; returns the factor
/// for each row's earlier sums.
#[inline(always)]
fn weigh_tile(
    scores: &mut [f32],
    n: usize,
    seen: usize,
    scale: f32,
    top: &mut [f32; QUERIES],
    sum: &mut [f32; QUERIES],
) -> [f32; QUERIES] {
    let mut shrink = [1.0; QUERIES];
    for (i, row) in scores.chunks_exact_mut(n).enumerate() {
        let (row, masked) = row.split_at_mut((seen + i).min(n));
        let highest = max(row) * scale;
        let highest = if highest > top[i] { highest } else { top[i] };
        shrink[i] = exp(top[i] - highest);
        sum[i] = sum[i] * shrink[i] + exp_and_sum(row, scale, highest);
        top[i] = highest;
        masked.fill(0.0);
    }
    shrink
}

impl Op for Attention {
    fn name(&self) -> &'static str {
        "attention_forward"
    }
    fn operands(&self) -> Operands {
        Operands::default().read(&self.q).read(&self.k).read(&self.v).write(&self.out).write(&self.lse)
    }
    fn flops(&self) -> u64 {
        2 * 2 * self.shape.causal_macs()
    }
    fn cpu(&self, host: &Host) {
        self.shape.check(&[&self.q, &self.out], &[&self.k, &self.v], &[&self.lse]);
        let AttentionShape { context: t, heads, head_width: width, .. } = self.shape;
        let view = |m| View::of(host.read(m));
        let (q, k, v) = (view(&self.q), view(&self.k), view(&self.v));
        let out = host.write::<f32>(&self.out).chunks(t).into_iter().flat_map(|out| out.col_chunks(width));
        let lse = host.write::<f32>(&self.lse).chunks(1);
        parallel::for_each(out.zip(lse).enumerate().collect(), |(task, (mut out, mut lse))| {
            let head = self.shape.head(q, k, v, task / heads, task % heads);
            parallel::with_scratch(width * t + QUERIES * KEYS, |scratch| {
                let (keys, scores) = scratch.split_at_mut(width * t);
                transpose(head.k, t, keys);
                head.forward(View::slice(keys, width, t, t), scores, &mut out, lse.row(0));
            });
        });
    }
    fn launches(&self) -> Vec<Launch> {
        self.shape.check(&[&self.q, &self.out], &[&self.k, &self.v], &[&self.lse]);
        let tiles = Tiles::of(self.shape.head_width);
        let shared = tiles.shared(1, tiles.forward);
        let activations = [&self.q, &self.k, &self.v, &self.out];
        let layout = self.shape.layout(tiles.forward.owned, self.shape.heads, shared, &activations);
        vec![self.shape.launch("attention_forward", layout, &[&self.q, &self.k, &self.v, &self.out, &self.lse])]
    }
}

impl AttentionBackward {
    fn check(&self) {
        let wide = [&self.q, &self.out, &self.dout, &self.dq];
        let narrow = [&self.k, &self.v, &self.dk, &self.dv];
        self.shape.check(&wide, &narrow, &[&self.lse, &self.delta]);
    }
}

impl Op for AttentionBackward {
    fn name(&self) -> &'static str {
        "attention_backward"
    }
    fn operands(&self) -> Operands {
        Operands::default()
            .read(&self.q)
            .read(&self.k)
            .read(&self.v)
            .read(&self.out)
            .read(&self.lse)
            .read(&self.dout)
            .write(&self.dq)
            .write(&self.dk)
            .write(&self.dv)
            .write(&self.delta)
    }
    fn flops(&self) -> u64 {
        2 * 5 * self.shape.causal_macs()
    }
    fn cpu(&self, host: &Host) {
        self.check();
        let AttentionShape { context: t, heads, kv_heads, head_width: width, .. } = self.shape;
        let view = |m| View::of(host.read(m));
        let (q, k, v, out, dout) = (view(&self.q), view(&self.k), view(&self.v), view(&self.out), view(&self.dout));
        let lse = host.read::<f32>(&self.lse);
        let group = heads / kv_heads;
        let parts = |m, width| host.write::<f32>(m).chunks(t).into_iter().flat_map(move |m| m.col_chunks(width));
        let dq = parts(&self.dq, group * width);
        let (dk, dv) = (parts(&self.dk, width), parts(&self.dv, width));
        let delta = host.write::<f32>(&self.delta).chunks(group);
        let tasks = dq.zip(dk.zip(dv)).zip(delta).enumerate().collect();
        parallel::for_each(tasks, |(task, ((mut dq, (mut dk, mut dv)), mut delta))| {
            let (b, kv) = (task / kv_heads, task % kv_heads);
            parallel::with_scratch(2 * width * t + 2 * QUERIES * KEYS, |scratch| {
                let (keys, rest) = scratch.split_at_mut(width * t);
                let (values, tiles) = rest.split_at_mut(width * t);
                for r in 0..t {
                    dk.row(r).fill(0.0);
                    dv.row(r).fill(0.0);
                }
                for i in 0..group {
                    let h = kv * group + i;
                    let head = self.shape.head(q, k, v, b, h);
                    if i == 0 {
                        transpose(head.k, t, keys);
                        transpose(head.v, t, values);
                    }
                    let (out, dout) = (self.shape.part(out, b, h), self.shape.part(dout, b, h));
                    let delta = delta.row(i);
                    vectorized(
                        #[inline(always)]
                        || {
                            for (r, sum) in delta.iter_mut().enumerate() {
                                *sum = dot(out.row(r), dout.row(r));
                            }
                        },
                    );
                    let saved = Saved { dout, lse: lse.row(b * heads + h), delta };
                    let transposed = (View::slice(keys, width, t, t), View::slice(values, width, t, t));
                    let dq = ViewMut::of(&mut dq).block(0..t, i * width..(i + 1) * width);
                    head.backward(&saved, transposed, tiles, dq, &mut dk, &mut dv);
                }
            });
        });
    }
    /// Delta first; then dk and dv, by tiles of keys, summed over the queries of their group; then
    /// dq, by tiles of queries, summed over the keys. No two blocks add to the same element.
    fn launches(&self) -> Vec<Launch> {
        self.check();
        let AttentionShape { batch, context, heads, kv_heads, head_width } = self.shape;
        let given = [&self.q, &self.k, &self.v, &self.lse, &self.dout, &self.delta];
        let [q, k, v, lse, dout, delta] = given;
        let activations = [q, k, v, &self.out, dout, &self.dq, &self.dk, &self.dv];
        let layout = |rows, heads, shared| self.shape.layout(rows, heads, shared, &activations);
        let tiles = Tiles::of(head_width);
        let (kv_tile, q_tile) = (tiles.backward_kv, tiles.backward_q);
        // Two stages of a tile's lse and delta, f32.
        let statistics = 2 * 2 * 4 * kv_tile.streamed;
        let of_delta = [&self.out, dout, delta];
        let scalars = [batch, context, heads].map(number).into_iter().chain(of_delta.map(stride));
        let of_kv = layout(kv_tile.owned, kv_heads, tiles.shared(2, kv_tile) + statistics);
        let of_q = layout(q_tile.owned, heads, tiles.shared(2, q_tile));
        vec![
            launch("attention", "attention_delta", layout(tiles.delta_rows(), heads, 0), &of_delta, scalars),
            self.shape.launch("attention_backward_kv", of_kv, &[q, k, v, lse, dout, delta, &self.dk, &self.dv]),
            self.shape.launch("attention_backward_q", of_q, &[q, k, v, lse, dout, delta, &self.dq]),
        ]
    }
}
