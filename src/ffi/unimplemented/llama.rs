//! Not there yet: adapters, quantisation, training.

use core::ffi::{c_char, c_void};

use libc::FILE;

use super::unimplemented;
use crate::ffi::types::{
    ggml_opt_dataset_t, ggml_opt_epoch_callback, ggml_opt_result_t, ggml_tensor,
    llama_adapter_lora, llama_context, llama_model, llama_model_quantize_params, llama_opt_params,
    llama_token,
};

/// Writes a model file in other number formats. 0 on success.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_quantize(
    fname_inp: *const c_char,
    fname_out: *const c_char,
    params: *const llama_model_quantize_params,
) -> u32 {
    unimplemented("llama_model_quantize", 1)
}

/// Loads a LoRA adapter, which lives as long as its model. NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_lora_init(
    model: *mut llama_model,
    path_lora: *const c_char,
) -> *mut llama_adapter_lora {
    unimplemented("llama_adapter_lora_init", core::ptr::null_mut())
}

/// Loads a LoRA adapter from an open file, from its current position. NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_lora_init_from_file_ptr(
    model: *mut llama_model,
    file: *mut FILE,
) -> *mut llama_adapter_lora {
    unimplemented("llama_adapter_lora_init_from_file_ptr", core::ptr::null_mut())
}

/// Metadata value of an adapter as text: its length, or -1 and an empty string when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_meta_val_str(
    adapter: *const llama_adapter_lora,
    key: *const c_char,
    buf: *mut c_char,
    buf_size: usize,
) -> i32 {
    unimplemented("llama_adapter_meta_val_str", -1)
}

/// Number of metadata entries of an adapter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_meta_count(adapter: *const llama_adapter_lora) -> i32 {
    unimplemented("llama_adapter_meta_count", 0)
}

/// Name of the i-th metadata entry: its length, or -1 and an empty string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_meta_key_by_index(
    adapter: *const llama_adapter_lora,
    i: i32,
    buf: *mut c_char,
    buf_size: usize,
) -> i32 {
    unimplemented("llama_adapter_meta_key_by_index", -1)
}

/// Value of the i-th metadata entry as text: its length, or -1 and an empty string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_meta_val_str_by_index(
    adapter: *const llama_adapter_lora,
    i: i32,
    buf: *mut c_char,
    buf_size: usize,
) -> i32 {
    unimplemented("llama_adapter_meta_val_str_by_index", -1)
}

/// Frees an adapter before its model is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_lora_free(adapter: *mut llama_adapter_lora) {
    unimplemented("llama_adapter_lora_free", ())
}

/// Number of tokens that switch an activated LoRA on; 0 for an ordinary one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_get_alora_n_invocation_tokens(
    adapter: *const llama_adapter_lora,
) -> u64 {
    unimplemented("llama_adapter_get_alora_n_invocation_tokens", 0)
}

/// Tokens that switch an activated LoRA on; NULL for an ordinary one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_get_alora_invocation_tokens(
    adapter: *const llama_adapter_lora,
) -> *const llama_token {
    unimplemented("llama_adapter_get_alora_invocation_tokens", core::ptr::null())
}

/// Replaces the adapters of a context, each with its scale; 0 on success, -1 on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_adapters_lora(
    ctx: *mut llama_context,
    adapters: *mut *mut llama_adapter_lora,
    n_adapters: usize,
    scales: *mut f32,
) -> i32 {
    unimplemented("llama_set_adapters_lora", -1)
}

/// Adds a control vector to layers il_start to il_end; NULL data removes it. 0 on success, -1 on
/// failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_adapter_cvec(
    ctx: *mut llama_context,
    data: *const f32,
    len: usize,
    n_embd: i32,
    il_start: i32,
    il_end: i32,
) -> i32 {
    unimplemented("llama_set_adapter_cvec", -1)
}

/// A filter for training that takes every tensor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_opt_param_filter_all(
    tensor: *const ggml_tensor,
    userdata: *mut c_void,
) -> bool {
    unimplemented("llama_opt_param_filter_all", true)
}

/// Prepares a context for training.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_opt_init(
    lctx: *mut llama_context,
    model: *mut llama_model,
    lopt_params: llama_opt_params,
) {
    unimplemented("llama_opt_init", ())
}

/// Trains for one pass over the data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_opt_epoch(
    lctx: *mut llama_context,
    dataset: ggml_opt_dataset_t,
    result_train: ggml_opt_result_t,
    result_eval: ggml_opt_result_t,
    idata_split: i64,
    callback_train: ggml_opt_epoch_callback,
    callback_eval: ggml_opt_epoch_callback,
) {
    unimplemented("llama_opt_epoch", ())
}
