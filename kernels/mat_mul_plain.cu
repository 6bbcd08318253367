// Products with many tokens, matrices of plain numbers: pi_mat_mul.cuh. A name ends in the tokens
// of a block's tile.
//
// Tensor cores multiply numbers of 16 bits. So that no more is lost than by a sum in floats, as in
// mat_vec, an activation is given to them as two: the nearest of 16 bits, and the nearest to what
// is missing. With F16 that is 22 bits (2^-23 of the number at most is lost), with BF16 16 bits
// (2^-18). Weights are what they are.
//
// Halves end at 65504, and below 2^-14 lose bits: activations of a token are multiplied with a power
// of two, which the largest seen so far sets, and its sums are scaled by as much when that grows.
// BF16 has the range of floats and needs none of this.
#include "pi_mat_mul.cuh"

static constexpr int HALF_STEP = 32;              // numbers of a row at a time
static constexpr int HALF_PITCH = HALF_STEP + 8; // from row to row: 8 rows' 16 bytes touch all banks
static constexpr int PLACES = HALF_STEP / 4;      // a thread has 4 numbers of a token

struct InF16 {
    static constexpr bool NEEDS_FACTOR = true;
    PI_MEMBER static uint16_t round(float x) { return pi_float_to_half(x); }
    PI_MEMBER static float value(uint16_t half) { return pi_half_to_float(half); }
    PI_MEMBER static void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t *b) {
        pi_mma_f16(d, a, b);
    }
};

#if PI_ARCH >= 800
struct InBF16 {
    static constexpr bool NEEDS_FACTOR = false;
    PI_MEMBER static uint16_t round(float x) { return pi_float_to_bf16(x); }
    PI_MEMBER static float value(uint16_t bits) { return pi_bf16_to_float(bits); }
    PI_MEMBER static void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t *b) {
        pi_mma_m16n8k16_bf16(d, a, b);
    }
};
#endif

template <class H, int TOKENS> struct HalfTiles {
    static constexpr int EACH = TOKENS * PLACES / THREADS; // fours of activations of a thread
    uint16_t weights[ROWS][HALF_PITCH];
    uint16_t tokens[2][TOKENS][HALF_PITCH]; // the nearest, and the rest
    float shrink[TOKENS];                   // what becomes of sums before this step

    PI_MEMBER static int token(int u) { return (threadIdx.x + u * THREADS) / PLACES; }
    PI_MEMBER static int column() { return threadIdx.x % PLACES * 4; }

    PI_MEMBER void copy_weights(const uint8_t *w, int row_stride, int n_rows, int start) {
#pragma unroll
        for (int i = threadIdx.x; i < ROWS * HALF_STEP / 8; i += THREADS) {
            const int row = i / (HALF_STEP / 8), at = i % (HALF_STEP / 8) * 8;
            const int matrix_row = pi_min(blockIdx.x * ROWS + row, n_rows - 1);
            // Rows end at multiples of 16 bytes, with zeros.
            const bool inside = 2 * (start + at) < row_stride;
            pi_copy16(&weights[row][at],
                      w + (size_t)row_stride * matrix_row + (inside ? 2 * (start + at) : 0), inside);
        }
    }
    // Zeros past the end of a row.
    PI_MEMBER static void load(F32::X (&x)[EACH], const F32Acts &acts, int n_tokens, int start) {
#pragma unroll
        for (int u = 0; u < EACH; u++) {
            const int t = pi_min(blockIdx.y * TOKENS + token(u), n_tokens - 1);
            x[u] = F32::acts(acts.token(t), (start + column()) / 4);
        }
    }
    // Lays down activations. Returns whether sums have to shrink.
    PI_MEMBER bool lay(const F32::X (&x)[EACH], Factor (&factors)[EACH]) {
        bool grown = false;
#pragma unroll
        for (int u = 0; u < EACH; u++) {
            float factor = 1.0f;
            if (H::NEEDS_FACTOR) {
                int largest = max(max(pi_exponent(x[u].v[0]), pi_exponent(x[u].v[1])),
                                  max(pi_exponent(x[u].v[2]), pi_exponent(x[u].v[3])));
#pragma unroll
                for (int mask = PLACES / 2; mask > 0; mask /= 2) {
                    largest = max(largest, __shfl_xor_sync(PI_ALL_LANES, largest, mask));
                }
                const float less = factors[u].grow(largest);
                if (column() == 0) shrink[token(u)] = less;
                grown |= less != 1.0f;
                factor = factors[u].value();
            }
            uint32_t words[2][2] = {};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float scaled = x[u].v[j] * factor;
                const uint16_t nearest = H::round(scaled);
                const uint16_t rest = H::round(scaled - H::value(nearest));
                words[0][j / 2] |= (uint32_t)nearest << j % 2 * 16;
                words[1][j / 2] |= (uint32_t)rest << j % 2 * 16;
            }
#pragma unroll
            for (int part = 0; part < 2; part++) {
                const int2 both = {(int)words[part][0], (int)words[part][1]};
                *(int2 *)&tokens[part][token(u)][column()] = both;
            }
        }
        return grown;
    }
};

