// x[i] = value.
//
// Grid: ceil(n / (BLOCK * 8)) blocks of BLOCK; a thread writes 8 neighbours. No shared memory.
// Moves 4n bytes. VECTOR 8 needs x on a 16-byte boundary.
#include "common.cuh"

static_assert(BLOCK % 32 == 0, "whole warps");
static_assert(VECTOR == 1 || VECTOR == 8, "elements of an access");

#if defined(KERNEL_fill)

extern "C" __global__ void __launch_bounds__(BLOCK) fill(float* x /* (n) */, u32 n, float value) {
  const size_t start = ((size_t)blockIdx.x * BLOCK + threadIdx.x) * 8;
  if (VECTOR == 8 && start + 8 <= n) {
    const float values[8] = {value, value, value, value, value, value, value, value};
    store(x + start, values);
  } else {
    for (size_t i = start; i < n && i < start + 8; i++) x[i] = value;
  }
}

#else
#error "fill.cu: define KERNEL_<name> for one kernel of this file"
#endif
