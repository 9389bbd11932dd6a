// ldmatrix and mma.sync: which lane holds which element is as in kernels/ptx.cuh and PTX ISA 7.0.
//
// The arithmetic of mma differs from hardware in its roundings only: here each product (exact in f32) is added to the
// accumulator in f32, k ascending, to nearest. Tensor cores add a block of products and the accumulator as integers
// aligned to the largest exponent with 24 (Ampere) or 25 (Hopper) fractional bits, and truncate (arXiv 2511.10909). So
// outputs are compared with f64 references within a tolerance, never bit by bit with a GPU's.
#include "machine.h"

extern "C" void simt_ldmatrix(u32* r, int count, bool transposed, u32 row) {
  ENTER();
  const u32 lane = machine->current->lane;
  if (lane < 8u * count && row % 16) fail("ldmatrix: row at 0x%x is not on a 16-byte boundary", row);
  const bool hooked = machine->config.hooked;
  const uintptr_t pc = machine->pc;
  const u64* rows = meet(0xffffffffu, SIMT_LDMATRIX, 0, row);
  machine->pc = pc;  // others ran meanwhile
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

// The warp's product, when all 32 lanes have left their operands in `fragments`.
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
    for (u32 k = 0; k < 16; k++) {
      for (u32 col = 0; col < 8; col++) d[row][col] += a[row][k] * b[k][col];
    }
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
