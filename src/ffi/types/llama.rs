//! Structs and callbacks of `llama.h`.
#![allow(missing_docs, reason = "fields carry the names of the C header")]

use core::ffi::{c_char, c_void};

use super::{
    cbool, ggml_abort_callback, ggml_backend_buffer_type_t, ggml_backend_dev_t,
    ggml_backend_sched_eval_callback, ggml_cgraph, ggml_context, ggml_opt_get_optimizer_params,
    ggml_opt_optimizer_type_e, ggml_tensor, ggml_type_e, llama_attention_type_e, llama_context,
    llama_context_type_e, llama_flash_attn_type_e, llama_ftype_e, llama_lazy_mode_e,
    llama_load_mode_e, llama_memory_i, llama_model_kv_override_type_e, llama_pooling_type_e,
    llama_rope_scaling_type_e, llama_split_mode_e,
};

/// The seed that asks for a random one.
pub const LLAMA_DEFAULT_SEED: u32 = 0xFFFF_FFFF;
/// No token.
pub const LLAMA_TOKEN_NULL: llama_token = -1;

/// Position in a sequence.
pub type llama_pos = i32;
/// Token id; [`LLAMA_TOKEN_NULL`] is none.
pub type llama_token = i32;
/// Number of a sequence, from 0.
pub type llama_seq_id = i32;
/// Bits that choose what a saved sequence holds.
pub type llama_state_seq_flags = u32;
/// What a context remembers: its KV cache.
pub type llama_memory_t = *mut llama_memory_i;
/// A sampler's own data.
pub type llama_sampler_context_t = *mut c_void;
/// Told how far loading is, 0 to 1; false stops it.
pub type llama_progress_callback =
    Option<unsafe extern "C" fn(progress: f32, user_data: *mut c_void) -> cbool>;
/// Fills a tensor of a model that is made without a file.
pub type llama_model_set_tensor_data_t =
    Option<unsafe extern "C" fn(tensor: *mut ggml_tensor, userdata: *mut c_void)>;
/// Says whether a tensor is trained.
pub type llama_opt_param_filter =
    Option<unsafe extern "C" fn(tensor: *const ggml_tensor, userdata: *mut c_void) -> cbool>;

/// Value of a metadata override; `tag` says which member counts.
#[derive(Clone, Copy)]
#[repr(C)]
pub union llama_model_kv_override_value {
    pub val_i64: i64,
    pub val_f64: f64,
    pub val_bool: cbool,
    pub val_str: [c_char; 128],
}

/// Replaces a metadata value while a model loads; an array of these ends with an empty key. The
/// C header writes it by hand, because there the union has no name.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_model_kv_override {
    pub tag: llama_model_kv_override_type_e,
    pub key: [c_char; 128],
    pub value: llama_model_kv_override_value,
}

/// A candidate token with its logit and, after a softmax, its probability.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_token_data {
    pub id: llama_token,
    pub logit: f32,
    pub p: f32,
}

/// Candidates that samplers narrow down. `selected` is an index into `data`, -1 for none; `sorted`
/// says that logits fall.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_token_data_array {
    pub data: *mut llama_token_data,
    pub size: usize,
    pub selected: i64,
    pub sorted: cbool,
}

/// Tokens (or embeddings) for one call of `llama_decode`; every array has `n_tokens` entries, NULL
/// means a default.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_batch {
    pub n_tokens: i32,
    pub token: *mut llama_token,
    pub embd: *mut f32,
    pub pos: *mut llama_pos,
    pub n_seq_id: *mut i32,
    pub seq_id: *mut *mut llama_seq_id,
    pub logits: *mut i8,
}

/// Puts tensors whose name matches a pattern into a buffer type; an array ends with a NULL pattern.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_model_tensor_buft_override {
    pub pattern: *const c_char,
    pub buft: ggml_backend_buffer_type_t,
}

/// How a model is loaded.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_model_params {
    pub devices: *mut ggml_backend_dev_t,
    pub tensor_buft_overrides: *const llama_model_tensor_buft_override,
    pub n_gpu_layers: i32,
    pub split_mode: llama_split_mode_e,
    pub load_mode: llama_load_mode_e,
    pub lazy_mode: llama_lazy_mode_e,
    pub main_gpu: i32,
    pub tensor_split: *const f32,
    pub progress_callback: llama_progress_callback,
    pub progress_callback_user_data: *mut c_void,
    pub kv_overrides: *const llama_model_kv_override,
    pub vocab_only: cbool,
    pub check_tensors: cbool,
    pub use_extra_bufts: cbool,
    pub no_host: cbool,
    pub no_alloc: cbool,
    pub load_mtp: cbool,
}

/// A sampler chain that runs on the device for one sequence.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_sampler_seq_config {
    pub seq_id: llama_seq_id,
    pub sampler: *mut llama_sampler,
}

