// Products of a matrix with many tokens (prefill): dst[t][r] = row r times token t. A block makes
// a tile of 64 rows by 64 tokens; weights and activations of 128 numbers at a time (32, with plain
// numbers) are laid out in shared memory, where each is used 64 times.
//
// Weights in blocks are decoded to signed bytes and multiplied in integers, 32 numbers to a sum
// (16, where scales are of 16), so that the arithmetic is mat_vec's. Grid: x tiles of rows,
// y tiles of tokens; 256 threads. The meaning of scale, bias, add and factor is mat_vec's.
#include "pi_weights.cuh"

static constexpr int TILE = 64;    // rows, and tokens, of a block
static constexpr int THREADS = 256;
static constexpr int SIDE = 4;     // a thread makes SIDE rows x SIDE tokens, 16 apart
static constexpr int APART = TILE / SIDE;

// Where a thread's outputs go.
PI_DEVICE void write_tile(const float (&sums)[SIDE][SIDE], int n_rows, int n_tokens, float *dst,
                          int dst_stride, float scale, const float *bias, int add, float factor) {
    const int first_row = blockIdx.x * TILE + threadIdx.x % APART;
    const int first_token = blockIdx.y * TILE + threadIdx.x / APART;
#pragma unroll
    for (int t = 0; t < SIDE; t++) {
#pragma unroll
        for (int r = 0; r < SIDE; r++) {
            const int row = first_row + r * APART, token = first_token + t * APART;
            if (row >= n_rows || token >= n_tokens) continue;
            float y = scale * sums[t][r];
            if (bias != nullptr) y += bias[row];
            float *out = dst + (size_t)token * dst_stride + row;
            *out = add ? *out + factor * y : y;
        }
    }
}

// ---- weights in blocks, activations in 8 bits ----

static constexpr int STEP = 128;             // numbers of a row in shared memory at a time
static constexpr int WORDS = STEP / 4;
static constexpr int PITCH = WORDS + 4;      // words from row to row: reads of 16 bytes by 8
                                             // neighbouring rows touch all 32 banks
static constexpr int BLOCKS = STEP / 32;
// Scales (and offsets) are laid down for each 16 numbers, which suits all types.
static constexpr int SCALES = STEP / 16, SCALE_PITCH = SCALES + 1;

// Lays down the numbers `start` .. `start` + STEP of the block's rows; zeros beyond the ends.
template <class W>
PI_DEVICE void lay_weights(const uint8_t *w, int row_stride, int n_rows, int k, int start,
                           int (&words)[TILE][PITCH], float (&scales)[TILE][SCALE_PITCH],
                           float (&offsets)[TILE][SCALE_PITCH]) {
    constexpr int CHUNKS = STEP / W::N; // of a row
    for (int i = threadIdx.x; i < TILE * CHUNKS; i += THREADS) {
        const int row = i / CHUNKS, c = start / W::N + i % CHUNKS;
        const int matrix_row = blockIdx.x * TILE + row;
        const bool inside = matrix_row < n_rows && c < W::n_chunks(k);
        typename W::Codes codes = {};
        if (inside) codes = W::decode(W::load(w + (size_t)row_stride * matrix_row, k, c));
#pragma unroll
        for (int j = 0; j < W::N / 4; j++) {
            const int column = W::column(c, 4 * j) - start;
            words[row][column / 4] = W::word(codes, j);
            if (j % 4 == 0) {
                scales[row][column / 16] = W::scale(codes, j);
                if (W::HAS_OFFSET) offsets[row][column / 16] = W::offset(codes, j);
            }
        }
    }
}

