// Activation functions. Numbers as src/backend/cuda/launch/mod.rs passes them: in the order of
// tensor::Activation, then none.
#pragma once
#include "pi_cuda.cuh"

enum Act { SILU, GELU, GELU_ERF, GELU_QUICK, RELU, RELU_SQUARED, SWIGLU_OAI, DOUBLE_RELU, NONE };

// x * sigmoid(y)
PI_DEVICE float pi_times_sigmoid(float x, float y) { return x / (1.0f + expf(-y)); }

// act(x), of the gate alone.
PI_DEVICE float pi_activated(int act, float x) {
    switch (act) {
    case SILU: return pi_times_sigmoid(x, x);
    // (1 + tanh u) / 2 is sigmoid(2 u), which loses nothing for negative numbers.
    case GELU: return pi_times_sigmoid(x, 1.59576912160573071176f * (x + 0.044715f * x * x * x));
    case GELU_ERF: return 0.5f * x * erfcf(-0.70710678118654752440f * x);
    case GELU_QUICK: return pi_times_sigmoid(x, 1.702f * x);
    case RELU_SQUARED: return x > 0.0f ? x * x : 0.0f;
    case SWIGLU_OAI: {
        const float low = x > 7.0f ? 7.0f : x;
        return pi_times_sigmoid(low, 1.702f * low);
    }
    case NONE: return x;
    default: return x > 0.0f ? x : 0.0f; // RELU, and the first half of DOUBLE_RELU
    }
}

// act(gate) * up
PI_DEVICE float pi_activate(int act, float gate, float up) {
    if (act == DOUBLE_RELU) up = up > 0.0f ? up : 0.0f;
    if (act == SWIGLU_OAI) up = fminf(fmaxf(up, -7.0f), 7.0f) + 1.0f;
    return pi_activated(act, gate) * up;
}
