// Every inline PTX instruction of the project, each in one named wrapper. No other file contains
// `asm`.
//
// The device half is PTX ISA 7.4 (sm_80) and needs no toolkit header: NVRTC's built-in functions
// are enough. The host half (STOCKPOT_HOST, set by the executor in tests/simt) calls the model of
// the same instruction, declared in tests/simt/simt.h. Sections are by the architecture that
// introduced the instructions; Hopper's (mbarrier, TMA, wgmma) would be a third.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE static __device__ __forceinline__

// ---- every architecture ----------------------------------------------------------------------------------------

// Dynamic shared memory of the block, on a boundary sufficient for every swizzle.
#ifdef STOCKPOT_HOST
#define DYNAMIC_SHARED(name) u8* const name = simt_dynamic
#else
#define DYNAMIC_SHARED(name) extern __shared__ __align__(1024) u8 name[]
#endif

// The 32-bit address that ldmatrix and cp.async take.
DEVICE u32 shared_address(const void* p) {
#ifdef STOCKPOT_HOST
  return simt_shared_address(p);
#else
  return (u32)__cvta_generic_to_shared(p);
#endif
}

// 2^x, relative error below 2^-22; subnormal results are 0.
DEVICE float exp2_approx(float x) {
#ifdef STOCKPOT_HOST
  return simt_exp2_approx(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// ---- sm_80: bf16, cp.async, ldmatrix, mma.sync -----------------------------------------------------------------

// The bits of x as bf16, rounded to nearest, ties to even.
DEVICE u16 bf16_bits(float x) {
#ifdef STOCKPOT_HOST
  return simt_bf16_bits(x);
#else
  u16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
#endif
}

// Two bf16 in one register, `low` in the lower half.
DEVICE u32 bf16_pair(float low, float high) {
#ifdef STOCKPOT_HOST
  return (u32)simt_bf16_bits(low) | (u32)simt_bf16_bits(high) << 16;
#else
  u32 y;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
#endif
}

// Starts to copy `bytes` (0 to 16) from `from` to 16 bytes at shared address `to`; the rest becomes
// 0. Both are on 16-byte boundaries, even if bytes is 0.
DEVICE void cp_async_16(u32 to, const void* from, u32 bytes) {
#ifdef STOCKPOT_HOST
  simt_cp_async(to, from, 16, bytes);
#else
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
#endif
}

// Ends a group of this thread's copies; a group may be empty.
DEVICE void cp_async_commit() {
#ifdef STOCKPOT_HOST
  simt_cp_async_commit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most `PENDING` of this thread's newest groups are in flight. Other threads' copies
// are visible only after a barrier that follows their wait.
template <int PENDING> DEVICE void cp_async_wait() {
#ifdef STOCKPOT_HOST
  simt_cp_async_wait(PENDING);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

// Four 8x8 matrices of 16-bit elements. Lane 8j+r gives the shared address of row r of matrix j (16
// bytes, on a 16-byte boundary); lane l receives in r[j] the elements 2(l%4) and 2(l%4)+1 of row
// l/4.
DEVICE void ldmatrix_x4(u32 (&r)[4], u32 row) {
#ifdef STOCKPOT_HOST
  simt_ldmatrix(r, 4, false, row);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(row) : "memory");
#endif
}

// As ldmatrix_x4, each matrix transposed: lane l receives in r[j] the elements l/4 of rows 2(l%4)
// and 2(l%4)+1.
DEVICE void ldmatrix_x4_transposed(u32 (&r)[4], u32 row) {
#ifdef STOCKPOT_HOST
  simt_ldmatrix(r, 4, true, row);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(row) : "memory");
#endif
}

// d (16, 8) f32 += a (16, 16) bf16 x b (16, 8) bf16, over the warp. Lane l holds
//   a[i]: row l/4 + 8(i%2), columns 2(l%4) + 8(i/2) and the next
//   b[i]: rows 2(l%4) + 8i and the next, column l/4
//   d[i]: row l/4 + 8(i/2), column 2(l%4) + i%2
DEVICE void mma_16x8x16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#ifdef STOCKPOT_HOST
  const u32 b[2] = {b0, b1};
  simt_mma_16x8x16(d, a, b);
#else
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
               "{%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}
