// Weights on the device: how a row of each type lies there, and the same few operations on all
// types, which mat-vec, mat-mul and the sparse kernels are written with.
//
// A row is cut into chunks of 16 bytes of codes, which a lane loads at once. A type W has
//   N                  numbers in a chunk
//   n_chunks(k)        chunks in a row of k numbers
//   load(row, k, c)    chunk c as it lies in memory: loads only, so that several can be in flight
//   decode(raw)        its codes and scales, the same for all tokens
//   column(c, j)       which number of the row number j of the chunk is; those of 4 j .. 4 j + 3
//                      follow each other
//   unpack(codes, v)   the N numbers
//   Acts               activations in memory; acts.token(t) are those of one token
//   X, acts(a, c)      one token's activations of a chunk
//   dot(codes, x)      the chunk's share in the product
// and types with activations in 8 bits (EIGHT_BITS)
//   word(codes, i)     codes 4 i .. 4 i + 3 as signed bytes
//   scale, offset(codes, i)  of these: a number is scale * code + offset
//   HAS_OFFSET
//
// Layout of a row: sections, each padded to 16 bytes, for k numbers, nb = k / 32, ns = k / 256
// (src/backend/cuda/pack.rs makes them):
//   F32, F16, BF16   as in the file
//   Q8_0   codes nb*32, halves d nb*2
//   Q4_0   nibbles nb*16, halves d nb*2
//   Q4_1   nibbles nb*16, pairs of halves (d, m) nb*4
//   Q5_0   nibbles nb*16, fifth bits nb*4, halves d nb*2
//   Q4_K, Q5_K   blocks of 144 and 176 bytes, as in the file
//   Q6_K   low bits ns*128, high bits ns*64, scales ns*16, halves d ns*2
#pragma once
#include "pi_cuda.cuh"

PI_DEVICE float pi_half_at(const uint8_t *p) { return pi_half_to_float(*(const uint16_t *)p); }

PI_DEVICE int pi_pad16(int bytes) { return (bytes + 15) & ~15; }

// An entry of a list of rows, in bounds whatever it says.
PI_DEVICE int pi_row_of(int entry, int n_rows) {
    return (int)min((uint32_t)entry, (uint32_t)n_rows - 1);
}

// Word i (known when compiling) of four.
PI_DEVICE int pi_word(const int4 &v, int i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// Unsigned byte j of a word as a float, without the slow conversion: as the low bits of 2^23 + b.
PI_DEVICE float pi_byte_to_float(uint32_t word, int j) {
    const uint32_t bits = (word >> 8 * j & 255) | 0x4b000000u;
    return __uint_as_float(bits) - 8388608.0f;
}

// The products of four words of codes with four of activations, added to `sum`.
PI_DEVICE int pi_dot16(const int *codes, const int4 &x, int sum) {
    sum = pi_dp4a(codes[0], x.x, sum);
    sum = pi_dp4a(codes[1], x.y, sum);
    sum = pi_dp4a(codes[2], x.z, sum);
    return pi_dp4a(codes[3], x.w, sum);
}

// Low and high nibbles of 16 bytes: words 0 to 3 and 4 to 7.
PI_DEVICE void pi_nibbles(const int4 &bytes, int *words) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        words[i] = pi_word(bytes, i) & 0x0f0f0f0f;
        words[4 + i] = pi_word(bytes, i) >> 4 & 0x0f0f0f0f;
    }
}

// Activations in 8 bits (kernels/quantize.cu).
struct Q8Acts {
    const int8_t *codes;
    const float2 *scales; // {d, d * sum of codes} of each 32
    int k;
    PI_MEMBER Q8Acts token(int t) const {
        return {codes + (size_t)t * k, scales + (size_t)t * (k / 32), k};
    }
};

struct F32Acts {
    const float *x;
    int k;
    PI_MEMBER F32Acts token(int t) const { return {x + (size_t)t * k, k}; }
};

// ---- plain numbers ----

