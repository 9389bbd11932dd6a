// out (64) from votes and shuffles of every kind; out[i] is computed again in tests/kernels/executor.rs. Block 64.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(64) votes(u32* out) {
  const u32 t = threadIdx.x, lane = t % 32;
  const u32 threes = __ballot_sync(0xffffffffu, t % 3 == 0);
  const u32 any = __any_sync(0xffffffffu, t == 5), all = __all_sync(0xffffffffu, t < 64);
  u32 odd = 0;
  if (lane < 16) odd = __ballot_sync(0x0000ffffu, t & 1);
  __syncwarp();  // both halves
  const u32 next = __shfl_down_sync(0xffffffffu, t, 1), before = __shfl_up_sync(0xffffffffu, t, 1);
  const u32 third = __shfl_sync(0xffffffffu, t, 3);
  out[t] = threes + odd + 2 * any + 4 * all + 1000 * next + 100 * before + 10 * third;
}
