// Numbers by themselves. A thread takes one after the other, a grid apart.
#include "pi_cuda.cuh"

#define EACH(i, n) \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); \
         i += (int64_t)gridDim.x * blockDim.x)

// In the order of `tensor::Activation`.
enum { SILU, GELU, GELU_ERF, GELU_QUICK, RELU, RELU_SQUARED, SWIGLU_OAI, DOUBLE_RELU };

PI_DEVICE float times_sigmoid(float x, float y) { return x / (1.0f + expf(-y)); }

PI_DEVICE float activated(int kind, float x) {
    switch (kind) {
    case SILU: return times_sigmoid(x, x);
    case GELU: {
        const float inner = 0.79788456080286535588f * x * (1.0f + 0.044715f * x * x);
        return 0.5f * x * (1.0f + tanhf(inner));
    }
    case GELU_ERF: return 0.5f * x * erfcf(-0.70710678118654752440f * x);
    case GELU_QUICK: return times_sigmoid(x, 1.702f * x);
    case RELU_SQUARED: return x > 0.0f ? x * x : 0.0f;
    case SWIGLU_OAI: {
        const float low = x > 7.0f ? 7.0f : x;
        return times_sigmoid(low, 1.702f * low);
    }
    default: return x > 0.0f ? x : 0.0f; // RELU, and the first half of DOUBLE_RELU
    }
}

// dst = act(gate) * up, or act(gate) when `up` is null. dst may be either.
KERNEL((256)) activate(const float *gate, const float *up, float *dst, int64_t n, int kind) {
    EACH(i, n) {
        float y = activated(kind, gate[i]);
        if (up) {
            float u = up[i];
            if (kind == DOUBLE_RELU) u = u > 0.0f ? u : 0.0f;
            if (kind == SWIGLU_OAI) u = fminf(fmaxf(u, -7.0f), 7.0f) + 1.0f;
            y *= u;
        }
        dst[i] = y;
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
                     float *__restrict__ dst, int64_t n, int width) {
    EACH(i, n) dst[i] = src[(int64_t)ids[i / width] * width + i % width];
}
