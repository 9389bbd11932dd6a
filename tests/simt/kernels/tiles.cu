// c (n, n) = a (n, n) x b (n, n) by tiles in static shared memory. Grid (n/16, n/16), block 256, n a multiple of 16.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) tiles(const float* a, const float* b, float* c, u32 n) {
  __shared__ float left[16][16], right[16][16];
  const u32 x = threadIdx.x % 16, y = threadIdx.x / 16;
  const u32 row = blockIdx.y * 16 + y, col = blockIdx.x * 16 + x;
  float sum = 0;
  for (u32 start = 0; start < n; start += 16) {
    left[y][x] = a[row * n + start + x];
    right[y][x] = b[(start + y) * n + col];
    __syncthreads();  // the tiles are complete
    for (u32 k = 0; k < 16; k++) sum += left[y][k] * right[k][x];
    __syncthreads();  // all reads of the tiles are done
  }
  c[row * n + col] = sum;
}
