// Causal attention with grouped query heads, forward and backward, without a T x T matrix
// (FlashAttention-2: Dao 2023, arXiv 2307.08691). Query head h uses key/value head h / (H / Hkv).
// Rows are (b, t) in row-major order, columns (head, d). Products take bf16 and sum in f32
// (mma.sync), softmax is f32 in base 2:
// exp(scale * s - lse) = exp2(c * s - lse * log2(e)) with c = scale * log2(e).
//
// In every kernel, each block owns one tile of rows, held in shared memory and divided among the
// warps in bands of 16 M rows, and streams the other side's tiles past it, double-buffered with
// cp.async. Scores stay in registers: the accumulator of one product is, rounded to bf16, the left
// operand of the next.
//   forward, backward_q: owns queries, streams keys and values
//   backward_kv: owns keys and values, streams queries and dout; its scores are transposed
//     (keys, queries)
// So each output element is summed by one thread, in an order that depends on T alone: no atomics,
// equal bits. In return, the backward computes scores and dout v^T twice: 7 products, where
// FlashAttention-2 has 5 and atomics.
//
// Row r >= T of a tile is zeros in shared memory and is not written. It comes after every real
// query, so as a key it is masked; as a query it meets dout = 0 and delta = 0, so it adds nothing.
#include "common.cuh"

constexpr u32 WIDTH = HEAD_WIDTH;
// Columns of a head in shared memory and registers: WIDTH, then zeros, which no product sees.
constexpr u32 D = WIDTH <= 16 ? 16 : WIDTH <= 32 ? 32 : WIDTH <= 64 ? 64 : 128;
constexpr u32 THREADS = 32 * WARPS;
// 16-byte chunks of a row.
constexpr u32 CHUNKS = D / 8;

static_assert(WIDTH % 8 == 0 && WIDTH <= D, "a head is whole 16-byte chunks, at most 16 of them");
static_assert(sizeof(TYPE) == 2, "q, k, v, out and their gradients are bf16");
static_assert(VECTOR == 8 || VECTOR == 1, "16-byte accesses, or single elements");
static_assert(THREADS % CHUNKS == 0, "a thread copies the same chunk of each of its rows");

// Element (0, 0) of head h of sequence b in a matrix (B*T, heads * WIDTH).
template <class P> DEVICE P* head_of(P* matrix, u32 b, u32 T, u32 h, u32 stride) {
  return matrix + (size_t)b * T * stride + h * WIDTH;
}

#if defined(KERNEL_attention_forward) || defined(KERNEL_attention_backward_kv) || defined(KERNEL_attention_backward_q)

// ---- tiles in shared memory ------------------------------------------------------------------------------------

// Bytes of a row.
constexpr u32 ROW = 2 * D;

// The position of `chunk` of `row` in a tile. Chunks are permuted so that the 8 rows of an ldmatrix
// matrix fall into 8 different groups of 4 banks. The permutation is an exclusive or with a number
// that repeats every 8 rows.
DEVICE u32 place(u32 row, u32 chunk) {
  constexpr u32 SPAN = CHUNKS < 8 ? CHUNKS : 8;
  return row * ROW + ((chunk ^ (row * SPAN / 8 % SPAN)) << 4);
}

// Starts to copy rows first .. first + ROWS of `from` (T, WIDTH) to `tile` (ROWS, D); the rest
// becomes zeros.
template <u32 ROWS> DEVICE void load_tile(u8* tile, const bf16* from, u32 stride, u32 first, u32 T) {
  const u32 chunk = threadIdx.x % CHUNKS;
  static_assert(ROWS * CHUNKS % THREADS == 0, "whole passes of the block");
#pragma unroll
  for (u32 r = threadIdx.x / CHUNKS; r < ROWS; r += THREADS / CHUNKS) {
    const bool inside = first + r < T && chunk < WIDTH / 8;
    const bf16* const source = from + (inside ? (size_t)(first + r) * stride + 8 * chunk : 0);
    u8* const to = tile + place(r, chunk);
    if constexpr (VECTOR == 8) {
      cp_async_16(shared_address(to), source, inside ? 16 : 0);
    } else {
      u32 pairs[4];
#pragma unroll
      for (u32 i = 0; i < 4; i++) pairs[i] = inside ? source[2 * i].bits | (u32)source[2 * i + 1].bits << 16 : 0;
      *reinterpret_cast<uint4*>(to) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
    }
  }
}

