// Products with many tokens, matrices of types with blocks of 32: pi_mat_mul.cuh. A name ends in the tokens
// of a block's tile.
#include "pi_mat_mul.cuh"

KERNEL((256, AT_ONCE)) mat_mul_q8_0_t32(Q8) { mat_mul<Q8_0, 32>(PASS_Q8); }
KERNEL((256, AT_ONCE)) mat_mul_q8_0_t64(Q8) { mat_mul<Q8_0, 64>(PASS_Q8); }
KERNEL((256, AT_ONCE)) mat_mul_q4_0_t32(Q8) { mat_mul<Q4_0, 32>(PASS_Q8); }
KERNEL((256, AT_ONCE)) mat_mul_q4_0_t64(Q8) { mat_mul<Q4_0, 64>(PASS_Q8); }
KERNEL((256, AT_ONCE)) mat_mul_q4_1_t32(Q8) { mat_mul<Q4_1, 32>(PASS_Q8); }
KERNEL((256, AT_ONCE)) mat_mul_q4_1_t64(Q8) { mat_mul<Q4_1, 64>(PASS_Q8); }
KERNEL((256, AT_ONCE)) mat_mul_q5_0_t32(Q8) { mat_mul<Q5_0, 32>(PASS_Q8); }
KERNEL((256, AT_ONCE)) mat_mul_q5_0_t64(Q8) { mat_mul<Q5_0, 64>(PASS_Q8); }
