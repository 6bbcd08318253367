// Products of a matrix with many tokens (prefill): dst[t][r] = row r times token t. A block of 8
// warps makes a tile of ROWS rows by TOKENS tokens, in steps along the rows: a step's weights and
// activations are laid out in shared memory, where each is used TOKENS or ROWS times. Weights of
// the next step are on their way to registers, and activations to a second place in shared memory,
// while tensor cores multiply those of this one.
//
// Weights in blocks are decoded to signed bytes and multiplied in integers, 32 numbers to a sum
// (16, where scales are of 16), so that the arithmetic is mat_vec's. Sums go along the row, in an
// order that neither the other tokens nor TOKENS have a part in.
//
// Grid: x tiles of rows, y tiles of tokens; 256 threads. The meaning of scale, bias, add and factor
// is mat_vec's. Rows and tokens past the last repeat it, and are not written.
#pragma once
#include "pi_tile.cuh"
#include "pi_weights.cuh"

static constexpr int THREADS = 256, WARPS = THREADS / PI_WARP;
static constexpr int ROWS = 128; // of a block

// Which part of a block's tile a warp makes: M x N products of 16 rows by 8 tokens.
template <int TOKENS> struct Part {
    static constexpr int N = 4, ACROSS = TOKENS / (8 * N); // warps beside each other
    static constexpr int M = ROWS / 16 / (WARPS / ACROSS);
    // Its first row and its first token, in the tile.
    PI_MEMBER static int row() { return threadIdx.x / PI_WARP / ACROSS * (16 * M); }
    PI_MEMBER static int token() { return threadIdx.x / PI_WARP % ACROSS * (8 * N); }
    // What this lane has of a product: number i is in row row_of(i) and column column_of(i).
    PI_MEMBER static int row_of(int i) { return threadIdx.x % PI_WARP / 4 + i / 2 * 8; }
    PI_MEMBER static int column_of(int i) { return threadIdx.x % 4 * 2 + i % 2; }
};

struct Output {
    int n_rows, n_tokens;
    float *dst;
    int dst_stride;
    float scale;
    const float *bias;
    int add;
    float factor;

    // For a row and a token of the block's tile.
    template <int TOKENS> PI_MEMBER void put(int row, int token, float sum) const {
        row += blockIdx.x * ROWS, token += blockIdx.y * TOKENS;
        if (row >= n_rows || token >= n_tokens) return;
        float y = scale * sum;
        if (bias != nullptr) y += bias[row];
        float *out = dst + (size_t)token * dst_stride + row;
        *out = add ? *out + factor * y : y;
    }
    // A warp's part.
    template <int TOKENS>
    PI_MEMBER void put_all(const float (&sums)[Part<TOKENS>::M][Part<TOKENS>::N][4]) const {
        typedef Part<TOKENS> P;
#pragma unroll
        for (int m = 0; m < P::M; m++) {
#pragma unroll
            for (int n = 0; n < P::N; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int row = P::row() + 16 * m + P::row_of(i);
                    put<TOKENS>(row, P::token() + 8 * n + P::column_of(i), sums[m][n][i]);
                }
            }
        }
    }
};

static constexpr int STEP = 128;       // numbers of a row in shared memory at a time
static constexpr int PITCH = STEP + 16; // bytes from row to row: 8 rows' 16 bytes touch all banks
static constexpr int BLOCKS = STEP / 32;
// Beside each other for rows; the reads of 8 rows in 4 places touch different banks.
static constexpr int SCALE_PITCH = ROWS + 8;

// Whether the two halves of 32 numbers have scales of their own.
template <class W> struct HalfScales {
    static constexpr bool YES = false;
};
template <> struct HalfScales<Q6_K> {
    static constexpr bool YES = true;
};

