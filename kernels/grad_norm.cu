// The L2 norm of all P gradients and the factor that clips it.
//
// Squares are summed in f64: those of finite f32 values cannot overflow it, so the sum is finite
// exactly when every gradient is.
// Same bits: a thread adds its elements in order, a block its threads in the order of block_sum,
// and the second kernel the blocks' sums likewise; the number of blocks depends on P alone.
#include "common.cuh"

static_assert(VECTOR == 1 || VECTOR == 8, "elements of an access");

#if defined(KERNEL_grad_norm_partial)

// Grid: BLOCKS blocks of BLOCK; the grid strides over the gradients, VECTOR elements a thread at a
// time. Shared: a double for each warp.
// Moves 4P bytes, 2P flops (f64).
extern "C" __global__ void __launch_bounds__(BLOCK)
    grad_norm_partial(const float* grads /* (P) */, double* partial /* (BLOCKS) */, u32 P) {
  __shared__ double parts[BLOCK / 32];
  const size_t thread = (size_t)blockIdx.x * BLOCK + threadIdx.x, threads = (size_t)gridDim.x * BLOCK;
  const size_t whole = P / VECTOR * VECTOR;
  double sum = 0;
  for (size_t i = thread * VECTOR; i < whole; i += threads * VECTOR) {
    float g[VECTOR];
    load(grads + i, g);
#pragma unroll
    for (int j = 0; j < VECTOR; j++) sum += (double)g[j] * g[j];
  }
  // The last P % VECTOR elements, one to a thread.
  if (whole + thread < P) sum += (double)grads[whole + thread] * grads[whole + thread];
  sum = block_sum<BLOCK>(sum, parts);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

#elif defined(KERNEL_grad_norm)

// out = norm, clip factor min(1, max_norm / (norm + 1e-6)) as in PyTorch's clip_grad_norm_ (0 when
// the norm is not finite), 1 if every gradient is finite else 0.
// Grid: one block of BLOCK. Shared: a double for each warp.
extern "C" __global__ void __launch_bounds__(BLOCK)
    grad_norm(const double* partial /* (BLOCKS) */, float* out /* (3) */, u32 BLOCKS, float max_norm) {
  __shared__ double parts[BLOCK / 32];
  double sum = 0;
  for (u32 i = threadIdx.x; i < BLOCKS; i += BLOCK) sum += partial[i];
  const double norm = sqrt(block_sum<BLOCK>(sum, parts));
  if (threadIdx.x != 0) return;
  // False for an infinity and for NaN.
  const bool finite = norm <= 1.7976931348623157e308;
  const double factor = max_norm / (norm + 1e-6);
  out[0] = (float)norm;
  out[1] = finite ? (float)(factor < 1 ? factor : 1) : 0.0f;
  out[2] = finite ? 1.0f : 0.0f;
}

#else
#error "grad_norm.cu: define KERNEL_<name> for one kernel of this file"
#endif
