// Attention of many tokens over the same keys (prefill): a block has ROWS queries, of neighbouring
// tokens and all heads that share keys, and takes 32 keys at a time through shared memory, so that
// a key is read once for all of them. Tensor cores multiply halves: queries and the weights of
// keys are given to them as two, the nearest and the rest, so that no more is lost than by a sum
// in floats; so are keys and values of 8 bits. (Single precision is attend.cu's.)
//
// Splits, and what is left for attend_combine, are attend.cu's. A row has its own part of the list;
// the block goes through all of them in ascending order. Of a key that a row does not have, the
// value is multiplied with 0, so in a cache it has to be finite.
#include "pi_attend.cuh"
#include "pi_tile.cuh"

#define ROWS 64
#define KEYS 32
#define THREADS 128

static constexpr int NONE = 0x7fffffff;

// The least of a warp's.
PI_DEVICE int warp_min(int v) {
#pragma unroll
    for (int mask = PI_WARP / 2; mask > 0; mask /= 2) {
        v = pi_min(v, __shfl_xor_sync(PI_ALL_LANES, v, mask));
    }
    return v;
}

// Two halves beside each other, and what is missing to the numbers.
PI_DEVICE void split(float a, float b, uint32_t &nearest, uint32_t &rest) {
    const uint16_t na = pi_float_to_half(a), nb = pi_float_to_half(b);
    const uint16_t ra = pi_float_to_half(a - pi_half_to_float(na));
    const uint16_t rb = pi_float_to_half(b - pi_half_to_float(nb));
    nearest = na | (uint32_t)nb << 16;
    rest = ra | (uint32_t)rb << 16;
}

// Keys and values in shared memory. With HALVES there are two places, of which one is filled while
// the other is read; else one place, of the nearest halves and the rest.
template <int DIM, bool HALVES> struct KeyTile {
    static constexpr int PITCH = DIM + 8; // 8 rows' 16 bytes touch all banks
    uint16_t keys[2][KEYS][PITCH], values[2][KEYS][PITCH];
    int2 windows[ROWS]; // of the list

    // The first key from `from` on that a row has.
    PI_MEMBER int next(int from) const {
        int first = NONE;
#pragma unroll
        for (int i = threadIdx.x % PI_WARP; i < ROWS; i += PI_WARP) {
            const int2 window = windows[i];
            if (window.y > from && window.y > window.x) first = pi_min(first, pi_max(window.x, from));
        }
        return warp_min(first);
    }

    // Lays down 32 rows of the cache, from `first` in the list; zeros where it has ended.
    template <class Kept>
    PI_MEMBER static void lay(uint16_t (*to)[KEYS][PITCH], int place, const uint8_t *cache,
                              int64_t row_bytes, int column, int dim, const int *list, int left,
                              int n_rows) {
        constexpr int N = HALVES ? 8 : 2; // numbers at a time
        for (int i = threadIdx.x; i < KEYS * (DIM / N); i += THREADS) {
            const int j = i / (DIM / N), at = i % (DIM / N) * N;
            const bool inside = j < left && at < dim;
            const uint8_t *row = cache;
            if (inside) row += pi_held(list[j], n_rows) * row_bytes;
            if (HALVES) {
                pi_copy16(&to[place][j][at], row + (inside ? 2 * (column + at) : 0), inside);
            } else {
                uint32_t nearest = 0, rest = 0;
                if (inside) {
                    split(Kept::at(row, column + at), Kept::at(row, column + at + 1), nearest, rest);
                }
                *(uint32_t *)&to[0][j][at] = nearest;
                *(uint32_t *)&to[1][j][at] = rest;
            }
        }
    }
    PI_MEMBER static void lay_side(uint16_t (*to)[KEYS][PITCH], int place, const uint8_t *cache,
                                   int kind, int n_heads, int head, int dim, const int *list,
                                   int left, int n_rows) {
        const int64_t bytes = pi_row_bytes(kind, n_heads * dim);
        const int column = head * dim;
        if (HALVES || kind == F16) {
            lay<CacheF16>(to, place, cache, bytes, column, dim, list, left, n_rows);
        } else {
            lay<CacheQ8_0>(to, place, cache, bytes, column, dim, list, left, n_rows);
        }
    }
};

