// The scale of 32 activations in 8 bits. The arithmetic is, bit for bit, that of the CPU's quantiser
// (src/backend/cpu/kernels/scalar/int8.rs).
#pragma once
#include "pi_cuda.cuh"

struct Q8Scale {
    float d;       // what a code counts
    float inverse; // codes are numbers times this, rounded to even
    bool usable;   // else all codes are 0
};

// The bits of a magnitude: as integers, infinities and NaNs come out above every number.
PI_DEVICE uint32_t pi_magnitude(float x) { return __float_as_uint(x) & 0x7fffffffu; }

// From the largest magnitude. Not usable are zeros, numbers so small that the inverse overflows, and
// what is not finite: that gets the scale NaN, which every product then is.
PI_DEVICE Q8Scale pi_q8_scale(uint32_t largest) {
    const uint32_t infinity = 0x7f800000u;
    const float amax = __uint_as_float(largest), inverse = 127.0f / amax;
    const bool finite = largest < infinity;
    const bool usable = finite && __float_as_uint(inverse) < infinity;
    const float d = usable ? amax / 127.0f : finite ? 0.0f : __uint_as_float(0x7fc00000u);
    return {d, inverse, usable};
}
