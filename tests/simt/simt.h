// CUDA for a kernel compiled for the host: keywords, built-in variables and functions, and the
// models of the PTX instructions that kernels/ptx.cuh calls. Declarations only: the models are in
// libsimt.so, which is compiled separately and never instrumented, so that none is optimized into
// the kernel or checked as part of it.
//
// A CUDA thread is a fiber. Shared memory is thread-local storage of the OS thread that runs the
// launch: at block scope `thread_local` implies `static`, as `__shared__` does, and tests run in
// parallel without interference.
#pragma once
#include <cstdint>
#include <cstring>
#include <utility>

#define STOCKPOT_HOST 1

// A library exports one kernel of its file; other kernels are inline and add no code.
#define __global__ inline
#define __device__
#define __host__
#ifdef SIMT_COVERAGE
// Not inlined, so that gcov counts a function once, not each of its copies.
#define __forceinline__ inline __attribute__((noinline))
#else
#define __forceinline__ inline __attribute__((always_inline))
#endif
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static const
#define __shared__ thread_local
#define __restrict__ __restrict

struct SimtIndex {
  unsigned x, y, z;
};

// The built-in variables of the running thread, updated at every switch between fibers.
struct SimtSelf {
  SimtIndex thread, block, block_size, grid;
  unsigned lane;
};

enum SimtWarpOp { SIMT_SYNC, SIMT_SHUFFLE, SIMT_BALLOT, SIMT_LDMATRIX, SIMT_MMA };

extern "C" {
extern __thread SimtSelf simt_self;

void simt_barrier(unsigned line);
void simt_sync_warp(unsigned mask, unsigned line);
// The `value` of lane `source`, over the lanes of `mask`.
uint64_t simt_shuffle(unsigned mask, uint64_t value, unsigned source, unsigned line);
// One bit per lane of `mask` whose predicate holds.
unsigned simt_ballot(unsigned mask, bool predicate, unsigned line);

uint32_t simt_shared_address(const void* p);
void simt_cp_async(uint32_t to, const void* from, uint32_t size, uint32_t bytes);
void simt_cp_async_commit();
void simt_cp_async_wait(uint32_t pending);
void simt_ldmatrix(uint32_t* r, int count, bool transposed, uint32_t row);
void simt_mma_16x8x16(float* d, const uint32_t* a, const uint32_t* b);
}

// The most dynamic shared memory of a block on any architecture (sm_90); one array for each kernel
// library.
#define SIMT_DYNAMIC_BYTES (227 * 1024)
extern thread_local unsigned char simt_dynamic[SIMT_DYNAMIC_BYTES];

#define threadIdx (simt_self.thread)
#define blockIdx (simt_self.block)
#define blockDim (simt_self.block_size)
#define gridDim (simt_self.grid)
#define warpSize 32

// ---- barriers and warp operations; the line identifies the place in the source -----------------------------------

#define __syncthreads() simt_barrier(__LINE__)
#define __syncwarp(...) simt_sync_warp(simt_mask(__VA_ARGS__), __LINE__)
static inline unsigned simt_mask(unsigned mask = 0xffffffffu) { return mask; }

template <class T> static inline T simt_shuffle_any(unsigned mask, T value, unsigned source, unsigned line) {
  static_assert(sizeof(T) <= 8, "a shuffle moves up to 8 bytes");
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof value);
  bits = simt_shuffle(mask, bits, source, line);
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}
// A source outside the warp is the lane itself.
static inline unsigned simt_lane_plus(int offset) {
  const int lane = (int)simt_self.lane + offset;
  return lane < 0 || lane > 31 ? simt_self.lane : (unsigned)lane;
}
#define __shfl_sync(mask, x, lane) simt_shuffle_any(mask, x, (unsigned)(lane) & 31u, __LINE__)
#define __shfl_xor_sync(mask, x, bits) simt_shuffle_any(mask, x, simt_self.lane ^ (unsigned)(bits), __LINE__)
#define __shfl_up_sync(mask, x, n) simt_shuffle_any(mask, x, simt_lane_plus(-(int)(n)), __LINE__)
#define __shfl_down_sync(mask, x, n) simt_shuffle_any(mask, x, simt_lane_plus((int)(n)), __LINE__)
#define __ballot_sync(mask, p) simt_ballot(mask, (p) != 0, __LINE__)
#define __any_sync(mask, p) (simt_ballot(mask, (p) != 0, __LINE__) != 0)
#define __all_sync(mask, p) (simt_ballot(mask, (p) == 0, __LINE__) == 0)