// Grid: splits, heads of keys, tiles of queries. `n_tokens * n_head / n_head_kv` queries.
template <int DIM, bool HALVES> PI_DEVICE void attend_many(ARGUMENTS, int n_tokens) {
    __align__(16) __shared__ KeyTile<DIM, HALVES> tile;
    const int split_number = blockIdx.x, head_kv = blockIdx.y, shared_by = n_head / n_head_kv;
    const int lane = threadIdx.x % PI_WARP, p = lane % 4;
    const int tile_row = threadIdx.x / PI_WARP * 16 + lane / 4; // and 8 further on
    const float lowest = __uint_as_float(0xff800000u);          // -inf

    if (threadIdx.x < ROWS) {
        const int token = (blockIdx.z * ROWS + threadIdx.x) / shared_by;
        int2 window = {0, 0};
        if (token < n_tokens) {
            const int2 range = ranges[token];
            window.x = pi_max(range.x, 0) + split_number * split_keys;
            window.y = pi_min(pi_min(range.y, n_list), window.x + split_keys);
        }
        tile.windows[threadIdx.x] = window;
    }
    __syncthreads();

    // This lane's two rows: where they are, and their queries as fragments.
    int token[2], head[2];
    int2 window[2];
    Factor factor[2];
    uint32_t queries[2][DIM / 16][4];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int row = blockIdx.z * ROWS + tile_row + 8 * r;
        token[r] = row / shared_by;
        head[r] = head_kv * shared_by + row % shared_by;
        window[r] = tile.windows[tile_row + 8 * r];
        const bool is = token[r] < n_tokens;
        const float *mine = q + (is ? (int64_t)token[r] * q_stride + head[r] * dim_k : 0);
        const auto number = [&](int i) { return is && i < dim_k ? mine[i] * scale : 0.0f; };
        int largest = 0;
        for (int i = p; i < dim_k; i += 4) largest = pi_max(largest, pi_exponent(number(i)));
        largest = pi_max(largest, __shfl_xor_sync(PI_ALL_LANES, largest, 1));
        largest = pi_max(largest, __shfl_xor_sync(PI_ALL_LANES, largest, 2));
        factor[r].grow(largest);
        const float up = factor[r].value();
#pragma unroll
        for (int j = 0; j < DIM / 16; j++) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int i = 16 * j + 8 * h + 2 * p;
                split(number(i) * up, number(i + 1) * up, queries[0][j][2 * h + r],
                      queries[1][j][2 * h + r]);
            }
        }
    }
    const float down[2] = {factor[0].inverse(), factor[1].inverse()};

    float sums[DIM / 8][4] = {};
    float largest[2] = {lowest, lowest}, total[2] = {0.0f, 0.0f}; // total: of this lane's keys
    const auto lay = [&](int place, int first) {
        const int *rows = list + first;
        const int left = n_list - first;
        tile.lay_side(tile.keys, place, k, kind_k, n_head_kv, head_kv, dim_k, rows, left, n_rows);
        tile.lay_side(tile.values, place, v, kind_v, n_head_kv, head_kv, dim_v, rows, left, n_rows);
    };
    int first = tile.next(0);
    if (HALVES && first != NONE) lay(0, first);
    int place = 0;
#pragma unroll 1
    while (first != NONE) {
        const int following = tile.next(first + KEYS);
        if (!HALVES) lay(0, first);
        pi_copies_done();
        __syncthreads(); // keys and values are there for all
        if (HALVES && following != NONE) lay(place ^ 1, following);

        bool mine = false; // whether a row of this lane has one of the keys
#pragma unroll
        for (int r = 0; r < 2; r++) mine |= window[r].x < first + KEYS && window[r].y > first;
        if (__any_sync(PI_ALL_LANES, mine)) {
            float scores[KEYS / 8][4] = {};
#pragma unroll
            for (int j = 0; j < DIM / 16; j++) {
                if (16 * j >= dim_k) break;
#pragma unroll
                for (int n = 0; n < KEYS / 8; n += 2) {
                    const int key = 8 * n + lane / 16 * 8 + lane % 8, i = 16 * j + lane / 8 % 2 * 8;
                    uint32_t two[4];
                    pi_load_matrices(two, &tile.keys[HALVES ? place : 0][key][i]);
#pragma unroll
                    for (int part = 0; part < 2; part++) {
                        pi_mma_f16(scores[n], queries[part][j], two);
                        pi_mma_f16(scores[n + 1], queries[part][j], two + 2);
                    }
                    if (!HALVES) {
                        pi_load_matrices(two, &tile.keys[1][key][i]);
                        pi_mma_f16(scores[n], queries[0][j], two);
                        pi_mma_f16(scores[n + 1], queries[0][j], two + 2);
                    }
                }
            }

            float now[2] = {largest[0], largest[1]};
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int r = i / 2, key = first + 8 * n + 2 * p + i % 2;
                    float score = lowest;
                    if (key >= window[r].x && key < window[r].y) {
                        score = scores[n][i] * down[r];
                        if (softcap > 0.0f) score = softcap * tanhf(score / softcap);
                        if (slopes) {
                            const int away = key_pos[key] - query_pos[token[r]];
                            score -= slopes[head[r]] * fabsf((float)away);
                        }
                    }
                    scores[n][i] = score;
                    now[r] = fmaxf(now[r], score);
                }
            }
            float shrink[2];
