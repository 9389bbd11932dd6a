// Matrix product on tensor cores: C (M, N) = op(A) (M, K) x op(B) (K, N). bf16 operands, f32 sums,
// one rounding to C_TYPE. A is (M, K), or (K, M) with TRANSPOSE_A; B is (K, N), or (N, K) with
// TRANSPOSE_B.
//
// grid     one block a tile (TILE_M, TILE_N) of C, in one dimension; see `tile_of_block` for the
//          order
// block    one warp a part (WARP_M, WARP_N) of the tile, as 16x8 products of mma.sync
// shared   STAGES x (TILE_M + TILE_N) x TILE_K bf16, dynamic; after the sum C is staged in the same
//          bytes for the store
// bytes    A is read ceil(N / TILE_N) times and B ceil(M / TILE_M) times, mostly from L2; C once
//          (twice with EPILOGUE)
// flops    2 M N K
// bits     an element of C is summed in ascending k, 16 at a time: the same for every tile, operand
//          layout and VECTOR
//
// Tiles of A and B pass through a ring of STAGES slots, STAGES - 1 of them in flight while one is
// multiplied. A tile keeps its order in memory, and ldmatrix transposes if k does not run along its
// rows: no layout needs a transposed copy. Fragments are double-buffered: those of the next 16 k
// are read while the current ones are multiplied.
//
// VECTOR 8: rows of A, B, C and the residual begin on 16-byte boundaries; M, N and K are free.
// VECTOR 1: anything.
#include "common.cuh"

constexpr u32 WARPS_N = TILE_N / WARP_N;
constexpr u32 THREADS = TILE_M / WARP_M * WARPS_N * 32;
// Row tiles of C whose blocks run concurrently, so that their tiles of B are still in L2.
constexpr u32 GROUP = 8;

static_assert(TILE_M % WARP_M == 0 && TILE_N % WARP_N == 0 && WARP_M % 16 == 0 && WARP_N % 16 == 0, "whole products");
static_assert((WARP_M & (WARP_M - 1)) == 0 && (WARP_N & (WARP_N - 1)) == 0, "powers of 2: see Tile::fragment");
static_assert(TILE_K % 32 == 0, "the two fragment buffers alternate, and a tile ends on the second");
static_assert(STAGES >= 2 && (VECTOR == 1 || VECTOR == 8) && EPILOGUE >= 0 && EPILOGUE <= 2, "see gemm.rs");

// Copies `count` (0 to 8) elements to 16 bytes of shared memory; the rest becomes 0. With VECTOR 8
// the copy is only started.
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

// A tile of A (EXTENT = TILE_M rows of op(A)) or of B (EXTENT = TILE_N columns of op(B)) in shared
// memory: (EXTENT, TILE_K) when k runs along the rows of the matrix, else (TILE_K, EXTENT). "mn" is
// the index that is not k.
template <bool IS_A, bool K_ALONG_ROWS, u32 EXTENT> struct Tile {
  static constexpr u32 ROWS = K_ALONG_ROWS ? EXTENT : TILE_K;
  static constexpr u32 WIDTH = K_ALONG_ROWS ? TILE_K : EXTENT;
  static constexpr u32 BYTES = ROWS * WIDTH * 2;
  // Chunks of 8 elements in a row, and rows from one chunk of a thread to its next.
  static constexpr u32 CHUNKS = WIDTH / 8;
  static constexpr u32 STEP = THREADS / CHUNKS;
  static_assert(THREADS % CHUNKS == 0 && ROWS % STEP == 0, "every thread copies as many chunks");
  static_assert(STEP % 8 == 0 && (WIDTH == 32 || WIDTH % 64 == 0) && BYTES % 1024 == 0, "the swizzle below");

  // Byte offset of a chunk. The XOR gives the 8 rows that one ldmatrix reads 8 different groups of
  // 4 banks: a row of 128 bytes or more begins in bank 0, and so does every second row of 64 bytes.
  DEVICE u32 offset(u32 row, u32 chunk) {
    return row * (WIDTH * 2) + 16 * (chunk ^ (WIDTH == 32 ? row / 2 % 4 : row % 8));
  }

  // What a thread copies, tile after tile along k: chunks in one column of chunks, STEP rows apart.
  struct Source {
    const bf16* from;  // its first chunk in the operand
    u32 row, column;   // its place there
    u32 to;            // its place in the tile

    __device__ __forceinline__ Source(const bf16* operand, u32 mn, u32 stride) {
      const u32 r = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
      row = r + (K_ALONG_ROWS ? mn : 0);
      column = 8 * chunk + (K_ALONG_ROWS ? 0 : mn);
      from = operand + (size_t)row * stride + column;
      to = offset(r, chunk);
    }
    // Copies the next tile. Elements outside the operand (`extent` x `depth`) become 0 and add
    // nothing.
    __device__ __forceinline__ void copy(u8* tile, u32 extent, u32 depth, u32 stride) {
      const u32 rows = K_ALONG_ROWS ? extent : depth, columns = K_ALONG_ROWS ? depth : extent;
      const u32 left = column < columns ? columns - column : 0, count = left < 8 ? left : 8;
// Not unrolled for single elements: all chunks at once would need too many registers.
#pragma unroll(VECTOR == 8 ? ROWS / STEP : 1)
      for (u32 i = 0; i < ROWS; i += STEP) {
        copy_chunk(tile + to + i * (WIDTH * 2), from + i * (size_t)stride, row + i < rows ? count : 0);
      }
      (K_ALONG_ROWS ? column : row) += TILE_K;
      from += TILE_K * (K_ALONG_ROWS ? 1 : (size_t)stride);
    }
  };

  // The byte offset in the tile at which a lane reads its row of the fragment at (mn, 0). The 8x8
  // parts of a fragment of A follow each other along mn first, those of B along k first, as the
  // registers of mma do.
  DEVICE u32 lane_offset(u32 mn) {
    const u32 first = threadIdx.x / 8 % 2 * 8, second = threadIdx.x / 16 % 2 * 8, row = threadIdx.x % 8;
    const u32 down = IS_A ? first : second, deep = IS_A ? second : first;
    return K_ALONG_ROWS ? offset(mn + down + row, deep / 8) : offset(deep + row, (mn + down) / 8);
  }

  // The 16 x 16 elements at (mn + 16i, k); `lane` is the tile's address plus lane_offset(mn). For A
  // one fragment, for B two neighbours. The swizzle repeats every 16 rows, so a step down is an
  // addition; a step along the row is an XOR, because mn and k are multiples of the warp's part and
  // of 16: no bit of 16 * i or of k is set in the (mn, 0) it is added to.
  DEVICE void fragment(u32 (&f)[4], u32 lane, u32 i, u32 k) {
    if constexpr (K_ALONG_ROWS) {
      ldmatrix_x4(f, (lane ^ 2 * k) + 16 * i * (WIDTH * 2));
    } else {
      ldmatrix_x4_transposed(f, (lane ^ 2 * 16 * i) + k * (WIDTH * 2));
    }
  }
};

