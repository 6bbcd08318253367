// CUDA C's words for g++, so that kernels/*.cu run on a CPU (test only): what nvcc and NVRTC know
// without a header. kernels/pi_cuda.cuh includes it where no CUDA compiler is at work.
//
// Not covered: races that the memory model allows between two barriers in one schedule (the tests
// run four), timing of asynchronous copies, registers and occupancy, fast math's rounding.
#pragma once
#include "emu_warp.h"

#include <cmath>

// `KERNEL((bounds)) name(...)` of pi_cuda.cuh. The table of kernels is made from a first run of the
// preprocessor alone, so that kernels which macros write are found too.
#ifdef EMU_SCAN
#define EMU_KERNEL(bounds) EMU_ENTRY bounds void
#else
#define EMU_KERNEL(bounds) void
#endif

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
// A section of its own for each module, so that it can be poisoned before each block. The kernels
// are compiled in an unnamed namespace: of functions that other files could have, too, the linker
// would merge the variables, and the section could not hold both kinds.
#ifndef EMU_SECTION
#define EMU_SECTION "emu_shared"
#endif
#define __shared__ static __attribute__((section(EMU_SECTION)))

// ---- built-in variables and types ----

#define threadIdx (emu::self().thread)
#define blockIdx (emu::block->index)
#define blockDim (emu::block->block)
#define gridDim (emu::block->grid)
#define warpSize 32

#define EMU_VECTOR2(T, base) \
    struct alignas(2 * sizeof(base)) T##2 { base x, y; }; \
    inline T##2 make_##T##2(base x, base y) { return {x, y}; }
#define EMU_VECTOR4(T, base) \
    struct alignas(4 * sizeof(base)) T##4 { base x, y, z, w; }; \
    inline T##4 make_##T##4(base x, base y, base z, base w) { return {x, y, z, w}; }
EMU_VECTOR2(char, signed char)
EMU_VECTOR2(uchar, unsigned char)
EMU_VECTOR2(short, short)
EMU_VECTOR2(ushort, unsigned short)
EMU_VECTOR2(int, int)
EMU_VECTOR2(uint, unsigned)
EMU_VECTOR2(float, float)
EMU_VECTOR4(char, signed char)
EMU_VECTOR4(uchar, unsigned char)
EMU_VECTOR4(short, short)
EMU_VECTOR4(ushort, unsigned short)
EMU_VECTOR4(int, int)
EMU_VECTOR4(uint, unsigned)
EMU_VECTOR4(float, float)
#undef EMU_VECTOR2
#undef EMU_VECTOR4

// ---- barriers and fences ----

inline void __syncthreads() { emu::barrier(false); }
inline int __syncthreads_count(int p) { return emu::barrier(p != 0); }
inline int __syncthreads_or(int p) { return emu::barrier(p != 0) > 0; }
inline int __syncthreads_and(int p) { return emu::barrier(p != 0) == emu::block->n_threads; }
inline void __syncwarp(unsigned mask = ~0u) { emu::meet(mask, &mask, sizeof mask, "syncwarp"); }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __threadfence(); }
inline void __threadfence_system() { __threadfence(); }
inline void __nanosleep(unsigned) {
    emu::block->progress++; // it waits for something outside the block
    emu::yield();
}

// ---- shuffles and votes ----

template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    return emu::shuffle(mask, value, emu::lane() / width * width + (source & (width - 1)), "shfl");
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int x, int width = 32) {
    const int source = emu::lane() ^ x;
    return emu::shuffle(mask, value, source / width > emu::lane() / width ? emu::lane() : source,
                        "shfl_xor");
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
    const int source = emu::lane() + (int)by;
    return emu::shuffle(mask, value, source / width != emu::lane() / width ? emu::lane() : source,
                        "shfl_down");
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
    const int source = emu::lane() - (int)by;
    const bool outside = source < 0 || source / width != emu::lane() / width;
    return emu::shuffle(mask, value, outside ? emu::lane() : source, "shfl_up");
}
inline unsigned __ballot_sync(unsigned mask, int p) {
    const bool mine = p != 0;
    const emu::Posted *all = emu::meet(mask, &mine, sizeof mine, "ballot");
    unsigned out = 0;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1) out |= (unsigned)emu::read<bool>(all[i]) << i;
    return out;
}
inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, p) == mask; }
inline unsigned __activemask() { emu::die("__activemask says nothing that can be relied on"); }

// ---- atomics ----

template <class T> T atomicAdd(T *p, T v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }
template <class T> T atomicOr(T *p, T v) { return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST); }
template <class T> T atomicExch(T *p, T v) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }
template <class T> T atomicCAS(T *p, T expected, T v) {
    __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return expected;
}
template <class T> T atomicMax(T *p, T v) {
    const T old = *p;
    if (v > old) *p = v;
    return old;
}
inline float atomicAdd(float *, float) { emu::die("sums by atomics depend on the schedule"); }

// ---- numbers ----

template <class To, class From> To emu_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
inline int __float_as_int(float x) { return emu_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return emu_bits<unsigned>(x); }
inline float __int_as_float(int x) { return emu_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emu_bits<float>(x); }
inline int __float2int_rn(float x) { return (int)rintf(x); }
inline int __float2int_rz(float x) { return (int)x; }
inline float __int2float_rn(int x) { return (float)x; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
#define EMU_MIN_MAX(T) \
    inline T min(T a, T b) { return a < b ? a : b; } \
    inline T max(T a, T b) { return a > b ? a : b; }
EMU_MIN_MAX(int)
EMU_MIN_MAX(unsigned)
EMU_MIN_MAX(long long)
EMU_MIN_MAX(unsigned long long)
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
#undef EMU_MIN_MAX

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 32; i += 8) c += (int)(int8_t)(a >> i) * (int)(int8_t)(b >> i);
    return c;
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    const uint64_t both = (uint64_t)y << 32 | x;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned s = selector >> 4 * i & 15;
        unsigned byte = (unsigned)(both >> 8 * (s & 7)) & 255;
        if (s & 8) byte = byte & 128 ? 255 : 0;
        out |= byte << 8 * i;
    }
    return out;
}
inline int __vsubss4(int a, int b) {
    unsigned out = 0;
    for (int i = 0; i < 32; i += 8) {
        const int d = (int)(int8_t)(a >> i) - (int)(int8_t)(b >> i);
        out |= (unsigned)(uint8_t)std::clamp(d, -128, 127) << i;
    }
    return (int)out;
}
inline int __vsub4(int a, int b) {
    unsigned out = 0;
    for (int i = 0; i < 32; i += 8) out |= (((unsigned)(a >> i) - (unsigned)(b >> i)) & 255) << i;
    return (int)out;
}

template <class T> T __ldg(const T *p) { return *p; }
template <class T> T __ldcg(const T *p) { return *p; }
template <class T> T __ldcs(const T *p) { return *p; }
template <class T> void __stcs(T *p, T v) { *p = v; }
