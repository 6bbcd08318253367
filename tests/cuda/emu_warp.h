// What the lanes of a warp do together: shuffles, votes, and matrix instructions; and copies into
// shared memory, which go on beside the arithmetic.
#pragma once
#include "emu_block.h"

namespace emu {

inline int lane() { return self().linear % 32; }

inline bool same_op(const char *a, const char *b) { return a == b || strcmp(a, b) == 0; }

// Every lane of `mask` posts `n` bytes and waits for the others; returns what all have posted.
inline const Posted *meet(unsigned mask, const void *data, size_t n, const char *op) {
    Warp &warp = block->warps[self().linear / 32];
    const int me = lane();
    if (!(mask >> me & 1)) die("a lane is not in the mask it names");
    if (warp.exited & mask) die("a mask names a lane that has returned");
    int k = 0;
    while (k < warp.n_meetings && warp.meetings[k].mask != mask) k++;
    if (k == warp.n_meetings) {
        if (k == Warp::MAX_MASKS) die("more masks in one warp than the emulator keeps");
        warp.n_meetings++;
        warp.meetings[k].mask = mask;
        memset(warp.meetings[k].count, 0, sizeof warp.meetings[k].count);
    }
    Meeting &meeting = warp.meetings[k];
    const unsigned turn = ++meeting.count[me];
    const int place = turn & 1;
    bool first = true;
    for (unsigned others = mask & ~(1u << me); others; others &= others - 1)
        if ((int)(meeting.count[__builtin_ctz(others)] - turn) >= 0) first = false;
    if (first)
        meeting.op[place] = op;
    else if (!same_op(meeting.op[place], op))
        die("lanes of one warp meet at different operations");
    memcpy(meeting.posted[place][me].bytes, data, n);
    block->progress++;
    for (;;) {
        bool all = true;
        for (unsigned q = mask; q && all; q &= q - 1)
            all = (int)(meeting.count[__builtin_ctz(q)] - turn) >= 0;
        if (all) return meeting.posted[place];
        if (warp.exited & mask) die("a lane has returned before a meeting that names it");
        yield();
    }
}

template <class T> T read(const Posted &posted, size_t at = 0) {
    T value;
    memcpy(&value, posted.bytes + at, sizeof value);
    return value;
}

// The value of lane `source` of this lane's segment of `width` lanes.
template <class T> T shuffle(unsigned mask, T value, int source, const char *op) {
    static_assert(sizeof(T) <= sizeof(Posted), "one value of a shuffle");
    const Posted *all = meet(mask, &value, sizeof value, op);
    if (!(mask >> source & 1)) die("a shuffle reads a lane that is not in the mask");
    return read<T>(all[source]);
}

// ---- copies into shared memory (cp.async) ----

// What is to be there comes when the thread waits for it, and what was there is lost at once: a
// copy that is read too early, or begun too early, gives wrong numbers.
inline void copy(void *to, const void *from, size_t bytes) {
    if ((uintptr_t)to % bytes || (uintptr_t)from % bytes) die("a copy to or from an odd place");
    memset(to, POISON, bytes);
    self().copies.push_back({to, from, bytes});
}

inline void finish_copies() {
    for (const Copy &copy : self().copies) {
        if (copy.from)
            memcpy(copy.to, copy.from, copy.bytes);
        else
            memset(copy.to, 0, copy.bytes);
    }
    self().copies.clear();
}

// ---- half precision, without the compiler's help ----

inline float half_to_float(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, low = h & 0x3ff;
    float f;
    if (exponent == 0) { // zero and subnormals
        f = (float)low * 5.9604644775390625e-8f; // 2^-24
        return sign ? -f : f;
    }
    const uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | low << 13;
    memcpy(&f, &bits, 4);
    return f;
}

inline uint16_t float_to_half(float f) { // ties to even, overflow to infinity
    uint32_t bits;
    memcpy(&bits, &f, 4);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    const uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return sign | 0x7fff; // as the device's cvt: one NaN
    if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65520 and more
    if (magnitude < 0x38800000) {                      // subnormal halfs: multiples of 2^-24
        float m;
        memcpy(&m, &magnitude, 4);
        return sign | (uint16_t)(int)__builtin_rintf(m * 16777216.0f);
    }
    const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return sign | (uint16_t)((rounded - 0x38000000) >> 13);
}

// ---- matrix instructions: fragments as the PTX manual lays them out ("mma.m16n8k*") ----
// Group g = lane / 4, place p = lane % 4. Row g or g + 8 of A, column g of B, row g or g + 8 and
// columns 2p, 2p + 1 of C and D. All are `mma.sync.aligned.row.col`.

// Four matrices of 8 rows of 16 bytes (ldmatrix): lane 8 i + r names row r of matrix i, and lane
// 4 g + p gets word p of row g of each; or, transposed, halves g of rows 2 p and 2 p + 1.
inline void load_matrices(uint32_t m[4], const void *row, bool transposed) {
    if ((uintptr_t)row % 16) die("a row of a matrix at an odd place");
    const Posted *all = meet(~0u, &row, sizeof row, transposed ? "ldmatrix.trans" : "ldmatrix");
    const int g = lane() / 4, p = lane() % 4;
    const auto row_of = [&](int i) { return read<const uint16_t *>(all[i]); };
    for (int i = 0; i < 4; i++) {
        const uint16_t *first = transposed ? row_of(8 * i + 2 * p) + g : row_of(8 * i + g) + 2 * p;
        const uint16_t *second = transposed ? row_of(8 * i + 2 * p + 1) + g : first + 1;
        m[i] = *first | (uint32_t)*second << 16;
    }
    // Nobody goes on, and overwrites a row, before all have read.
    meet(~0u, &row, sizeof row, "ldmatrix");
}

inline float bf16_to_float(uint16_t b) {
    const uint32_t bits = (uint32_t)b << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

// D = A * B + C with A [16][K] and B [K][8] of 16 bits, which `number` reads.
template <int K, float (*number)(uint16_t)>
void mma_halves(float d[4], const uint32_t *a, const uint32_t *b, const float c[4],
                const char *op) {
    struct Fragment {
        uint32_t a[4], b[2];
    } mine = {};
    memcpy(mine.a, a, K / 4 * sizeof *a);
    memcpy(mine.b, b, K / 8 * sizeof *b);
    const Posted *all = meet(~0u, &mine, sizeof mine, op);
    auto at_a = [&](int row, int k) {
        const Fragment f = read<Fragment>(all[row % 8 * 4 + k % 8 / 2]);
        return number((uint16_t)(f.a[row / 8 + k / 8 * 2] >> k % 2 * 16));
    };
    auto at_b = [&](int k, int column) {
        const Fragment f = read<Fragment>(all[column * 4 + k % 8 / 2]);
        return number((uint16_t)(f.b[k / 8] >> k % 2 * 16));
    };
    for (int i = 0; i < 4; i++) {
        const int row = lane() / 4 + i / 2 * 8, column = lane() % 4 * 2 + i % 2;
        float sum = c[i];
        for (int k = 0; k < K; k++) sum += at_a(row, k) * at_b(k, column);
        d[i] = sum;
    }
}

// K = 8 (A two registers, B one) or 16 (four, two).
template <int K>
void mma_f16(float d[4], const uint32_t *a, const uint32_t *b, const float c[4]) {
    static_assert(K == 8 || K == 16, "shapes of f16");
    mma_halves<K, half_to_float>(d, a, b, c, "mma f16");
}

inline void mma_bf16(float d[4], const uint32_t *a, const uint32_t *b, const float c[4]) {
    mma_halves<16, bf16_to_float>(d, a, b, c, "mma bf16");
}

// D = A * B + C with A [M][K] and B [K][8] of signed bytes: 16 x 32 (A four registers, B two),
// 16 x 16 (two, one) and 8 x 16 (one, one; C and D have two values).
template <int M, int K>
void mma_s8(int *d, const uint32_t *a, const uint32_t *b, const int *c) {
    static_assert((M == 16 && (K == 16 || K == 32)) || (M == 8 && K == 16), "shapes of s8");
    struct Fragment {
        uint32_t a[4], b[2];
    } mine = {};
    memcpy(mine.a, a, M / 8 * (K / 16) * sizeof *a);
    memcpy(mine.b, b, K / 16 * sizeof *b);
    const Posted *all = meet(~0u, &mine, sizeof mine, "mma s8");
    auto at_a = [&](int row, int k) {
        const Fragment f = read<Fragment>(all[row % 8 * 4 + k % 16 / 4]);
        return (int)(int8_t)(f.a[row / 8 + k / 16 * 2] >> k % 4 * 8);
    };
    auto at_b = [&](int k, int column) {
        const Fragment f = read<Fragment>(all[column * 4 + k % 16 / 4]);
        return (int)(int8_t)(f.b[k / 16] >> k % 4 * 8);
    };
    for (int i = 0; i < M / 4; i++) {
        const int row = lane() / 4 + i / 2 * 8, column = lane() % 4 * 2 + i % 2;
        int sum = c[i];
        for (int k = 0; k < K; k++) sum += at_a(row, k) * at_b(k, column);
        d[i] = sum;
    }
}

} // namespace emu