PI_DEVICE void lay_tokens(const Q8Acts &acts, int n_tokens, int start, int (&words)[TILE][PITCH],
                          float2 (&scales)[TILE][BLOCKS + 1]) {
    for (int i = threadIdx.x; i < TILE * STEP / 16; i += THREADS) {
        const int row = i / (STEP / 16), part = i % (STEP / 16);
        const int token = blockIdx.y * TILE + row, column = start + 16 * part;
        int4 codes = {0, 0, 0, 0};
        float2 ds = {0.0f, 0.0f};
        if (token < n_tokens && column < acts.k) {
            const Q8Acts mine = acts.token(token);
            codes = *(const int4 *)(mine.codes + column);
            ds = mine.scales[column / 32];
        }
        *(int4 *)&words[row][4 * part] = codes;
        if (part % 2 == 0) scales[row][part / 2] = ds;
    }
}

// Whether the two halves of 32 numbers have scales of their own.
template <class W> struct HalfScales {
    static constexpr bool YES = false;
};
template <> struct HalfScales<Q6_K> {
    static constexpr bool YES = true;
};

template <class W>
PI_DEVICE void mat_mul(const uint8_t *w, int row_stride, int n_rows, int k, Q8Acts acts,
                       int n_tokens, float *dst, int dst_stride, float scale, const float *bias,
                       int add, float factor) {
    __align__(16) __shared__ int weights[TILE][PITCH];
    __align__(16) __shared__ int tokens[TILE][PITCH];
    __shared__ float scales[TILE][SCALE_PITCH], offsets[TILE][SCALE_PITCH];
    __align__(16) __shared__ float2 token_scales[TILE][BLOCKS + 1];
    const int row = threadIdx.x % APART, token = threadIdx.x / APART;

    float sums[SIDE][SIDE] = {};
#pragma unroll 1
    for (int start = 0; start < k; start += STEP) {
        lay_weights<W>(w, row_stride, n_rows, k, start, weights, scales, offsets);
        lay_tokens(acts, n_tokens, start, tokens, token_scales);
        __syncthreads();
#pragma unroll 1
        for (int b = 0; b < BLOCKS; b++) {
            int products[2][SIDE][SIDE] = {}; // of the two halves
#pragma unroll
            for (int half = 0; half < 2; half++) {
                constexpr bool SPLIT = HalfScales<W>::YES;
                const int part = SPLIT ? half : 0;
                int4 x[SIDE];
#pragma unroll
                for (int t = 0; t < SIDE; t++) {
                    x[t] = *(const int4 *)&tokens[token + t * APART][8 * b + 4 * half];
                }
#pragma unroll
                for (int r = 0; r < SIDE; r++) {
                    const int4 v = *(const int4 *)&weights[row + r * APART][8 * b + 4 * half];
                    const int codes[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
                    for (int t = 0; t < SIDE; t++) {
                        products[part][t][r] = pi_dot16(codes, x[t], products[part][t][r]);
                    }
                }
            }
#pragma unroll
            for (int t = 0; t < SIDE; t++) {
                const float2 ds = token_scales[token + t * APART][b];
#pragma unroll
                for (int r = 0; r < SIDE; r++) {
                    const int at = row + r * APART;
                    float sum = sums[t][r];
                    sum = fmaf(scales[at][2 * b] * ds.x, (float)products[0][t][r], sum);
                    if (HalfScales<W>::YES) {
                        sum = fmaf(scales[at][2 * b + 1] * ds.x, (float)products[1][t][r], sum);
                    }
                    if (W::HAS_OFFSET) sum = fmaf(offsets[at][2 * b], ds.y, sum);
                    sums[t][r] = sum;
                }
            }
        }
        __syncthreads(); // before the next step overwrites the tiles
    }
    write_tile(sums, n_rows, n_tokens, dst, dst_stride, scale, bias, add, factor);
}

// ---- plain numbers ----

static constexpr int PLAIN_STEP = 32;
// Column-major, one more than a tile, so that neither laying down nor reading meets one bank.
static constexpr int PLAIN_PITCH = TILE + 1;

template <class W>
PI_DEVICE void mat_mul_plain(const uint8_t *w, int row_stride, int n_rows, int k, F32Acts acts,
                             int n_tokens, float *dst, int dst_stride, float scale,
                             const float *bias, int add, float factor) {
    __shared__ float weights[PLAIN_STEP][PLAIN_PITCH], tokens[PLAIN_STEP][PLAIN_PITCH];
    constexpr int CHUNKS = PLAIN_STEP / W::N;
    const int row = threadIdx.x % APART, token = threadIdx.x / APART;

    float sums[SIDE][SIDE] = {};
#pragma unroll 1
    for (int start = 0; start < k; start += PLAIN_STEP) {
        for (int i = threadIdx.x; i < TILE * CHUNKS; i += THREADS) {
            const int at = i / CHUNKS, c = start / W::N + i % CHUNKS;
            const int matrix_row = blockIdx.x * TILE + at, matrix_token = blockIdx.y * TILE + at;
            typename W::Codes v = {}, x = {};
            if (matrix_row < n_rows && c < W::n_chunks(k)) {
                v = W::decode(W::load(w + (size_t)row_stride * matrix_row, k, c));
            }
            if (matrix_token < n_tokens && c < W::n_chunks(k)) x = W::acts(acts.token(matrix_token), c);
#pragma unroll
            for (int j = 0; j < W::N; j++) {
                weights[W::N * (i % CHUNKS) + j][at] = v.v[j];
                tokens[W::N * (i % CHUNKS) + j][at] = x.v[j];
            }
        }
        __syncthreads();
#pragma unroll 8
        for (int j = 0; j < PLAIN_STEP; j++) {
            float v[SIDE], x[SIDE];
#pragma unroll
            for (int i = 0; i < SIDE; i++) {
                v[i] = weights[j][row + i * APART];
                x[i] = tokens[j][token + i * APART];
            }
#pragma unroll
            for (int t = 0; t < SIDE; t++) {
#pragma unroll
                for (int r = 0; r < SIDE; r++) sums[t][r] = fmaf(v[r], x[t], sums[t][r]);
            }
        }
        __syncthreads();
    }
    write_tile(sums, n_rows, n_tokens, dst, dst_stride, scale, bias, add, factor);
}

#define WEIGHTS const uint8_t *__restrict__ w, int row_stride, int n_rows, int k
#define OUTPUT \
    int n_tokens, float *dst, int dst_stride, float scale, const float *bias, int add, float factor
#define Q8 WEIGHTS, const int8_t *__restrict__ codes, const float2 *__restrict__ scales, OUTPUT
#define FLOATS WEIGHTS, const float *__restrict__ x, OUTPUT
#define PASS(ACTS) \
    w, row_stride, n_rows, k, ACTS, n_tokens, dst, dst_stride, scale, bias, add, factor
#define PASS_Q8 PASS((Q8Acts{codes, scales, k}))
#define PASS_FLOATS PASS((F32Acts{x, k}))

KERNEL((256)) mat_mul_q8_0(Q8) { mat_mul<Q8_0>(PASS_Q8); }
KERNEL((256)) mat_mul_q4_0(Q8) { mat_mul<Q4_0>(PASS_Q8); }
KERNEL((256)) mat_mul_q4_1(Q8) { mat_mul<Q4_1>(PASS_Q8); }
KERNEL((256)) mat_mul_q5_0(Q8) { mat_mul<Q5_0>(PASS_Q8); }
KERNEL((256)) mat_mul_q4_k(Q8) { mat_mul<Q4_K>(PASS_Q8); }
KERNEL((256)) mat_mul_q5_k(Q8) { mat_mul<Q5_K>(PASS_Q8); }
KERNEL((256)) mat_mul_q6_k(Q8) { mat_mul<Q6_K>(PASS_Q8); }
KERNEL((256)) mat_mul_f32(FLOATS) { mat_mul_plain<F32>(PASS_FLOATS); }
KERNEL((256)) mat_mul_f16(FLOATS) { mat_mul_plain<F16>(PASS_FLOATS); }
KERNEL((256)) mat_mul_bf16(FLOATS) { mat_mul_plain<BF16>(PASS_FLOATS); }