using TileA = Tile<true, !TRANSPOSE_A, TILE_M>;
using TileB = Tile<false, TRANSPOSE_B, TILE_N>;
// A slot of the ring: a tile of A, then one of B.
constexpr u32 SLOT = TileA::BYTES + TileB::BYTES;

// What a warp multiplies at a time: (WARP_M, 16) of A and (16, WARP_N) of B.
struct Fragments {
  u32 a[WARP_M / 16][4], b[WARP_N / 16][4];

  __device__ __forceinline__ void read(u32 lane_a, u32 lane_b, u32 k) {
#pragma unroll
    for (u32 i = 0; i < WARP_M / 16; i++) TileA::fragment(a[i], lane_a, i, k);
#pragma unroll
    for (u32 j = 0; j < WARP_N / 16; j++) TileB::fragment(b[j], lane_b, j, k);
  }
};

// A warp's part of C: sum[i][j] is mma's fragment at (16i, 8j).
typedef float Sums[WARP_M / 16][WARP_N / 8][4];

DEVICE void multiply(Sums& sum, const Fragments& f) {
#pragma unroll
  for (u32 i = 0; i < WARP_M / 16; i++) {
#pragma unroll
    for (u32 j = 0; j < WARP_N / 8; j++) mma_16x8x16(sum[i][j], f.a[i], f.b[j / 2][j % 2 * 2], f.b[j / 2][j % 2 * 2 + 1]);
  }
}

// First row and column of the block's tile. For concurrent blocks to share tiles of A and B in L2,
// a group is GROUP tile rows by all tile columns, walked down its columns.
DEVICE void tile_of_block(u32 M, u32 N, u32& m, u32& n) {
  const u32 down = (M + TILE_M - 1) / TILE_M, across = (N + TILE_N - 1) / TILE_N;
  const u32 group = blockIdx.x / (GROUP * across), place = blockIdx.x % (GROUP * across);
  const u32 left = down - group * GROUP, height = left < GROUP ? left : GROUP;
  m = (group * GROUP + place % height) * TILE_M;
  n = place / height * TILE_N;
}

// x[0..count] = from[0..count], and 0 for the rest; one vector where count is VECTOR.
DEVICE void load_some(const C_TYPE* from, float (&x)[VECTOR], u32 count) {
  if (count == VECTOR) {
    load<VECTOR>(from, x);
  } else {
#pragma unroll
    for (u32 e = 0; e < VECTOR; e++) x[e] = e < count ? to_float(from[e]) : 0.0f;
  }
}

// to[0..count] = x[0..count], as load_some.
DEVICE void store_some(C_TYPE* to, const float (&x)[VECTOR], u32 count) {
  if (count == VECTOR) {
    store<VECTOR>(to, x);
  } else {
#pragma unroll
    for (u32 e = 0; e < VECTOR; e++) {
      if (e < count) to[e] = from_float<C_TYPE>(x[e]);
    }
  }
}

