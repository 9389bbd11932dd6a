// Inner products of D gradients with K checkpoints of P elements each: out = gradients pool^T, a
// product of two skinny matrices with a very long inner dimension.
//
// The product of two f32 is exact in f64, so a fused multiply-add has the bits of a product and a
// sum.
// Same bits: P is cut into parts of PART elements. Within a part, thread t adds vectors t,
// t + BLOCK, ... in order, then the last elements; then threads in the order of block_sum; the
// second kernel adds the parts in order. So the bits depend on P and on VECTOR (the alignment of
// the rows), not on D, K or the tiles.
//
// A thread keeps the sums of a tile in registers, and converts an element to f64 once for each tile
// that has it. With tiles of 4 x 3, two blocks of 256 fit a multiprocessor (NVRTC 13.2); with tiles
// of 4 x 4, one does.
#include "common.cuh"

#if defined(KERNEL_inner_products_partial)

static_assert(VECTOR == 1 || VECTOR == 8, "elements of an access");

// partial[part, d K + k] = the sum over the part's elements.
// Grid: x: ceil(D / TILE_GRADIENTS) * ceil(K / TILE_POOL) tiles, gradients fastest; y: parts. The
// tiles of one part run at the same time, so the pool's elements come from memory once and then
// from L2. Shared: a double for each warp.
// Moves 4DP bytes of gradients and 2KP or 4KP of the pool; 2DKP flops (f64).
extern "C" __global__ void __launch_bounds__(BLOCK)
    inner_products_partial(const float* gradients /* (D, P) */, const POOL_TYPE* pool /* (K, P) */,
                           double* partial /* (parts, D K) */, u32 D, u32 K, u32 P, u32 stride_gradients,
                           u32 stride_pool, u32 PART) {
  __shared__ double parts[BLOCK / 32];
  const u32 tiles = (D + TILE_GRADIENTS - 1) / TILE_GRADIENTS;
  const u32 first_d = blockIdx.x % tiles * TILE_GRADIENTS, first_k = blockIdx.x / tiles * TILE_POOL;
  const size_t start = (size_t)blockIdx.y * PART;
  const size_t end = start + PART < P ? start + PART : P;
  const size_t whole = start + (end - start) / VECTOR * VECTOR;
  double sum[TILE_GRADIENTS][TILE_POOL] = {};
  for (size_t i = start + (size_t)threadIdx.x * VECTOR; i < whole; i += (size_t)BLOCK * VECTOR) {
    float x[TILE_POOL][VECTOR] = {};
#pragma unroll
    for (u32 k = 0; k < TILE_POOL; k++) {
      if (first_k + k < K) load(pool + (size_t)(first_k + k) * stride_pool + i, x[k]);
    }
#pragma unroll
    for (u32 d = 0; d < TILE_GRADIENTS; d++) {
      float g[VECTOR] = {};
      if (first_d + d < D) load(gradients + (size_t)(first_d + d) * stride_gradients + i, g);
#pragma unroll
      for (int e = 0; e < VECTOR; e++) {
#pragma unroll
        for (u32 k = 0; k < TILE_POOL; k++) sum[d][k] = __fma_rn((double)g[e], (double)x[k][e], sum[d][k]);
      }
    }
  }
  // The last (end - start) % VECTOR elements, one to a thread.
  const size_t last = whole + threadIdx.x;
#pragma unroll
  for (u32 d = 0; d < TILE_GRADIENTS; d++) {
#pragma unroll
    for (u32 k = 0; k < TILE_POOL; k++) {
      if (first_d + d >= D || first_k + k >= K) continue;  // the same for the whole block
      if (last < end) {
        const double g = gradients[(size_t)(first_d + d) * stride_gradients + last];
        const double x = to_float(pool[(size_t)(first_k + k) * stride_pool + last]);
        sum[d][k] = __fma_rn(g, x, sum[d][k]);
      }
      const double total = block_sum<BLOCK>(sum[d][k], parts);
      if (threadIdx.x == 0) partial[(size_t)blockIdx.y * D * K + (size_t)(first_d + d) * K + first_k + k] = total;
    }
  }
}

#elif defined(KERNEL_inner_products)

// out[d, k] = [out[d, k] +] the sum of the parts, in order.
// Grid: ceil(D K / BLOCK) blocks of BLOCK, a thread for each product. No shared memory.
extern "C" __global__ void __launch_bounds__(BLOCK)
    inner_products(const double* partial /* (PARTS, D K) */, double* out /* (D, K) */, u32 PARTS, u32 D, u32 K,
                   u32 stride_out) {
  const u32 i = blockIdx.x * BLOCK + threadIdx.x;
  if (i >= D * K) return;
  double* at = out + (size_t)(i / K) * stride_out + i % K;
  double sum = ACCUMULATE ? *at : 0;
  for (u32 part = 0; part < PARTS; part++) sum += partial[(size_t)part * D * K + i];
  *at = sum;
}

#else
#error "inner_products.cu: define KERNEL_<name> for one kernel of this file"
#endif
