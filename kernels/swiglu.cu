// SwiGLU (Shazeer 2020, arXiv 2002.05202): out = silu(gate) up, from one packed product, and its
// gradient.
//
// Grid: (R, ceil(F / (8 BLOCK))) blocks of BLOCK; rows along x, where a grid may be long. A thread
// computes 8 neighbours. No shared memory. Elements are independent of one another.
#include "common.cuh"

static_assert(BLOCK % 32 == 0, "whole warps");
static_assert(VECTOR == 1 || VECTOR == 8, "elements of an access");

// 1 / (1 + e^-x): 0 and 1 far out, where e^-x is infinite or 0. Relative error below 2^-21 + |x|
// 2^-24.
DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exp2_approx(-LOG2E * x)); }

#if defined(KERNEL_swiglu_forward)

// Moves 3RF elements of TYPE, 5RF flops.
extern "C" __global__ void __launch_bounds__(BLOCK)
    swiglu_forward(const TYPE* gate_up /* (R, 2F): gate, then up */, TYPE* out /* (R, F) */, u32 R, u32 F,
                   u32 stride_gate_up, u32 stride_out) {
  const u32 c = (blockIdx.y * BLOCK + threadIdx.x) * 8;
  const size_t row = blockIdx.x;
  if (row >= R || c >= F) return;
  float gate[8], up[8], y[8];
  load_8<VECTOR>(gate_up + row * stride_gate_up + c, F - c, gate);
  load_8<VECTOR>(gate_up + row * stride_gate_up + F + c, F - c, up);
#pragma unroll
  for (int i = 0; i < 8; i++) y[i] = gate[i] * sigmoid(gate[i]) * up[i];
  store_8<VECTOR>(out + row * stride_out + c, F - c, y);
}

#elif defined(KERNEL_swiglu_backward)

// With s = sigmoid(gate): dgate = dout up s (1 + gate (1 - s)), dup = dout gate s.
// Moves 5RF elements of TYPE, 10RF flops.
extern "C" __global__ void __launch_bounds__(BLOCK)
    swiglu_backward(const TYPE* gate_up /* (R, 2F) */, const TYPE* dout /* (R, F) */, TYPE* dgate_up /* (R, 2F) */,
                    u32 R, u32 F, u32 stride_gate_up, u32 stride_dout, u32 stride_dgate_up) {
  const u32 c = (blockIdx.y * BLOCK + threadIdx.x) * 8;
  const size_t row = blockIdx.x;
  if (row >= R || c >= F) return;
  float gate[8], up[8], d[8], dgate[8], dup[8];
  load_8<VECTOR>(gate_up + row * stride_gate_up + c, F - c, gate);
  load_8<VECTOR>(gate_up + row * stride_gate_up + F + c, F - c, up);
  load_8<VECTOR>(dout + row * stride_dout + c, F - c, d);
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const float s = sigmoid(gate[i]);
    dgate[i] = d[i] * up[i] * s * (1.0f + gate[i] * (1.0f - s));
    dup[i] = d[i] * gate[i] * s;
  }
  store_8<VECTOR>(dgate_up + row * stride_dgate_up + c, F - c, dgate);
  store_8<VECTOR>(dgate_up + row * stride_dgate_up + F + c, F - c, dup);
}

#else
#error "swiglu.cu: define KERNEL_<name> for one kernel of this file"
#endif