/// How a context is made. Zeros and -1 mean a default or the model's own value.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_context_params {
    pub n_ctx: u32,
    pub n_batch: u32,
    pub n_ubatch: u32,
    pub n_seq_max: u32,
    pub n_rs_seq: u32,
    pub n_outputs_max: u32,
    pub n_outputs_max_per_seq: u32,
    pub n_threads: i32,
    pub n_threads_batch: i32,
    pub ctx_type: llama_context_type_e,
    pub rope_scaling_type: llama_rope_scaling_type_e,
    pub pooling_type: llama_pooling_type_e,
    pub attention_type: llama_attention_type_e,
    pub flash_attn_type: llama_flash_attn_type_e,
    pub rope_freq_base: f32,
    pub rope_freq_scale: f32,
    pub yarn_ext_factor: f32,
    pub yarn_attn_factor: f32,
    pub yarn_beta_fast: f32,
    pub yarn_beta_slow: f32,
    pub yarn_orig_ctx: u32,
    pub defrag_thold: f32,
    pub cb_eval: ggml_backend_sched_eval_callback,
    pub cb_eval_user_data: *mut c_void,
    pub type_k: ggml_type_e,
    pub type_v: ggml_type_e,
    pub abort_callback: ggml_abort_callback,
    pub abort_callback_data: *mut c_void,
    pub embeddings: cbool,
    pub offload_kqv: cbool,
    pub no_perf: cbool,
    pub op_offload: cbool,
    pub swa_full: cbool,
    pub kv_unified: cbool,
    pub samplers: *mut llama_sampler_seq_config,
    pub n_samplers: usize,
    pub ctx_other: *mut llama_context,
}

/// Format for tensors whose name matches a pattern; an array ends with a NULL pattern.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_model_tensor_override {
    pub pattern: *const c_char,
    pub r#type: ggml_type_e,
}

/// Importance of the columns of one tensor; an array ends with a NULL name.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_model_imatrix_data {
    pub name: *const c_char,
    pub data: *const f32,
    pub size: usize,
}

/// How a model file is quantised.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_model_quantize_params {
    pub nthread: i32,
    pub ftype: llama_ftype_e,
    pub output_tensor_type: ggml_type_e,
    pub token_embedding_type: ggml_type_e,
    pub allow_requantize: cbool,
    pub quantize_output_tensor: cbool,
    pub only_copy: cbool,
    pub pure: cbool,
    pub keep_split: cbool,
    pub dry_run: cbool,
    pub imatrix: *const llama_model_imatrix_data,
    pub kv_overrides: *const llama_model_kv_override,
    pub tt_overrides: *const llama_model_tensor_override,
    pub prune_layers: *const i32,
    pub max_buf_size: usize,
}

/// A number added to the logit of a token.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_logit_bias {
    pub token: llama_token,
    pub bias: f32,
}

/// Settings of a sampler chain.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_sampler_chain_params {
    pub no_perf: cbool,
}

/// One message of a conversation.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_chat_message {
    pub role: *const c_char,
    pub content: *const c_char,
}

/// Embedding rows: `n_rows` times `n_embd` floats.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_embd {
    pub data: *const f32,
    pub n_rows: usize,
    pub n_embd: usize,
}

/// Tensors that a sampler on the device reads and writes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_sampler_data {
    pub logits: *mut ggml_tensor,
    pub probs: *mut ggml_tensor,
    pub sampled: *mut ggml_tensor,
    pub candidates: *mut ggml_tensor,
}

/// Functions of a sampler. Everything but `apply` may be NULL; the `backend_` ones run a sampler
/// on a device.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct llama_sampler_i {
    pub name: Option<unsafe extern "C" fn(smpl: *const llama_sampler) -> *const c_char>,
    pub accept: Option<unsafe extern "C" fn(smpl: *mut llama_sampler, token: llama_token)>,
    pub apply:
        Option<unsafe extern "C" fn(smpl: *mut llama_sampler, cur_p: *mut llama_token_data_array)>,
    pub reset: Option<unsafe extern "C" fn(smpl: *mut llama_sampler)>,
    pub clone: Option<unsafe extern "C" fn(smpl: *const llama_sampler) -> *mut llama_sampler>,
    pub free: Option<unsafe extern "C" fn(smpl: *mut llama_sampler)>,
    pub backend_init: Option<
        unsafe extern "C" fn(
            smpl: *mut llama_sampler,
            buft: ggml_backend_buffer_type_t,
            n_outputs_max_per_seq: u32,
        ) -> cbool,
    >,
    pub backend_accept: Option<
        unsafe extern "C" fn(
            smpl: *mut llama_sampler,
            ctx: *mut ggml_context,
            gf: *mut ggml_cgraph,
            selected_token: *mut ggml_tensor,
        ),
    >,
    pub backend_apply: Option<
        unsafe extern "C" fn(
            smpl: *mut llama_sampler,
            ctx: *mut ggml_context,
            gf: *mut ggml_cgraph,
            data: *mut llama_sampler_data,
        ),
    >,
    pub backend_set_input: Option<unsafe extern "C" fn(smpl: *mut llama_sampler)>,
    pub backend_reset: Option<unsafe extern "C" fn(smpl: *mut llama_sampler)>,
    pub copy_state:
        Option<unsafe extern "C" fn(src: *const llama_sampler, dst: *mut llama_sampler)>,
}

/// A sampler: its functions and its own data.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_sampler {
    pub iface: *mut llama_sampler_i,
    pub ctx: llama_sampler_context_t,
}

/// Time spent in a context (milliseconds) and how often.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_perf_context_data {
    pub t_start_ms: f64,
    pub t_load_ms: f64,
    pub t_p_eval_ms: f64,
    pub t_eval_ms: f64,
    pub n_p_eval: i32,
    pub n_eval: i32,
    pub n_reused: i32,
}

/// Time spent in a sampler chain (milliseconds) and how often.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_perf_sampler_data {
    pub t_sample_ms: f64,
    pub n_sample: i32,
}

/// Settings of training.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct llama_opt_params {
    pub n_ctx_train: u32,
    pub param_filter: llama_opt_param_filter,
    pub param_filter_ud: *mut c_void,
    pub get_opt_pars: ggml_opt_get_optimizer_params,
    pub get_opt_pars_ud: *mut c_void,
    pub optimizer_type: ggml_opt_optimizer_type_e,
}
