// Tiles in shared memory: copies into them that go on beside the arithmetic, fragments of them, and
// products of fragments by tensor cores.
//
// Fragments are those of the PTX manual ("mma.m16n8k*"): lane 4 g + p has rows g and g + 8 of A,
// column g of B, and rows g and g + 8, columns 2 p and 2 p + 1 of the product. A, with rows of the
// length K, and B, with columns of it, both lie in memory as K neighbouring numbers after another.
//
// Cards before compute capability 8.0 have the small instructions only: there a large one is a few
// small ones, and a copy is done when it returns. What is computed is the same.
#pragma once
#include "pi_cuda.cuh"

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)

PI_DEVICE uint32_t pi_shared_address(const void *p) {
    uint32_t address;
    asm("{ .reg .u64 wide; cvta.to.shared.u64 wide, %1; cvt.u32.u64 %0, wide; }"
        : "=r"(address)
        : "l"(p));
    return address;
}

// Four matrices of 8 rows of 16 bytes: lane 8 i + r names row r of matrix i, and lane 4 g + p gets
// bytes 4 p to 4 p + 3 of row g of each.
PI_DEVICE void pi_load_matrices(uint32_t (&m)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(pi_shared_address(row))
                 : "memory");
}

// The same of halves, each matrix transposed: lane 4 g + p gets numbers g of rows 2 p and 2 p + 1.
PI_DEVICE void pi_load_transposed(uint32_t (&m)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(pi_shared_address(row))
                 : "memory");
}

#if PI_ARCH >= 800

// 16 or 8 bytes to shared memory; zeros where not `inside`, and then `from` is not read. They are
// there for this thread behind a pi_copies_done, for others behind a barrier after it.
PI_DEVICE void pi_copy16(void *to, const void *from, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(pi_shared_address(to)),
                 "l"(from), "r"(inside ? 16 : 0)
                 : "memory");
}
PI_DEVICE void pi_copy8(void *to, const void *from, bool inside) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(pi_shared_address(to)),
                 "l"(from), "r"(inside ? 8 : 0)
                 : "memory");
}
PI_DEVICE void pi_copies_done() { asm volatile("cp.async.wait_all;" ::: "memory"); }

PI_DEVICE void pi_mma_m16n8k32(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int c) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c));
}
PI_DEVICE void pi_mma_m16n8k16(int (&d)[4], const uint32_t *a, uint32_t b, int c) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, "
                 "{%4, %5}, {%6}, {%7, %7, %7, %7};"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b), "r"(c));
}
#define PI_MMA_HALVES(name, type) \
    PI_DEVICE void name(float (&d)[4], const uint32_t (&a)[4], const uint32_t *b) { \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 " \
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])); \
    }
PI_MMA_HALVES(pi_mma_m16n8k16_f16, "f16")
PI_MMA_HALVES(pi_mma_m16n8k16_bf16, "bf16")
#undef PI_MMA_HALVES

#else

PI_DEVICE void pi_copy16(void *to, const void *from, bool inside) {
    const int4 zeros = {0, 0, 0, 0};
    *(int4 *)to = inside ? *(const int4 *)from : zeros;
}
PI_DEVICE void pi_copy8(void *to, const void *from, bool inside) {
    const int2 zeros = {0, 0};
    *(int2 *)to = inside ? *(const int2 *)from : zeros;
}
PI_DEVICE void pi_copies_done() {}

PI_DEVICE void pi_mma_m8n8k16(int *d, uint32_t a, uint32_t b, int c0, int c1) {
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%4, %5};"
                 : "=r"(d[0]), "=r"(d[1])
                 : "r"(a), "r"(b), "r"(c0), "r"(c1));
}
PI_DEVICE void pi_mma_m16n8k8_f16(float (&d)[4], const uint32_t *a, uint32_t b) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, "
                 "{%6}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b));
}

#endif

#else // g++

PI_DEVICE void pi_load_matrices(uint32_t (&m)[4], const void *row) {
    emu::load_matrices(m, row, false);
}
PI_DEVICE void pi_load_transposed(uint32_t (&m)[4], const void *row) {
    emu::load_matrices(m, row, true);
}

#if PI_ARCH >= 800