// This lane's address for ldmatrix_x4 of the 16x16 block at `row` of a tile, its four matrices in
// the order of a left operand (down, then right), or of right operands of 8 rows (right, then
// down). The block 16 columns further is at address ^ 32, because tiles are on a boundary of ROW
// bytes; the one 16 rows further at address + 16 * ROW.
DEVICE u32 down_first(const u8* tile, u32 row) {
  const u32 lane = threadIdx.x % 32;
  return shared_address(tile) + place(row + lane % 16, lane / 16);
}
DEVICE u32 right_first(const u8* tile) {
  const u32 lane = threadIdx.x % 32;
  return shared_address(tile) + place(lane % 8 + lane / 16 * 8, lane / 8 % 2);
}

// ---- products over a warp --------------------------------------------------------------------------------------
// A band is 16 M rows; in acc[m][n], lane l holds rows 16m + l/4 + 8(i/2), columns 8n + 2(l%4) +
// i%2.

// The row and column of element i of acc[m][n].
DEVICE u32 row_of(u32 m, u32 i) { return 16 * m + threadIdx.x % 32 / 4 + i / 2 * 8; }
DEVICE u32 col_of(u32 n, u32 i) { return 8 * n + threadIdx.x % 4 * 2 + i % 2; }

template <u32 M, u32 N> DEVICE void clear(float (&acc)[M][N][4]) {
#pragma unroll
  for (u32 m = 0; m < M; m++)
#pragma unroll
    for (u32 n = 0; n < N; n++)
#pragma unroll
      for (u32 i = 0; i < 4; i++) acc[m][n][i] = 0;
}

