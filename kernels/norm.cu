// RMSNorm over each row (Zhang and Sennrich 2019, arXiv 1910.07467), its gradient, and the residual
// it is added to.
//
// A row of x (R, C) belongs to ROW_THREADS neighbouring threads: a warp for narrow rows, the block
// for wide ones. Thread t of a row owns the columns [t VECTOR, t VECTOR + VECTOR) and the same
// columns every ROW_THREADS VECTOR further. The first KEPT of these vectors stay in registers
// between the two passes over the row; any others are read again (L2).
// Same bits: every sum runs over a thread's columns in order, then over threads in the order of
// warp_sum or block_sum.
#include "common.cuh"

static_assert(BLOCK % 32 == 0, "whole warps");

#if defined(KERNEL_rms_norm_forward) || defined(KERNEL_rms_norm_backward)

static_assert(VECTOR == 1 || VECTOR == 8, "elements of an access");
static_assert(ROW_THREADS == 32 || ROW_THREADS == BLOCK, "a row belongs to a warp or to a block");

constexpr u32 BLOCK_ROWS = BLOCK / ROW_THREADS;
constexpr u32 STEP = ROW_THREADS * VECTOR;

// The sum over a row's threads, in each of them.
DEVICE float row_sum(float x, float* parts /* (BLOCK / 32) shared */) {
  if constexpr (ROW_THREADS == 32) {
    return warp_sum(x);
  } else {
    return block_sum<BLOCK>(x, parts);
  }
}

// Loads the KEPT vectors of this thread, zeros beyond the end of the row; all loads are in flight
// at once.
DEVICE void load_kept(const TYPE* row, u32 first, u32 C, float (&x)[KEPT][VECTOR]) {
#pragma unroll
  for (u32 k = 0; k < KEPT; k++) {
    const u32 c = first + k * STEP;
    if (c < C) {
      load(row + c, x[k]);
    } else {
#pragma unroll
      for (int i = 0; i < VECTOR; i++) x[k][i] = 0;
    }
  }
}

#endif

#if defined(KERNEL_rms_norm_forward)

DEVICE float squares(const float (&x)[VECTOR]) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < VECTOR; i++) sum += x[i] * x[i];
  return sum;
}

// out = [residual +] x rstd weight, rstd = 1 / sqrt(mean(x^2) + epsilon).
// Grid: ceil(R / BLOCK_ROWS) blocks of BLOCK, three to a multiprocessor (80 registers). Shared: a
// float for each warp.
// Moves 2RC elements of TYPE (3RC with a residual), 4RC flops.
extern "C" __global__ void __launch_bounds__(BLOCK, 3)
    rms_norm_forward(const TYPE* x /* (R, C) */, const float* weight /* (C) */, TYPE* out /* (R, C) */,
                     float* rstd /* (R) */,
#if RESIDUAL
                     const TYPE* residual /* (R, C) */,
#endif
                     u32 R, u32 C, u32 stride_x, u32 stride_out,
#if RESIDUAL
                     u32 stride_residual,
#endif
                     float epsilon) {
  __shared__ float parts[BLOCK / 32];
  const size_t row = (size_t)blockIdx.x * BLOCK_ROWS + threadIdx.x / ROW_THREADS;
  if (row >= R) return;
  const u32 first = threadIdx.x % ROW_THREADS * VECTOR;
  x += row * stride_x;
  out += row * stride_out;
#if RESIDUAL
  residual += row * stride_residual;
#endif

  float kept[KEPT][VECTOR], sum = 0;
  load_kept(x, first, C, kept);
#pragma unroll
  for (u32 k = 0; k < KEPT; k++) sum += squares(kept[k]);
  for (u32 c = first + KEPT * STEP; c < C; c += STEP) {
    float v[VECTOR];
    load(x + c, v);
    sum += squares(v);
  }
  const float scale = 1.0f / sqrtf(row_sum(sum, parts) / C + epsilon);
  if (first == 0) rstd[row] = scale;

  const auto finish = [&](u32 c, float (&y)[VECTOR]) {
    float w[VECTOR];
    load(weight + c, w);
#pragma unroll
    for (int i = 0; i < VECTOR; i++) y[i] = y[i] * scale * w[i];
#if RESIDUAL
    float r[VECTOR];
    load(residual + c, r);
#pragma unroll
    for (int i = 0; i < VECTOR; i++) y[i] += r[i];
#endif
    store(out + c, y);
  };
#pragma unroll
  for (u32 k = 0; k < KEPT; k++) {
    if (first + k * STEP < C) finish(first + k * STEP, kept[k]);
  }
  for (u32 c = first + KEPT * STEP; c < C; c += STEP) {
    float v[VECTOR];
    load(x + c, v);
    finish(c, v);
  }
}

#elif defined(KERNEL_rms_norm_backward)

