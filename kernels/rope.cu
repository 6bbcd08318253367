// Rotation of queries and keys by position, and keys and values into the cache.
#include "pi_cuda.cuh"

// Rotates the first `n_rot` numbers of each head in place. One block for a head of a token; the
// table has {cos, sin} of every pair of every token. `halves` != 0: pairs are i and i + n_rot / 2
// (neox), otherwise 2i and 2i + 1.
KERNEL((128)) rope(float *x, const float2 *__restrict__ table, int head_dim, int n_rot, int stride,
                   int halves) {
    const int pairs = n_rot / 2;
    float *head = x + (int64_t)blockIdx.x * stride + (int64_t)blockIdx.y * head_dim;
    for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
        const float2 turn = table[(int64_t)blockIdx.x * pairs + i];
        const int a = halves ? i : 2 * i, b = halves ? i + pairs : 2 * i + 1;
        const float u = head[a], v = head[b];
        head[a] = u * turn.x - v * turn.y;
        head[b] = u * turn.y + v * turn.x;
    }
}

// Rows of the cache: token t goes to row rows[t], or nowhere when that is negative.

KERNEL((256)) store_f32(const float *__restrict__ x, float *__restrict__ cache,
                        const int *__restrict__ rows, int width, int stride, int n_rows) {
    const int row = rows[blockIdx.x];
    if (row < 0 || row >= n_rows) return;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        cache[(int64_t)row * width + i] = x[(int64_t)blockIdx.x * stride + i];
    }
}

KERNEL((256)) store_f16(const float *__restrict__ x, uint16_t *__restrict__ cache,
                        const int *__restrict__ rows, int width, int stride, int n_rows) {
    const int row = rows[blockIdx.x];
    if (row < 0 || row >= n_rows) return;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        cache[(int64_t)row * width + i] =
            pi_float_to_half(x[(int64_t)blockIdx.x * stride + i]);
    }
}

// Blocks of 34 bytes as in files: half scale, 32 codes. A warp makes one; the width is a multiple
// of 32.
KERNEL((256)) store_q8_0(const float *__restrict__ x, uint8_t *__restrict__ cache,
                         const int *__restrict__ rows, int width, int stride, int n_rows) {
    const int row = rows[blockIdx.x], lane = threadIdx.x % PI_WARP;
    if (row < 0 || row >= n_rows) return;
    const int blocks = width / 32;
    for (int b = threadIdx.x / PI_WARP; b < blocks; b += blockDim.x / PI_WARP) {
        const float v = x[(int64_t)blockIdx.x * stride + b * 32 + lane];
        const float d = pi_warp_max(fabsf(v)) / 127.0f;
        const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
        uint8_t *block = cache + ((int64_t)row * blocks + b) * 34;
        block[2 + lane] = (uint8_t)(int8_t)(int)roundf(v * inverse);
        if (lane == 0) *(uint16_t *)block = pi_float_to_half(d);
    }
}
