// Attention by flash decoding: each token's keys are cut into splits of a fixed length, a block
// attends over one split for some query heads that share keys, and a second kernel combines the
// splits in order. Nothing depends on how blocks are scheduled.
#include "pi_attend.cuh"

#define KEYS 64       // at a time
#define MAX_HEADS 8   // query heads of a block
#define MAX_DIM 256   // of a head
#define THREADS 256

// A lane's share in the products of queries with a key, whose numbers in `row` begin at `first`.
template <class K>
PI_DEVICE void add_products(const uint8_t *row, int first, int dim, int heads,
                            const float (&queries)[MAX_HEADS][MAX_DIM], float (&dots)[MAX_HEADS]) {
    for (int i = threadIdx.x % PI_WARP; i < dim; i += PI_WARP) {
        const float key = K::at(row, first + i);
#pragma unroll
        for (int h = 0; h < MAX_HEADS; h++) {
            if (h < heads) dots[h] += queries[h][i] * key;
        }
    }
}

// Number `i` of the values of `keys` rows of the cache, with the weights that heads give them.
template <class V>
PI_DEVICE void add_values(const uint8_t *v, int64_t row_bytes, const int *list, int keys, int n_rows,
                          int i, int heads, const float (&weights)[MAX_HEADS][KEYS],
                          float (&sums)[MAX_HEADS]) {
    for (int j = 0; j < keys; j++) {
        const float value = V::at(v + pi_held(list[j], n_rows) * row_bytes, i);
#pragma unroll
        for (int h = 0; h < MAX_HEADS; h++) {
            if (h < heads) sums[h] += weights[h][j] * value;
        }
    }
}

// Grid: splits, groups of heads, tokens.
KERNEL((THREADS, 3)) attend(ARGUMENTS) {
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
    const int64_t k_bytes = pi_row_bytes(kind_k, n_head_kv * dim_k);
    const int64_t v_bytes = pi_row_bytes(kind_v, n_head_kv * dim_v);
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
            const uint8_t *row = k + pi_held(list[chunk + j], n_rows) * k_bytes;
            const int at = head_kv * dim_k;
            float dots[MAX_HEADS];
#pragma unroll
            for (int h = 0; h < MAX_HEADS; h++) dots[h] = 0.0f;
            switch (kind_k) {
            case F32: add_products<CacheF32>(row, at, dim_k, heads, queries, dots); break;
            case F16: add_products<CacheF16>(row, at, dim_k, heads, queries, dots); break;
            default: add_products<CacheQ8_0>(row, at, dim_k, heads, queries, dots);
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
            const int at = head_kv * dim_v + i;
            const int *rows = list + chunk;
            switch (kind_v) {
            case F32:
                add_values<CacheF32>(v, v_bytes, rows, keys, n_rows, at, heads, scores, sums);
                break;
            case F16:
                add_values<CacheF16>(v, v_bytes, rows, keys, n_rows, at, heads, scores, sums);
                break;
            default: add_values<CacheQ8_0>(v, v_bytes, rows, keys, n_rows, at, heads, scores, sums);
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
