// Attention by flash decoding: each token's keys are cut into splits of a fixed length, a block
// attends over one split for some query heads that share keys, and a second kernel combines the
// splits in order. Nothing depends on how blocks are scheduled.
#include "pi_cuda.cuh"

#define KEYS 64       // at a time
#define MAX_HEADS 8   // query heads of a block
#define MAX_DIM 256   // of a head
#define THREADS 256

struct F32 {
    static PI_MEMBER float at(const void *row, int i) { return ((const float *)row)[i]; }
    static PI_MEMBER int64_t bytes(int width) { return (int64_t)width * 4; }
};

struct F16 {
    static PI_MEMBER float at(const void *row, int i) {
        return pi_half_to_float(((const uint16_t *)row)[i]);
    }
    static PI_MEMBER int64_t bytes(int width) { return (int64_t)width * 2; }
};

struct Q8_0 { // blocks of 34 bytes as in files
    static PI_MEMBER float at(const void *row, int i) {
        const uint8_t *block = (const uint8_t *)row + (int64_t)(i / 32) * 34;
        return pi_half_to_float(*(const uint16_t *)block) * (float)(int8_t)block[2 + i % 32];
    }
    static PI_MEMBER int64_t bytes(int width) { return (int64_t)(width / 32) * 34; }
};

// `ranges[t]` is the part [x, y) of `list`, the cache rows of token t's keys in order of position.
// What stands there is held to `n_list` and `n_rows`, so that no list leads out of the cache.
// Partial results of (token, head, split): `dim_v` weighted sums of values, then m, the largest
// score, and l, the sum of exp(score - m).
#define ARGUMENTS \
    const float *__restrict__ q, const uint8_t *__restrict__ k, const uint8_t *__restrict__ v, \
        const int2 *__restrict__ ranges, const int *__restrict__ list, \
        const float *__restrict__ slopes, const int *__restrict__ key_pos, \
        const int *__restrict__ query_pos, float *__restrict__ partials, int n_head, int n_head_kv, \
        int dim_k, int dim_v, int split_keys, int n_splits, float scale, float softcap, \
        int q_stride, int n_list, int n_rows
#define PASSED \
    q, k, v, ranges, list, slopes, key_pos, query_pos, partials, n_head, n_head_kv, dim_k, dim_v, \
        split_keys, n_splits, scale, softcap, q_stride, n_list, n_rows

PI_DEVICE int64_t held(int row, int n_rows) { return pi_max(0, pi_min(row, n_rows - 1)); }

