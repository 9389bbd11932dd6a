// out (n) = 2 x reversed within runs of 1024, copied through three stages of dynamic shared memory by cp.async.
// Grid 1, block 256, dynamic shared memory 12 KiB, n a multiple of 1024.
#include "common.cuh"

static constexpr u32 STAGES = 3, RUN = 1024;

extern "C" __global__ void __launch_bounds__(256) pipeline(const float* x, float* out, u32 n) {
  DYNAMIC_SHARED(memory);
  float* stages = reinterpret_cast<float*>(memory);
  const u32 t = threadIdx.x, runs = n / RUN;
  auto fetch = [&](u32 run) {
    if (run < runs) cp_async_16(shared_address(stages + run % STAGES * RUN + 4 * t), x + run * RUN + 4 * t, 16);
    cp_async_commit();
  };
  fetch(0);
  fetch(1);
  for (u32 run = 0; run < runs; run++) {
    cp_async_wait<STAGES - 2>();
    __syncthreads();  // run is complete, and no thread reads the stage that is fetched now
    fetch(run + STAGES - 1);
    for (u32 i = t; i < RUN; i += 256) out[run * RUN + i] = 2 * stages[run % STAGES * RUN + RUN - 1 - i];
  }
  cp_async_wait<0>();
}
