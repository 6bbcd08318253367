// Activations in 8 bits: codes of all rows, then for every 32 of them {d, s} with d the scale and
// s = d * sum of codes, which formats with an offset multiply with it. The arithmetic is, bit for
// bit, that of the CPU's quantiser (src/backend/cpu/kernels/scalar/int8.rs).
#include "pi_cuda.cuh"

// One thread rounds 4 numbers, 8 neighbouring threads one block of 32. `n_blocks` is of all rows:
// rows lie one behind the other, each of whole blocks.
KERNEL((256)) quantize_q8(const float *__restrict__ x, int8_t *__restrict__ codes,
                          float2 *__restrict__ scales, int n_blocks) {
    const int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int64_t block = thread / 8;
    const bool inside = block < n_blocks; // all threads take part in the shuffles
    float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
    if (inside) v = ((const float4 *)x)[thread];

    // The largest magnitude; as integers, infinities and NaNs come out above every number.
    const uint32_t magnitude = 0x7fffffffu;
    uint32_t largest = max(max(__float_as_uint(v.x) & magnitude, __float_as_uint(v.y) & magnitude),
                           max(__float_as_uint(v.z) & magnitude, __float_as_uint(v.w) & magnitude));
#pragma unroll
    for (int mask = 4; mask > 0; mask /= 2) {
        largest = max(largest, __shfl_xor_sync(PI_ALL_LANES, largest, mask));
    }
    const uint32_t infinity = 0x7f800000u;
    const float amax = __uint_as_float(largest);
    const float inverse = 127.0f / amax;
    const bool finite = largest < infinity;
    // Not so for zeros, and for numbers so small that the inverse overflows.
    const bool usable = finite && __float_as_uint(inverse) < infinity;

    uint32_t four = 0;
    if (usable) {
        four = ((uint32_t)(int)rintf(v.x * inverse) & 255) |
               ((uint32_t)(int)rintf(v.y * inverse) & 255) << 8 |
               ((uint32_t)(int)rintf(v.z * inverse) & 255) << 16 |
               ((uint32_t)(int)rintf(v.w * inverse) & 255) << 24;
    }
    int sum = pi_dp4a((int)four, 0x01010101, 0);
#pragma unroll
    for (int mask = 4; mask > 0; mask /= 2) sum += __shfl_xor_sync(PI_ALL_LANES, sum, mask);
    if (!inside) return;

    ((uint32_t *)codes)[thread] = four;
    if (thread % 8 == 0) {
        float d = usable ? amax / 127.0f : 0.0f;
        if (!finite) d = __uint_as_float(0x7fc00000u); // NaN, which every product then is
        scales[block] = {d, d * (float)sum};
    }
}
