// out (64) = 1, unless `how` selects a way in which some threads never end. Block 64.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(64) endless(u32* out, u32 how) {
  const u32 t = threadIdx.x;
  volatile u32 x = t;
  while (t == 40 && how == 1) x = x + 1;
  while (t == 40 && how == 2) x = x + ((volatile u32*)out)[t];
  while (t < 32 && how == 3) x = __shfl_xor_sync(0xffffffffu, x, 1);
  __syncthreads();
  out[t] = 1;
}