// Weights of a step.
template <class W> struct WeightTile {
    static constexpr int CHUNKS = STEP / W::N;               // of a row
    static constexpr int EACH = ROWS * CHUNKS / THREADS;     // of a thread
    static constexpr int SCALES = HalfScales<W>::YES ? 2 * BLOCKS : BLOCKS;
    int8_t codes[ROWS][PITCH];
    float scales[SCALES][SCALE_PITCH];
    float offsets[W::HAS_OFFSET ? SCALES : 1][SCALE_PITCH];

    PI_MEMBER static int row(int u) { return (threadIdx.x + u * THREADS) / CHUNKS; }
    PI_MEMBER static int chunk(int start, int u) {
        return start / W::N + (threadIdx.x + u * THREADS) % CHUNKS;
    }
    // Asks for a thread's chunks. Those past the end of a row repeat the last: activations are
    // zeros there.
    PI_MEMBER static void load(typename W::Raw (&raw)[EACH], const uint8_t *w, int row_stride,
                               int n_rows, int k, int start) {
#pragma unroll
        for (int u = 0; u < EACH; u++) {
            const int r = pi_min(blockIdx.x * ROWS + row(u), n_rows - 1);
            const int c = pi_min(chunk(start, u), W::n_chunks(k) - 1);
            raw[u] = W::load(w + (size_t)row_stride * r, k, c);
        }
    }
    PI_MEMBER void lay(const typename W::Raw (&raw)[EACH], int start) {
#pragma unroll
        for (int u = 0; u < EACH; u++) {
            const typename W::Codes decoded = W::decode(raw[u]);
#pragma unroll
            for (int j = 0; j < W::N / 4; j += 4) {
                const int column = W::column(chunk(start, u), 4 * j) - start;
                const int4 words = {W::word(decoded, j), W::word(decoded, j + 1),
                                    W::word(decoded, j + 2), W::word(decoded, j + 3)};
                *(int4 *)&codes[row(u)][column] = words;
                if (!HalfScales<W>::YES && column % 32 != 0) continue;
                const int place = column / (STEP / SCALES);
                scales[place][row(u)] = W::scale(decoded, j);
                if (W::HAS_OFFSET) offsets[place][row(u)] = W::offset(decoded, j);
            }
        }
    }
};

// Activations of a step.
template <int TOKENS> struct TokenTile {
    int8_t codes[TOKENS][PITCH];
    float2 scales[BLOCKS][TOKENS];

    // Zeros past the end of a row.
    PI_MEMBER void copy(const Q8Acts &acts, int n_tokens, int start) {
        const int first = blockIdx.y * TOKENS;
#pragma unroll
        for (int i = threadIdx.x; i < TOKENS * STEP / 16; i += THREADS) {
            const int token = i / (STEP / 16), column = i % (STEP / 16) * 16;
            const Q8Acts mine = acts.token(pi_min(first + token, n_tokens - 1));
            const bool inside = start + column < acts.k;
            pi_copy16(&codes[token][column], mine.codes + (inside ? start + column : 0), inside);
        }
        const int i = threadIdx.x;
        if (i < TOKENS * BLOCKS) {
            const int token = i / BLOCKS, block = i % BLOCKS;
            const Q8Acts mine = acts.token(pi_min(first + token, n_tokens - 1));
            const bool inside = start + 32 * block < acts.k;
            pi_copy8(&scales[block][token], mine.scales + (inside ? start / 32 + block : 0), inside);
        }
    }
};

