// Code shared by the kernels: bf16, vectors of up to 16 bytes, reductions over a warp and a block.
// Sums are f32 in a fixed order.
//
// A compilation builds one kernel. The launch selects it by the macro KERNEL_<name>
// (Launch::compiler_options), and a file without a kernel of that name stops at an #error. So each
// kernel needs only its own defines.
#pragma once
#include "ptx.cuh"

// e^x = 2^(x LOG2E)
constexpr float LOG2E = 1.4426950408889634f;

struct bf16 {
  u16 bits;
};

DEVICE float to_float(float x) { return x; }
// Every bf16 is the upper half of an f32.
DEVICE float to_float(bf16 x) { return __uint_as_float((u32)x.bits << 16); }

template <class T> DEVICE T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return bf16{bf16_bits(x)}; }

// The two bf16 of a register.
DEVICE float low_float(u32 pair) { return __uint_as_float(pair << 16); }
DEVICE float high_float(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }

// x[0..N] = p[0..N]; with N = 8 in 16-byte accesses, so p must be on a 16-byte boundary; with N = 1
// anywhere.
template <int N> DEVICE void load(const float* p, float (&x)[N]) {
  static_assert(N == 1 || N == 4 || N == 8, "one element, or whole 16-byte vectors");
  if constexpr (N == 1) {
    x[0] = p[0];
  } else {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const float4 v = *reinterpret_cast<const float4*>(p + i);
      x[i] = v.x, x[i + 1] = v.y, x[i + 2] = v.z, x[i + 3] = v.w;
    }
  }
}

template <int N> DEVICE void load(const bf16* p, float (&x)[N]) {
  static_assert(N == 1 || N == 8, "one element, or a 16-byte vector");
  if constexpr (N == 1) {
    x[0] = to_float(p[0]);
  } else {
    const uint4 v = *reinterpret_cast<const uint4*>(p);
    const u32 pairs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) x[2 * i] = low_float(pairs[i]), x[2 * i + 1] = high_float(pairs[i]);
  }
}

// p[0..N] = x[0..N], as `load`.
template <int N> DEVICE void store(float* p, const float (&x)[N]) {
  static_assert(N == 1 || N == 4 || N == 8, "one element, or whole 16-byte vectors");
  if constexpr (N == 1) {
    p[0] = x[0];
  } else {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      *reinterpret_cast<float4*>(p + i) = make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]);
    }
  }
}

template <int N> DEVICE void store(bf16* p, const float (&x)[N]) {
  static_assert(N == 1 || N == 8, "one element, or a 16-byte vector");
  if constexpr (N == 1) {
    p[0] = from_float<bf16>(x[0]);
  } else {
    *reinterpret_cast<uint4*>(p) =
        make_uint4(bf16_pair(x[0], x[1]), bf16_pair(x[2], x[3]), bf16_pair(x[4], x[5]), bf16_pair(x[6], x[7]));
  }
}

// x = the first `left` of p[0..8], and 0 for the rest. With WIDTH 8 rows are whole vectors, so all
// 8 exist; with WIDTH 1 they are read one by one.
template <int WIDTH, class T> DEVICE void load_8(const T* p, u32 left, float (&x)[8]) {
  if constexpr (WIDTH == 8) {
    load(p, x);
  } else {
#pragma unroll
    for (u32 i = 0; i < 8; i++) x[i] = i < left ? to_float(p[i]) : 0.0f;
  }
}

// The first `left` of p[0..8] = x, as load_8.
template <int WIDTH, class T> DEVICE void store_8(T* p, u32 left, const float (&x)[8]) {
  if constexpr (WIDTH == 8) {
    store(p, x);
  } else {
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
      if (i < left) p[i] = from_float<T>(x[i]);
    }
  }
}

// The sum over the warp, in every lane: a butterfly, so each lane adds in the same order.
template <class T> DEVICE T warp_sum(T x) {
#pragma unroll
  for (int o = 16; o > 0; o /= 2) x += __shfl_xor_sync(0xffffffffu, x, o);
  return x;
}

DEVICE float warp_max(float x) {
#pragma unroll
  for (int o = 16; o > 0; o /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, x, o);
    // A NaN wins, so that it is not hidden.
    x = other > x || other != other ? other : x;
  }
  return x;
}

// The sum over a block of THREADS, in every thread: warps, then their sums in order. `parts` is
// shared memory of THREADS / 32 elements, free again after the call.
template <int THREADS, class T> DEVICE T block_sum(T x, T* parts) {
  static_assert(THREADS % 32 == 0, "whole warps");
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  T sum = parts[0];
#pragma unroll
  for (int i = 1; i < THREADS / 32; i++) sum += parts[i];
  __syncthreads();
  return sum;
}

// The maximum over a block, as block_sum.
template <int THREADS> DEVICE float block_max(float x, float* parts) {
  static_assert(THREADS % 32 == 0, "whole warps");
  x = warp_max(x);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  float top = parts[0];
#pragma unroll
  for (int i = 1; i < THREADS / 32; i++) top = parts[i] > top || parts[i] != parts[i] ? parts[i] : top;
  __syncthreads();
  return top;
}
