// Products with many tokens, matrices of K-quants: pi_mat_mul.cuh. A name ends in the tokens
// of a block's tile.
#include "pi_mat_mul.cuh"

KERNEL((256, AT_ONCE)) mat_mul_q4_k_t32(Q8) { mat_mul<Q4_K, 32>(PASS_Q8); }
KERNEL((256, AT_ONCE)) mat_mul_q4_k_t64(Q8) { mat_mul<Q4_K, 64>(PASS_Q8); }
KERNEL((256, AT_ONCE)) mat_mul_q5_k_t32(Q8) { mat_mul<Q5_K, 32>(PASS_Q8); }
KERNEL((256, AT_ONCE)) mat_mul_q5_k_t64(Q8) { mat_mul<Q5_K, 64>(PASS_Q8); }
KERNEL((256, AT_ONCE)) mat_mul_q6_k_t32(Q8) { mat_mul<Q6_K, 32>(PASS_Q8); }
KERNEL((256, AT_ONCE)) mat_mul_q6_k_t64(Q8) { mat_mul<Q6_K, 64>(PASS_Q8); }