// dx [+]= rstd (g - x rstd^2 mean(g x)) with g = dout weight; row b of `partial` is the sum of
// dout x rstd over the rows of block b, which are BLOCK_ROWS rows from b BLOCK_ROWS on, repeated
// every gridDim.x BLOCK_ROWS rows.
// Grid: as many blocks of BLOCK as `partial` has rows. Shared (dynamic): sums of dweight,
// BLOCK_ROWS C floats; only the owning thread adds to a column, in the order of its rows.
// Moves 3RC elements of TYPE (4RC with ACCUMULATE), 9RC flops.
extern "C" __global__ void __launch_bounds__(BLOCK)
    rms_norm_backward(const TYPE* x /* (R, C) */, const float* weight /* (C) */, const float* rstd /* (R) */,
                      const TYPE* dout /* (R, C) */, TYPE* dx /* (R, C) */, float* partial /* (gridDim.x, C) */, u32 R,
                      u32 C, u32 stride_x, u32 stride_dout, u32 stride_dx) {
  DYNAMIC_SHARED(shared);
  __shared__ float parts[BLOCK / 32];
  const u32 group = threadIdx.x / ROW_THREADS, first = threadIdx.x % ROW_THREADS * VECTOR;
  float* const block_sums = reinterpret_cast<float*>(shared);  // (BLOCK_ROWS, C)
  float* const sums = block_sums + group * C;
  const float zeros[VECTOR] = {};
  for (u32 c = first; c < C; c += STEP) store(sums + c, zeros);

  for (size_t row = (size_t)blockIdx.x * BLOCK_ROWS + group; row < R; row += (size_t)gridDim.x * BLOCK_ROWS) {
    const TYPE* const x_row = x + row * stride_x;
    const TYPE* const dout_row = dout + row * stride_dout;
    TYPE* const dx_row = dx + row * stride_dx;
    const float scale = rstd[row];

    // One vector's part of sum(g x).
    const auto product = [&](u32 c, const float (&xs)[VECTOR], const float (&ds)[VECTOR]) {
      float w[VECTOR], sum = 0;
      load(weight + c, w);
#pragma unroll
      for (int i = 0; i < VECTOR; i++) sum += ds[i] * w[i] * xs[i];
      return sum;
    };
    float kept_x[KEPT][VECTOR], kept_dout[KEPT][VECTOR], xs[VECTOR], ds[VECTOR], sum = 0;
    load_kept(x_row, first, C, kept_x);
    load_kept(dout_row, first, C, kept_dout);
#pragma unroll
    for (u32 k = 0; k < KEPT; k++) {
      if (first + k * STEP < C) sum += product(first + k * STEP, kept_x[k], kept_dout[k]);
    }
    for (u32 c = first + KEPT * STEP; c < C; c += STEP) {
      load(x_row + c, xs), load(dout_row + c, ds);
      sum += product(c, xs, ds);
    }
    const float shrink = row_sum(sum, parts) / C * scale * scale;

    const auto finish = [&](u32 c, const float (&xs)[VECTOR], const float (&ds)[VECTOR]) {
      float w[VECTOR], gradient[VECTOR], dweight[VECTOR];
      load(weight + c, w), load(sums + c, dweight);
#pragma unroll
      for (int i = 0; i < VECTOR; i++) {
        gradient[i] = (ds[i] * w[i] - xs[i] * shrink) * scale;
        dweight[i] += xs[i] * scale * ds[i];
      }
      if (ACCUMULATE) {
        float before[VECTOR];
        load(dx_row + c, before);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) gradient[i] += before[i];
      }
      store(dx_row + c, gradient), store(sums + c, dweight);
    };
#pragma unroll
    for (u32 k = 0; k < KEPT; k++) {
      if (first + k * STEP < C) finish(first + k * STEP, kept_x[k], kept_dout[k]);
    }
    for (u32 c = first + KEPT * STEP; c < C; c += STEP) {
      load(x_row + c, xs), load(dout_row + c, ds);
      finish(c, xs, ds);
    }
  }

  __syncthreads();
  for (u32 c = threadIdx.x; c < C; c += BLOCK) {
    float total = 0;
    for (u32 g = 0; g < BLOCK_ROWS; g++) total += block_sums[g * C + c];
    partial[(size_t)blockIdx.x * C + c] = total;
  }
}

#elif defined(KERNEL_rms_norm_backward_weight)

// dweight += the sum of the rows of `partial`, warp w the rows w, w + WARPS, ... in order, then
// warps in order.
// Grid: ceil(C / 32) blocks of BLOCK; a lane owns a column. Shared: a float for each thread.
// Moves 4 BLOCKS C bytes, from L2.
extern "C" __global__ void __launch_bounds__(BLOCK)
    rms_norm_backward_weight(const float* partial /* (BLOCKS, C) */, float* dweight /* (C) */, u32 BLOCKS, u32 C) {
  constexpr u32 WARPS = BLOCK / 32;
  __shared__ float sums[WARPS][32];
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, c = blockIdx.x * 32 + lane;
  float sum = 0;
  if (c < C) {
#pragma unroll 8
    for (u32 b = warp; b < BLOCKS; b += WARPS) sum += partial[(size_t)b * C + c];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || c >= C) return;
  for (u32 w = 1; w < WARPS; w++) sum += sums[w][lane];
  dweight[c] += sum;
}

#else
#error "norm.cu: define KERNEL_<name> for one kernel of this file"
#endif
