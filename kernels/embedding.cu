// Rows of the embedding table by token, and the scatter of their gradient in a fixed order.
#include "common.cuh"

static_assert(BLOCK % 32 == 0, "whole warps");
static_assert(VECTOR == 1 || VECTOR == 8, "elements of an access");

#if defined(KERNEL_embedding_forward)

// out[r] = weight[tokens[r]].
// Grid: ceil(R / (BLOCK / 32)) blocks of BLOCK, a warp for each row, a lane VECTOR neighbours at a
// time. No shared memory.
// Moves 2RC elements of TYPE.
extern "C" __global__ void __launch_bounds__(BLOCK)
    embedding_forward(const u32* tokens /* (R), each below V */, const TYPE* weight /* (V, C) */,
                      TYPE* out /* (R, C) */, u32 R, u32 C, u32 stride_weight, u32 stride_out) {
  const u32 row = blockIdx.x * (BLOCK / 32) + threadIdx.x / 32;
  if (row >= R) return;
  weight += (size_t)tokens[row] * stride_weight;
  out += (size_t)row * stride_out;
  for (u32 c = threadIdx.x % 32 * VECTOR; c < C; c += 32 * VECTOR) {
    float x[VECTOR];
    load(weight + c, x);
    store(out + c, x);
  }
}

#elif defined(KERNEL_embedding_backward)

// Rows whose tokens a block checks before it adds up its own; a warp checks ROUNDS x 32 of them.
constexpr u32 ROUNDS = 8, SEGMENT = BLOCK * ROUNDS;
// Rows whose loads are in flight at once.
constexpr u32 FLIGHT = 4;
static_assert(SEGMENT <= 0xffffffffu / TOKENS, "a match packs its row within the segment and its token");

// Fills `matches` with row * TOKENS + (token - first) of the segment's rows whose token is in
// [first, first + count), rows counted from `base`, in ascending order; returns how many.
DEVICE u32 find_matches(const u32* tokens /* (R) */, u32 R, u32 base, u32 first, u32 count,
                        u32* matches /* (SEGMENT) shared */, u32* counts /* (BLOCK / 32) shared */) {
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, start = warp * 32 * ROUNDS + lane;
  u32 token[ROUNDS], hits[ROUNDS], found = 0;
#pragma unroll
  for (u32 k = 0; k < ROUNDS; k++) {
    const u32 row = start + k * 32;
    // A row beyond the end gets a token that belongs to no block.
    token[k] = row < R - base ? tokens[(size_t)base + row] - first : 0xffffffffu;
  }
#pragma unroll
  for (u32 k = 0; k < ROUNDS; k++) {
    hits[k] = __ballot_sync(0xffffffffu, token[k] < count);
    found += __popc(hits[k]);
  }
  if (lane == 0) counts[warp] = found;
  __syncthreads();  // which also means that no thread still reads the previous segment's matches
  u32 place = 0, total = 0;
  for (u32 w = 0; w < BLOCK / 32; w++) {
    if (w == warp) place = total;
    total += counts[w];
  }
#pragma unroll
  for (u32 k = 0; k < ROUNDS; k++) {
    if (token[k] < count) matches[place + __popc(hits[k] & ((1u << lane) - 1))] = (start + k * 32) * TOKENS + token[k];
    place += __popc(hits[k]);
  }
  __syncthreads();
  return total;
}

// dweight[tokens[r]] += dout[r] for every row r.
// Grid: (ceil(V / TOKENS), ceil(C / (8 BLOCK))) blocks of BLOCK. A block owns TOKENS neighbouring
// rows of dweight, a thread 8 neighbouring columns of them; the block searches all R tokens for its
// own. Shared: a match for each row of a segment, a count for each warp.
// Moves RC elements of TYPE, 8C bytes for each token that occurs, and R V / TOKENS tokens from L2.
// RC flops.
// Same bits: rows are added in ascending order. Neighbouring matches of one token are summed in
// registers before they are added to dweight, so a token that fills the batch does not wait for
// memory at every row.
extern "C" __global__ void __launch_bounds__(BLOCK)
    embedding_backward(const u32* tokens /* (R) */, const TYPE* dout /* (R, C) */, float* dweight /* (V, C) */, u32 R,
                       u32 C, u32 V, u32 stride_dout, u32 stride_dweight) {
  __shared__ u32 matches[SEGMENT], counts[BLOCK / 32];
  const u32 first = blockIdx.x * TOKENS, count = V - first < TOKENS ? V - first : TOKENS;
  const u32 c = (blockIdx.y * BLOCK + threadIdx.x) * 8;
  float sum[8];
  u32 current = TOKENS;  // the token whose rows are in `sum`; TOKENS: none
  const auto flush = [&] {
    float* const to = dweight + (size_t)(first + current) * stride_dweight + c;
    float before[8];
    load_8<VECTOR>(to, C - c, before);
#pragma unroll
    for (int i = 0; i < 8; i++) before[i] += sum[i];
    store_8<VECTOR>(to, C - c, before);
  };

  for (u32 base = 0; base < R; base += SEGMENT) {
    const u32 total = find_matches(tokens, R, base, first, count, matches, counts);
    for (u32 m = 0; m < total && c < C; m += FLIGHT) {
      float x[FLIGHT][8];
#pragma unroll
      for (u32 j = 0; j < FLIGHT; j++) {
        // Beyond the end the last match again, so that no load waits for a branch.
        const u32 match = matches[m + j < total ? m + j : total - 1];
        load_8<VECTOR>(dout + (size_t)(base + match / TOKENS) * stride_dout + c, C - c, x[j]);
      }
#pragma unroll
      for (u32 j = 0; j < FLIGHT; j++) {
        if (m + j >= total) break;
        const u32 token = matches[m + j] % TOKENS;
        if (token != current) {
          if (current != TOKENS) flush();
          current = token;
#pragma unroll
          for (int i = 0; i < 8; i++) sum[i] = 0;
        }
#pragma unroll
        for (int i = 0; i < 8; i++) sum[i] += x[j][i];
      }
    }
    if (R - base <= SEGMENT) break;  // base + SEGMENT may not fit 32 bits
  }
  if (current != TOKENS) flush();
}

#else
#error "embedding.cu: define KERNEL_<name> for one kernel of this file"
#endif
