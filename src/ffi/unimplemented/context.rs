//! Not there yet: contexts.

use core::ffi::{c_int, c_void};

use super::unimplemented;
use crate::ffi::types::{
    LLAMA_TOKEN_NULL, cbool, ggml_abort_callback, ggml_threadpool_t, llama_batch, llama_batch_ext,
    llama_context, llama_embd, llama_memory_t, llama_model, llama_perf_context_data,
    llama_pooling_type_e, llama_pos, llama_process_type_e, llama_sampler, llama_seq_id,
    llama_token,
};

/// Computes on the caller's thread pools; NULL for the second means the first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_attach_threadpool(
    ctx: *mut llama_context,
    threadpool: ggml_threadpool_t,
    threadpool_batch: ggml_threadpool_t,
) {
    unimplemented("llama_attach_threadpool", ())
}

/// Returns to the library's own threads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_detach_threadpool(ctx: *mut llama_context) {
    unimplemented("llama_detach_threadpool", ())
}

/// Context length in tokens, over all sequences.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_ctx(ctx: *const llama_context) -> u32 {
    unimplemented("llama_n_ctx", 0)
}

/// Context length of one sequence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_ctx_seq(ctx: *const llama_context) -> u32 {
    unimplemented("llama_n_ctx_seq", 0)
}

/// Most tokens in a call of llama_decode.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_batch(ctx: *const llama_context) -> u32 {
    unimplemented("llama_n_batch", 0)
}

/// Most tokens that are computed at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_ubatch(ctx: *const llama_context) -> u32 {
    unimplemented("llama_n_ubatch", 0)
}

/// Most sequences.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_seq_max(ctx: *const llama_context) -> u32 {
    unimplemented("llama_n_seq_max", 0)
}

/// Snapshots of recurrent state that each sequence keeps.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_rs_seq(ctx: *const llama_context) -> u32 {
    unimplemented("llama_n_rs_seq", 0)
}

/// The model of a context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_model(ctx: *const llama_context) -> *const llama_model {
    unimplemented("llama_get_model", core::ptr::null())
}

/// The memory of a context; NULL when it has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_memory(ctx: *const llama_context) -> llama_memory_t {
    unimplemented("llama_get_memory", core::ptr::null_mut())
}

/// How embeddings are pooled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_pooling_type(ctx: *const llama_context) -> llama_pooling_type_e {
    unimplemented("llama_pooling_type", -1)
}

/// Forgets everything; with data also zeroes the buffers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_clear(mem: llama_memory_t, data: cbool) {
    unimplemented("llama_memory_clear", ())
}

/// Forgets positions p0 to before p1 of a sequence. Negative: seq_id any, p0 the start, p1 the
/// end. False when a part cannot be removed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_seq_rm(
    mem: llama_memory_t,
    seq_id: llama_seq_id,
    p0: llama_pos,
    p1: llama_pos,
) -> bool {
    unimplemented("llama_memory_seq_rm", false)
}

/// Lets another sequence share positions p0 to before p1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_seq_cp(
    mem: llama_memory_t,
    seq_id_src: llama_seq_id,
    seq_id_dst: llama_seq_id,
    p0: llama_pos,
    p1: llama_pos,
) {
    unimplemented("llama_memory_seq_cp", ())
}

/// Forgets all other sequences.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_seq_keep(mem: llama_memory_t, seq_id: llama_seq_id) {
    unimplemented("llama_memory_seq_keep", ())
}

/// Moves positions p0 to before p1 of a sequence by delta.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_seq_add(
    mem: llama_memory_t,
    seq_id: llama_seq_id,
    p0: llama_pos,
    p1: llama_pos,
    delta: llama_pos,
) {
    unimplemented("llama_memory_seq_add", ())
}

/// Divides positions p0 to before p1 of a sequence by d.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_seq_div(
    mem: llama_memory_t,
    seq_id: llama_seq_id,
    p0: llama_pos,
    p1: llama_pos,
    d: c_int,
) {
    unimplemented("llama_memory_seq_div", ())
}

/// Smallest position of a sequence; -1 when it is empty.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_seq_pos_min(
    mem: llama_memory_t,
    seq_id: llama_seq_id,
) -> llama_pos {
    unimplemented("llama_memory_seq_pos_min", -1)
}

/// Largest position of a sequence; -1 when it is empty.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_seq_pos_max(
    mem: llama_memory_t,
    seq_id: llama_seq_id,
) -> llama_pos {
    unimplemented("llama_memory_seq_pos_max", -1)
}

