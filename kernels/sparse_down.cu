// The down projection of a sparse feed-forward layer: y[c] = sum over the list of
// h[i] * W[list[i]][c], with W neuron-major (row = neuron, so only listed neurons are read).
//
// Sums are made in a fixed order, without atomics: entry i of the list belongs to slice
// i mod (slices of the grid), every slice writes a row of partial sums, and a second kernel adds
// the rows up. An empty list makes zeros.
#include "pi_weights.cuh"

static constexpr int WARPS = 4; // of a block, each a slice; their sums meet in shared memory
static constexpr int IN_FLIGHT = 4;

// Grid: x over the chunks of a row, 32 to a block; y slices of the list, WARPS to a block;
// z tokens. partial[token][blockIdx.y][n_embd]. Lists and h as in sparse.cu.
template <class W>
PI_DEVICE void down(const uint8_t *w, int row_stride, int n_rows, int n_embd, const float *h,
                    int h_stride, const int *list, const int *counts, int list_stride,
                    int capacity, float *partial) {
    // One more than N keeps the lanes in different banks.
    __shared__ float tile[WARPS][PI_WARP][W::N + 1];
    const int lane = threadIdx.x % PI_WARP, warp = threadIdx.x / PI_WARP;
    const int first_chunk = blockIdx.x * PI_WARP, chunk = first_chunk + lane;
    const int n_chunks = W::n_chunks(n_embd);
    const int n_slices = gridDim.y * WARPS;
    const int n = pi_min(counts[list_stride == 0 ? 0 : blockIdx.z], capacity);
    list += (size_t)blockIdx.z * list_stride;
    h += (size_t)blockIdx.z * h_stride;

    float sums[W::N] = {};
    if (chunk < n_chunks) {
#pragma unroll 1
        for (int i = blockIdx.y * WARPS + warp; i < n; i += IN_FLIGHT * n_slices) {
            typename W::Raw raw[IN_FLIGHT];
            float factors[IN_FLIGHT];
#pragma unroll
            for (int u = 0; u < IN_FLIGHT; u++) {
                const int entry = i + u * n_slices;
                if (entry >= n) break;
                const int row = pi_row_of(list[entry], n_rows);
                raw[u] = W::load(w + (size_t)row_stride * row, n_embd, chunk);
                factors[u] = h[entry];
            }
#pragma unroll
            for (int u = 0; u < IN_FLIGHT; u++) {
                if (i + u * n_slices >= n) break;
                float v[W::N];
                W::unpack(W::decode(raw[u]), v);
#pragma unroll
                for (int j = 0; j < W::N; j++) sums[j] = fmaf(factors[u], v[j], sums[j]);
            }
        }
    }
#pragma unroll
    for (int j = 0; j < W::N; j++) tile[warp][lane][j] = sums[j];
    __syncthreads();
    float *out = partial + ((size_t)blockIdx.z * gridDim.y + blockIdx.y) * n_embd;
    for (int i = threadIdx.x; i < PI_WARP * W::N; i += WARPS * PI_WARP) {
        const int c = i / W::N, j = i % W::N;
        const int column = W::column(first_chunk + c, j);
        if (first_chunk + c >= n_chunks || column >= n_embd) continue;
        float sum = 0.0f;
#pragma unroll
        for (int warps = 0; warps < WARPS; warps++) sum += tile[warps][c][j];
        out[column] = sum;
    }
}

#define DOWN \
    const uint8_t *__restrict__ w, int row_stride, int n_rows, int n_embd, \
        const float *__restrict__ h, int h_stride, const int *__restrict__ list, \
        const int *__restrict__ counts, int list_stride, int capacity, float *partial
#define PASS_DOWN \
    w, row_stride, n_rows, n_embd, h, h_stride, list, counts, list_stride, capacity, partial

KERNEL((128)) sparse_down_q8_0(DOWN) { down<Q8_0>(PASS_DOWN); }
KERNEL((128)) sparse_down_q4_0(DOWN) { down<Q4_0>(PASS_DOWN); }
KERNEL((128)) sparse_down_q4_1(DOWN) { down<Q4_1>(PASS_DOWN); }
KERNEL((128)) sparse_down_q5_0(DOWN) { down<Q5_0>(PASS_DOWN); }
KERNEL((128)) sparse_down_q4_k(DOWN) { down<Q4_K>(PASS_DOWN); }
KERNEL((128)) sparse_down_q5_k(DOWN) { down<Q5_K>(PASS_DOWN); }
KERNEL((128)) sparse_down_q6_k(DOWN) { down<Q6_K>(PASS_DOWN); }
KERNEL((128)) sparse_down_f32(DOWN) { down<F32>(PASS_DOWN); }
KERNEL((128)) sparse_down_f16(DOWN) { down<F16>(PASS_DOWN); }
KERNEL((128)) sparse_down_bf16(DOWN) { down<BF16>(PASS_DOWN); }

// Adds up the slices' partial sums, in order. With y = their sum + bias[c]: dst = y, or with
// `add` dst += factor * y. Grid: x over n_embd, y tokens.
KERNEL((256)) sparse_down_sum(const float *__restrict__ partial, int n_slices, int n_embd,
                              float *dst, int dst_stride, const float *bias, int add,
                              float factor) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= n_embd) return;
    const float *slice = partial + (size_t)blockIdx.y * n_slices * n_embd + column;
    float y = 0.0f;
    for (int i = 0; i < n_slices; i++) y += slice[(size_t)i * n_embd];
    if (bias != nullptr) y += bias[column];
    float *out = dst + (size_t)blockIdx.y * dst_stride + column;
    *out = add ? *out + factor * y : y;
}
