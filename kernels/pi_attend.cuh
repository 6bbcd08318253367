// What kernels of attention share: rows of the cache, and their arguments.
//
// `ranges[t]` is the part [x, y) of `list`, the cache rows of token t's keys in order of position.
// What stands there is held to `n_list` and `n_rows`, so that no list leads out of the cache.
// Partial results of (token, head, split): `dim_v` weighted sums of values, then m, the largest
// score, and l, the sum of exp(score - m).
#pragma once
#include "pi_cuda.cuh"

// How keys or values are kept (`CacheType` in src/backend/cuda/launch/rope.rs).
enum Kind { F32, F16, Q8_0 };

struct CacheF32 {
    static PI_MEMBER float at(const void *row, int i) { return ((const float *)row)[i]; }
};
struct CacheF16 {
    static PI_MEMBER float at(const void *row, int i) {
        return pi_half_to_float(((const uint16_t *)row)[i]);
    }
};
struct CacheQ8_0 { // blocks of 34 bytes as in files
    static PI_MEMBER float at(const void *row, int i) {
        const uint8_t *block = (const uint8_t *)row + (int64_t)(i / 32) * 34;
        return pi_half_to_float(*(const uint16_t *)block) * (float)(int8_t)block[2 + i % 32];
    }
};

PI_DEVICE int64_t pi_row_bytes(int kind, int width) {
    return kind == F32 ? (int64_t)width * 4 : kind == F16 ? (int64_t)width * 2 : width / 32 * 34;
}

PI_DEVICE int64_t pi_held(int row, int n_rows) { return pi_max(0, pi_min(row, n_rows - 1)); }

#define ARGUMENTS \
    const float *__restrict__ q, const uint8_t *__restrict__ k, const uint8_t *__restrict__ v, \
        const int2 *__restrict__ ranges, const int *__restrict__ list, \
        const float *__restrict__ slopes, const int *__restrict__ key_pos, \
        const int *__restrict__ query_pos, float *__restrict__ partials, int n_head, int n_head_kv, \
        int dim_k, int dim_v, int split_keys, int n_splits, float scale, float softcap, \
        int q_stride, int n_list, int n_rows, int kind_k, int kind_v
#define PASSED \
    q, k, v, ranges, list, slopes, key_pos, query_pos, partials, n_head, n_head_kv, dim_k, dim_v, \
        split_keys, n_splits, scale, softcap, q_stride, n_list, n_rows, kind_k, kind_v