// Grid: splits, groups of heads, tokens.
template <class K, class V> PI_DEVICE void attend(ARGUMENTS) {
    __shared__ float queries[MAX_HEADS][MAX_DIM];
    __shared__ float scores[MAX_HEADS][KEYS];
    __shared__ float largest[MAX_HEADS], total[MAX_HEADS], shrink[MAX_HEADS];

    const int token = blockIdx.z, split = blockIdx.x;
    const int shared_by = n_head / n_head_kv;
    const int parts = (shared_by + MAX_HEADS - 1) / MAX_HEADS;
    const int head_kv = blockIdx.y / parts, first = blockIdx.y % parts * MAX_HEADS;
    const int heads = pi_min(MAX_HEADS, shared_by - first);
    const int head0 = head_kv * shared_by + first;
    const int2 range = ranges[token];
    const int begin = pi_max(range.x, 0) + split * split_keys;
    const int end = pi_min(pi_min(range.y, n_list), begin + split_keys);
    if (begin >= end) return; // the whole block

    const int lane = threadIdx.x % PI_WARP, warp = threadIdx.x / PI_WARP;
    for (int i = threadIdx.x; i < heads * dim_k; i += THREADS) {
        queries[i / dim_k][i % dim_k] =
            q[(int64_t)token * q_stride + head0 * dim_k + i] * scale;
    }
    if (threadIdx.x < MAX_HEADS) {
        largest[threadIdx.x] = __uint_as_float(0xff800000u); // -inf
        total[threadIdx.x] = 0.0f;
    }
    float sums[MAX_HEADS];
#pragma unroll
    for (int h = 0; h < MAX_HEADS; h++) sums[h] = 0.0f;
    __syncthreads();

    for (int chunk = begin; chunk < end; chunk += KEYS) {
        const int keys = pi_min(KEYS, end - chunk);
        // A warp takes a key, for all heads.
        for (int j = warp; j < keys; j += THREADS / PI_WARP) {
            const uint8_t *row = k + held(list[chunk + j], n_rows) * K::bytes(n_head_kv * dim_k);
            float dots[MAX_HEADS];
#pragma unroll
            for (int h = 0; h < MAX_HEADS; h++) dots[h] = 0.0f;
            for (int i = lane; i < dim_k; i += PI_WARP) {
                const float key = K::at(row, head_kv * dim_k + i);
#pragma unroll
                for (int h = 0; h < MAX_HEADS; h++) {
                    if (h < heads) dots[h] += queries[h][i] * key;
                }
            }
#pragma unroll
            for (int h = 0; h < MAX_HEADS; h++) {
                if (h >= heads) continue; // for all lanes
                float score = pi_warp_sum(dots[h]);
                if (softcap > 0.0f) score = softcap * tanhf(score / softcap);
                if (slopes) {
                    const int away = key_pos[chunk + j] - query_pos[token];
                    score -= slopes[head0 + h] * fabsf((float)away);
                }
                if (lane == 0) scores[h][j] = score;
            }
        }
        __syncthreads();
        // A warp takes a head: weights of the keys, and how much what was summed so far shrinks.
        if (warp < heads) {
            const float a = lane < keys ? scores[warp][lane] : __uint_as_float(0xff800000u);
            const float b =
                lane + 32 < keys ? scores[warp][lane + 32] : __uint_as_float(0xff800000u);
            const float before = largest[warp];
            const float m = fmaxf(before, pi_warp_max(fmaxf(a, b)));
            const bool none = m == __uint_as_float(0xff800000u);
            const float wa = none ? 0.0f : expf(a - m), wb = none ? 0.0f : expf(b - m);
            if (lane < keys) scores[warp][lane] = wa;
            if (lane + 32 < keys) scores[warp][lane + 32] = wb;
            const float sum = pi_warp_sum(wa + wb);
            if (lane == 0) {
                const float less = none ? 1.0f : expf(before - m);
                shrink[warp] = less;
                largest[warp] = m;
                total[warp] = total[warp] * less + sum;
            }
        }
        __syncthreads();
        // A thread takes a number of the values, for all heads.
        const int i = threadIdx.x;
        if (i < dim_v) {
#pragma unroll
            for (int h = 0; h < MAX_HEADS; h++) {
                if (h < heads) sums[h] *= shrink[h];
            }
            for (int j = 0; j < keys; j++) {
                const uint8_t *row = v + held(list[chunk + j], n_rows) * V::bytes(n_head_kv * dim_v);
                const float value = V::at(row, head_kv * dim_v + i);
#pragma unroll
                for (int h = 0; h < MAX_HEADS; h++) {
                    if (h < heads) sums[h] += scores[h][j] * value;
                }
            }
        }
        __syncthreads(); // before the next chunk's scores
    }

#pragma unroll
    for (int h = 0; h < MAX_HEADS; h++) {
        if (h >= heads) continue;
        float *out =
            partials + (((int64_t)token * n_head + head0 + h) * n_splits + split) * (dim_v + 2);
        if ((int)threadIdx.x < dim_v) out[threadIdx.x] = sums[h];
        if (threadIdx.x == 0) {
            out[dim_v] = largest[h];
            out[dim_v + 1] = total[h];
        }
    }
}

KERNEL((THREADS)) attend_f32(ARGUMENTS) { attend<F32, F32>(PASSED); }
KERNEL((THREADS)) attend_f16(ARGUMENTS) { attend<F16, F16>(PASSED); }
KERNEL((THREADS)) attend_q8_0(ARGUMENTS) { attend<Q8_0, Q8_0>(PASSED); }

// Sums the splits of (head, token) in order. `sinks` may be null: scores of a key without value.
KERNEL((THREADS)) attend_combine(const float *__restrict__ partials,
                                 const int2 *__restrict__ ranges,
                                 const float *__restrict__ sinks, float *__restrict__ dst,
                                 int n_head, int dim_v, int split_keys, int n_splits) {
    const int head = blockIdx.x, token = blockIdx.y, i = threadIdx.x;
    const int2 range = ranges[token];
    const int splits = pi_min(n_splits, (range.y - range.x + split_keys - 1) / split_keys);
    const float *parts = partials + ((int64_t)token * n_head + head) * n_splits * (dim_v + 2);
    float m = sinks ? sinks[head] : __uint_as_float(0xff800000u);
    for (int s = 0; s < splits; s++) m = fmaxf(m, parts[(int64_t)s * (dim_v + 2) + dim_v]);
    float sum = 0.0f, weight = sinks ? expf(sinks[head] - m) : 0.0f;
    for (int s = 0; s < splits; s++) {
        const float *part = parts + (int64_t)s * (dim_v + 2);
        const float share = expf(part[dim_v] - m);
        weight += share * part[dim_v + 1];
        if (i < dim_v) sum += share * part[i];
    }
    if (i < dim_v) {
        dst[((int64_t)token * n_head + head) * dim_v + i] = weight > 0.0f ? sum / weight : 0.0f;
    }
}
