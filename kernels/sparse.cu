// Products with the rows that a list on the device names: what is left of a sparse feed-forward
// layer's gate and up. The list's length is on the device too, so the grid is fixed and groups of
// lanes go through the list with the grid's width as stride.
//
// blockIdx.y is the token. Its list starts at list + token * list_stride and its length is
// counts[token]; with list_stride 0 all tokens share one list and counts[0]. Entries are rows of
// the matrix as it lies here (the hot neurons, compact). Outputs are compact too: place i is the
// list's entry i. Biases may be null. Whatever a list holds, no more than `capacity` entries are
// read and no row beyond the matrix.
#include "pi_act.cuh"
#include "pi_weights.cuh"

// M matrices of one shape: gate and up, or one alone. out[i] = act(row of gate) * (row of up), for
// the rows that entry i of the list names.
template <class W, int M>
PI_DEVICE void neurons(const uint8_t *const (&matrices)[M], const float *const (&biases)[M],
                       int row_stride, int n_rows, int k, typename W::Acts acts, const int *list,
                       const int *counts, int list_stride, int capacity, int act, float *dst,
                       int dst_stride, int lanes) {
    const int n = pi_min(counts[list_stride == 0 ? 0 : blockIdx.y], capacity);
    list += (size_t)blockIdx.y * list_stride;
    dst += (size_t)blockIdx.y * dst_stride;
    const typename W::Acts tokens[1] = {acts.token(blockIdx.y)};

    const int thread = (int)(blockIdx.x * blockDim.x + threadIdx.x), lane = thread % lanes;
    const int n_groups = (int)(gridDim.x * blockDim.x) / lanes;
    // All groups of a warp stay in the loop for as long as its first one has an entry.
    const int in_warp = thread % PI_WARP / lanes;
#pragma unroll 1
    for (int first = thread / lanes - in_warp; first < n; first += n_groups) {
        const int i = first + in_warp;
        const int id = pi_row_of(list[pi_min(i, n - 1)], n_rows);
        const uint8_t *rows[M];
#pragma unroll
        for (int m = 0; m < M; m++) rows[m] = matrices[m] + (size_t)row_stride * id;
        float sums[M][1] = {};
        pi_accumulate<W, 1, M, 4 / M>(rows, tokens, k, lane, lanes, sums);
        pi_group_sums(sums, lanes);
        if (lane != 0 || i >= n) continue;
#pragma unroll
        for (int m = 0; m < M; m++) {
            if (biases[m] != nullptr) sums[m][0] += biases[m][id];
        }
        // A layer without gate has its one product as gate.
        dst[i] = M == 2 ? pi_activate(act, sums[0][0], sums[M - 1][0]) : pi_activated(act, sums[0][0]);
    }
}

template <class W>
PI_DEVICE void list_rows(const uint8_t *w, int row_stride, int n_rows, int k,
                         typename W::Acts acts, const int *list, const int *counts,
                         int list_stride, int capacity, const float *bias, int act, float *dst,
                         int dst_stride, int lanes) {
    const uint8_t *matrices[1] = {w};
    const float *biases[1] = {bias};
    neurons<W, 1>(matrices, biases, row_stride, n_rows, k, acts, list, counts, list_stride,
                  capacity, act, dst, dst_stride, lanes);
}

template <class W>
PI_DEVICE void gate_up(const uint8_t *gate, const uint8_t *up, int row_stride, int n_rows, int k,
                       typename W::Acts acts, const int *list, const int *counts, int list_stride,
                       int capacity, const float *gate_bias, const float *up_bias, int act,
                       float *dst, int dst_stride, int lanes) {
    const uint8_t *matrices[2] = {gate, up};
    const float *biases[2] = {gate_bias, up_bias};
    neurons<W, 2>(matrices, biases, row_stride, n_rows, k, acts, list, counts, list_stride,
                  capacity, act, dst, dst_stride, lanes);
}

#define Q8 const int8_t *__restrict__ codes, const float2 *__restrict__ scales
#define FLOATS const float *__restrict__ x
#define LIST \
    const int *__restrict__ list, const int *__restrict__ counts, int list_stride, int capacity
