// A kernel for each wrapper of kernels/ptx.cuh, and for the built-in functions that kernels use.
// tests/kernels/conformance computes the outputs again. Element i belongs to thread i unless a
// kernel states otherwise; there are as many threads as elements.
#include "common.cuh"

#if defined(KERNEL_addresses)

// out (64) = the shared address of byte at (64) of dynamic shared memory, relative to the first
// byte; out[64] = the first byte's address modulo 1024. Block 64, dynamic shared memory 48 KiB.
extern "C" __global__ void __launch_bounds__(64) addresses(const u32* at, u32* out) {
  DYNAMIC_SHARED(memory);
  const u32 t = threadIdx.x;
  out[t] = shared_address(memory + at[t]) - shared_address(memory);
  if (t == 0) out[64] = shared_address(memory) % 1024;
}

#elif defined(KERNEL_powers_of_two)

// out (n) = 2^x (n). Block 64.
extern "C" __global__ void __launch_bounds__(64) powers_of_two(const float* x, float* out) {
  const u32 i = blockIdx.x * 64 + threadIdx.x;
  out[i] = exp2_approx(x[i]);
}

#elif defined(KERNEL_roundings)

// out (2, n) = bf16_bits of x (n), then bf16_pair of x[i] and x[n-1-i]. Block 64.
extern "C" __global__ void __launch_bounds__(64) roundings(const float* x, u32* out, u32 n) {
  const u32 i = blockIdx.x * 64 + threadIdx.x;
  out[i] = bf16_bits(x[i]);
  out[n + i] = bf16_pair(x[i], x[n - 1 - i]);
}

#elif defined(KERNEL_short_copies)

// out (blocks, 17, 4 words): row r is what r bytes of that row of x (blocks, 17, 4) leave of 16 set
// bytes in shared memory. Block 32, dynamic shared memory 17 x 16 bytes.
extern "C" __global__ void __launch_bounds__(32) short_copies(const u32* x, u32* out) {
  DYNAMIC_SHARED(memory);
  u32* const words = reinterpret_cast<u32*>(memory);
  const u32 t = threadIdx.x, first = blockIdx.x * 17 * 4;
  for (u32 i = t; i < 17 * 4; i += 32) words[i] = 0xa5a5a5a5u;
  __syncthreads();  // all bytes are set
  if (t < 17) cp_async_16(shared_address(memory + 16 * t), x + first + 4 * t, t);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();  // all copies are visible
  for (u32 i = t; i < 17 * 4; i += 32) out[first + i] = words[i];
}

#elif defined(KERNEL_empty_copies)

// out (32, 4 words) = 16 bytes in shared memory after a copy of 0 bytes from an address that is not
// mapped, as gemm's beyond its operand may be. `zero` is 0, unknown to the compiler. Block 32,
// dynamic shared memory 512 bytes.
extern "C" __global__ void __launch_bounds__(32) empty_copies(u32* out, u32 zero) {
  DYNAMIC_SHARED(memory);
  u32* const own = reinterpret_cast<u32*>(memory) + 4 * threadIdx.x;
  for (u32 i = 0; i < 4; i++) own[i] = 0xa5a5a5a5u;
  __syncthreads();  // all bytes are set
  cp_async_16(shared_address(own), reinterpret_cast<const void*>((u64)4096 * (threadIdx.x + 1)), zero);
  cp_async_commit();
  cp_async_wait<0>();
  for (u32 i = 0; i < 4; i++) out[4 * threadIdx.x + i] = own[i];
}

#elif defined(KERNEL_ring)

// out (rounds, 128 words) = x, its words in reverse within each round, through a ring of DEPTH + 2
// slots that DEPTH + 1 groups of copies are ahead of. Each thread copies 16 bytes a round and
// reads those of another. Block 32, dynamic shared memory (DEPTH + 2) x 512 bytes.
extern "C" __global__ void __launch_bounds__(32) ring(const u32* x, u32* out, u32 rounds) {
  DYNAMIC_SHARED(memory);
  constexpr u32 SLOTS = DEPTH + 2;
  const u32 t = threadIdx.x;
  auto fetch = [&](u32 round) {
    const u32 to = shared_address(memory + round % SLOTS * 512 + 16 * t);
    if (round < rounds) cp_async_16(to, x + 128 * round + 4 * t, 16);
    cp_async_commit();  // empty after the last round
  };
  for (u32 round = 0; round <= DEPTH; round++) fetch(round);
  for (u32 round = 0; round < rounds; round++) {
    cp_async_wait<DEPTH>();
    __syncthreads();  // this round's copies are visible
    const u32* const slot = reinterpret_cast<const u32*>(memory + round % SLOTS * 512);
    for (u32 i = 0; i < 4; i++) out[128 * round + 4 * t + i] = slot[127 - (4 * t + i)];
    fetch(round + DEPTH + 1);
  }
  cp_async_wait<0>();
}

#elif defined(KERNEL_matrices)

