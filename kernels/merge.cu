// Weighted sums of checkpoints (n elements): f32 values in, an f64 sum, and values rounded once out.
//
// Products and sums are rounded apart, in the order of the sources, as on the CPU (src/ops/merge.rs): the bits are the
// same on every device. Elements are independent of one another.
// Grid: ceil(n / (BLOCK ELEMENTS)) blocks of BLOCK; thread t of a block has its elements t, t + BLOCK, ..., so
// every access of a warp is to neighbours whatever their size. No shared memory.
#include "common.cuh"

static_assert(BLOCK % 32 == 0, "whole warps");

DEVICE size_t first_element() { return (size_t)blockIdx.x * BLOCK * ELEMENTS + threadIdx.x; }

#ifdef COUNT

static_assert(COUNT >= 1 && COUNT <= 8, "sources of one launch");

// F(0) F(1) ... F(COUNT - 1): parameters of a kernel cannot be an array.
#define EACH_1(F) F(0)
#define EACH_2(F) EACH_1(F) F(1)
#define EACH_3(F) EACH_2(F) F(2)
#define EACH_4(F) EACH_3(F) F(3)
#define EACH_5(F) EACH_4(F) F(4)
#define EACH_6(F) EACH_5(F) F(5)
#define EACH_7(F) EACH_6(F) F(6)
#define EACH_8(F) EACH_7(F) F(7)
#define EACH_OF(count, F) EACH_##count(F)
#define EACH(count, F) EACH_OF(count, F)
#define SOURCE_PARAMETER(k) const float *source##k,
#define WEIGHT_PARAMETER(k) , double weight##k
#define SOURCE(k) source##k,
#define WEIGHT(k) weight##k,

// sum [+]= weight0 source0 + weight1 source1 + ..., from the left; with FIRST the sum begins as weight0 source0, not as
// 0 plus that, so one checkpoint of weight 1 keeps its negative zeros.
// Parameters: the sum (n), COUNT sources (n), n, their COUNT weights.
// Moves 16n bytes of the sum (8n with FIRST) and each source once, 2 COUNT n flops.
extern "C" __global__ void __launch_bounds__(BLOCK)
    merge_add(double* sum /* (n) */, EACH(COUNT, SOURCE_PARAMETER) u32 n EACH(COUNT, WEIGHT_PARAMETER)) {
  const float* const sources[COUNT] = {EACH(COUNT, SOURCE)};
  const double weights[COUNT] = {EACH(COUNT, WEIGHT)};
  const size_t first = first_element();
  float x[COUNT][ELEMENTS];
  double total[ELEMENTS];
#pragma unroll
  for (u32 e = 0; e < ELEMENTS; e++) {
    const size_t i = first + e * BLOCK;
    total[e] = !FIRST && i < n ? sum[i] : 0;
#pragma unroll
    for (u32 k = 0; k < COUNT; k++) x[k][e] = i < n ? sources[k][i] : 0;
  }
#pragma unroll
  for (u32 e = 0; e < ELEMENTS; e++) {
#pragma unroll
    for (u32 k = 0; k < COUNT; k++) {
      const double product = __dmul_rn(weights[k], x[k][e]);
      total[e] = FIRST && k == 0 ? product : __dadd_rn(total[e], product);
    }
    if (first + e * BLOCK < n) sum[first + e * BLOCK] = total[e];
  }
}

#endif

#ifdef HAS_COPY

// out = the sum rounded to f32, to nearest, ties to even; `copy` is out in the device's compute type, rounded again.
// Moves 12n bytes and those of the copy.
extern "C" __global__ void __launch_bounds__(BLOCK) merge_round(const double* sum /* (n) */, float* out /* (n) */,
#if HAS_COPY
                                                                  COPY_TYPE* copy /* (n) */,
#endif
                                                                  u32 n) {
  double x[ELEMENTS];
#pragma unroll
  for (u32 e = 0; e < ELEMENTS; e++) {
    const size_t i = first_element() + e * BLOCK;
    x[e] = i < n ? sum[i] : 0;
  }
#pragma unroll
  for (u32 e = 0; e < ELEMENTS; e++) {
    const size_t i = first_element() + e * BLOCK;
    if (i >= n) return;
    const float rounded = __double2float_rn(x[e]);
    out[i] = rounded;
#if HAS_COPY
    copy[i] = from_float<COPY_TYPE>(rounded);
#endif
  }
}

#endif
