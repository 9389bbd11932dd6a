// out[b] = [out[b] +] the sum of row b of the losses, in f64.
//
// Grid: B blocks of BLOCK, one a row. Shared: a double for each warp.
// Moves 4BT bytes.
// Same bits: thread t adds columns t, t + BLOCK, ... in order; then threads in the order of
// block_sum.
#include "common.cuh"

#if defined(KERNEL_loss_sum)

extern "C" __global__ void __launch_bounds__(BLOCK)
    loss_sum(const float* losses /* (B, T) */, double* out /* (B) */, u32 B, u32 T, u32 stride) {
  __shared__ double parts[BLOCK / 32];
  if (blockIdx.x >= B) return;
  const float* row = losses + (size_t)blockIdx.x * stride;
  double sum = 0;
  for (u32 t = threadIdx.x; t < T; t += BLOCK) sum += row[t];
  sum = block_sum<BLOCK>(sum, parts);
  if (threadIdx.x == 0) out[blockIdx.x] = ACCUMULATE ? out[blockIdx.x] + sum : sum;
}

#else
#error "loss_sum.cu: define KERNEL_<name> for one kernel of this file"
#endif
