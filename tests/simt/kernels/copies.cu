// out (rows, cols) = x (rows, cols), both with a stride. A block copies a row, a thread 4 elements at a time. Block 32.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(32) copies(const float* x, float* out, u32 rows, u32 cols, u32 stride) {
  const size_t row = blockIdx.x;
  for (u32 i = 4 * threadIdx.x; i < cols; i += 128) {
    float four[4];
    load<4>(x + row * stride + i, four);
    store<4>(out + row * stride + i, four);
  }
}
