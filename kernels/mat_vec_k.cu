// Products with up to 8 tokens, matrices of K-quants: pi_mat_vec.cuh. A name ends in the most
// tokens that its kernel takes. Where these are many, `2` says that two blocks to a multiprocessor
// are enough, so that no register spills.
#include "pi_mat_vec.cuh"

KERNEL((128)) mat_vec_q4_k_t1(Q8) { mat_vec<Q4_K, 1>(PASS_Q8); }
KERNEL((128)) mat_vec_q4_k_t2(Q8) { mat_vec<Q4_K, 2>(PASS_Q8); }
KERNEL((128, 2)) mat_vec_q4_k_t4(Q8) { mat_vec<Q4_K, 4>(PASS_Q8); }
KERNEL((128, 2)) mat_vec_q4_k_t8(Q8) { mat_vec<Q4_K, 8>(PASS_Q8); }
KERNEL((128)) mat_vec_q5_k_t1(Q8) { mat_vec<Q5_K, 1>(PASS_Q8); }
KERNEL((128)) mat_vec_q5_k_t2(Q8) { mat_vec<Q5_K, 2>(PASS_Q8); }
KERNEL((128, 2)) mat_vec_q5_k_t4(Q8) { mat_vec<Q5_K, 4>(PASS_Q8); }
KERNEL((128, 2)) mat_vec_q5_k_t8(Q8) { mat_vec<Q5_K, 8>(PASS_Q8); }
KERNEL((128)) mat_vec_q6_k_t1(Q8) { mat_vec<Q6_K, 1>(PASS_Q8); }
KERNEL((128)) mat_vec_q6_k_t2(Q8) { mat_vec<Q6_K, 2>(PASS_Q8); }
KERNEL((128, 2)) mat_vec_q6_k_t4(Q8) { mat_vec<Q6_K, 4>(PASS_Q8); }
KERNEL((128, 2)) mat_vec_q6_k_t8(Q8) { mat_vec<Q6_K, 8>(PASS_Q8); }
