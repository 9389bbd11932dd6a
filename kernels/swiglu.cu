// SwiGLU (Shazeer 2020, arXiv 2002.05202): out = silu(gate) up, from one packed product, and its gradient.
//
// Grid: (R, ceil(F / (BLOCK VECTOR))) blocks of BLOCK; rows along x, where a grid is long. A thread computes VECTOR
// neighbours. No shared memory. Elements are independent of one another.
#include "common.cuh"

static_assert(BLOCK % 32 == 0, "whole warps");
static_assert(VECTOR == 1 || VECTOR == 8, "elements of an access");

// 1 / (1 + e^-x): 0 and 1 far out, where e^-x is infinite or 0. Relative error below 2^-21 + |x| 2^-24.
DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exp2_approx(-LOG2E * x)); }

// Moves 3RF elements of TYPE, 5RF flops.
extern "C" __global__ void __launch_bounds__(BLOCK)
    swiglu_forward(const TYPE* gate_up /* (R, 2F): gate, then up */, TYPE* out /* (R, F) */, u32 R, u32 F,
                   u32 stride_gate_up, u32 stride_out) {
  const u32 c = (blockIdx.y * BLOCK + threadIdx.x) * VECTOR;
  const size_t row = blockIdx.x;
  if (row >= R || c >= F) return;
  float gate[VECTOR], up[VECTOR], y[VECTOR];
  load(gate_up + row * stride_gate_up + c, gate);
  load(gate_up + row * stride_gate_up + F + c, up);
#pragma unroll
  for (int i = 0; i < VECTOR; i++) y[i] = gate[i] * sigmoid(gate[i]) * up[i];
  store(out + row * stride_out + c, y);
}

// With s = sigmoid(gate): dgate = dout up s (1 + gate (1 - s)), dup = dout gate s.
// Moves 5RF elements of TYPE, 10RF flops.
extern "C" __global__ void __launch_bounds__(BLOCK)
    swiglu_backward(const TYPE* gate_up /* (R, 2F) */, const TYPE* dout /* (R, F) */, TYPE* dgate_up /* (R, 2F) */,
                    u32 R, u32 F, u32 stride_gate_up, u32 stride_dout, u32 stride_dgate_up) {
  const u32 c = (blockIdx.y * BLOCK + threadIdx.x) * VECTOR;
  const size_t row = blockIdx.x;
  if (row >= R || c >= F) return;
  float gate[VECTOR], up[VECTOR], d[VECTOR], dgate[VECTOR], dup[VECTOR];
  load(gate_up + row * stride_gate_up + c, gate);
  load(gate_up + row * stride_gate_up + F + c, up);
  load(dout + row * stride_dout + c, d);
#pragma unroll
  for (int i = 0; i < VECTOR; i++) {
    const float s = sigmoid(gate[i]);
    dgate[i] = d[i] * up[i] * s * (1.0f + gate[i] * (1.0f - s));
    dup[i] = d[i] * gate[i] * s;
  }
  store(dgate_up + row * stride_dgate_up + c, dgate);
  store(dgate_up + row * stride_dgate_up + F + c, dup);
}