/// Whether positions can be moved.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_can_shift(mem: llama_memory_t) -> bool {
    unimplemented("llama_memory_can_shift", false)
}

/// Runs a batch through the encoder; 0 on success, negative on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_encode(ctx: *mut llama_context, batch: llama_batch) -> i32 {
    unimplemented("llama_encode", -3)
}

/// Runs a batch: 0 done, 1 no room in the KV cache, 2 aborted, -1 bad batch, -2 out of memory, -3
/// failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_decode(ctx: *mut llama_context, batch: llama_batch) -> i32 {
    unimplemented("llama_decode", -3)
}

/// Makes an empty batch for a context; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_init(ctx: *mut llama_context) -> *mut llama_batch_ext {
    unimplemented("llama_batch_ext_init", core::ptr::null_mut())
}

/// Frees a batch. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_free(batch: *mut llama_batch_ext) {
    unimplemented("llama_batch_ext_free", ())
}

/// Empties a batch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_clear(batch: *mut llama_batch_ext) {
    unimplemented("llama_batch_ext_clear", ())
}

/// Adds an entry without token or embedding: its index, -1 when the batch is full, -3 for a bad
/// sequence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_add(
    batch: *mut llama_batch_ext,
    seq_id: llama_seq_id,
) -> i32 {
    unimplemented("llama_batch_ext_add", -1)
}

/// Adds a token: its index, -1 when the batch is full, -2 for a bad token, -3 for a bad sequence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_add_token(
    batch: *mut llama_batch_ext,
    seq_id: llama_seq_id,
    id: llama_token,
) -> i32 {
    unimplemented("llama_batch_ext_add_token", -1)
}

/// Adds an embedding: its index, -1 when the batch is full, -2 for a bad embedding, -3 for a bad
/// sequence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_add_embd(
    batch: *mut llama_batch_ext,
    seq_id: llama_seq_id,
    embd: llama_embd,
) -> i32 {
    unimplemented("llama_batch_ext_add_embd", -1)
}

/// Puts an entry into one more sequence; false on bad arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_add_seq(
    batch: *mut llama_batch_ext,
    idx: i32,
    seq_id: llama_seq_id,
) -> bool {
    unimplemented("llama_batch_ext_add_seq", false)
}

/// Gives a token entry an embedding too; false on bad arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_set_embd_token(
    batch: *mut llama_batch_ext,
    idx: i32,
    embd: llama_embd,
) -> bool {
    unimplemented("llama_batch_ext_set_embd_token", false)
}

/// Gives an entry a hidden state from elsewhere; false, since no model here takes one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_set_embd_state(
    batch: *mut llama_batch_ext,
    idx: i32,
    embd: llama_embd,
) -> bool {
    unimplemented("llama_batch_ext_set_embd_state", false)
}

/// Asks for the embedding of an entry; false on bad arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_set_output_embd(
    batch: *mut llama_batch_ext,
    idx: i32,
    value: cbool,
) -> bool {
    unimplemented("llama_batch_ext_set_output_embd", false)
}

/// Asks for the logits of an entry; false on bad arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_set_output_logits(
    batch: *mut llama_batch_ext,
    idx: i32,
    value: cbool,
) -> bool {
    unimplemented("llama_batch_ext_set_output_logits", false)
}

/// Sets the position of an entry; false on bad arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_set_pos(
    batch: *mut llama_batch_ext,
    idx: i32,
    pos: *const llama_pos,
) -> bool {
    unimplemented("llama_batch_ext_set_pos", false)
}

/// Runs a batch through the encoder or decoder; returns what llama_decode returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_process(
    ctx: *mut llama_context,
    r#type: llama_process_type_e,
    batch: *mut llama_batch_ext,
) -> i32 {
    unimplemented("llama_process", -3)
}

/// Threads for single tokens and for batches.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_n_threads(
    ctx: *mut llama_context,
    n_threads: i32,
    n_threads_batch: i32,
) {
    unimplemented("llama_set_n_threads", ())
}

/// Threads for single tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_threads(ctx: *mut llama_context) -> i32 {
    unimplemented("llama_n_threads", -1)
}

/// Threads for batches.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_threads_batch(ctx: *mut llama_context) -> i32 {
    unimplemented("llama_n_threads_batch", -1)
}

/// Whether embeddings are kept.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_embeddings(ctx: *mut llama_context, embeddings: cbool) {
    unimplemented("llama_set_embeddings", ())
}

/// Whether attention is causal.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_causal_attn(ctx: *mut llama_context, causal_attn: cbool) {
    unimplemented("llama_set_causal_attn", ())
}

