// out (16, 8) f32 = a (16, 16) bf16 x b (16, 8) bf16 by one warp: a through ldmatrix, b through its transposed form.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(32) tensor(const bf16* a, const bf16* b, float* out) {
  __shared__ __align__(16) bf16 left[16 * 16], right[16 * 8];
  const u32 lane = threadIdx.x;
  for (u32 i = lane; i < 256; i += 32) left[i] = a[i];
  for (u32 i = lane; i < 128; i += 32) right[i] = b[i];
  __syncwarp();  // both are complete
  u32 x[4], y[4];
  ldmatrix_x4(x, shared_address(left + lane % 16 * 16 + lane / 16 * 8));
  ldmatrix_x4_transposed(y, shared_address(right + lane % 16 * 8));
  float d[4] = {0, 0, 0, 0};
  mma_16x8x16(d, x, y[0], y[1]);
  for (u32 i = 0; i < 4; i++) out[(lane / 4 + 8 * (i / 2)) * 8 + 2 * (lane % 4) + i % 2] = d[i];
}
