// Rotary position embedding in place, half-rotation form (Su et al. 2021, arXiv 2104.09864; the
// pairing of GPT-NeoX and transformers: element d of a head with element d + D/2, D = HEAD_WIDTH).
// INVERSE rotates back: the gradient.
//
// Grid: ceil(R / (BLOCK / 32)) blocks of BLOCK, a warp for each row; a lane rotates VECTOR
// neighbouring pairs at a time. No shared memory.
// Moves 2 R cols elements of TYPE (the table stays in L2), 3 R cols flops. Pairs are independent of
// one another.
#include "common.cuh"

constexpr u32 PAIRS = HEAD_WIDTH / 2;
static_assert(BLOCK % 32 == 0, "whole warps");
static_assert(HEAD_WIDTH % 2 == 0 && PAIRS % VECTOR == 0, "a vector of pairs lies in one head");

#if defined(KERNEL_rope)

extern "C" __global__ void __launch_bounds__(BLOCK)
    rope(TYPE* x /* (R, cols): heads of D */, const float* table /* (T, D): D/2 cosines, then D/2 sines */, u32 R,
         u32 cols, u32 stride_x, u32 T, u32 stride_table) {
  const u32 row = blockIdx.x * (BLOCK / 32) + threadIdx.x / 32;
  if (row >= R) return;
  x += (size_t)row * stride_x;
  table += (size_t)(row % T) * stride_table;
  for (u32 pair = threadIdx.x % 32 * VECTOR; pair < cols / 2; pair += 32 * VECTOR) {
    const u32 d = pair % PAIRS;
    TYPE* const head = x + pair / PAIRS * HEAD_WIDTH;
    float low[VECTOR], high[VECTOR], cosine[VECTOR], sine[VECTOR], a[VECTOR], b[VECTOR];
    load(head + d, low), load(head + d + PAIRS, high);
    load(table + d, cosine), load(table + d + PAIRS, sine);
#pragma unroll
    for (int i = 0; i < VECTOR; i++) {
      const float s = INVERSE ? -sine[i] : sine[i];
      // Fused: with two products, NVRTC 13.2 uses 34 registers on sm_90a, and only 6 blocks of 256
      // fit instead of 8.
      a[i] = __fmaf_rn(low[i], cosine[i], -(high[i] * s));
      b[i] = __fmaf_rn(high[i], cosine[i], low[i] * s);
    }
    store(head + d, a), store(head + d + PAIRS, b);
  }
}

#else
#error "rope.cu: define KERNEL_<name> for one kernel of this file"
#endif