/// Whether attention is causal.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_causal_attn(ctx: *const llama_context) -> bool {
    unimplemented("llama_get_causal_attn", false)
}

/// Whether runs only load weights.
#[deprecated(note = "decode a token or two instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_warmup(ctx: *mut llama_context, warmup: cbool) {
    unimplemented("llama_set_warmup", ())
}

/// A callback that is asked between steps and stops a run by returning true.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_abort_callback(
    ctx: *mut llama_context,
    abort_callback: ggml_abort_callback,
    abort_callback_data: *mut c_void,
) {
    unimplemented("llama_set_abort_callback", ())
}

/// Waits until all work is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_synchronize(ctx: *mut llama_context) {
    unimplemented("llama_synchronize", ())
}

/// Logits of the last call, one row per output in batch order; NULL when there are none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_logits(ctx: *mut llama_context) -> *mut f32 {
    unimplemented("llama_get_logits", core::ptr::null_mut())
}

/// Logits of batch entry i; negative i counts outputs from the end. NULL when it has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_logits_ith(ctx: *mut llama_context, i: i32) -> *mut f32 {
    unimplemented("llama_get_logits_ith", core::ptr::null_mut())
}

/// Embeddings of the last call, one row per output; NULL when there are none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_embeddings(ctx: *mut llama_context) -> *mut f32 {
    unimplemented("llama_get_embeddings", core::ptr::null_mut())
}

/// Embedding of batch entry i; negative i counts outputs from the end. NULL when it has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_embeddings_ith(ctx: *mut llama_context, i: i32) -> *mut f32 {
    unimplemented("llama_get_embeddings_ith", core::ptr::null_mut())
}

/// Pooled embedding of a sequence; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_embeddings_seq(
    ctx: *mut llama_context,
    seq_id: llama_seq_id,
) -> *mut f32 {
    unimplemented("llama_get_embeddings_seq", core::ptr::null_mut())
}

/// Token that a sampler on the device chose; LLAMA_TOKEN_NULL when none ran.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_sampled_token_ith(
    ctx: *mut llama_context,
    i: i32,
) -> llama_token {
    unimplemented("llama_get_sampled_token_ith", LLAMA_TOKEN_NULL)
}

/// Probabilities of a sampler on the device; NULL when none ran.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_sampled_probs_ith(ctx: *mut llama_context, i: i32) -> *mut f32 {
    unimplemented("llama_get_sampled_probs_ith", core::ptr::null_mut())
}

/// Number of those probabilities.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_sampled_probs_count_ith(ctx: *mut llama_context, i: i32) -> u32 {
    unimplemented("llama_get_sampled_probs_count_ith", 0)
}

/// Logits of a sampler on the device; NULL when none ran.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_sampled_logits_ith(ctx: *mut llama_context, i: i32) -> *mut f32 {
    unimplemented("llama_get_sampled_logits_ith", core::ptr::null_mut())
}

/// Number of those logits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_sampled_logits_count_ith(
    ctx: *mut llama_context,
    i: i32,
) -> u32 {
    unimplemented("llama_get_sampled_logits_count_ith", 0)
}

/// Candidate tokens of a sampler on the device; NULL when none ran.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_sampled_candidates_ith(
    ctx: *mut llama_context,
    i: i32,
) -> *mut llama_token {
    unimplemented("llama_get_sampled_candidates_ith", core::ptr::null_mut())
}

/// Number of those candidates.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_sampled_candidates_count_ith(
    ctx: *mut llama_context,
    i: i32,
) -> u32 {
    unimplemented("llama_get_sampled_candidates_count_ith", 0)
}

/// Lets a sampler chain run on the device for a sequence; false when it cannot, and the caller
/// samples as usual.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_sampler(
    ctx: *mut llama_context,
    seq_id: llama_seq_id,
    smpl: *mut llama_sampler,
) -> bool {
    unimplemented("llama_set_sampler", false)
}

/// Times and counts of a context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_perf_context(ctx: *const llama_context) -> llama_perf_context_data {
    unimplemented(
        "llama_perf_context",
        llama_perf_context_data {
            t_start_ms: 0.0,
            t_load_ms: 0.0,
            t_p_eval_ms: 0.0,
            t_eval_ms: 0.0,
            n_p_eval: 0,
            n_eval: 0,
            n_reused: 0,
        },
    )
}

/// Logs times and counts of a context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_perf_context_print(ctx: *const llama_context) {
    unimplemented("llama_perf_context_print", ())
}

/// Starts measuring anew.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_perf_context_reset(ctx: *mut llama_context) {
    unimplemented("llama_perf_context_reset", ())
}