// `Number` knows one plain type: its bytes and how four bytes become floats.
template <class Number> struct Plain {
    static constexpr bool EIGHT_BITS = false;
    static constexpr int N = 16 / Number::BYTES;
    typedef int4 Raw;
    typedef F32Acts Acts;
    struct Codes {
        float v[N];
    };
    typedef Codes X;

    PI_MEMBER static int n_chunks(int k) { return (k + N - 1) / N; }
    PI_MEMBER static int column(int c, int j) { return N * c + j; }
    PI_MEMBER static Raw load(const uint8_t *row, int /*k*/, int c) {
        return pi_load16_once(row + 16 * (size_t)c);
    }
    PI_MEMBER static Codes decode(const Raw &raw) {
        Codes codes;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            Number::floats((uint32_t)pi_word(raw, i), codes.v + i * (N / 4));
        }
        return codes;
    }
    PI_MEMBER static void unpack(const Codes &codes, float *v) {
#pragma unroll
        for (int j = 0; j < N; j++) v[j] = codes.v[j];
    }
    // The end of a row may lie inside a chunk (there the weights are padding), and with an odd
    // length the rows are not aligned.
    PI_MEMBER static X acts(const Acts &a, int c) {
        X x;
        if (N * (c + 1) <= a.k && a.k % 4 == 0) {
#pragma unroll
            for (int j = 0; j < N; j += 4) {
                const float4 v = *(const float4 *)(a.x + (size_t)N * c + j);
                x.v[j] = v.x, x.v[j + 1] = v.y, x.v[j + 2] = v.z, x.v[j + 3] = v.w;
            }
        } else {
#pragma unroll
            for (int j = 0; j < N; j++) x.v[j] = N * c + j < a.k ? a.x[N * c + j] : 0.0f;
        }
        return x;
    }
    PI_MEMBER static float dot(const Codes &w, const X &x) {
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < N; j++) sum = fmaf(w.v[j], x.v[j], sum);
        return sum;
    }
};

struct NumberF32 {
    static constexpr int BYTES = 4;
    PI_MEMBER static void floats(uint32_t word, float *v) { v[0] = __uint_as_float(word); }
};
struct NumberF16 {
    static constexpr int BYTES = 2;
    PI_MEMBER static void floats(uint32_t word, float *v) {
        v[0] = pi_half_to_float((uint16_t)word);
        v[1] = pi_half_to_float((uint16_t)(word >> 16));
    }
};
struct NumberBF16 {
    static constexpr int BYTES = 2;
    PI_MEMBER static void floats(uint32_t word, float *v) {
        v[0] = __uint_as_float(word << 16);
        v[1] = __uint_as_float(word & 0xffff0000u);
    }
};
typedef Plain<NumberF32> F32;
typedef Plain<NumberF16> F16;
typedef Plain<NumberBF16> BF16;

// ---- Q8_0: half a block is a chunk ----

struct Q8_0 {
    static constexpr bool EIGHT_BITS = true, HAS_OFFSET = false;
    static constexpr int N = 16;
    typedef Q8Acts Acts;
    struct Raw {
        int4 codes;
        uint16_t d;
    };
    struct Codes {
        int words[4];
        float d;
    };
    struct X {
        int4 codes;
        float d;
    };

