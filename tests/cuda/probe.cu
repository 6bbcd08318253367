// Kernels for tests/cuda_driver.rs: they prove that the emulator computes, and that it catches
// what is wrong. Not part of the library.
#include "cuda_emu.h"
#define KERNEL(bounds) EMU_KERNEL(bounds)

KERNEL((256)) probe_axpy(float a, const float *x, float *y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += a * x[i];
}

// Each block writes its values backwards, through shared memory.
KERNEL((64)) probe_reverse(const int *from, int *to, int with_barrier) {
    __shared__ int tile[64];
    const int i = threadIdx.x;
    tile[i] = from[blockIdx.x * 64 + i];
    if (with_barrier) __syncthreads();
    to[blockIdx.x * 64 + i] = tile[63 - i];
}

// Sums of warps; with `early`, lane 31 leaves before the sum that names it.
KERNEL((64)) probe_warp_sum(const int *from, int *to, int early) {
    int v = from[threadIdx.x];
    if (early && threadIdx.x % 32 == 31) return;
    for (int by = 16; by > 0; by /= 2) v += __shfl_xor_sync(~0u, v, by);
    to[threadIdx.x] = v;
}

// Threads of one block that meet at a barrier, and threads that do not.
KERNEL((64)) probe_divergent(int *to) {
    if (threadIdx.x < 32) __syncthreads();
    to[threadIdx.x] = 1;
}

// What nobody has written: shared memory does not start with zeros, nor with the block's before.
KERNEL((32)) probe_unwritten(unsigned *to) {
    __shared__ unsigned kept[32];
    to[blockIdx.x * 32 + threadIdx.x] = kept[threadIdx.x];
    kept[threadIdx.x] = 7;
}

KERNEL((32)) probe_misaligned(const char *from, int4 *to, int by) {
    to[threadIdx.x] = *(const int4 *)(from + by);
}

// D [16][8] = A [16][k] * B [k][8]: bytes (k 32) and halfs (k 16), row-major in memory.
KERNEL((32)) probe_mma_s8(const int8_t *a, const int8_t *b, int *d) {
    const int g = threadIdx.x / 4, p = threadIdx.x % 4;
    uint32_t fa[4], fb[2];
    for (int r = 0; r < 4; r++)
        memcpy(&fa[r], a + (g + r % 2 * 8) * 32 + p * 4 + r / 2 * 16, 4);
    for (int r = 0; r < 2; r++) {
        fb[r] = 0;
        for (int i = 0; i < 4; i++) fb[r] |= (uint32_t)(uint8_t)b[(p * 4 + i + r * 16) * 8 + g] << 8 * i;
    }
    int sum[4] = {};
    emu::mma_s8<16, 32>(sum, fa, fb, sum);
    for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + p * 2 + i % 2] = sum[i];
}

KERNEL((32)) probe_mma_f16(const uint16_t *a, const uint16_t *b, float *d) {
    const int g = threadIdx.x / 4, p = threadIdx.x % 4;
    uint32_t fa[4], fb[2];
    for (int r = 0; r < 4; r++)
        memcpy(&fa[r], a + (g + r % 2 * 8) * 16 + p * 2 + r / 2 * 8, 4);
    for (int r = 0; r < 2; r++)
        fb[r] = b[(p * 2 + r * 8) * 8 + g] | (uint32_t)b[(p * 2 + 1 + r * 8) * 8 + g] << 16;
    float sum[4] = {};
    emu::mma_f16<16>(sum, fa, fb, sum);
    for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + p * 2 + i % 2] = sum[i];
}