// A warp converts its part of C from fragments to vectors 16 rows at a time, through rows of PITCH
// floats. A column's place skips 4 after each 32, so with WARP_N 64 neither the fragments' pairs nor
// the vectors have bank conflicts; with WARP_N 32 two words meet in a bank (tests/kernels/banks.rs).
constexpr u32 PITCH = WARP_N + 8;
DEVICE u32 place(u32 column) { return column + column / 32 * 4; }
// 16 rows are PASSES passes of a vector per lane; the addends of BATCH passes are loaded at once.
constexpr u32 PASSES = 16 * WARP_N / VECTOR / 32;
constexpr u32 BATCH = PASSES < 4 ? PASSES : 4;
static_assert(16 * WARP_N % (32 * VECTOR) == 0 && PASSES % BATCH == 0, "whole passes");

// rows (16, PITCH) = rows 16i.. of the part.
DEVICE void spread(const Sums& sum, u32 i, float* rows) {
  const u32 row = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
#pragma unroll
  for (u32 j = 0; j < WARP_N / 8; j++) {
#pragma unroll
    for (u32 h = 0; h < 2; h++) {
      float2* const pair = reinterpret_cast<float2*>(rows + (row + 8 * h) * PITCH + place(8 * j + column));
      *pair = float2{sum[i][j][2 * h], sum[i][j][2 * h + 1]};
    }
  }
}

// Stores a warp's part of C, whose first element is (row, column), with `add` as EPILOGUE says. A
// row is written in whole sectors.
DEVICE void store_part(const Sums& sum, float* rows, C_TYPE* c, const C_TYPE* add, u32 row, u32 column, u32 M, u32 N,
                       u32 stride_c, u32 stride_add) {
#pragma unroll
  for (u32 i = 0; i < WARP_M / 16; i++) {
    spread(sum, i, rows);
    __syncwarp();
#pragma unroll 1
    for (u32 first = threadIdx.x % 32; first < 32 * PASSES; first += 32 * BATCH) {
      u32 m[BATCH], n[BATCH], count[BATCH];
      float x[BATCH][VECTOR];
#pragma unroll
      for (u32 p = 0; p < BATCH; p++) {
        const u32 element = (first + 32 * p) * VECTOR;
        m[p] = element / WARP_N, n[p] = element % WARP_N;
        const u32 left = row + 16 * i + m[p] < M && column + n[p] < N ? N - column - n[p] : 0;
        count[p] = left < VECTOR ? left : VECTOR;
        if constexpr (EPILOGUE != 0) {
          load_some(add + (size_t)(row + 16 * i + m[p]) * stride_add + column + n[p], x[p], count[p]);
        }
      }
#pragma unroll
      for (u32 p = 0; p < BATCH; p++) {
        float y[VECTOR];
        load<VECTOR>(rows + m[p] * PITCH + place(n[p]), y);
#pragma unroll
        for (u32 e = 0; e < VECTOR; e++) y[e] = EPILOGUE == 0 ? y[e] : x[p][e] + y[e];
        store_some(c + (size_t)(row + 16 * i + m[p]) * stride_c + column + n[p], y, count[p]);
      }
    }
    __syncwarp();
  }
}

#if defined(KERNEL_gemm)

// EPILOGUE 0: c = product; 1: c += product; 2: c = residual (M, N) + product. Strides count
// elements.
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

  TileA::Source source_a(a, m0, stride_a);
  TileB::Source source_b(b, n0, stride_b);
  // Starts to fill a slot for a step; after the last step it commits an empty group, which keeps
  // the count of groups.
  auto fill = [&](u32 slot, u32 step) {
    if (step < steps) {
      source_a.copy(ring + slot * SLOT, M, K, stride_a);
      source_b.copy(ring + slot * SLOT + TileA::BYTES, N, K, stride_b);
    }
    cp_async_commit();
  };
#pragma unroll
  for (u32 s = 0; s < STAGES - 1; s++) fill(s, s);

  const u32 lane_a = shared_address(ring) + TileA::lane_offset(warp_m);
  const u32 lane_b = shared_address(ring) + TileA::BYTES + TileB::lane_offset(warp_n);
  Sums sum = {};
  Fragments fragments[2];
  // The oldest group has arrived for all threads.
  cp_async_wait<STAGES - 2>();
  __syncthreads();
  fragments[0].read(lane_a, lane_b, 0);
  u32 slot = 0;
  for (u32 step = 0; step < steps; step++) {
    const u32 next = slot + 1 == STAGES ? 0 : slot + 1;
#pragma unroll
    for (u32 k = 0; k < TILE_K; k += 16) {
      Fragments& ahead = fragments[k / 16 % 2 ^ 1];
      if (k + 16 < TILE_K) {
        ahead.read(lane_a + slot * SLOT, lane_b + slot * SLOT, k + 16);
      } else if (step + 1 < steps) {
        // The next slot has arrived, and the fragments of this one have been read, for all threads.
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        ahead.read(lane_a + next * SLOT, lane_b + next * SLOT, 0);
      }
      // The slot before this one is free since the barrier of the step before.
      if (k == 0) fill(slot == 0 ? STAGES - 1 : slot - 1, step + STAGES - 1);
      multiply(sum, fragments[k / 16 % 2]);
    }
    slot = next;
  }

  // No slot is read or filled after this.
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

#else
#error "gemm.cu: define KERNEL_<name> for one kernel of this file"
#endif