    PI_MEMBER static int n_chunks(int k) { return k / 16; }
    PI_MEMBER static int column(int c, int j) { return 16 * c + j; }
    PI_MEMBER static Raw load(const uint8_t *row, int k, int c) {
        return {pi_load16_once(row + 16 * (size_t)c), ((const uint16_t *)(row + k))[c / 2]};
    }
    PI_MEMBER static Codes decode(const Raw &raw) {
        return {{raw.codes.x, raw.codes.y, raw.codes.z, raw.codes.w}, pi_half_to_float(raw.d)};
    }
    PI_MEMBER static int word(const Codes &codes, int i) { return codes.words[i]; }
    PI_MEMBER static float scale(const Codes &codes, int) { return codes.d; }
    PI_MEMBER static float offset(const Codes &, int) { return 0.0f; }
    PI_MEMBER static void unpack(const Codes &codes, float *v) {
#pragma unroll
        for (int j = 0; j < N; j++) {
            // The sign bit flipped, a byte is its value plus 128.
            const uint32_t word = (uint32_t)codes.words[j / 4] ^ 0x80808080u;
            v[j] = codes.d * (pi_byte_to_float(word, j % 4) - 128.0f);
        }
    }
    PI_MEMBER static X acts(const Acts &a, int c) {
        return {((const int4 *)a.codes)[c], a.scales[c / 2].x};
    }
    PI_MEMBER static float dot(const Codes &w, const X &x) {
        return w.d * x.d * (float)pi_dot16(w.words, x.codes, 0);
    }
};

// ---- Q4_0, Q4_1, Q5_0: a block of 32 is a chunk ----

// A number is scale * code + offset, codes from 0.
struct BlockCodes {
    int words[8];
    float scale, offset;
};

// What the types have in common.
struct Blocks32 {
    static constexpr bool EIGHT_BITS = true, HAS_OFFSET = true;
    static constexpr int N = 32;
    typedef Q8Acts Acts;
    typedef BlockCodes Codes;
    struct X {
        int4 low, high;
        float2 scales;
    };

    PI_MEMBER static int n_chunks(int k) { return k / 32; }
    PI_MEMBER static int column(int c, int j) { return 32 * c + j; }
    PI_MEMBER static int word(const Codes &codes, int i) { return codes.words[i]; }
    PI_MEMBER static float scale(const Codes &codes, int) { return codes.scale; }
    PI_MEMBER static float offset(const Codes &codes, int) { return codes.offset; }
    PI_MEMBER static void unpack(const Codes &codes, float *v) {
#pragma unroll
        for (int j = 0; j < N; j++) {
            const float code = pi_byte_to_float((uint32_t)codes.words[j / 4], j % 4);
            v[j] = fmaf(codes.scale, code, codes.offset);
        }
    }
    PI_MEMBER static X acts(const Acts &a, int c) {
        const int4 *codes = (const int4 *)a.codes + 2 * (size_t)c;
        return {codes[0], codes[1], a.scales[c]};
    }
    PI_MEMBER static float dot(const Codes &w, const X &x) {
        const int sum = pi_dot16(w.words + 4, x.high, pi_dot16(w.words, x.low, 0));
        return fmaf(w.scale * x.scales.x, (float)sum, w.offset * x.scales.y);
    }
};

struct Q4_0 : Blocks32 {
    struct Raw {
        int4 nibbles;
        uint16_t d;
    };
    PI_MEMBER static Raw load(const uint8_t *row, int k, int c) {
        return {pi_load16_once(row + 16 * (size_t)c), ((const uint16_t *)(row + k / 2))[c]};
    }
    PI_MEMBER static Codes decode(const Raw &raw) {
        Codes codes;
        pi_nibbles(raw.nibbles, codes.words);
        codes.scale = pi_half_to_float(raw.d);
        codes.offset = -8.0f * codes.scale;
        return codes;
    }
};

struct Q4_1 : Blocks32 {
    struct Raw {
        int4 nibbles;
        uint32_t dm;
    };
    PI_MEMBER static Raw load(const uint8_t *row, int k, int c) {
        return {pi_load16_once(row + 16 * (size_t)c), ((const uint32_t *)(row + k / 2))[c]};
    }
    PI_MEMBER static Codes decode(const Raw &raw) {
        Codes codes;
        pi_nibbles(raw.nibbles, codes.words);
        codes.scale = pi_half_to_float((uint16_t)raw.dm);
        codes.offset = pi_half_to_float((uint16_t)(raw.dm >> 16));
        return codes;
    }
};