// scores (16M, 8N) = band (16M, D) x tile (8N, D)^T; `band` is from down_first, `tile` from
// right_first.
template <u32 M, u32 N> DEVICE void multiply(float (&scores)[M][N][4], u32 band, u32 tile) {
  clear(scores);
#pragma unroll
  for (u32 k = 0; k < D / 16; k++) {
    u32 a[M][4];
#pragma unroll
    for (u32 m = 0; m < M; m++) ldmatrix_x4(a[m], (band ^ (32 * k)) + 16 * m * ROW);
#pragma unroll
    for (u32 n = 0; n < N; n += 2) {
      u32 b[4];
      ldmatrix_x4(b, (tile ^ (32 * k)) + 8 * n * ROW);
#pragma unroll
      for (u32 m = 0; m < M; m++) {
        mma_16x8x16(scores[m][n], a[m], b[0], b[1]);
        mma_16x8x16(scores[m][n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// sum (16M, D) += weights (16M, 8N), rounded to bf16, x tile (8N, D); `tile` is from down_first.
template <u32 M, u32 N>
DEVICE void add_weighted(float (&sum)[M][D / 8][4], const float (&weights)[M][N][4], u32 tile) {
#pragma unroll
  for (u32 k = 0; k < N; k += 2) {
    u32 a[M][4];
#pragma unroll
    for (u32 m = 0; m < M; m++)
#pragma unroll
      for (u32 i = 0; i < 4; i++) {
        const float* const pair = &weights[m][k + i / 2][i % 2 * 2];
        a[m][i] = bf16_pair(pair[0], pair[1]);
      }
#pragma unroll
    for (u32 n = 0; n < D / 8; n += 2) {
      u32 b[4];
      ldmatrix_x4_transposed(b, (tile ^ (16 * n)) + 8 * k * ROW);
#pragma unroll
      for (u32 m = 0; m < M; m++) {
        mma_16x8x16(sum[m][n], a[m], b[0], b[1]);
        mma_16x8x16(sum[m][n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// Sets scores that a query must not see to `hidden`: rows are queries from `query` on and columns
// keys from `key` on, or the reverse if KEYS_DOWN.
template <bool KEYS_DOWN, u32 M, u32 N>
DEVICE void mask(float (&scores)[M][N][4], u32 query, u32 key, float hidden) {
#pragma unroll
  for (u32 m = 0; m < M; m++)
#pragma unroll
    for (u32 n = 0; n < N; n++)
#pragma unroll
      for (u32 i = 0; i < 4; i++) {
        const u32 q = query + (KEYS_DOWN ? col_of(n, i) : row_of(m, i));
        const u32 k = key + (KEYS_DOWN ? row_of(m, i) : col_of(n, i));
        if (k > q) scores[m][n][i] = hidden;
      }
}

// Stores acc to rows first .. first + 16M of `to` (T, WIDTH), those below T.
template <u32 M> DEVICE void store_band(bf16* to, u32 stride, const float (&acc)[M][D / 8][4], u32 first, u32 T) {
#pragma unroll
  for (u32 m = 0; m < M; m++)
#pragma unroll
    for (u32 i = 0; i < 4; i += 2) {
      const u32 r = first + row_of(m, i);
      if (r >= T) continue;
#pragma unroll
      for (u32 n = 0; n < WIDTH / 8; n++) {
        bf16* const p = to + (size_t)r * stride + col_of(n, 0);
        const u32 pair = bf16_pair(acc[m][n][i], acc[m][n][i + 1]);
        if constexpr (VECTOR == 8) {
          *reinterpret_cast<u32*>(p) = pair;
        } else {
          p[0].bits = (u16)pair;
          p[1].bits = (u16)(pair >> 16);
        }
      }
    }
}

template <u32 M, u32 N> DEVICE void scale_by(float (&acc)[M][N][4], float factor) {
#pragma unroll
  for (u32 m = 0; m < M; m++)
#pragma unroll
    for (u32 n = 0; n < N; n++)
#pragma unroll
      for (u32 i = 0; i < 4; i++) acc[m][n][i] *= factor;
}

#endif

#if defined(KERNEL_attention_forward)

// ---- forward ---------------------------------------------------------------------------------------------------

// The running softmax of a band: highest score of each row so far, and this lane's share of the sum
// of exponentials.
template <u32 M> struct Softmax {
  float top[M][2];
  float sum[M][2];
};

// Scores become exponentials relative to the rows' new maxima; `out` and the sums so far are
// rescaled to those.
template <u32 M, u32 N>
DEVICE void exponentiate(float (&scores)[M][N][4], Softmax<M>& rows, float (&out)[M][D / 8][4], float c) {
#pragma unroll
  for (u32 m = 0; m < M; m++)
#pragma unroll
    for (u32 h = 0; h < 2; h++) {
      float top = rows.top[m][h];
#pragma unroll
      for (u32 n = 0; n < N; n++) top = fmaxf(top, fmaxf(scores[m][n][2 * h], scores[m][n][2 * h + 1]));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
      const float shrink = exp2_approx((rows.top[m][h] - top) * c);
      float sum = rows.sum[m][h] * shrink;
#pragma unroll
      for (u32 n = 0; n < N; n++)
#pragma unroll
        for (u32 i = 2 * h; i < 2 * h + 2; i++) {
          scores[m][n][i] = exp2_approx(scores[m][n][i] * c - top * c);
          sum += scores[m][n][i];
        }
#pragma unroll
      for (u32 n = 0; n < D / 8; n++) out[m][n][2 * h] *= shrink, out[m][n][2 * h + 1] *= shrink;
      rows.top[m][h] = top;
      rows.sum[m][h] = sum;
    }
}

// out /= sum of exponentials; lse[r] of the rows below T.
template <u32 M>
DEVICE void normalize(float (&out)[M][D / 8][4], const Softmax<M>& rows, float* lse, u32 first, u32 T, float scale) {
#pragma unroll
  for (u32 m = 0; m < M; m++)
#pragma unroll
    for (u32 h = 0; h < 2; h++) {
      float sum = rows.sum[m][h];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const float inverse = 1.0f / sum;
#pragma unroll
      for (u32 n = 0; n < D / 8; n++) out[m][n][2 * h] *= inverse, out[m][n][2 * h + 1] *= inverse;
      const u32 r = first + row_of(m, 2 * h);
      if (threadIdx.x % 4 == 0 && r < T) lse[r] = rows.top[m][h] * scale + logf(sum);
    }
}

// out (B*T, H*WIDTH) = softmax(scale * q k^T, causal) v; lse (B*H, T) = log of the sum of
// exponentials of a query's scaled scores. q (B*T, H*WIDTH), k and v (B*T, Hkv*WIDTH).
//
// Grid: (ceil(T / FORWARD_QUERIES), H, B); the last tile of queries, which has the most keys,
// first. Block: WARPS warps, 16 M queries each. Shared: FORWARD_QUERIES + 4 FORWARD_KEYS rows of 2D
// bytes. Keys ascend, so a row's first tile always holds a key it sees. Reads q once, k and v about
// T / FORWARD_QUERIES / 2 times (from L2), writes out and lse once; flops: 2 products of
// 2 D T (T + 1) / 2 for each head and sequence.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention_forward(const bf16* q, const bf16* k, const bf16* v, bf16* out, float* lse, u32 B, u32 T, u32 H, u32 Hkv,
                      u32 stride_q, u32 stride_k, u32 stride_v, u32 stride_out, u32 stride_lse, float scale) {
  constexpr u32 QUERIES = FORWARD_QUERIES, KEYS = FORWARD_KEYS, M = QUERIES / (16 * WARPS);
  static_assert(QUERIES % (16 * WARPS) == 0 && KEYS % 16 == 0, "whole fragments");
  DYNAMIC_SHARED(shared);
  const u32 h = blockIdx.y, b = blockIdx.z;
  const u32 first = (gridDim.x - 1 - blockIdx.x) * QUERIES;
  if (b >= B || first >= T) return;
  const u32 kv = h / (H / Hkv);
  q = head_of(q, b, T, h, stride_q);
  k = head_of(k, b, T, kv, stride_k);
  v = head_of(v, b, T, kv, stride_v);
  const u32 keys = first + QUERIES < T ? first + QUERIES : T;
  const u32 tiles = (keys + KEYS - 1) / KEYS;
  auto stage = [&](u32 tile) { return shared + (QUERIES + tile % 2 * 2 * KEYS) * ROW; };
  auto prefetch = [&](u32 tile) {
    load_tile<KEYS>(stage(tile), k, stride_k, tile * KEYS, T);
    load_tile<KEYS>(stage(tile) + KEYS * ROW, v, stride_v, tile * KEYS, T);
    cp_async_commit();
  };

  const u32 band = threadIdx.x / 32 * 16 * M;
  float sum[M][D / 8][4];
  clear(sum);
  Softmax<M> rows;
#pragma unroll
  for (u32 m = 0; m < M; m++)
#pragma unroll
    for (u32 i = 0; i < 2; i++) rows.top[m][i] = __uint_as_float(0xff800000u), rows.sum[m][i] = 0;
  load_tile<QUERIES>(shared, q, stride_q, first, T);
  prefetch(0);
  for (u32 tile = 0; tile < tiles; tile++) {
    cp_async_wait<0>();
    // Every thread's copies have arrived, and every warp is done with the other stage.
    __syncthreads();
    if (tile + 1 < tiles) prefetch(tile + 1);
    const u32 key = tile * KEYS, query = first + band;
    if (key >= query + 16 * M) continue;
    float scores[M][KEYS / 8][4];
    multiply(scores, down_first(shared, band), right_first(stage(tile)));
    if (key + KEYS > query + 1) mask<false>(scores, query, key, __uint_as_float(0xff800000u));
    exponentiate(scores, rows, sum, scale * LOG2E);
    add_weighted(sum, scores, down_first(stage(tile) + KEYS * ROW, 0));
  }
  normalize(sum, rows, lse + (size_t)(b * H + h) * stride_lse, first + band, T, scale);
  store_band(head_of(out, b, T, h, stride_out), stride_out, sum, first + band, T);
}

#elif defined(KERNEL_attention_delta)

// ---- backward --------------------------------------------------------------------------------------------------

// delta (B*H, T) = sum of out * dout over a head's columns; out and dout (B*T, H*WIDTH).
//
// Grid: (ceil(T / rows of a block), H, B). Block: WARPS warps; D / 8 lanes a row, 8 columns each,
// in a butterfly. Shared: 0. Reads out and dout once: bound by memory.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention_delta(const bf16* out, const bf16* dout, float* delta, u32 B, u32 T, u32 H, u32 stride_out,
                    u32 stride_dout, u32 stride_delta) {
  const u32 h = blockIdx.y, b = blockIdx.z;
  if (b >= B) return;
  const u32 row = blockIdx.x * (THREADS / CHUNKS) + threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
  float sum = 0;
  if (row < T && chunk < WIDTH / 8) {
    const bf16* const x = head_of(out, b, T, h, stride_out) + (size_t)row * stride_out + 8 * chunk;
    const bf16* const y = head_of(dout, b, T, h, stride_dout) + (size_t)row * stride_dout + 8 * chunk;
#pragma unroll
    for (u32 i = 0; i < 8; i += VECTOR) {
      float from_x[VECTOR], from_y[VECTOR];
      load(x + i, from_x);
      load(y + i, from_y);
#pragma unroll
      for (u32 j = 0; j < VECTOR; j++) sum += from_x[j] * from_y[j];
    }
  }
#pragma unroll
  for (u32 o = CHUNKS / 2; o > 0; o /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, o);
  if (row < T && chunk == 0) delta[(size_t)(b * H + h) * stride_delta + row] = sum;
}

#elif defined(KERNEL_attention_backward_kv)

// dv += P^T dout and dk += dS^T q for one tile of queries, with P^T = exp2(c * scores - lse2) and
// dS^T = P^T * (v dout^T - delta) as (keys, queries). `lse2` (8N) is lse * log2(e), and `delta`
// (8N), in shared memory. The band's own rows are at `keys` and `values`, the tile is `queries` and
// `douts`; they begin at `key` and `query`.
template <u32 N, u32 M>
DEVICE void add_tile_kv(float (&dk)[M][D / 8][4], float (&dv)[M][D / 8][4], u32 keys, u32 values, const u8* queries,
                        const u8* douts, const float* lse2, const float* delta, u32 key, u32 query, float c) {
  float p[M][N][4], ds[M][N][4];
  multiply(p, keys, right_first(queries));
#pragma unroll
  for (u32 m = 0; m < M; m++)
#pragma unroll
    for (u32 n = 0; n < N; n++)
#pragma unroll
      for (u32 i = 0; i < 4; i++) p[m][n][i] = exp2_approx(p[m][n][i] * c - lse2[col_of(n, i)]);
  if (key + 16 * M > query + 1) mask<true>(p, query, key, 0);
  add_weighted(dv, p, down_first(douts, 0));
  multiply(ds, values, right_first(douts));
#pragma unroll
  for (u32 m = 0; m < M; m++)
#pragma unroll
    for (u32 n = 0; n < N; n++)
#pragma unroll
      for (u32 i = 0; i < 4; i++) ds[m][n][i] = p[m][n][i] * (ds[m][n][i] - delta[col_of(n, i)]);
  add_weighted(dk, ds, down_first(queries, 0));
}

// dk = scale * dS^T q and dv = P^T dout, both (B*T, Hkv*WIDTH), summed over the H / Hkv query heads
// of a key/value head and the queries at and after each key. lse and delta (B*H, T), dout as q, the
// others as in the forward.
//
// Grid: (ceil(T / BACKWARD_KV_KEYS), Hkv, B); the first tile of keys has the most queries. Block:
// WARPS warps, 16 M keys each. Shared: 2 BACKWARD_KV_KEYS + 4 BACKWARD_KV_QUERIES rows of 2D bytes,
// then 4 BACKWARD_KV_QUERIES floats. Reads k and v once, q and dout about T / BACKWARD_KV_KEYS / 2
// times (from L2), writes dk and dv once; flops: 4 products of 2 D T (T + 1) / 2 for each query
// head and sequence.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention_backward_kv(const bf16* q, const bf16* k, const bf16* v, const float* lse, const bf16* dout,
                          const float* delta, bf16* dk, bf16* dv, u32 B, u32 T, u32 H, u32 Hkv, u32 stride_q,
                          u32 stride_k, u32 stride_v, u32 stride_lse, u32 stride_dout, u32 stride_delta, u32 stride_dk,
                          u32 stride_dv, float scale) {
  constexpr u32 KEYS = BACKWARD_KV_KEYS, QUERIES = BACKWARD_KV_QUERIES, M = KEYS / (16 * WARPS);
  static_assert(KEYS % (16 * WARPS) == 0 && QUERIES % 16 == 0 && KEYS % QUERIES == 0, "whole fragments and tiles");
  static_assert(2 * QUERIES <= THREADS, "a thread carries at most one of a tile's lse and delta");
  DYNAMIC_SHARED(shared);
  const u32 kv = blockIdx.y, b = blockIdx.z, first = blockIdx.x * KEYS;
  if (b >= B || first >= T) return;
  const u32 group = H / Hkv, start = first / QUERIES, tiles = (T + QUERIES - 1) / QUERIES - start;
  auto head_at = [&](u32 i) { return kv * group + i / tiles; };
  auto query_at = [&](u32 i) { return (start + i % tiles) * QUERIES; };
  auto stage = [&](u32 i) { return shared + (2 * KEYS + i % 2 * 2 * QUERIES) * ROW; };
  auto prefetch = [&](u32 i) {
    const u32 h = head_at(i);
    load_tile<QUERIES>(stage(i), head_of(q, b, T, h, stride_q), stride_q, query_at(i), T);
    load_tile<QUERIES>(stage(i) + QUERIES * ROW, head_of(dout, b, T, h, stride_dout), stride_dout, query_at(i), T);
    cp_async_commit();
  };
  // A tile's lse * log2(e), then its delta. They are held in a register during the products of the
  // previous tile, so that no thread waits for the load.
  float* const statistic = reinterpret_cast<float*>(shared + (2 * KEYS + 4 * QUERIES) * ROW);
  auto statistics = [&](u32 i) { return statistic + i % 2 * 2 * QUERIES; };
  auto fetch = [&](u32 i) {
    const u32 t = threadIdx.x, query = query_at(i) + t % QUERIES;
    const size_t row = b * H + head_at(i);
    if (t >= 2 * QUERIES || query >= T) return 0.0f;
    return t < QUERIES ? lse[row * stride_lse + query] : delta[row * stride_delta + query];
  };

  const u32 band = threadIdx.x / 32 * 16 * M;
  float sum_k[M][D / 8][4], sum_v[M][D / 8][4];
  clear(sum_k);
  clear(sum_v);
  load_tile<KEYS>(shared, head_of(k, b, T, kv, stride_k), stride_k, first, T);
  load_tile<KEYS>(shared + KEYS * ROW, head_of(v, b, T, kv, stride_v), stride_v, first, T);
  prefetch(0);
  float carried = fetch(0);
  for (u32 i = 0; i < group * tiles; i++) {
    if (threadIdx.x < 2 * QUERIES) statistics(i)[threadIdx.x] = carried * (threadIdx.x < QUERIES ? LOG2E : 1);
    cp_async_wait<0>();
    // Every thread's copies have arrived, and every warp is done with the other stage.
    __syncthreads();
    if (i + 1 < group * tiles) prefetch(i + 1), carried = fetch(i + 1);
    const u32 key = first + band, query = query_at(i);
    if (key >= query + QUERIES) continue;
    add_tile_kv<QUERIES / 8>(sum_k, sum_v, down_first(shared, band), down_first(shared + KEYS * ROW, band), stage(i),
                             stage(i) + QUERIES * ROW, statistics(i), statistics(i) + QUERIES, key, query,
                             scale * LOG2E);
  }
  scale_by(sum_k, scale);
  store_band(head_of(dk, b, T, kv, stride_dk), stride_dk, sum_k, first + band, T);
  store_band(head_of(dv, b, T, kv, stride_dv), stride_dv, sum_v, first + band, T);
}

#elif defined(KERNEL_attention_backward_q)

// dq += dS k for one tile of keys, with dS = P * (dout v^T - delta) and
// P = exp2(c * scores - lse2). The band's own rows are at `queries` and `douts`, with their
// lse2 = lse * log2(e) and delta; the tile is `keys` and `values`; they begin at `query` and `key`.
template <u32 N, u32 M>
DEVICE void add_tile_q(float (&dq)[M][D / 8][4], u32 queries, u32 douts, const u8* keys, const u8* values,
                       const float (&lse2)[M][2], const float (&delta)[M][2], u32 query, u32 key, float c) {
  float p[M][N][4], ds[M][N][4];
  multiply(p, queries, right_first(keys));
  multiply(ds, douts, right_first(values));
#pragma unroll
  for (u32 m = 0; m < M; m++)
#pragma unroll
    for (u32 n = 0; n < N; n++)
#pragma unroll
      for (u32 i = 0; i < 4; i++) {
        const float weight = exp2_approx(p[m][n][i] * c - lse2[m][i / 2]);
        ds[m][n][i] = weight * (ds[m][n][i] - delta[m][i / 2]);
      }
  if (key + 8 * N > query + 1) mask<false>(ds, query, key, 0);
  add_weighted(dq, ds, down_first(keys, 0));
}

// Minimum blocks per multiprocessor, 0 to let ptxas choose. For sm_120 with D = 128 ptxas would
// spill to make room for a third block, but shared memory admits only one.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
constexpr u32 BACKWARD_Q_BLOCKS = D == 128 ? 1 : 0;
#else
constexpr u32 BACKWARD_Q_BLOCKS = 0;
#endif

// dq (B*T, H*WIDTH) = scale * dS k, with dS as in add_tile_q; the operands are those of
// attention_backward_kv.
//
// Grid: (ceil(T / BACKWARD_Q_QUERIES), H, B); the last tile of queries, which has the most keys,
// first. Block: WARPS warps, 16 M queries each. Shared: 2 BACKWARD_Q_QUERIES + 4 BACKWARD_Q_KEYS
// rows of 2D bytes. Reads q and dout once, k and v about T / BACKWARD_Q_QUERIES / 2 times (from
// L2), writes dq once; flops: 3 products of 2 D T (T + 1) / 2 for each head and sequence.
extern "C" __global__ void __launch_bounds__(THREADS, BACKWARD_Q_BLOCKS)
    attention_backward_q(const bf16* q, const bf16* k, const bf16* v, const float* lse, const bf16* dout,
                         const float* delta, bf16* dq, u32 B, u32 T, u32 H, u32 Hkv, u32 stride_q, u32 stride_k,
                         u32 stride_v, u32 stride_lse, u32 stride_dout, u32 stride_delta, u32 stride_dq, float scale) {
  constexpr u32 QUERIES = BACKWARD_Q_QUERIES, KEYS = BACKWARD_Q_KEYS, M = QUERIES / (16 * WARPS);
  static_assert(QUERIES % (16 * WARPS) == 0 && KEYS % 16 == 0, "whole fragments");
  DYNAMIC_SHARED(shared);
  const u32 h = blockIdx.y, b = blockIdx.z, kv = h / (H / Hkv);
  const u32 first = (gridDim.x - 1 - blockIdx.x) * QUERIES;
  if (b >= B || first >= T) return;
  k = head_of(k, b, T, kv, stride_k);
  v = head_of(v, b, T, kv, stride_v);
  const u32 keys = first + QUERIES < T ? first + QUERIES : T;
  const u32 tiles = (keys + KEYS - 1) / KEYS;
  auto stage = [&](u32 tile) { return shared + (2 * QUERIES + tile % 2 * 2 * KEYS) * ROW; };
  auto prefetch = [&](u32 tile) {
    load_tile<KEYS>(stage(tile), k, stride_k, tile * KEYS, T);
    load_tile<KEYS>(stage(tile) + KEYS * ROW, v, stride_v, tile * KEYS, T);
    cp_async_commit();
  };

  const u32 band = threadIdx.x / 32 * 16 * M, query = first + band;
  float sum[M][D / 8][4];
  clear(sum);
  load_tile<QUERIES>(shared, head_of(q, b, T, h, stride_q), stride_q, first, T);
  load_tile<QUERIES>(shared + QUERIES * ROW, head_of(dout, b, T, h, stride_dout), stride_dout, first, T);
  prefetch(0);
  const size_t row = b * H + h;
  float row_lse2[M][2], row_delta[M][2];
#pragma unroll
  for (u32 m = 0; m < M; m++)
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
      const u32 r = query + row_of(m, 2 * i);
      row_lse2[m][i] = r < T ? lse[row * stride_lse + r] * LOG2E : 0;
      row_delta[m][i] = r < T ? delta[row * stride_delta + r] : 0;
    }
  for (u32 tile = 0; tile < tiles; tile++) {
    cp_async_wait<0>();
    // Every thread's copies have arrived, and every warp is done with the other stage.
    __syncthreads();
    if (tile + 1 < tiles) prefetch(tile + 1);
    const u32 key = tile * KEYS;
    if (key >= query + 16 * M) continue;
    add_tile_q<KEYS / 8>(sum, down_first(shared, band), down_first(shared + QUERIES * ROW, band), stage(tile),
                         stage(tile) + KEYS * ROW, row_lse2, row_delta, query, key, scale * LOG2E);
  }
  scale_by(sum, scale);
  store_band(head_of(dq, b, T, h, stride_dq), stride_dq, sum, query, T);
}

#else
#error "attention.cu: define KERNEL_<name> for one kernel of this file"
#endif