template <class H, int TOKENS>
PI_DEVICE void mat_mul_halves(const uint8_t *w, int row_stride, int k, const F32Acts &acts,
                              const Output &out) {
    typedef Part<TOKENS> P;
    typedef HalfTiles<H, TOKENS> Tiles;
    __align__(16) __shared__ Tiles tiles[2];
    const int lane = threadIdx.x % PI_WARP, row0 = P::row(), token0 = P::token();

    F32::X x[Tiles::EACH];
    Factor factors[Tiles::EACH];
    tiles[0].copy_weights(w, row_stride, out.n_rows, 0);
    Tiles::load(x, acts, out.n_tokens, 0);
    tiles[0].lay(x, factors); // sums are zeros: they need not shrink
    pi_copies_done();
    __syncthreads();

    float sums[P::M][P::N][4] = {};
    int place = 0;
#pragma unroll 1
    for (int start = 0; start < k; start += HALF_STEP, place ^= 1) {
        const bool more = start + HALF_STEP < k;
        Tiles &next = tiles[place ^ 1];
        if (more) {
            next.copy_weights(w, row_stride, out.n_rows, start + HALF_STEP);
            Tiles::load(x, acts, out.n_tokens, start + HALF_STEP);
        }
        const Tiles &mine = tiles[place];
#pragma unroll
        for (int j = 0; j < HALF_STEP; j += 16) {
            uint32_t v[P::M][4];
#pragma unroll
            for (int m = 0; m < P::M; m++) {
                const int row = row0 + 16 * m + lane % 16;
                pi_load_matrices(v[m], &mine.weights[row][j + lane / 16 * 8]);
            }
#pragma unroll
            for (int part = 0; part < 2; part++) {
#pragma unroll
                for (int n = 0; n < P::N; n += 2) {
                    uint32_t two[4];
                    const int token = token0 + 8 * n + lane / 16 * 8 + lane % 8;
                    pi_load_matrices(two, &mine.tokens[part][token][j + lane / 8 % 2 * 8]);
#pragma unroll
                    for (int m = 0; m < P::M; m++) {
                        H::mma(sums[m][n], v[m], two);
                        H::mma(sums[m][n + 1], v[m], two + 2);
                    }
                }
            }
        }
        const bool grown = more && next.lay(x, factors);
        pi_copies_done();
        if (!__syncthreads_or(grown)) continue; // the next step is there for all
#pragma unroll
        for (int n = 0; n < P::N; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float shrink = next.shrink[token0 + 8 * n + P::column_of(i)];
#pragma unroll
                for (int m = 0; m < P::M; m++) sums[m][n][i] *= shrink;
            }
        }
    }
    if (H::NEEDS_FACTOR) {
        // The loop has ended at a barrier, or has not begun: nobody reads this place any more.
        float(&inverses)[TOKENS] = tiles[place].shrink;
#pragma unroll
        for (int u = 0; u < Tiles::EACH; u++) {
            if (Tiles::column() == 0) inverses[Tiles::token(u)] = factors[u].inverse();
        }
        __syncthreads();
#pragma unroll
        for (int n = 0; n < P::N; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float inverse = inverses[token0 + 8 * n + P::column_of(i)];
#pragma unroll
                for (int m = 0; m < P::M; m++) sums[m][n][i] *= inverse;
            }
        }
    }
    out.put_all<TOKENS>(sums);
}