struct Q5_0 : Blocks32 {
    struct Raw {
        int4 nibbles;
        uint32_t fifth; // bit j is that of number j
        uint16_t d;
    };
    PI_MEMBER static Raw load(const uint8_t *row, int k, int c) {
        const uint8_t *fifth = row + k / 2, *d = fifth + pi_pad16(k / 8);
        return {pi_load16_once(row + 16 * (size_t)c), ((const uint32_t *)fifth)[c],
                ((const uint16_t *)d)[c]};
    }
    PI_MEMBER static Codes decode(const Raw &raw) {
        Codes codes;
        pi_nibbles(raw.nibbles, codes.words);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            // Four bits, one to each byte: the factor has shifts by 0, 7, 14 and 21.
            const uint32_t spread = (raw.fifth >> 4 * i & 15) * 0x00204081u & 0x01010101u;
            codes.words[i] |= (int)(spread << 4);
        }
        codes.scale = pi_half_to_float(raw.d);
        codes.offset = -16.0f * codes.scale;
        return codes;
    }
};

// ---- Q4_K, Q5_K, Q6_K: an eighth of a superblock of 256 is a chunk ----

// Its low and its high nibbles belong to two groups of 32 numbers (of 16, with Q6_K).
struct GroupCodes {
    int words[8];
    float scale[2], offset[2]; // of words 0 to 3, and 4 to 7
    // The offset of that group whose sum of activations this chunk multiplies with: of the two
    // chunks of a pair of groups, the first takes the low group's, the second the high one's.
    float own_offset;
};

struct Groups256 {
    static constexpr bool EIGHT_BITS = true;
    static constexpr int N = 32;
    typedef Q8Acts Acts;
    typedef GroupCodes Codes;
    struct X {
        int4 low, high;
        float d_low, d_high, sum; // the scales, and the sum times scale of the chunk's own group
    };

    PI_MEMBER static int n_chunks(int k) { return k / 32; }
    PI_MEMBER static int word(const Codes &codes, int i) { return codes.words[i]; }
    PI_MEMBER static float scale(const Codes &codes, int i) { return codes.scale[i / 4]; }
    PI_MEMBER static float offset(const Codes &codes, int i) { return codes.offset[i / 4]; }
};

// Q4_K and Q5_K. Chunk c has half c % 2 of the bytes of groups 2 p and 2 p + 1, p = c / 2 % 4.
struct Groups32 : Groups256 {
    static constexpr bool HAS_OFFSET = true;

    PI_MEMBER static int column(int c, int j) {
        return 64 * (c / 2) + 16 * (c % 2) + j % 16 + 32 * (j / 16);
    }
    PI_MEMBER static X acts(const Acts &a, int c) {
        const int4 *codes = (const int4 *)a.codes + 4 * (size_t)(c / 2) + c % 2;
        const float4 scales = *(const float4 *)(a.scales + 2 * (size_t)(c / 2));
        return {codes[0], codes[2], scales.x, scales.z, c % 2 == 0 ? scales.y : scales.w};
    }
    PI_MEMBER static float dot(const Codes &w, const X &x) {
        const float low = w.scale[0] * x.d_low, high = w.scale[1] * x.d_high;
        float sum = w.own_offset * x.sum;
        sum = fmaf(low, (float)pi_dot16(w.words, x.low, 0), sum);
        return fmaf(high, (float)pi_dot16(w.words + 4, x.high, 0), sum);
    }
    PI_MEMBER static void unpack(const Codes &codes, float *v) {
#pragma unroll
        for (int j = 0; j < N; j++) {
            const float code = pi_byte_to_float((uint32_t)codes.words[j / 4], j % 4);
            v[j] = fmaf(codes.scale[j / 16], code, codes.offset[j / 16]);
        }
    }
    // `header` is the first 16 bytes of a superblock: halves d and dmin, and 6-bit scales and
    // minimums. Those of groups 0 to 3 are the low bits of words y and z; groups 4 to 7 have
    // their low four bits in the nibbles of word w and the high two on top of y and z.
    PI_MEMBER static void scales(const int4 &header, int c, Codes &codes) {
        const uint32_t y = (uint32_t)header.y, z = (uint32_t)header.z, w = (uint32_t)header.w;
        const int pair = c / 2 % 4;
        uint32_t scales = y & 0x3f3f3f3fu, mins = z & 0x3f3f3f3fu;
        if (pair >= 2) {
            scales = (w & 0x0f0f0f0fu) | (y >> 2 & 0x30303030u);
            mins = (w >> 4 & 0x0f0f0f0fu) | (z >> 2 & 0x30303030u);
        }
        const int shift = 16 * (pair % 2);
        scales >>= shift, mins >>= shift;
        const float d = pi_half_to_float((uint16_t)header.x);
        const float dmin = -pi_half_to_float((uint16_t)((uint32_t)header.x >> 16));
#pragma unroll
        for (int i = 0; i < 2; i++) {
            codes.scale[i] = d * pi_byte_to_float(scales, i);
            codes.offset[i] = dmin * pi_byte_to_float(mins, i);
        }
        codes.own_offset = c % 2 == 0 ? codes.offset[0] : codes.offset[1];
    }
};

