// Matrix product on tensor cores: C (M, N) = op(A) (M, K) x op(B) (K, N). bf16 operands, f32 sums, one rounding to
// C_TYPE. A is (M, K), or (K, M) with TRANSPOSE_A; B is (K, N), or (N, K) with TRANSPOSE_B.
//
// grid     one block a tile (TILE_M, TILE_N) of C, in one dimension; see `tile_of_block` for the order
// block    one warp a part (WARP_M, WARP_N) of the tile, as 16x8 products of mma.sync
// shared   STAGES x (TILE_M + TILE_N) x TILE_K bf16, dynamic; after the sum the same bytes pass C to the store
// bytes    A is read ceil(N / TILE_N) times and B ceil(M / TILE_M) times, mostly from L2; C once (twice with EPILOGUE)
// flops    2 M N K
// bits     an element of C is summed in ascending k, 16 at a time: the same for every tile, operand layout and VECTOR
//
// Tiles of A and B travel through a ring of STAGES slots, STAGES - 1 of them under way while one is multiplied. A tile
// keeps the order it has in memory, and ldmatrix transposes where k does not run along its rows: no layout needs a
// transposed copy. Fragments are double-buffered: those of the next 16 k are read while this one's are multiplied.
//
// VECTOR 8: rows of A, B, C and the residual begin on 16-byte boundaries; M, N and K are free. VECTOR 1: anything.
#include "common.cuh"

constexpr u32 WARPS_N = TILE_N / WARP_N;
constexpr u32 THREADS = TILE_M / WARP_M * WARPS_N * 32;
// Row tiles of C whose blocks run side by side, so that their tiles of B are still in L2.
constexpr u32 GROUP = 8;

static_assert(TILE_M % WARP_M == 0 && TILE_N % WARP_N == 0 && WARP_M % 16 == 0 && WARP_N % 16 == 0, "whole products");
static_assert(TILE_K % 32 == 0, "the two fragment buffers alternate, and a tile ends on the second");
static_assert(STAGES >= 2 && (VECTOR == 1 || VECTOR == 8) && EPILOGUE >= 0 && EPILOGUE <= 2, "see gemm.rs");

// Copies `count` (0 to 8) elements to 16 bytes of shared memory; the rest becomes 0. With VECTOR 8 the copy is only
// begun.
DEVICE void copy_chunk(u8* to, const bf16* from, u32 count) {
  if constexpr (VECTOR == 8) {
    cp_async_16(shared_address(to), from, 2 * count);
  } else {
    u32 pairs[4];
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
      const u32 low = 2 * i < count ? from[2 * i].bits : 0, high = 2 * i + 1 < count ? from[2 * i + 1].bits : 0;
      pairs[i] = low | high << 16;
    }
    *reinterpret_cast<uint4*>(to) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
  }
}

// A tile of A (EXTENT = TILE_M rows of op(A)) or of B (EXTENT = TILE_N columns of op(B)) in shared memory: (EXTENT,
// TILE_K) when k runs along the rows of the matrix, else (TILE_K, EXTENT). "mn" is the index that is not k.
template <bool K_ALONG_ROWS, u32 EXTENT> struct Tile {
  static constexpr u32 ROWS = K_ALONG_ROWS ? EXTENT : TILE_K;
  static constexpr u32 WIDTH = K_ALONG_ROWS ? TILE_K : EXTENT;
  static constexpr u32 CHUNKS = WIDTH / 8;
  static constexpr u32 BYTES = ROWS * WIDTH * 2;
  static_assert((ROWS * CHUNKS) % THREADS == 0, "every thread copies as many chunks");
  static_assert(WIDTH == 32 || WIDTH % 64 == 0, "the swizzles below");

  // Byte offset of 8 elements. The XOR gives the 8 rows that one ldmatrix reads 8 different groups of 4 banks: a row of
  // 128 bytes or more starts in bank 0, and of rows of 64 bytes every second one does.
  DEVICE u32 offset(u32 row, u32 chunk) {
    return row * (WIDTH * 2) + 16 * (chunk ^ (WIDTH == 32 ? row / 2 % 4 : row % 8));
  }

  // Copies the tile from element (mn, k) of the operand `from` with `extent` x `depth` elements. What lies outside
  // becomes 0, which adds nothing.
  DEVICE void copy(u8* tile, const bf16* from, u32 mn, u32 k, u32 extent, u32 depth, u32 stride) {
    const u32 first_row = K_ALONG_ROWS ? mn : k, first_column = K_ALONG_ROWS ? k : mn;
    const u32 rows = K_ALONG_ROWS ? extent : depth, columns = K_ALONG_ROWS ? depth : extent;
#pragma unroll
    for (u32 i = 0; i < ROWS * CHUNKS / THREADS; i++) {
      const u32 r = (threadIdx.x + i * THREADS) / CHUNKS, chunk = (threadIdx.x + i * THREADS) % CHUNKS;
      const u32 row = first_row + r, column = first_column + 8 * chunk;
      const u32 left = row < rows && column < columns ? columns - column : 0;
      copy_chunk(tile + offset(r, chunk), from + (size_t)row * stride + column, left < 8 ? left : 8);
    }
  }

  // The 16 x 16 elements at (mn, k) as mma's fragment of A: f[i] is at (8(i%2), 8(i/2)). As B they are two fragments:
  // (f[0], f[2]) for the first 8 columns and (f[1], f[3]) for the others.
  DEVICE void fragment(u32 (&f)[4], u32 tile, u32 mn, u32 k) {
    const u32 lane = threadIdx.x % 32;
    if constexpr (K_ALONG_ROWS) {
      ldmatrix_x4(f, tile + offset(mn + lane % 16, k / 8 + lane / 16));
    } else {
      ldmatrix_x4_transposed(f, tile + offset(k + lane / 16 * 8 + lane % 8, mn / 8 + lane / 8 % 2));
    }
  }
};

