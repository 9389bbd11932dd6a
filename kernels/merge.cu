// Weighted sums of checkpoints in device memory: out = sum_i weights[i] pool[rows[i]], the terms in
// order.
//
// Same bits on every device: each product and each sum is rounded to f64 separately, from the first
// term to the last, and the total once to f32, as on the CPU (src/engine/ops/merge.rs). The sum
// starts as the first product, not as 0 plus it, so a single checkpoint of weight 1 keeps its
// negative zeros. Elements are independent of one another, so the bits do not depend on the launch.
//
// Bound by memory: sums stay in registers, whatever the number of terms, and loads of AHEAD terms
// are in flight at once. With two terms in bf16 and three blocks of 256 per multiprocessor that is
// 24 KB; an H100 needs 18 KB in flight (3.35 TB/s times 0.7 us, divided among 132). A fourth block
// would spill registers (NVRTC 13.2).
#include "common.cuh"

static_assert(BLOCK % 32 == 0, "whole warps");
static_assert(VECTOR == 1 || VECTOR == 8, "elements of an access");
static_assert(AHEAD >= 1 && AHEAD <= 8, "terms whose elements a thread's registers hold");

// Elements i to i + N of the sum, rounded to f32, to nearest, ties to even.
template <int N> DEVICE void merged(const POOL_TYPE* pool, const u32* rows, const double* weights, u32 TERMS,
                                    u32 stride_pool, size_t i, float (&out)[N]) {
  double sum[N] = {};
  for (u32 first = 0; first < TERMS; first += AHEAD) {
    float x[AHEAD][N] = {};
    double weight[AHEAD] = {};
#pragma unroll
    for (u32 j = 0; j < AHEAD; j++) {
      if (first + j < TERMS) {
        load(pool + (size_t)rows[first + j] * stride_pool + i, x[j]);
        weight[j] = weights[first + j];
      }
    }
#pragma unroll
    for (u32 j = 0; j < AHEAD; j++) {
      if (first + j < TERMS) {
#pragma unroll
        for (int e = 0; e < N; e++) {
          const double product = __dmul_rn(weight[j], x[j][e]);
          sum[e] = first + j == 0 ? product : __dadd_rn(sum[e], product);
        }
      }
    }
  }
#pragma unroll
  for (int e = 0; e < N; e++) out[e] = __double2float_rn(sum[e]);
}

#if defined(KERNEL_merge)

// `copy` is out in the device's compute type, rounded again.
// Grid: ceil(P / (8 BLOCK)) blocks of BLOCK; a thread computes 8 neighbours. No shared memory.
// Moves each term's row once (2P or 4P bytes), 4P bytes of out and those of the copy; 2 TERMS P
// flops (f64). VECTOR 8 needs every row, out and copy on 16-byte boundaries; the end of a row may
// be an incomplete vector.
extern "C" __global__ void __launch_bounds__(BLOCK)
    merge(const POOL_TYPE* pool /* (slots, P) */, const u32* rows /* (TERMS) */, const double* weights /* (TERMS) */,
          float* out /* (P) */,
#if HAS_COPY
          COPY_TYPE* copy /* (P) */,
#endif
          u32 TERMS, u32 P, u32 stride_pool) {
  const size_t start = ((size_t)blockIdx.x * BLOCK + threadIdx.x) * 8;
  // A thread at the end, or in a launch without vectors, processes elements one by one.
  if (VECTOR == 8 && start + 8 <= P) {
    float x[8];
    merged(pool, rows, weights, TERMS, stride_pool, start, x);
    store(out + start, x);
#if HAS_COPY
    store(copy + start, x);
#endif
    return;
  }
  for (size_t i = start; i < P && i < start + 8; i++) {
    float x[1];
    merged(pool, rows, weights, TERMS, stride_pool, i, x);
    store(out + i, x);
#if HAS_COPY
    store(copy + i, x);
#endif
  }
}

#else
#error "merge.cu: define KERNEL_<name> for one kernel of this file"
#endif