#define PASS_LIST list, counts, list_stride, capacity
#define ROWS_OF(ACTS) \
    const uint8_t *__restrict__ w, int row_stride, int n_rows, int k, ACTS, LIST, \
        const float *bias, int act, float *dst, int dst_stride, int lanes
#define PASS_ROWS(ACTS) \
    w, row_stride, n_rows, k, ACTS, PASS_LIST, bias, act, dst, dst_stride, lanes
#define GATE_UP(ACTS) \
    const uint8_t *__restrict__ gate, const uint8_t *__restrict__ up, int row_stride, int n_rows, \
        int k, ACTS, LIST, const float *gate_bias, const float *up_bias, int act, float *dst, \
        int dst_stride, int lanes
#define PASS_GATE_UP(ACTS) \
    gate, up, row_stride, n_rows, k, ACTS, PASS_LIST, gate_bias, up_bias, act, dst, dst_stride, \
        lanes
#define Q8_ACTS (Q8Acts{codes, scales, k})
#define F32_ACTS (F32Acts{x, k})

KERNEL((128)) list_rows_q8_0(ROWS_OF(Q8)) { list_rows<Q8_0>(PASS_ROWS(Q8_ACTS)); }
KERNEL((128)) list_rows_q4_0(ROWS_OF(Q8)) { list_rows<Q4_0>(PASS_ROWS(Q8_ACTS)); }
KERNEL((128)) list_rows_q4_1(ROWS_OF(Q8)) { list_rows<Q4_1>(PASS_ROWS(Q8_ACTS)); }
KERNEL((128)) list_rows_q5_0(ROWS_OF(Q8)) { list_rows<Q5_0>(PASS_ROWS(Q8_ACTS)); }
KERNEL((128)) list_rows_q4_k(ROWS_OF(Q8)) { list_rows<Q4_K>(PASS_ROWS(Q8_ACTS)); }
KERNEL((128)) list_rows_q5_k(ROWS_OF(Q8)) { list_rows<Q5_K>(PASS_ROWS(Q8_ACTS)); }
KERNEL((128)) list_rows_q6_k(ROWS_OF(Q8)) { list_rows<Q6_K>(PASS_ROWS(Q8_ACTS)); }
KERNEL((128)) list_rows_f32(ROWS_OF(FLOATS)) { list_rows<F32>(PASS_ROWS(F32_ACTS)); }
KERNEL((128)) list_rows_f16(ROWS_OF(FLOATS)) { list_rows<F16>(PASS_ROWS(F32_ACTS)); }
KERNEL((128)) list_rows_bf16(ROWS_OF(FLOATS)) { list_rows<BF16>(PASS_ROWS(F32_ACTS)); }

KERNEL((128)) gate_up_q8_0(GATE_UP(Q8)) { gate_up<Q8_0>(PASS_GATE_UP(Q8_ACTS)); }
KERNEL((128)) gate_up_q4_0(GATE_UP(Q8)) { gate_up<Q4_0>(PASS_GATE_UP(Q8_ACTS)); }
KERNEL((128)) gate_up_q4_1(GATE_UP(Q8)) { gate_up<Q4_1>(PASS_GATE_UP(Q8_ACTS)); }
KERNEL((128)) gate_up_q5_0(GATE_UP(Q8)) { gate_up<Q5_0>(PASS_GATE_UP(Q8_ACTS)); }
KERNEL((128)) gate_up_q4_k(GATE_UP(Q8)) { gate_up<Q4_K>(PASS_GATE_UP(Q8_ACTS)); }
KERNEL((128)) gate_up_q5_k(GATE_UP(Q8)) { gate_up<Q5_K>(PASS_GATE_UP(Q8_ACTS)); }
KERNEL((128)) gate_up_q6_k(GATE_UP(Q8)) { gate_up<Q6_K>(PASS_GATE_UP(Q8_ACTS)); }
KERNEL((128)) gate_up_f32(GATE_UP(FLOATS)) { gate_up<F32>(PASS_GATE_UP(F32_ACTS)); }
KERNEL((128)) gate_up_f16(GATE_UP(FLOATS)) { gate_up<F16>(PASS_GATE_UP(F32_ACTS)); }
KERNEL((128)) gate_up_bf16(GATE_UP(FLOATS)) { gate_up<BF16>(PASS_GATE_UP(F32_ACTS)); }
