// Numbers by themselves. A thread takes one after the other, a grid apart.
#include "pi_act.cuh"

#define EACH(i, n) \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); \
         i += (int64_t)gridDim.x * blockDim.x)

// dst = act(gate) * up, or act(gate) when `up` is null. dst may be either.
// Rows of `width` numbers, those of gate and up `stride` apart.
KERNEL((256)) activate(const float *gate, const float *up, float *dst, int64_t n, int act,
                       int width, int stride) {
    EACH(i, n) {
        const int64_t at = i / width * stride + i % width;
        dst[i] = up ? pi_activate(act, gate[at], up[at]) : pi_activated(act, gate[at]);
    }
}

// y repeats after `period` numbers: a vector for all rows, or n of them.
KERNEL((256)) add(const float *x, const float *y, float *dst, int64_t n, int64_t period) {
    EACH(i, n) dst[i] = x[i] + y[i % period];
}

KERNEL((256)) multiply(const float *x, const float *y, float *dst, int64_t n, int64_t period) {
    EACH(i, n) dst[i] = x[i] * y[i % period];
}

KERNEL((256)) scale(const float *x, float *dst, int64_t n, float factor, float offset) {
    EACH(i, n) dst[i] = x[i] * factor + offset;
}

// dst += factor * x
KERNEL((256)) accumulate(const float *__restrict__ x, float *dst, int64_t n, float factor) {
    EACH(i, n) dst[i] += factor * x[i];
}

// cap * tanh(x / cap); with cap 1, tanh.
KERNEL((256)) softcap(const float *x, float *dst, int64_t n, float cap) {
    EACH(i, n) dst[i] = cap * tanhf(x[i] / cap);
}

// Row i of dst is row ids[i] of src.
KERNEL((256)) gather(const float *__restrict__ src, const int *__restrict__ ids,
                     float *__restrict__ dst, int64_t n, int width, int n_src) {
    EACH(i, n) {
        const int row = pi_max(0, pi_min(ids[i / width], n_src - 1));
        dst[i] = src[(int64_t)row * width + i % width];
    }
}
