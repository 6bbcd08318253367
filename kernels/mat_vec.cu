// Products with up to 8 tokens, matrices of types with blocks of 32: pi_mat_vec.cuh. A name ends in the most
// tokens that its kernel takes. Where these are many, `2` says that two blocks to a multiprocessor
// are enough, so that no register spills.
#include "pi_mat_vec.cuh"

KERNEL((128)) mat_vec_q8_0_t1(Q8) { mat_vec<Q8_0, 1>(PASS_Q8); }
KERNEL((128)) mat_vec_q8_0_t2(Q8) { mat_vec<Q8_0, 2>(PASS_Q8); }
KERNEL((128, 2)) mat_vec_q8_0_t4(Q8) { mat_vec<Q8_0, 4>(PASS_Q8); }
KERNEL((128, 2)) mat_vec_q8_0_t8(Q8) { mat_vec<Q8_0, 8>(PASS_Q8); }
KERNEL((128)) mat_vec_q4_0_t1(Q8) { mat_vec<Q4_0, 1>(PASS_Q8); }
KERNEL((128)) mat_vec_q4_0_t2(Q8) { mat_vec<Q4_0, 2>(PASS_Q8); }
KERNEL((128, 2)) mat_vec_q4_0_t4(Q8) { mat_vec<Q4_0, 4>(PASS_Q8); }
KERNEL((128, 2)) mat_vec_q4_0_t8(Q8) { mat_vec<Q4_0, 8>(PASS_Q8); }
KERNEL((128)) mat_vec_q4_1_t1(Q8) { mat_vec<Q4_1, 1>(PASS_Q8); }
KERNEL((128)) mat_vec_q4_1_t2(Q8) { mat_vec<Q4_1, 2>(PASS_Q8); }
KERNEL((128, 2)) mat_vec_q4_1_t4(Q8) { mat_vec<Q4_1, 4>(PASS_Q8); }
KERNEL((128, 2)) mat_vec_q4_1_t8(Q8) { mat_vec<Q4_1, 8>(PASS_Q8); }
KERNEL((128)) mat_vec_q5_0_t1(Q8) { mat_vec<Q5_0, 1>(PASS_Q8); }
KERNEL((128)) mat_vec_q5_0_t2(Q8) { mat_vec<Q5_0, 2>(PASS_Q8); }
KERNEL((128, 2)) mat_vec_q5_0_t4(Q8) { mat_vec<Q5_0, 4>(PASS_Q8); }
KERNEL((128, 2)) mat_vec_q5_0_t8(Q8) { mat_vec<Q5_0, 8>(PASS_Q8); }
