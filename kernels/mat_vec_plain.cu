// Products with up to 8 tokens, matrices of plain numbers: pi_mat_vec.cuh. A name ends in the most
// tokens that its kernel takes. Where these are many, `2` says that two blocks to a multiprocessor
// are enough, so that no register spills.
#include "pi_mat_vec.cuh"

KERNEL((128)) mat_vec_f32_t1(FLOATS) { mat_vec<F32, 1>(PASS_FLOATS); }
KERNEL((128)) mat_vec_f32_t2(FLOATS) { mat_vec<F32, 2>(PASS_FLOATS); }
KERNEL((128, 2)) mat_vec_f32_t4(FLOATS) { mat_vec<F32, 4>(PASS_FLOATS); }
KERNEL((128, 2)) mat_vec_f32_t8(FLOATS) { mat_vec<F32, 8>(PASS_FLOATS); }
KERNEL((128)) mat_vec_f16_t1(FLOATS) { mat_vec<F16, 1>(PASS_FLOATS); }
KERNEL((128)) mat_vec_f16_t2(FLOATS) { mat_vec<F16, 2>(PASS_FLOATS); }
KERNEL((128, 2)) mat_vec_f16_t4(FLOATS) { mat_vec<F16, 4>(PASS_FLOATS); }
KERNEL((128, 2)) mat_vec_f16_t8(FLOATS) { mat_vec<F16, 8>(PASS_FLOATS); }
KERNEL((128)) mat_vec_bf16_t1(FLOATS) { mat_vec<BF16, 1>(PASS_FLOATS); }
KERNEL((128)) mat_vec_bf16_t2(FLOATS) { mat_vec<BF16, 2>(PASS_FLOATS); }
KERNEL((128, 2)) mat_vec_bf16_t4(FLOATS) { mat_vec<BF16, 4>(PASS_FLOATS); }
KERNEL((128, 2)) mat_vec_bf16_t8(FLOATS) { mat_vec<BF16, 8>(PASS_FLOATS); }