using TileA = Tile<!TRANSPOSE_A, TILE_M>;
using TileB = Tile<TRANSPOSE_B, TILE_N>;
// A slot of the ring: a tile of A, then one of B.
constexpr u32 SLOT = TileA::BYTES + TileB::BYTES;

// What a warp multiplies at a time: (WARP_M, 16) of A and (16, WARP_N) of B.
struct Fragments {
  u32 a[WARP_M / 16][4];
  u32 b[WARP_N / 16][4];

  __device__ __forceinline__ void read(u32 slot, u32 m, u32 n, u32 k) {
#pragma unroll
    for (u32 i = 0; i < WARP_M / 16; i++) TileA::fragment(a[i], slot, m + 16 * i, k);
#pragma unroll
    for (u32 j = 0; j < WARP_N / 16; j++) TileB::fragment(b[j], slot + TileA::BYTES, n + 16 * j, k);
  }
};

// A warp's part of C: sum[i][j] is mma's fragment at (16i, 8j).
typedef float Sums[WARP_M / 16][WARP_N / 8][4];

DEVICE void multiply(Sums& sum, const Fragments& f) {
#pragma unroll
  for (u32 i = 0; i < WARP_M / 16; i++) {
#pragma unroll
    for (u32 j = 0; j < WARP_N / 8; j++) mma_16x8x16(sum[i][j], f.a[i], f.b[j / 2][j % 2], f.b[j / 2][j % 2 + 2]);
  }
}

// First row and column of the block's tile. Blocks that run at the same time shall share tiles of A and B in L2: a
// group is GROUP tile rows by all tile columns, walked down its columns.
DEVICE void tile_of_block(u32 M, u32 N, u32& m, u32& n) {
  const u32 down = (M + TILE_M - 1) / TILE_M, across = (N + TILE_N - 1) / TILE_N;
  const u32 group = blockIdx.x / (GROUP * across), place = blockIdx.x % (GROUP * across);
  const u32 left = down - group * GROUP, height = left < GROUP ? left : GROUP;
  m = (group * GROUP + place % height) * TILE_M;
  n = place / height * TILE_N;
}

// c[0..count] = x[0..count], plus add[0..count] where the epilogue says so; one vector where count is VECTOR.
DEVICE void finish(float (&x)[VECTOR], C_TYPE* c, const C_TYPE* add, u32 count) {
  if (count == VECTOR) {
    if constexpr (EPILOGUE != 0) {
      float y[VECTOR];
      load<VECTOR>(add, y);
#pragma unroll
      for (u32 e = 0; e < VECTOR; e++) x[e] += y[e];
    }
    store<VECTOR>(c, x);
  } else {
#pragma unroll
    for (u32 e = 0; e < VECTOR; e++) {
      if (e < count) c[e] = from_float<C_TYPE>(EPILOGUE == 0 ? x[e] : x[e] + to_float(add[e]));
    }
  }
}

// Floats from one row to the next where a warp passes 16 rows of C from fragments to vectors, and the place of a
// column: 4 more after each 32 columns, so that neither the fragments' pairs nor the vectors meet in a bank.
constexpr u32 PITCH = WARP_N + 8;
DEVICE u32 place(u32 column) { return column + column / 32 * 4; }