// ---- without tensor cores: F32, and BF16 where they do not know it ----

static constexpr int PLAIN_STEP = 32;
static constexpr int APART = 16; // a thread makes rows, and tokens, so far apart

template <class W, int TOKENS>
PI_DEVICE void mat_mul_plain(const uint8_t *w, int row_stride, int k, const F32Acts &acts,
                             const Output &out) {
    constexpr int CHUNKS = PLAIN_STEP / W::N, R = ROWS / APART, T = TOKENS / APART;
    // Column-major, one more than a tile, so that neither laying down nor reading meets one bank.
    __shared__ float weights[PLAIN_STEP][ROWS + 1], tokens[PLAIN_STEP][TOKENS + 1];
    const int row = threadIdx.x % APART, token = threadIdx.x / APART;

    float sums[R][T] = {};
#pragma unroll 1
    for (int start = 0; start < k; start += PLAIN_STEP) {
        for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
            const int at = i / CHUNKS, c = start / W::N + i % CHUNKS;
            const int matrix_row = pi_min(blockIdx.x * ROWS + at, out.n_rows - 1);
            typename W::Codes v = {};
            if (c < W::n_chunks(k)) {
                v = W::decode(W::load(w + (size_t)row_stride * matrix_row, k, c));
            }
#pragma unroll
            for (int j = 0; j < W::N; j++) weights[W::N * (i % CHUNKS) + j][at] = v.v[j];
        }
        for (int i = threadIdx.x; i < TOKENS * PLACES; i += THREADS) {
            const int at = i / PLACES, column = i % PLACES * 4;
            const int t = pi_min(blockIdx.y * TOKENS + at, out.n_tokens - 1);
            const F32::X x = F32::acts(acts.token(t), (start + column) / 4);
#pragma unroll
            for (int j = 0; j < 4; j++) tokens[column + j][at] = x.v[j];
        }
        __syncthreads(); // the step is there for all
#pragma unroll 4
        for (int j = 0; j < PLAIN_STEP; j++) {
            float v[R], x[T];
#pragma unroll
            for (int r = 0; r < R; r++) v[r] = weights[j][row + r * APART];
#pragma unroll
            for (int t = 0; t < T; t++) x[t] = tokens[j][token + t * APART];
#pragma unroll
            for (int r = 0; r < R; r++) {
#pragma unroll
                for (int t = 0; t < T; t++) sums[r][t] = fmaf(v[r], x[t], sums[r][t]);
            }
        }
        __syncthreads(); // before the next step overwrites it
    }
#pragma unroll
    for (int r = 0; r < R; r++) {
#pragma unroll
        for (int t = 0; t < T; t++) {
            out.put<TOKENS>(row + r * APART, token + t * APART, sums[r][t]);
        }
    }
}

#if PI_ARCH >= 800
#define MAT_MUL_BF16(tokens) mat_mul_halves<InBF16, tokens>
#else
#define MAT_MUL_BF16(tokens) mat_mul_plain<BF16, tokens>
#endif

#define FLOATS WEIGHTS, const float *__restrict__ x, OUTPUT
#define PASS_FLOATS w, row_stride, k, F32Acts{x, k}, PASS_OUTPUT

KERNEL((256, AT_ONCE)) mat_mul_f32_t32(FLOATS) { mat_mul_plain<F32, 32>(PASS_FLOATS); }
KERNEL((256, AT_ONCE)) mat_mul_f32_t64(FLOATS) { mat_mul_plain<F32, 64>(PASS_FLOATS); }
KERNEL((256, AT_ONCE)) mat_mul_f16_t32(FLOATS) { mat_mul_halves<InF16, 32>(PASS_FLOATS); }
KERNEL((256, AT_ONCE)) mat_mul_f16_t64(FLOATS) { mat_mul_halves<InF16, 64>(PASS_FLOATS); }
KERNEL((256, AT_ONCE)) mat_mul_bf16_t32(FLOATS) { MAT_MUL_BF16(32)(PASS_FLOATS); }
KERNEL((256, AT_ONCE)) mat_mul_bf16_t64(FLOATS) { MAT_MUL_BF16(64)(PASS_FLOATS); }
