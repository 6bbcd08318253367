// Rows of a table by id, as f32. Rows are packed as pack.rs does it: each at a multiple of 16 bytes.
#include "pi_cuda.cuh"

KERNEL((256)) embed_f32(const uint8_t *__restrict__ table, const int *__restrict__ ids,
                        float *__restrict__ dst, int width, int64_t row_bytes) {
    const float *row = (const float *)(table + ids[blockIdx.x] * row_bytes);
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        dst[(int64_t)blockIdx.x * width + i] = row[i];
    }
}

KERNEL((256)) embed_f16(const uint8_t *__restrict__ table, const int *__restrict__ ids,
                        float *__restrict__ dst, int width, int64_t row_bytes) {
    const uint16_t *row = (const uint16_t *)(table + ids[blockIdx.x] * row_bytes);
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        dst[(int64_t)blockIdx.x * width + i] = pi_half_to_float(row[i]);
    }
}

// All codes, then the scales of the blocks of 32.
KERNEL((256)) embed_q8_0(const uint8_t *__restrict__ table, const int *__restrict__ ids,
                         float *__restrict__ dst, int width, int64_t row_bytes) {
    const uint8_t *row = table + ids[blockIdx.x] * row_bytes;
    const uint16_t *scales = (const uint16_t *)(row + width);
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        dst[(int64_t)blockIdx.x * width + i] =
            pi_half_to_float(scales[i / 32]) * (float)(int8_t)row[i];
    }
}