// Stores a warp's part of C, whose first element is (row, column), 16 rows at a time through its own `rows` (16,
// PITCH), so that a lane has VECTOR neighbours and a row leaves in whole sectors.
DEVICE void store_part(const Sums& sum, float* rows, C_TYPE* c, const C_TYPE* add, u32 row, u32 column, u32 M, u32 N,
                       u32 stride_c, u32 stride_add) {
  const u32 lane = threadIdx.x % 32;
#pragma unroll
  for (u32 i = 0; i < WARP_M / 16; i++) {
#pragma unroll
    for (u32 j = 0; j < WARP_N / 8; j++) {
#pragma unroll
      for (u32 h = 0; h < 2; h++) {
        float2* const pair = reinterpret_cast<float2*>(rows + (lane / 4 + 8 * h) * PITCH + place(8 * j + lane % 4 * 2));
        *pair = float2{sum[i][j][2 * h], sum[i][j][2 * h + 1]};
      }
    }
    __syncwarp();
    for (u32 v = lane; v < 16 * WARP_N / VECTOR; v += 32) {
      const u32 r = v / (WARP_N / VECTOR), inner = v % (WARP_N / VECTOR) * VECTOR;
      const u32 to_row = row + 16 * i + r, to_column = column + inner;
      if (to_row >= M || to_column >= N) continue;
      float x[VECTOR];
      load<VECTOR>(rows + r * PITCH + place(inner), x);
      finish(x, c + (size_t)to_row * stride_c + to_column, add + (size_t)to_row * stride_add + to_column,
             N - to_column < VECTOR ? N - to_column : VECTOR);
    }
    __syncwarp();
  }
}

// EPILOGUE 0: c = product; 1: c += product; 2: c = residual (M, N) + product. Strides count elements.
extern "C" __global__ void __launch_bounds__(THREADS)
    gemm(const bf16* __restrict__ a, const bf16* __restrict__ b, C_TYPE* __restrict__ c,
#if EPILOGUE == 2
         const C_TYPE* __restrict__ residual,
#endif
         u32 M, u32 N, u32 K, u32 stride_a, u32 stride_b, u32 stride_c
#if EPILOGUE == 2
         , u32 stride_residual
#endif
    ) {
  DYNAMIC_SHARED(ring);
  u32 m0, n0;
  tile_of_block(M, N, m0, n0);
  const u32 warp = threadIdx.x / 32, warp_m = warp / WARPS_N * WARP_M, warp_n = warp % WARPS_N * WARP_N;
  const u32 steps = (K + TILE_K - 1) / TILE_K;

  // Begins to fill `slot` for a step; a step past the last is an empty group, which keeps the count of groups.
  auto fill = [&](u32 slot, u32 step) {
    if (step < steps) {
      TileA::copy(ring + slot * SLOT, a, m0, step * TILE_K, M, K, stride_a);
      TileB::copy(ring + slot * SLOT + TileA::BYTES, b, n0, step * TILE_K, N, K, stride_b);
    }
    cp_async_commit();
  };
#pragma unroll
  for (u32 s = 0; s < STAGES - 1; s++) fill(s, s);

  Sums sum = {};
  Fragments fragments[2];
  // The oldest group has arrived for all threads.
  cp_async_wait<STAGES - 2>();
  __syncthreads();
  fragments[0].read(shared_address(ring), warp_m, warp_n, 0);
  u32 slot = 0;
  for (u32 step = 0; step < steps; step++) {
    const u32 next = slot + 1 == STAGES ? 0 : slot + 1;
#pragma unroll
    for (u32 k = 0; k < TILE_K; k += 16) {
      Fragments& ahead = fragments[k / 16 % 2 ^ 1];
      if (k + 16 < TILE_K) {
        ahead.read(shared_address(ring) + slot * SLOT, warp_m, warp_n, k + 16);
      } else if (step + 1 < steps) {
        // The next slot has arrived, and the fragments of this one have been read, for all threads.
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        ahead.read(shared_address(ring) + next * SLOT, warp_m, warp_n, 0);
      }
      // The slot before this one is free since the barrier of the step before.
      if (k == 0) fill(slot == 0 ? STAGES - 1 : slot - 1, step + STAGES - 1);
      multiply(sum, fragments[k / 16 % 2]);
    }
    slot = next;
  }

  // No slot is read or filled any more.
  cp_async_wait<0>();
  __syncthreads();
  float* const rows = reinterpret_cast<float*>(ring) + warp * 16 * PITCH;
  static_assert(THREADS / 32 * 16 * PITCH * 4 <= STAGES * SLOT, "the rows of all warps fit the ring");
#if EPILOGUE == 2
  store_part(sum, rows, c, residual, m0 + warp_m, n0 + warp_n, M, N, stride_c, stride_residual);
#else
  store_part(sum, rows, c, c, m0 + warp_m, n0 + warp_n, M, N, stride_c, stride_c);
#endif
}
