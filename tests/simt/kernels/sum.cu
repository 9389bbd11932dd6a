// The sum of x (n) by each block, of its own stride-GRID part: out (blocks). Block 256, shared memory 1 KiB.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) sum(const float* x, float* out, u32 n) {
  __shared__ float parts[256];
  const u32 t = threadIdx.x;
  float own = 0;
  for (u32 i = blockIdx.x * 256 + t; i < n; i += 256 * gridDim.x) own += x[i];
  parts[t] = own;
  __syncthreads();  // parts are complete
  for (u32 half = 128; half >= 32; half /= 2) {
    if (t < half) parts[t] += parts[t + half];
    __syncthreads();  // this half is complete
  }
  if (t < 32) {
    const float total = warp_sum(parts[t]);
    if (t == 0) out[blockIdx.x] = total;
  }
}
