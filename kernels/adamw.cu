// AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) in the order of operations of PyTorch's.
// Values that change from step to step are in device memory, so that a captured step can be
// launched again. A step whose gradient is not finite changes nothing. Elements are independent of
// one another, so the bits do not depend on the launch.
#include "common.cuh"

#if defined(KERNEL_adamw_step)

// Counts the update and computes its constants {1 - rate weight_decay, rate / (1 - beta1^t),
// sqrt(1 - beta2^t)}, each in f64 and rounded once.
// Grid: one warp, of which one thread works.
extern "C" __global__ void __launch_bounds__(32)
    adamw_step(const float* norm /* (3), see grad_norm.cu */, const float* rate /* (1) */, u32* updates /* (1) */,
               float* constants /* (3) */, float beta1, float beta2, float weight_decay) {
  if (threadIdx.x != 0 || norm[2] == 0) return;
  const u32 t = updates[0] + 1;
  updates[0] = t;
  constants[0] = (float)(1 - (double)rate[0] * weight_decay);
  constants[1] = (float)(rate[0] / (1 - pow((double)beta1, (double)t)));
  constants[2] = (float)sqrt(1 - pow((double)beta2, (double)t));
}

#elif defined(KERNEL_adamw)

static_assert(BLOCK % 32 == 0, "whole warps");
static_assert(VECTOR == 1 || VECTOR == 8, "elements of an access");

struct Constants {
  float clip, grad_weight, beta2, square_weight, epsilon, decay, step_size, correction;
};

// Updates N neighbouring elements, starting at the pointers; `p` holds the new params afterwards.
template <int N> DEVICE void update(const Constants& c, float* params, const float* grads, float* m, float* v,
                                    float (&p)[N]) {
  float g[N], mean[N], square[N];
  load(params, p), load(grads, g), load(m, mean), load(v, square);
#pragma unroll
  for (int i = 0; i < N; i++) {
    g[i] *= c.clip;
    mean[i] += (g[i] - mean[i]) * c.grad_weight;
    square[i] = square[i] * c.beta2 + c.square_weight * g[i] * g[i];
    const float denominator = sqrtf(square[i]) / c.correction + c.epsilon;
    p[i] = p[i] * c.decay - c.step_size * (mean[i] / denominator);
  }
  store(params, p), store(m, mean), store(v, square);
}

// m += (1 - beta1) (g - m), v = beta2 v + (1 - beta2) g^2,
// p = decay p - step_size m / (sqrt(v) / correction + epsilon), with g = gradient x clip; `copy` is
// the new p in the device's compute type.
// Grid: ceil(P / (8 BLOCK)) blocks of BLOCK; a thread updates 8 neighbours. No shared memory.
// Moves 28P bytes and those of the copy, 14P flops. VECTOR 8 needs every array on a 16-byte
// boundary.
extern "C" __global__ void __launch_bounds__(BLOCK)
    adamw(float* params /* (P) */, const float* grads /* (P) */, float* m /* (P) */, float* v /* (P) */,
          const float* norm /* (3) */, const float* constants /* (3) */,
#if HAS_COPY
          COPY_TYPE* copy /* (P) */,
#endif
          u32 P, float grad_weight /* 1 - beta1 */, float beta2, float square_weight /* 1 - beta2 */, float epsilon) {
  if (norm[2] == 0) return;
  const Constants c = {norm[1], grad_weight, beta2, square_weight, epsilon, constants[0], constants[1], constants[2]};
  const size_t start = ((size_t)blockIdx.x * BLOCK + threadIdx.x) * 8;
  // A thread at the end, or in a launch without vectors, processes elements one by one.
  const bool whole = VECTOR == 8 && start + 8 <= P;
  if (whole) {
    float p[8];
    update(c, params + start, grads + start, m + start, v + start, p);
#if HAS_COPY
    store(copy + start, p);
#endif
    return;
  }
  for (size_t i = start; i < P && i < start + 8; i++) {
    float p[1];
    update(c, params + i, grads + i, m + i, v + i, p);
#if HAS_COPY
    store(copy + i, p);
#endif
  }
}

#else
#error "adamw.cu: define KERNEL_<name> for one kernel of this file"
#endif
