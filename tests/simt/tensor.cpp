// ldmatrix and mma.sync: lanes hold elements as in kernels/ptx.cuh and PTX ISA 7.0.
//
// The arithmetic of mma is that of the least accurate tensor cores, Ampere's, as described in arXiv
// 2511.10909: eight products and the accumulator become integers in a unit 2^-24 below the largest
// of them, smaller parts are truncated, and the sum is truncated to f32. Hopper's keep one more bit
// and add sixteen products at once. So a bound that holds here has room for either, but outputs are
// never compared bit by bit with a GPU's.
#include "machine.h"

#include <algorithm>
#include <cstdlib>

extern "C" void simt_ldmatrix(u32* r, int count, bool transposed, u32 row) {
  ENTER();
  const u32 lane = machine->current->lane;
  if (lane < 8u * count && row % 16) fail("ldmatrix: row at 0x%x is not on a 16-byte boundary", row);
  const bool hooked = machine->config.hooked;
  const uintptr_t pc = machine->pc;
  const u64* rows = meet(0xffffffffu, SIMT_LDMATRIX, 0, row);
  machine->pc = pc;  // other threads ran meanwhile
  if (hooked && lane == 0) count_banks_of_rows(rows, count);
  for (int j = 0; j < count; j++) {
    u16 pair[2];
    for (u32 e = 0; e < 2; e++) {
      const u32 i = transposed ? 2 * (lane % 4) + e : lane / 4, k = transposed ? lane / 4 : 2 * (lane % 4) + e;
      const u32 address = (u32)rows[8 * j + i] + 2 * k;
      const u8* from = shared_memory(address, 2, "ldmatrix");
      if (hooked) check_shared(address, 2, false);
      memcpy(&pair[e], from, 2);
    }
    r[j] = pair[0] | (u32)pair[1] << 16;
  }
}

static float bf16_value(u32 bits) { return simt_bits<float>(bits << 16); }

constexpr u32 EXPONENT = 0x7f800000u;
// Products that the tensor cores add at once, and bits kept below the largest.
constexpr u32 DEPTH = 8, KEPT_BITS = 24;

// d[col] += the products of a[k] and b[k][col]: one row of the result, one step of DEPTH along k.
static void add_products(float (&d)[8], const float* a, const float (*b)[8]) {
  float p[DEPTH][8], plain[8];
  u32 top[8];
  for (u32 col = 0; col < 8; col++) plain[col] = d[col], top[col] = simt_bits<u32>(d[col]) & EXPONENT;
  for (u32 k = 0; k < DEPTH; k++) {
    for (u32 col = 0; col < 8; col++) {
      p[k][col] = a[k] * b[k][col];  // exact
      plain[col] += p[k][col];
      top[col] = std::max(top[col], simt_bits<u32>(p[k][col]) & EXPONENT);
    }
  }
  float unit[8], units[8];  // 2^-24 below the largest, and its reciprocal
  int sum[8];
  for (u32 col = 0; col < 8; col++) {
    const u32 e = std::max(top[col] >> 23, KEPT_BITS + 1);  // below 2^-102 the unit is constant
    unit[col] = simt_bits<float>((e - KEPT_BITS) << 23);
    units[col] = simt_bits<float>((2 * 127 + KEPT_BITS - std::min(e, 254u)) << 23);
    sum[col] = top[col] == EXPONENT ? 0 : (int)(d[col] * units[col]);
  }
  for (u32 k = 0; k < DEPTH; k++) {
    for (u32 col = 0; col < 8; col++) sum[col] += top[col] == EXPONENT ? 0 : (int)(p[k][col] * units[col]);
  }
  for (u32 col = 0; col < 8; col++) {
    const float nearest = (float)sum[col];
    // One unit in the last place less where rounding went away from zero.
    const bool away = std::abs((int)nearest) > std::abs(sum[col]);
    const float cut = simt_bits<float>(simt_bits<u32>(nearest) - away);
    d[col] = top[col] == EXPONENT ? plain[col] : cut * unit[col];
  }
}

// The warp's product, after all 32 lanes have stored their operands in `fragments`.
static void multiply(Meeting& meeting) {
  const u32 side = meeting.generation % 2;
  Fragments& f = machine->warps[machine->current->warp].fragments;
  float a[16][16], b[16][8], d[16][8];
  for (u32 lane = 0; lane < WARP; lane++) {
    const u32 group = lane / 4, pair = 2 * (lane % 4);
    for (u32 i = 0; i < 4; i++) {
      const u32 x = f.a[side][lane][i], row = group + 8 * (i % 2), col = pair + 8 * (i / 2);
      a[row][col] = bf16_value(x & 0xffff), a[row][col + 1] = bf16_value(x >> 16);
      d[group + 8 * (i / 2)][pair + i % 2] = f.d[side][lane][i];
    }
    for (u32 i = 0; i < 2; i++) {
      const u32 x = f.b[side][lane][i];
      b[pair + 8 * i][group] = bf16_value(x & 0xffff), b[pair + 8 * i + 1][group] = bf16_value(x >> 16);
    }
  }
  for (u32 row = 0; row < 16; row++) {
    for (u32 k = 0; k < 16; k += DEPTH) add_products(d[row], &a[row][k], &b[k]);
  }
  for (u32 lane = 0; lane < WARP; lane++) {
    for (u32 i = 0; i < 4; i++) f.d[side][lane][i] = d[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
  }
}

extern "C" void simt_mma_16x8x16(float* d, const u32* a, const u32* b) {
  ENTER();
  const Thread* t = machine->current;
  if (machine->config.block % WARP) fail("mma in a block of %u threads, not whole warps", machine->config.block);
  Fragments& f = machine->warps[t->warp].fragments;
  const u32 side = next_side();
  memcpy(f.a[side][t->lane], a, sizeof f.a[0][0]);
  memcpy(f.b[side][t->lane], b, sizeof f.b[0][0]);
  memcpy(f.d[side][t->lane], d, sizeof f.d[0][0]);
  meet(0xffffffffu, SIMT_MMA, 0, 0, multiply);
  memcpy(d, f.d[side][t->lane], sizeof f.d[0][0]);
}
