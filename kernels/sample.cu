// The largest of a row: of equal ones the lowest id. What is not a number is below everything.
#include "pi_cuda.cuh"

#define THREADS 256
#define EACH_THREAD 8 // a block takes 2048 numbers

// One key that orders as (value, then lower id first).
PI_DEVICE uint64_t key_of(float value, int id) {
    const uint32_t bits = __float_as_uint(value);
    uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    if (value == 0.0f) ordered = 0x80000000u; // both zeros
    if (value != value) ordered = 1u;
    return (uint64_t)ordered << 32 | (uint32_t)~id;
}

PI_DEVICE uint64_t block_max(uint64_t key, uint64_t *warps) {
#pragma unroll
    for (int m = 16; m > 0; m /= 2) {
        const uint64_t other = __shfl_xor_sync(PI_ALL_LANES, key, m);
        key = other > key ? other : key;
    }
    __syncthreads(); // `warps` may still be read from the time before
    if (threadIdx.x % PI_WARP == 0) warps[threadIdx.x / PI_WARP] = key;
    __syncthreads();
    key = 0;
    for (int w = 0; w < THREADS / PI_WARP; w++) key = warps[w] > key ? warps[w] : key;
    return key;
}

// The k largest of each chunk of 2048, in descending order: grid chunks, rows. Numbers are
// [rows][n]; `ids` are theirs, or null for 0, 1, ...; out is [rows][chunks][k], where a chunk that
// has fewer ends with id -1.
KERNEL((THREADS)) top_k(const float *__restrict__ values, const int *__restrict__ ids,
                        float *__restrict__ out_values, int *__restrict__ out_ids, int n, int k) {
    __shared__ uint64_t warps[THREADS / PI_WARP];
    const int64_t row = (int64_t)blockIdx.y * n;
    const int start = blockIdx.x * THREADS * EACH_THREAD;
    uint64_t keys[EACH_THREAD];
    float mine[EACH_THREAD];
#pragma unroll
    for (int j = 0; j < EACH_THREAD; j++) {
        const int i = start + j * THREADS + threadIdx.x;
        keys[j] = 0; // none
        mine[j] = 0.0f;
        if (i >= n) continue;
        const int id = ids ? ids[row + i] : i;
        mine[j] = values[row + i];
        if (id >= 0) keys[j] = key_of(mine[j], id);
    }
    const int64_t out = ((int64_t)blockIdx.y * gridDim.x + blockIdx.x) * k;
    for (int r = 0; r < k; r++) {
        uint64_t best = 0;
#pragma unroll
        for (int j = 0; j < EACH_THREAD; j++) best = keys[j] > best ? keys[j] : best;
        best = block_max(best, warps);
        if (best == 0) { // for all threads
            if (threadIdx.x == 0) {
                out_values[out + r] = 0.0f;
                out_ids[out + r] = -1;
            }
            continue;
        }
#pragma unroll
        for (int j = 0; j < EACH_THREAD; j++) {
            if (keys[j] != best) continue; // ids differ, so one thread has it
            out_values[out + r] = mine[j];
            out_ids[out + r] = (int)~(uint32_t)best;
            keys[j] = 0;
        }
    }
}
