// Products of a matrix with up to 8 tokens: dst[t][r] = row r times token t. The time goes into
// reading the weights, each once, 16 bytes at a time with several loads in flight.
//
// `lanes` neighbouring lanes (8, 16 or 32) work on ROWS rows of the matrix: few where rows are
// short, so that all have chunks to work on. The grid has n_rows / ROWS groups of them, rounded
// up. The order of a sum depends on `lanes` and the row's length only.
//
// What becomes of y = scale * product + bias[r]: dst = y, or with `add` dst += factor * y.
#pragma once
#include "pi_weights.cuh"

static constexpr int ROWS = 2;

template <class W, int T>
PI_DEVICE void mat_vec(const uint8_t *w, int row_stride, int n_rows, int k, typename W::Acts acts,
                       int n_tokens, float *dst, int dst_stride, float scale, const float *bias,
                       int add, float factor, int lanes) {
    const int group = (int)(((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / lanes);
    const int lane = threadIdx.x % lanes;
    // Groups past the end repeat the last row and tokens past the end the last token: all lanes
    // are needed in the sums over lanes.
    const uint8_t *rows[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        rows[r] = w + (size_t)row_stride * pi_min(group * ROWS + r, n_rows - 1);
    }
    typename W::Acts tokens[T];
#pragma unroll
    for (int t = 0; t < T; t++) tokens[t] = acts.token(pi_min(t, n_tokens - 1));

    float sums[ROWS][T] = {};
    pi_accumulate<W, T, ROWS, (T <= 2 ? 2 : 1)>(rows, tokens, k, lane, lanes, sums);

    pi_group_sums(sums, lanes);

    // Every lane has all sums: lane i finishes the i-th of 8, which is row i / T and token i % T.
    constexpr int AT_ONCE = 8;
#pragma unroll
    for (int first = 0; first < ROWS * T; first += AT_ONCE) {
        const int i = first + lane;
        float sum = 0.0f;
#pragma unroll
        for (int j = first; j < first + AT_ONCE && j < ROWS * T; j++) {
            if (i == j) sum = sums[j / T][j % T];
        }
        const int row = group * ROWS + i / T, t = i % T;
        if (lane >= AT_ONCE || i >= ROWS * T || row >= n_rows || t >= n_tokens) continue;
        float y = scale * sum;
        if (bias != nullptr) y += bias[row];
        float *out = dst + (size_t)t * dst_stride + row;
        *out = add ? *out + factor * y : y;
    }
}

// The parameters that all entry points share, after the weights and after the activations.
#define WEIGHTS const uint8_t *__restrict__ w, int row_stride, int n_rows, int k
#define OUTPUT \
    int n_tokens, float *dst, int dst_stride, float scale, const float *bias, int add, \
        float factor, int lanes
#define Q8 WEIGHTS, const int8_t *__restrict__ codes, const float2 *__restrict__ scales, OUTPUT
#define FLOATS WEIGHTS, const float *__restrict__ x, OUTPUT
#define PASS_Q8 \
    w, row_stride, n_rows, k, Q8Acts{codes, scales, k}, n_tokens, dst, dst_stride, scale, bias, \
        add, factor, lanes
#define PASS_FLOATS \
    w, row_stride, n_rows, k, F32Acts{x, k}, n_tokens, dst, dst_stride, scale, bias, add, factor, \
        lanes