struct Q4_K : Groups32 {
    struct Raw {
        int4 nibbles, header;
        int c;
    };
    PI_MEMBER static Raw load(const uint8_t *row, int /*k*/, int c) {
        const uint8_t *block = row + 144 * (size_t)(c / 8);
        return {pi_load16_once(block + 16 + 16 * (c % 8)), *(const int4 *)block, c};
    }
    PI_MEMBER static Codes decode(const Raw &raw) {
        Codes codes;
        pi_nibbles(raw.nibbles, codes.words);
        scales(raw.header, raw.c, codes);
        return codes;
    }
};

struct Q5_K : Groups32 {
    struct Raw {
        int4 nibbles, fifth, header; // bit g of a byte of `fifth` belongs to group g
        int c;
    };
    PI_MEMBER static Raw load(const uint8_t *row, int /*k*/, int c) {
        const uint8_t *block = row + 176 * (size_t)(c / 8);
        return {pi_load16_once(block + 48 + 16 * (c % 8)),
                *(const int4 *)(block + 16 + 16 * (c % 2)), *(const int4 *)block, c};
    }
    PI_MEMBER static Codes decode(const Raw &raw) {
        Codes codes;
        pi_nibbles(raw.nibbles, codes.words);
        const int group = 2 * (raw.c / 2 % 4);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int fifth = pi_word(raw.fifth, i) >> group;
            codes.words[i] |= (fifth & 0x01010101) << 4;
            codes.words[4 + i] |= (fifth >> 1 & 0x01010101) << 4;
        }
        scales(raw.header, raw.c, codes);
        return codes;
    }
};

// Of each 128 numbers, byte l of 64 has the low four bits of numbers l and l + 64, and byte l of
// 32 the high two of numbers l, l + 32, l + 64 and l + 96. Chunk c has 16 of the 64 bytes.
struct Q6_K : Groups256 {
    static constexpr bool HAS_OFFSET = false;
    struct Raw {
        int4 nibbles, top;
        int8_t scale_low, scale_high;
        uint16_t d;
        int c;
    };

