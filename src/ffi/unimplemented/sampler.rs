//! Not there yet: samplers.

use core::ffi::c_char;

use super::unimplemented;
use crate::ffi::types::{
    LLAMA_DEFAULT_SEED, LLAMA_TOKEN_NULL, llama_context, llama_logit_bias, llama_perf_sampler_data,
    llama_sampler, llama_sampler_chain_params, llama_sampler_context_t, llama_sampler_i,
    llama_token, llama_token_data_array, llama_vocab,
};

/// A sampler with the caller's functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init(
    iface: *mut llama_sampler_i,
    ctx: llama_sampler_context_t,
) -> *mut llama_sampler {
    unimplemented("llama_sampler_init", core::ptr::null_mut())
}

/// Name of a sampler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_name(smpl: *const llama_sampler) -> *const c_char {
    unimplemented("llama_sampler_name", core::ptr::null())
}

/// Tells a sampler which token was chosen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_accept(smpl: *mut llama_sampler, token: llama_token) {
    unimplemented("llama_sampler_accept", ())
}

/// Lets a sampler work on candidates.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_apply(
    smpl: *mut llama_sampler,
    cur_p: *mut llama_token_data_array,
) {
    unimplemented("llama_sampler_apply", ())
}

/// Returns a sampler to its start.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_reset(smpl: *mut llama_sampler) {
    unimplemented("llama_sampler_reset", ())
}

/// Copies a sampler with its state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_clone(smpl: *const llama_sampler) -> *mut llama_sampler {
    unimplemented("llama_sampler_clone", core::ptr::null_mut())
}

/// Copies the state of a sampler into another of its kind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_copy(src: *const llama_sampler, dst: *mut llama_sampler) {
    unimplemented("llama_sampler_copy", ())
}

/// Frees a sampler. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_free(smpl: *mut llama_sampler) {
    unimplemented("llama_sampler_free", ())
}

/// Makes an empty chain.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_chain_init(
    params: llama_sampler_chain_params,
) -> *mut llama_sampler {
    unimplemented("llama_sampler_chain_init", core::ptr::null_mut())
}

/// Adds a sampler to a chain, which now owns it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_chain_add(
    chain: *mut llama_sampler,
    smpl: *mut llama_sampler,
) {
    unimplemented("llama_sampler_chain_add", ())
}

/// The i-th sampler of a chain.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_chain_get(
    chain: *mut llama_sampler,
    i: i32,
) -> *mut llama_sampler {
    unimplemented("llama_sampler_chain_get", core::ptr::null_mut())
}

/// Number of samplers in a chain.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_chain_n(chain: *const llama_sampler) -> i32 {
    unimplemented("llama_sampler_chain_n", 0)
}

/// Takes the i-th sampler out of a chain.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_chain_remove(
    chain: *mut llama_sampler,
    i: i32,
) -> *mut llama_sampler {
    unimplemented("llama_sampler_chain_remove", core::ptr::null_mut())
}

/// Chooses the most likely token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_greedy() -> *mut llama_sampler {
    unimplemented("llama_sampler_init_greedy", core::ptr::null_mut())
}

/// Draws a token by its probability.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_dist(seed: u32) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_dist", core::ptr::null_mut())
}

/// Keeps the k best.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_top_k(k: i32) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_top_k", core::ptr::null_mut())
}

/// Keeps the best up to probability p.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_top_p(p: f32, min_keep: usize) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_top_p", core::ptr::null_mut())
}

/// Keeps those with at least p times the best probability.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_min_p(p: f32, min_keep: usize) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_min_p", core::ptr::null_mut())
}

/// Keeps the most typical.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_typical(p: f32, min_keep: usize) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_typical", core::ptr::null_mut())
}

/// Divides logits by a temperature.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_temp(t: f32) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_temp", core::ptr::null_mut())
}

/// Temperature that follows the entropy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_temp_ext(
    t: f32,
    delta: f32,
    exponent: f32,
) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_temp_ext", core::ptr::null_mut())
}

/// Sometimes removes the best.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_xtc(
    p: f32,
    t: f32,
    min_keep: usize,
    seed: u32,
) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_xtc", core::ptr::null_mut())
}

/// Keeps those within n standard deviations of the best.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_top_n_sigma(n: f32) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_top_n_sigma", core::ptr::null_mut())
}

/// Mirostat 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_mirostat(
    n_vocab: i32,
    seed: u32,
    tau: f32,
    eta: f32,
    m: i32,
) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_mirostat", core::ptr::null_mut())
}

/// Mirostat 2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_mirostat_v2(
    seed: u32,
    tau: f32,
    eta: f32,
) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_mirostat_v2", core::ptr::null_mut())
}

/// Penalises repetition.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_penalties(
    n_vocab: i32,
    penalty_last_n: i32,
    penalty_repeat: f32,
    penalty_freq: f32,
    penalty_present: f32,
) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_penalties", core::ptr::null_mut())
}

/// Penalises repeated sequences.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_dry(
    vocab: *const llama_vocab,
    dry_multiplier: f32,
    dry_base: f32,
    dry_allowed_length: i32,
    dry_penalty_last_n: i32,
    seq_breakers: *mut *const c_char,
    num_breakers: usize,
) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_dry", core::ptr::null_mut())
}

/// Draws near a target probability.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_adaptive_p(
    target: f32,
    decay: f32,
    seed: u32,
) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_adaptive_p", core::ptr::null_mut())
}

/// Adds to logits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_logit_bias(
    n_vocab: i32,
    n_logit_bias: i32,
    logit_bias: *const llama_logit_bias,
) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_logit_bias", core::ptr::null_mut())
}

/// Sampler for fill-in-the-middle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_infill(
    vocab: *const llama_vocab,
) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_infill", core::ptr::null_mut())
}

/// Seed of a sampler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_get_seed(smpl: *const llama_sampler) -> u32 {
    unimplemented("llama_sampler_get_seed", LLAMA_DEFAULT_SEED)
}

/// Chooses and accepts a token from the outputs of a context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_sample(
    smpl: *mut llama_sampler,
    ctx: *mut llama_context,
    idx: i32,
) -> llama_token {
    unimplemented("llama_sampler_sample", LLAMA_TOKEN_NULL)
}

/// Times and counts of a sampler chain.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_perf_sampler(
    chain: *const llama_sampler,
) -> llama_perf_sampler_data {
    unimplemented("llama_perf_sampler", llama_perf_sampler_data { t_sample_ms: 0.0, n_sample: 0 })
}

/// Logs times and counts of a sampler chain.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_perf_sampler_print(chain: *const llama_sampler) {
    unimplemented("llama_perf_sampler_print", ())
}

/// Starts measuring anew.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_perf_sampler_reset(chain: *mut llama_sampler) {
    unimplemented("llama_perf_sampler_reset", ())
}