// out (2, 32 lanes, 4) = the registers of ldmatrix_x4, then of its transposed form. Row r of x
// (32, 4 words) is stored at row at[r] of dynamic shared memory, and lane r gives that address.
// Block 32, dynamic shared memory 512 bytes.
extern "C" __global__ void __launch_bounds__(32) matrices(const u32* x, const u32* at, u32* out) {
  DYNAMIC_SHARED(memory);
  const u32 t = threadIdx.x;
  u32* const row = reinterpret_cast<u32*>(memory) + 4 * at[t];
  for (u32 i = 0; i < 4; i++) row[i] = x[4 * t + i];
  __syncthreads();  // all rows are stored
  u32 plain[4], transposed[4];
  ldmatrix_x4(plain, shared_address(row));
  ldmatrix_x4_transposed(transposed, shared_address(row));
  for (u32 i = 0; i < 4; i++) out[4 * t + i] = plain[i], out[128 + 4 * t + i] = transposed[i];
}

#elif defined(KERNEL_products)

// Product p = block p: out (p, 32 lanes, 4) = the registers of c (p, 32, 4) plus those of
// a (p, 32, 4) times b (p, 32, 2). Block 32.
extern "C" __global__ void __launch_bounds__(32) products(const u32* a, const u32* b, const float* c, float* out) {
  const u32 i = blockIdx.x * 32 + threadIdx.x;
  u32 x[4];
  float d[4];
  for (u32 k = 0; k < 4; k++) x[k] = a[4 * i + k], d[k] = c[4 * i + k];
  mma_16x8x16(d, x, b[2 * i], b[2 * i + 1]);
  for (u32 k = 0; k < 4; k++) out[4 * i + k] = d[k];
}

#elif defined(KERNEL_shuffles)

// bits (7, 32 lanes) = the bits of x (32) from lane ^ 1, 2, 4, 8, 16, then the vote of their lowest
// bits, then its count below this lane; wide (5, 32) = y (32) from the same lanes. Block 32.
extern "C" __global__ void __launch_bounds__(32) shuffles(const float* x, const double* y, u32* bits, double* wide) {
  constexpr u32 ALL = 0xffffffffu;
  const u32 t = threadIdx.x;
  for (u32 k = 0; k < 5; k++) {
    bits[32 * k + t] = __float_as_uint(__shfl_xor_sync(ALL, x[t], 1 << k));
    wide[32 * k + t] = __shfl_xor_sync(ALL, y[t], 1 << k);
  }
  const u32 votes = __ballot_sync(ALL, __float_as_uint(x[t]) & 1);
  bits[160 + t] = votes;
  bits[192 + t] = __popc(votes & ((1u << t) - 1));
}

#elif defined(KERNEL_arithmetic)

// out (9, n) from a, b, c (n), each row one operation, rounded as written. Block 64.
extern "C" __global__ void __launch_bounds__(64)
arithmetic(const float* a, const float* b, const float* c, float* out, u32 n) {
  const u32 i = blockIdx.x * 64 + threadIdx.x;
  const float x = a[i], y = b[i], z = c[i];
  out[i] = x + y;
  out[n + i] = x - y;
  out[2 * n + i] = x * y;
  out[3 * n + i] = x / y;
  out[4 * n + i] = sqrtf(x);
  out[5 * n + i] = __fmaf_rn(x, y, z);
  // Two roundings: compiled with --fmad=false. A product that is also used elsewhere might not be fused
  // anyway.
  out[6 * n + i] = y * z + x;
  out[7 * n + i] = fmaxf(x, y);
  out[8 * n + i] = (float)__float_as_uint(x);
}

#elif defined(KERNEL_wide_arithmetic)

// out (7, n) from a, b, c (n), as arithmetic; narrow (n) = a rounded to f32. Block 64.
extern "C" __global__ void __launch_bounds__(64)
wide_arithmetic(const double* a, const double* b, const double* c, double* out, float* narrow, u32 n) {
  const u32 i = blockIdx.x * 64 + threadIdx.x;
  const double x = a[i], y = b[i], z = c[i];
  out[i] = __dadd_rn(x, y);
  out[n + i] = x - y;
  out[2 * n + i] = __dmul_rn(x, y);
  out[3 * n + i] = x / y;
  out[4 * n + i] = sqrt(x);
  out[5 * n + i] = __fma_rn(x, y, z);
  out[6 * n + i] = y * z + x;
  narrow[i] = __double2float_rn(x);
}

#elif defined(KERNEL_logarithms)

// out (n) = the natural logarithm of x (n). Block 64.
extern "C" __global__ void __launch_bounds__(64) logarithms(const float* x, float* out) {
  const u32 i = blockIdx.x * 64 + threadIdx.x;
  out[i] = logf(x[i]);
}

#elif defined(KERNEL_powers)

// out (n) = base (n) to the power of exponent (n). Block 64.
extern "C" __global__ void __launch_bounds__(64) powers(const double* base, const double* exponent, double* out) {
  const u32 i = blockIdx.x * 64 + threadIdx.x;
  out[i] = pow(base[i], exponent[i]);
}

#else
#error "no kernel is selected"
#endif
