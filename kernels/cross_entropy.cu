// Cross-entropy of each row of logits (R, V) with its target, in nats, and with GRADIENT its
// gradient in place: (softmax - onehot(target)) scale.
//
// Grid: R blocks of BLOCK, one a row. Shared: a float for each warp. The first pass keeps, for each
// thread, the largest logit so far and the sum of exponentials relative to it (Milakov and
// Gimelshein 2018, arXiv 1805.02867); the second reads the row again, from L2, and overwrites it.
// Moves 4RV bytes of bf16 logits (2RV without a gradient). VECTOR 8 needs logits and stride on
// 16-byte boundaries; V may be anything.
// Same bits: threads sum their columns in order, then in the order of block_sum. A NaN logit makes
// the sum NaN, and so the loss and every gradient of the row. Exponentials e^(x - top) have a
// relative error below 2^-22 + |x - top| 2^-23.
#include "common.cuh"

static_assert(VECTOR == 1 || VECTOR == 8, "elements of an access");

constexpr u32 IGNORED = 0xffffffffu;
constexpr float LOWEST = -3.402823466e38f;

#if GRADIENT
typedef TYPE Logit;
#else
typedef const TYPE Logit;
#endif

struct Softmax {
  float top, sum;  // the largest logit; the sum of e^(logit - top)
};

DEVICE float relative_exp(float x, float top) { return exp2_approx((x - top) * LOG2E); }

template <int N> DEVICE void extend(Softmax& s, const float (&x)[N]) {
  float top = s.top;
#pragma unroll
  for (int i = 0; i < N; i++) top = x[i] > top ? x[i] : top;
  if (top > s.top) {
    s.sum *= relative_exp(s.top, top);
    s.top = top;
  }
#pragma unroll
  for (int i = 0; i < N; i++) s.sum += relative_exp(x[i], s.top);
}

// The softmax of a row, in every thread of the block.
DEVICE Softmax row_softmax(const TYPE* row, u32 V, float* parts /* (BLOCK / 32) shared */) {
  const u32 whole = V / VECTOR * VECTOR;
  Softmax s = {LOWEST, 0};
  for (u32 c = threadIdx.x * VECTOR; c < whole; c += BLOCK * VECTOR) {
    float x[VECTOR];
    load(row + c, x);
    extend(s, x);
  }
  if (whole + threadIdx.x < V) {
    float x[1];
    load(row + whole + threadIdx.x, x);
    extend(s, x);
  }
  const float top = block_max<BLOCK>(s.top, parts);
  return Softmax{top, block_sum<BLOCK>(s.sum * relative_exp(s.top, top), parts)};
}

#if GRADIENT

template <int N> DEVICE void overwrite(TYPE* row, u32 c, const Softmax& s, u32 target, float scale) {
  float x[N];
  load(row + c, x);
#pragma unroll
  for (int i = 0; i < N; i++) {
    x[i] = relative_exp(x[i], s.top) * (scale / s.sum) - (c + i == target ? scale : 0.0f);
  }
  store(row + c, x);
}

DEVICE void clear(TYPE* row, u32 V) {
  const float zeros[VECTOR] = {}, zero[1] = {};
  const u32 whole = V / VECTOR * VECTOR;
  for (u32 c = threadIdx.x * VECTOR; c < whole; c += BLOCK * VECTOR) store(row + c, zeros);
  if (whole + threadIdx.x < V) store(row + whole + threadIdx.x, zero);
}

#endif

#if defined(KERNEL_cross_entropy)

extern "C" __global__ void __launch_bounds__(BLOCK)
    cross_entropy(Logit* logits /* (R, V) */, const u32* targets /* (R), below V or IGNORED */,
                  float* losses /* (R) */, u32 R, u32 V, u32 stride, float scale) {
  __shared__ float parts[BLOCK / 32];
  if (blockIdx.x >= R) return;
  Logit* const row = logits + (size_t)blockIdx.x * stride;
  const u32 target = targets[blockIdx.x];
  if (target == IGNORED) {
    if (threadIdx.x == 0) losses[blockIdx.x] = 0;
#if GRADIENT
    clear(row, V);
#endif
    return;
  }
  // Read before the barriers of row_softmax: no thread overwrites it before all have reached them.
  const float scored = to_float(row[target]);
  const Softmax s = row_softmax(row, V, parts);
  if (threadIdx.x == 0) losses[blockIdx.x] = logf(s.sum) + (s.top - scored);
#if GRADIENT
  const u32 whole = V / VECTOR * VECTOR;
  for (u32 c = threadIdx.x * VECTOR; c < whole; c += BLOCK * VECTOR) overwrite<VECTOR>(row, c, s, target, scale);
  if (whole + threadIdx.x < V) overwrite<1>(row, whole + threadIdx.x, s, target, scale);
#endif
}

#else
#error "cross_entropy.cu: define KERNEL_<name> for one kernel of this file"
#endif
