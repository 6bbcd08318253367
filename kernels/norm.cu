// Norms of rows, in f32. One block for a row; sums go in a fixed order.
#include "pi_q8.cuh"

// The sum over all threads of the block, in all of them.
PI_DEVICE float block_sum(float v, float *warps) {
    v = pi_warp_sum(v);
    __syncthreads(); // `warps` may still be read from the sum before
    if (threadIdx.x % PI_WARP == 0) warps[threadIdx.x / PI_WARP] = v;
    __syncthreads();
    float sum = 0.0f;
    for (int w = 0; w < (int)blockDim.x / PI_WARP; w++) sum += warps[w];
    return sum;
}

// dst = norm(x + add) * weight + bias, where `add`, `weight` and `bias` may be null. `mean` != 0
// also takes the mean off (layer norm), otherwise it is the RMS norm. The sum x + add is kept in
// `sum` when that is not null. Row r begins at (r / per_group) * group_stride + r % per_group * width
// of every matrix, so that heads inside wider rows are rows too; dst may be x.
// With `codes`, the result is also quantised as quantize.cu does, rows of whole blocks of 32 one
// behind the other.
KERNEL((256)) norm(const float *x, const float *add, const float *weight, const float *bias,
                   float *sum, float *dst, int8_t *codes, float2 *scales, int width, int per_group,
                   int group_stride, float eps, int mean) {
    __shared__ float warps[8];
    const int row = blockIdx.x;
    const int64_t start =
        (int64_t)(row / per_group) * group_stride + (int64_t)(row % per_group) * width;
    x += start;
    dst += start;
    if (add) add += start;
    if (sum) sum += start;

    float total = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        const float v = add ? x[i] + add[i] : x[i];
        if (sum) sum[i] = v;
        total += mean ? v : v * v;
    }
    total = block_sum(total, warps);
    float middle = 0.0f;
    if (mean) {
        middle = total / (float)width;
        total = 0.0f;
        for (int i = threadIdx.x; i < width; i += blockDim.x) {
            const float v = (sum ? sum[i] : add ? x[i] + add[i] : x[i]) - middle;
            total += v * v;
        }
        total = block_sum(total, warps);
    }
    const float factor = 1.0f / sqrtf(total / (float)width + eps);
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        const float v = sum ? sum[i] : add ? x[i] + add[i] : x[i];
        float y = (v - middle) * factor;
        if (weight) y *= weight[i];
        if (bias) y += bias[i];
        dst[i] = y;
    }
    if (!codes) return; // the whole block

    // A thread takes the numbers that it has written itself, so there is nothing to wait for.
    const int lane = threadIdx.x % PI_WARP;
    for (int b = threadIdx.x / PI_WARP; b < width / 32; b += blockDim.x / PI_WARP) {
        const float v = dst[b * 32 + lane];
        uint32_t largest = pi_magnitude(v);
#pragma unroll
        for (int m = 16; m > 0; m /= 2) {
            const uint32_t other = __shfl_xor_sync(PI_ALL_LANES, largest, m);
            largest = other > largest ? other : largest;
        }
        const Q8Scale scale = pi_q8_scale(largest);
        const int code = scale.usable ? (int)rintf(v * scale.inverse) : 0;
        int codes_sum = code;
#pragma unroll
        for (int m = 16; m > 0; m /= 2) codes_sum += __shfl_xor_sync(PI_ALL_LANES, codes_sum, m);
        const int64_t block = (int64_t)row * (width / 32) + b;
        codes[block * 32 + lane] = (int8_t)code;
        if (lane == 0) scales[block] = {scale.d, scale.d * (float)codes_sum};
    }
}