// ---- vector types and arithmetic that NVRTC has built in ---------------------------------------------------------

// The libm functions that kernels use. Declared here because <cmath> would take a quarter of the
// time that a kernel takes to compile.
extern "C" {
float expf(float) noexcept;
float exp2f(float) noexcept;
float logf(float) noexcept;
float sqrtf(float) noexcept;
float fminf(float, float) noexcept;
float fmaxf(float, float) noexcept;
float fmaf(float, float, float) noexcept;
double fma(double, double, double) noexcept;
double pow(double, double) noexcept;
double sqrt(double) noexcept;
}

// In the hooked build, g++ must not split a vector's access into its elements', or bank conflicts
// would be counted wrongly.
#ifdef __SANITIZE_THREAD__
template <class T> __attribute__((always_inline)) static inline void simt_copy_whole(T* to, const T* from) {
  typedef unsigned whole __attribute__((vector_size(sizeof(T)), may_alias));
  whole x = *(const whole*)from;
  asm volatile("" : "+x"(x));
  *(whole*)to = x;
}
#define SIMT_WHOLE(T)                                                      \
  T() = default;                                                           \
  T(const T& from) { simt_copy_whole(this, &from); }                       \
  T& operator=(const T& from) { return simt_copy_whole(this, &from), *this; }
#define SIMT_WHOLE_2(T, E) SIMT_WHOLE(T) T(E x, E y) : x(x), y(y) {}
#define SIMT_WHOLE_4(T, E) SIMT_WHOLE(T) T(E x, E y, E z, E w) : x(x), y(y), z(z), w(w) {}
#else
#define SIMT_WHOLE_2(T, E)
#define SIMT_WHOLE_4(T, E)
#endif

struct alignas(8) uint2 {
  unsigned x, y;
  SIMT_WHOLE_2(uint2, unsigned)
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
  SIMT_WHOLE_4(uint4, unsigned)
};
struct alignas(8) float2 {
  float x, y;
  SIMT_WHOLE_2(float2, float)
};
struct alignas(16) float4 {
  float x, y, z, w;
  SIMT_WHOLE_4(float4, float)
};
struct alignas(16) double2 {
  double x, y;
};
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline double2 make_double2(double x, double y) { return {x, y}; }

static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
static inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
static inline unsigned long long min(unsigned long long a, unsigned long long b) { return a < b ? a : b; }
static inline unsigned long long max(unsigned long long a, unsigned long long b) { return a > b ? a : b; }
static inline unsigned long min(unsigned long a, unsigned long b) { return a < b ? a : b; }
static inline unsigned long max(unsigned long a, unsigned long b) { return a > b ? a : b; }
// If one argument is NaN, the other, as on the device.
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }

