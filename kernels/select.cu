// Lists of neurons: ids in ascending order, their number on the device. By ballots and prefix sums,
// so that the same numbers give the same list. One block for a token.
#include "pi_cuda.cuh"

#define THREADS 1024

// Appends the ids for which `chosen` is true; all threads of the block take part. Returns the new
// length.
PI_DEVICE int append(bool chosen, int id, int length, int *ids, int *warps) {
    const int lane = threadIdx.x % PI_WARP, warp = threadIdx.x / PI_WARP;
    const unsigned votes = __ballot_sync(PI_ALL_LANES, chosen);
    if (lane == 0) warps[warp] = __popc(votes);
    __syncthreads();
    int before = length, all = length;
    for (int w = 0; w < THREADS / PI_WARP; w++) {
        if (w < warp) before += warps[w];
        all += warps[w];
    }
    if (chosen) ids[before + __popc(votes & ((1u << lane) - 1))] = id;
    __syncthreads(); // before `warps` is written again
    return all;
}

// The list of one token: the places of the values that `chosen` is true of.
template <class F>
PI_DEVICE void select(const float *values, int *ids, int *counts, int n, F chosen) {
    __shared__ int warps[THREADS / PI_WARP];
    values += (int64_t)blockIdx.x * n;
    ids += (int64_t)blockIdx.x * n;
    int length = 0;
    for (int start = 0; start < n; start += THREADS) {
        const int i = start + threadIdx.x;
        length = append(i < n && chosen(values[i]), i, length, ids, warps);
    }
    if (threadIdx.x == 0) counts[blockIdx.x] = length;
}

// Those whose score is at least the threshold.
KERNEL((THREADS)) select_above(const float *__restrict__ scores, int *__restrict__ ids,
                               int *__restrict__ counts, int n, float threshold) {
    select(scores, ids, counts, n, [=](float score) { return score >= threshold; });
}

// Those that are not zero.
KERNEL((THREADS)) select_nonzero(const float *__restrict__ values, int *__restrict__ ids,
                                 int *__restrict__ counts, int n) {
    select(values, ids, counts, n, [](float value) { return value != 0.0f; });
}

// Those at least this far from zero; NaN is far.
KERNEL((THREADS)) select_beyond(const float *__restrict__ values, int *__restrict__ ids,
                                int *__restrict__ counts, int n, float least) {
    select(values, ids, counts, n, [=](float value) { return !(fabsf(value) < least); });
}
