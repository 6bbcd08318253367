// Activations in 8 bits: codes of all rows, then for every 32 of them {d, s} with d the scale and
// s = d * sum of codes, which formats with an offset multiply with it.
#include "pi_q8.cuh"

// One thread rounds 4 numbers, 8 neighbouring threads one block of 32. `n_blocks` is of all rows:
// rows lie one behind the other, each of whole blocks.
KERNEL((256)) quantize_q8(const float *__restrict__ x, int8_t *__restrict__ codes,
                          float2 *__restrict__ scales, int n_blocks) {
    const int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int64_t block = thread / 8;
    const bool inside = block < n_blocks; // all threads take part in the shuffles
    float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
    if (inside) v = ((const float4 *)x)[thread];

    uint32_t largest = max(max(pi_magnitude(v.x), pi_magnitude(v.y)),
                           max(pi_magnitude(v.z), pi_magnitude(v.w)));
#pragma unroll
    for (int mask = 4; mask > 0; mask /= 2) {
        largest = max(largest, __shfl_xor_sync(PI_ALL_LANES, largest, mask));
    }
    const Q8Scale scale = pi_q8_scale(largest);

    uint32_t four = 0;
    if (scale.usable) {
        four = ((uint32_t)(int)rintf(v.x * scale.inverse) & 255) |
               ((uint32_t)(int)rintf(v.y * scale.inverse) & 255) << 8 |
               ((uint32_t)(int)rintf(v.z * scale.inverse) & 255) << 16 |
               ((uint32_t)(int)rintf(v.w * scale.inverse) & 255) << 24;
    }
    int sum = pi_dp4a((int)four, 0x01010101, 0);
#pragma unroll
    for (int mask = 4; mask > 0; mask /= 2) sum += __shfl_xor_sync(PI_ALL_LANES, sum, mask);
    if (!inside) return;

    ((uint32_t *)codes)[thread] = four;
    if (thread % 8 == 0) scales[block] = {scale.d, scale.d * (float)sum};
}
