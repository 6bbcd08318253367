// What every kernel includes first. nvcc and NVRTC need no CUDA header besides (conversions, dp4a
// and streaming loads are inline PTX); g++ gets the emulator of tests/cuda instead, so that the
// same sources run on a CPU.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)

#ifdef __CUDACC_RTC__
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <stdint.h>
#endif

// Compute capability of the cards that are compiled for, times 100.
#ifdef __CUDA_ARCH__
#define PI_ARCH __CUDA_ARCH__
#else
#define PI_ARCH 750
#endif

#define PI_DEVICE __device__ __forceinline__
#define PI_MEMBER __device__ __forceinline__ // of a struct

// An entry point: KERNEL((256)) name(...), with the most threads that a block may have. Names are
// found by this word, also by the fake driver of the tests.
#define KERNEL(bounds) extern "C" __global__ void __launch_bounds__ bounds

// Shared memory whose size is the launch's.
#define DYN_SHARED(T, name) \
    extern __shared__ __align__(16) unsigned char name##_bytes[]; \
    T *name = (T *)name##_bytes

// Halves are carried as their bits.
PI_DEVICE float pi_half_to_float(uint16_t half) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
    return x;
}

PI_DEVICE uint16_t pi_float_to_half(float x) {
    uint16_t half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
}

// c plus the products of four pairs of signed bytes.
PI_DEVICE int pi_dp4a(int a, int b, int c) {
    int d;
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

// 16 bytes at a multiple of 16 that are read once: they pass by the L1, which then keeps the
// activations.
PI_DEVICE int4 pi_load16_once(const void *p) {
    int4 v;
    asm("ld.global.nc.L1::no_allocate.v4.s32 {%0, %1, %2, %3}, [%4];"
        : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
        : "l"(p));
    return v;
}

#else // g++

#include "cuda_emu.h"

#define PI_ARCH 800

#define PI_DEVICE static inline
#define PI_MEMBER inline
#define KERNEL(bounds) EMU_KERNEL(bounds)
#define DYN_SHARED(T, name) T *name = (T *)emu::dyn_smem()

PI_DEVICE float pi_half_to_float(uint16_t half) {
    _Float16 x;
    memcpy(&x, &half, sizeof x);
    return (float)x;
}

PI_DEVICE uint16_t pi_float_to_half(float x) {
    const _Float16 rounded = (_Float16)x;
    uint16_t half;
    memcpy(&half, &rounded, sizeof half);
    return half;
}

PI_DEVICE int pi_dp4a(int a, int b, int c) {
    for (int i = 0; i < 32; i += 8) c += (int)(int8_t)(a >> i) * (int)(int8_t)(b >> i);
    return c;
}

PI_DEVICE int4 pi_load16_once(const void *p) {
    if ((uintptr_t)p % 16 != 0) {
        fprintf(stderr, "a load of 16 bytes at %p\n", p);
        abort();
    }
    return *(const int4 *)p;
}

#endif

#define PI_WARP 32
#define PI_ALL_LANES 0xffffffffu

PI_DEVICE float pi_bf16_to_float(uint16_t bits) { return __uint_as_float((uint32_t)bits << 16); }

// Rounded to nearest, ties to even; a NaN stays one.
PI_DEVICE uint16_t pi_float_to_bf16(float x) {
    const uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

PI_DEVICE int pi_min(int a, int b) { return a < b ? a : b; }
PI_DEVICE int pi_max(int a, int b) { return a > b ? a : b; }

// In a fixed order, the same in all lanes, which all take part.
PI_DEVICE float pi_warp_sum(float v) {
#pragma unroll
    for (int mask = PI_WARP / 2; mask > 0; mask /= 2) v += __shfl_xor_sync(PI_ALL_LANES, v, mask);
    return v;
}

PI_DEVICE float pi_warp_max(float v) {
#pragma unroll
    for (int mask = PI_WARP / 2; mask > 0; mask /= 2) {
        v = fmaxf(v, __shfl_xor_sync(PI_ALL_LANES, v, mask));
    }
    return v;
}