template <class W, int TOKENS>
PI_DEVICE void mat_mul(const uint8_t *w, int row_stride, int k, const Q8Acts &acts,
                       const Output &out) {
    typedef Part<TOKENS> P;
    typedef WeightTile<W> Tile;
    constexpr bool HALVES = HalfScales<W>::YES;
    // Sums in integers start from this: less than 2^22 away from it (32 * 128 * 127 at most), they
    // are the bits of floats, of 1.5 * 2^23 plus the sum. So no conversion is needed.
    constexpr int ZERO_BITS = 0x4b400000;
    constexpr float ZERO = 12582912.0f;
    __align__(16) __shared__ Tile weights;
    __align__(16) __shared__ TokenTile<TOKENS> tokens[2];
    const int lane = threadIdx.x % PI_WARP, row0 = P::row(), token0 = P::token();

    typename W::Raw raw[Tile::EACH];
    Tile::load(raw, w, row_stride, out.n_rows, k, 0);
    tokens[0].copy(acts, out.n_tokens, 0);

    float sums[P::M][P::N][4] = {};
    int place = 0;
#pragma unroll 1
    for (int start = 0; start < k; start += STEP, place ^= 1) {
        weights.lay(raw, start);
        pi_copies_done();
        __syncthreads(); // the tiles are there for all
        if (start + STEP < k) {
            Tile::load(raw, w, row_stride, out.n_rows, k, start + STEP);
            tokens[place ^ 1].copy(acts, out.n_tokens, start + STEP);
        }
        const TokenTile<TOKENS> &mine = tokens[place];
#pragma unroll 1
        for (int b = 0; b < BLOCKS; b++) {
            uint32_t x[P::N][2];
#pragma unroll
            for (int n = 0; n < P::N; n += 2) {
                uint32_t two[4];
                const int token = token0 + 8 * n + lane / 16 * 8 + lane % 8;
                pi_load_matrices(two, &mine.codes[token][32 * b + lane / 8 % 2 * 16]);
                x[n][0] = two[0], x[n][1] = two[1], x[n + 1][0] = two[2], x[n + 1][1] = two[3];
            }
#pragma unroll
            for (int m = 0; m < P::M; m++) {
                uint32_t v[4];
                const int v_row = row0 + 16 * m + lane % 16;
                pi_load_matrices(v, &weights.codes[v_row][32 * b + lane / 16 * 16]);
#pragma unroll
                for (int n = 0; n < P::N; n++) {
                    // Of the two tokens that this lane has sums of: {d, s} of each.
                    const int two = token0 + 8 * n + P::column_of(0);
                    const float4 ds = *(const float4 *)&mine.scales[b][two];
                    int products[2][4];
                    if (HALVES) {
                        pi_mma_16(products[0], v, x[n][0], ZERO_BITS);
                        pi_mma_16(products[1], v + 2, x[n][1], ZERO_BITS);
                    } else {
                        pi_mma_32(products[0], v, x[n], ZERO_BITS);
                    }
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const int row = row0 + 16 * m + P::row_of(i);
                        const float d = i % 2 ? ds.z : ds.x, s = i % 2 ? ds.w : ds.y;
                        float sum = sums[m][n][i];
#pragma unroll
                        for (int h = 0; h < 1 + HALVES; h++) {
                            const float scale = weights.scales[(1 + HALVES) * b + h][row];
                            const float product = __int_as_float(products[h][i]) - ZERO;
                            sum = fmaf(scale * d, product, sum);
                        }
                        if (W::HAS_OFFSET) sum = fmaf(weights.offsets[b][row], s, sum);
                        sums[m][n][i] = sum;
                    }
                }
            }
        }
        __syncthreads(); // before the next step overwrites the weights
    }
    out.put_all<TOKENS>(sums);
}

// Blocks that a multiprocessor has room for. Before 8.0 shared memory holds one, and registers are
// not to be saved for a second.
#if PI_ARCH >= 800
#define AT_ONCE 2
#else
#define AT_ONCE 1
#endif

// The parameters that all entry points share, after the weights and after the activations.
#define WEIGHTS const uint8_t *__restrict__ w, int row_stride, int n_rows, int k
#define OUTPUT \
    int n_tokens, float *dst, int dst_stride, float scale, const float *bias, int add, float factor
#define PASS_OUTPUT \
    Output { n_rows, n_tokens, dst, dst_stride, scale, bias, add, factor }
#define Q8 WEIGHTS, const int8_t *__restrict__ codes, const float2 *__restrict__ scales, OUTPUT
#define PASS_Q8 w, row_stride, k, Q8Acts{codes, scales, k}, PASS_OUTPUT