    PI_MEMBER static int column(int c, int j) {
        return 128 * (c / 4) + 16 * (c % 4) + j % 16 + 64 * (j / 16);
    }
    PI_MEMBER static Raw load(const uint8_t *row, int k, int c) {
        const uint8_t *top = row + k / 2, *d = top + k / 4 + k / 16;
        const int8_t *scales = (const int8_t *)(top + k / 4) + 8 * (size_t)(c / 4) + c % 4;
        return {pi_load16_once(row + 16 * (size_t)c),
                *(const int4 *)(top + 32 * (size_t)(c / 4) + 16 * (c % 2)), scales[0], scales[4],
                ((const uint16_t *)d)[c / 8], c};
    }
    PI_MEMBER static Codes decode(const Raw &raw) {
        Codes codes;
        pi_nibbles(raw.nibbles, codes.words);
        const int shift = 2 * (raw.c % 4 / 2);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int top = pi_word(raw.top, i) >> shift;
            codes.words[i] |= (top & 0x03030303) << 4;
            codes.words[4 + i] |= (top >> 4 & 0x03030303) << 4;
        }
        // Less 32 in each byte, without borrowing from the next.
#pragma unroll
        for (int i = 0; i < 8; i++) {
            codes.words[i] = (int)(((uint32_t)codes.words[i] + 0x60606060u) ^ 0x80808080u);
        }
        const float d = pi_half_to_float(raw.d);
        codes.scale[0] = d * (float)raw.scale_low;
        codes.scale[1] = d * (float)raw.scale_high;
        codes.offset[0] = codes.offset[1] = codes.own_offset = 0.0f;
        return codes;
    }
    PI_MEMBER static X acts(const Acts &a, int c) {
        const int4 *codes = (const int4 *)a.codes + 8 * (size_t)(c / 4) + c % 4;
        const float2 *scales = a.scales + 4 * (size_t)(c / 4) + c % 4 / 2;
        return {codes[0], codes[4], scales[0].x, scales[2].x, 0.0f};
    }
    PI_MEMBER static float dot(const Codes &w, const X &x) {
        const float low = w.scale[0] * x.d_low, high = w.scale[1] * x.d_high;
        return fmaf(low, (float)pi_dot16(w.words, x.low, 0),
                    high * (float)pi_dot16(w.words + 4, x.high, 0));
    }
    PI_MEMBER static void unpack(const Codes &codes, float *v) {
#pragma unroll
        for (int j = 0; j < N; j++) {
            const uint32_t word = (uint32_t)codes.words[j / 4] ^ 0x80808080u;
            v[j] = codes.scale[j / 16] * (pi_byte_to_float(word, j % 4) - 128.0f);
        }
    }
};

// ---- the sum of a product ----

// Adds this lane's chunks of the products of R rows with T tokens: chunks lane, lane + lanes, ...
// U chunks of all rows are asked for before the first is used.
template <class W, int T, int R, int U>
PI_DEVICE void pi_accumulate(const uint8_t *const (&rows)[R], const typename W::Acts (&tokens)[T],
                             int k, int lane, int lanes, float (&sums)[R][T]) {
    const int n_chunks = W::n_chunks(k);
#pragma unroll 1 // U is the unrolling
    for (int first = lane; first < n_chunks; first += U * lanes) {
        typename W::Raw raw[U][R];
#pragma unroll
        for (int u = 0; u < U; u++) {
            const int c = first + u * lanes;
#pragma unroll
            for (int r = 0; r < R; r++) {
                if (c < n_chunks) raw[u][r] = W::load(rows[r], k, c);
            }
        }
#pragma unroll
        for (int u = 0; u < U; u++) {
            const int c = first + u * lanes;
            if (c >= n_chunks) break;
            typename W::Codes codes[R];
#pragma unroll
            for (int r = 0; r < R; r++) codes[r] = W::decode(raw[u][r]);
#pragma unroll
            for (int t = 0; t < T; t++) {
                const typename W::X x = W::acts(tokens[t], c);
#pragma unroll
                for (int r = 0; r < R; r++) sums[r][t] += W::dot(codes[r], x);
            }
        }
    }
}

// Sums over groups of `lanes` neighbouring lanes, the same in all of them.
template <int R, int T> PI_DEVICE void pi_group_sums(float (&sums)[R][T], int lanes) {
#pragma unroll 1
    for (int mask = lanes / 2; mask > 0; mask /= 2) {
#pragma unroll
        for (int r = 0; r < R; r++) {
#pragma unroll
            for (int t = 0; t < T; t++) {
                sums[r][t] += __shfl_xor_sync(PI_ALL_LANES, sums[r][t], mask);
            }
        }
    }
}