#pragma unroll
            for (int r = 0; r < 2; r++) {
                now[r] = fmaxf(now[r], __shfl_xor_sync(PI_ALL_LANES, now[r], 1));
                now[r] = fmaxf(now[r], __shfl_xor_sync(PI_ALL_LANES, now[r], 2));
                shrink[r] = now[r] == lowest ? 1.0f : expf(largest[r] - now[r]);
                largest[r] = now[r];
                total[r] *= shrink[r];
            }
#pragma unroll
            for (int i = 0; i < DIM / 8; i++) {
                sums[i][0] *= shrink[0], sums[i][1] *= shrink[0];
                sums[i][2] *= shrink[1], sums[i][3] *= shrink[1];
            }
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float score = scores[n][i], m = largest[i / 2];
                    scores[n][i] = score == lowest ? 0.0f : expf(score - m);
                    total[i / 2] += scores[n][i];
                }
            }
#pragma unroll
            for (int j = 0; j < KEYS / 16; j++) {
                // Two products' numbers are one's fragment.
                uint32_t weights[2][4];
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float *two = &scores[2 * j + i / 2][i % 2 * 2];
                    split(two[0], two[1], weights[0][i], weights[1][i]);
                }
#pragma unroll
                for (int n = 0; n < DIM / 8; n += 2) {
                    if (8 * n >= dim_v) break;
                    const int key = 16 * j + lane % 16, i = 8 * n + lane / 16 * 8;
                    uint32_t two[4];
                    pi_load_transposed(two, &tile.values[HALVES ? place : 0][key][i]);
#pragma unroll
                    for (int part = 0; part < 2; part++) {
                        pi_mma_f16(sums[n], weights[part], two);
                        pi_mma_f16(sums[n + 1], weights[part], two + 2);
                    }
                    if (!HALVES) {
                        pi_load_transposed(two, &tile.values[1][key][i]);
                        pi_mma_f16(sums[n], weights[0], two);
                        pi_mma_f16(sums[n + 1], weights[0], two + 2);
                    }
                }
            }
        }
        if (!HALVES) __syncthreads(); // before the place is filled again
        first = following, place ^= 1;
    }

#pragma unroll
    for (int r = 0; r < 2; r++) {
        total[r] += __shfl_xor_sync(PI_ALL_LANES, total[r], 1);
        total[r] += __shfl_xor_sync(PI_ALL_LANES, total[r], 2);
        if (window[r].x >= window[r].y) continue; // no such row, or nothing for it in this split
        const int64_t part = ((int64_t)token[r] * n_head + head[r]) * n_splits + split_number;
        float *out = partials + part * (dim_v + 2);
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                if (8 * n + 2 * p + i < dim_v) out[8 * n + 2 * p + i] = sums[n][2 * r + i];
            }
        }
        if (p == 0) {
            out[dim_v] = largest[r];
            out[dim_v + 1] = total[r];
        }
    }
}

KERNEL((THREADS, 3)) attend_many_halves_64(ARGUMENTS, int n_tokens) {
    attend_many<64, true>(PASSED, n_tokens);
}
KERNEL((THREADS)) attend_many_halves_128(ARGUMENTS, int n_tokens) {
    attend_many<128, true>(PASSED, n_tokens);
}
KERNEL((THREADS, 3)) attend_many_any_64(ARGUMENTS, int n_tokens) {
    attend_many<64, false>(PASSED, n_tokens);
}
KERNEL((THREADS)) attend_many_any_128(ARGUMENTS, int n_tokens) {
    attend_many<128, false>(PASSED, n_tokens);
}