PI_DEVICE void pi_copy16(void *to, const void *from, bool inside) {
    emu::copy(to, inside ? from : nullptr, 16);
}
PI_DEVICE void pi_copy8(void *to, const void *from, bool inside) {
    emu::copy(to, inside ? from : nullptr, 8);
}
PI_DEVICE void pi_copies_done() { emu::finish_copies(); }

PI_DEVICE void pi_mma_m16n8k32(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int c) {
    const int all[4] = {c, c, c, c};
    emu::mma_s8<16, 32>(d, a, b, all);
}
PI_DEVICE void pi_mma_m16n8k16(int (&d)[4], const uint32_t *a, uint32_t b, int c) {
    const int all[4] = {c, c, c, c};
    emu::mma_s8<16, 16>(d, a, &b, all);
}
PI_DEVICE void pi_mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t *b) {
    emu::mma_f16<16>(d, a, b, d);
}
PI_DEVICE void pi_mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t *b) {
    emu::mma_bf16(d, a, b, d);
}

#else

PI_DEVICE void pi_copy16(void *to, const void *from, bool inside) {
    emu::copy(to, inside ? from : nullptr, 16);
    emu::finish_copies();
}
PI_DEVICE void pi_copy8(void *to, const void *from, bool inside) {
    emu::copy(to, inside ? from : nullptr, 8);
    emu::finish_copies();
}
PI_DEVICE void pi_copies_done() {}

PI_DEVICE void pi_mma_m8n8k16(int *d, uint32_t a, uint32_t b, int c0, int c1) {
    const int c[2] = {c0, c1};
    emu::mma_s8<8, 16>(d, &a, &b, c);
}
PI_DEVICE void pi_mma_m16n8k8_f16(float (&d)[4], const uint32_t *a, uint32_t b) {
    emu::mma_f16<8>(d, a, &b, d);
}

#endif
#endif

// c, the same for all, plus A [16][32] times B [32][8], of signed bytes.
PI_DEVICE void pi_mma_32(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int c) {
#if PI_ARCH >= 800
    pi_mma_m16n8k32(d, a, b, c);
#else
#pragma unroll
    for (int i = 0; i < 2; i++) {
        pi_mma_m8n8k16(d + 2 * i, a[i], b[0], c, c);
        pi_mma_m8n8k16(d + 2 * i, a[2 + i], b[1], d[2 * i], d[2 * i + 1]);
    }
#endif
}

// The same with half the length: `a` has two words.
PI_DEVICE void pi_mma_16(int (&d)[4], const uint32_t *a, uint32_t b, int c) {
#if PI_ARCH >= 800
    pi_mma_m16n8k16(d, a, b, c);
#else
#pragma unroll
    for (int i = 0; i < 2; i++) pi_mma_m8n8k16(d + 2 * i, a[i], b, c, c);
#endif
}

// d plus A [16][16] times B [16][8], of halves; `b` has two words.
PI_DEVICE void pi_mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t *b) {
#if PI_ARCH >= 800
    pi_mma_m16n8k16_f16(d, a, b);
#else
    pi_mma_m16n8k8_f16(d, a, b[0]);
    pi_mma_m16n8k8_f16(d, a + 2, b[1]);
#endif
}

// A power of two that takes numbers into the range of halves, as the exponent (biased, of floats) of
// the number that set it. That becomes 2^8 to 2^9; up to 2^6 times larger ones are within the range.
struct Factor {
    static constexpr int AIM = 8, ROOM = 6, LOWEST = 9; // a factor is at most 2^126
    int top = LOWEST;

    PI_MEMBER static float power(int exponent) {
        return __int_as_float(pi_max(exponent + 127, 0) << 23); // 0 for less than 2^-126
    }
    PI_MEMBER float value() const { return power(AIM + 127 - top); }
    PI_MEMBER float inverse() const { return power(top - 127 - AIM); }
    // Makes room for a number of this exponent, and returns what becomes of sums.
    PI_MEMBER float grow(int exponent) {
        if (exponent <= top + ROOM) return 1.0f;
        const float shrink = power(top - exponent);
        top = exponent;
        return shrink;
    }
};

PI_DEVICE int pi_exponent(float x) { return (int)(__float_as_uint(x) >> 23 & 255); }