template <class To, class From> static inline To simt_bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To y;
  __builtin_memcpy(&y, &x, sizeof y);
  return y;
}
static inline unsigned __float_as_uint(float x) { return simt_bits<unsigned>(x); }
static inline int __float_as_int(float x) { return simt_bits<int>(x); }
static inline float __uint_as_float(unsigned x) { return simt_bits<float>(x); }
static inline float __int_as_float(int x) { return simt_bits<float>(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz((unsigned)x); }

// Each of these rounds once; the flag -ffp-contract=off keeps g++ from merging two.
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __dsqrt_rn(double a) { return sqrt(a); }
static inline float __double2float_rn(double x) { return (float)x; }

// The device's are approximations, within 2 units in the last place (rsqrtf) or a few (the fast
// ones).
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float simt_expf(float x) { return expf(x); }
static inline float simt_logf(float x) { return logf(x); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float x) { return 1.0f / x; }
// By macro, because glibc declares functions of these names.
#define __expf simt_expf
#define __logf simt_logf

template <class T> static inline T __ldg(const T* p) { return *p; }

// ---- models of ptx.cuh that are plain arithmetic -----------------------------------------------------------------

// ex2.approx.ftz: 1 for 0 and subnormals, otherwise off by up to 2^-22 of the result. The direction
// of the device's error is not documented, so here a bit of a hash of the argument decides it. With
// this function's own roundings the error is 2^-25 to 2^-22, never 0.
static inline float simt_exp2_approx(float x) {
  const float y = exp2f(x);
  const float off = __float_as_uint(x) * 0x9e3779b9u >> 31 ? 0x1p-23f : -0x1p-23f;
  if (x > -1.17549435e-38f && x < 1.17549435e-38f) return 1.0f;
  if (y == __builtin_inff()) return y;
  return y < 1.17549435e-38f ? 0.0f : y + y * off;
}
// cvt.rn.bf16.f32: to nearest, ties to even; every NaN becomes 0x7fff.
static inline uint16_t simt_bf16_bits(float x) {
  const uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// ---- how the runtime calls a kernel: SIMT_EXPORT(name) ends the library of a kernel --------------------------------

// Not instrumented: the arguments are in the launch's memory, which does not belong to the kernel.
#define SIMT_PLAIN __attribute__((noinline, no_sanitize("thread", "undefined", "address")))

// One letter for each parameter, so that a launch with other arguments is refused: pointers by the
// size of their target.
template <class T> struct SimtLetter;
template <> struct SimtLetter<unsigned> {
  static constexpr char value = 'u';
};
template <> struct SimtLetter<float> {
  static constexpr char value = 'f';
};
template <> struct SimtLetter<double> {
  static constexpr char value = 'd';
};
template <class T> struct SimtLetter<T*> {
  static constexpr char value = (char)('0' + sizeof(T));
};

template <class T> SIMT_PLAIN static T simt_argument(const void* p) {
  T x;
  memcpy(&x, p, sizeof x);
  return x;
}
template <class... A, size_t... I>
SIMT_PLAIN static void simt_unpack(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  kernel(simt_argument<std::remove_const_t<A>>(arguments[I])...);
}
template <class... A> SIMT_PLAIN static void simt_apply(void (*kernel)(A...), void** arguments) {
  simt_unpack(kernel, arguments, std::index_sequence_for<A...>{});
}
template <class... A> const char* simt_letters(void (*)(A...)) {
  static const char letters[] = {SimtLetter<std::remove_const_t<A>>::value..., 0};
  return letters;
}

// The most turns of each loop, by the number that tests/simt/coverage.rs gives it.
#ifdef SIMT_COVERAGE
static unsigned simt_turns[SIMT_COVERAGE];
struct SimtLoop {
  unsigned loop, turns = 0;
  bool turn(bool again) {
    if (again && ++turns > simt_turns[loop]) simt_turns[loop] = turns;
    return again;
  }
};
extern "C" void __gcov_dump();
extern "C" SIMT_PLAIN unsigned* simt_coverage() {
  __gcov_dump();
  return simt_turns;
}
#endif

#define SIMT_EXPORT(name)                                                                \
  alignas(1024) thread_local unsigned char simt_dynamic[SIMT_DYNAMIC_BYTES];             \
  extern "C" SIMT_PLAIN void simt_call(void** arguments) { simt_apply(&name, arguments); } \
  extern "C" SIMT_PLAIN unsigned char* simt_dynamic_start() { return simt_dynamic; }     \
  extern "C" SIMT_PLAIN const char* simt_parameters() { return simt_letters(&name); }
