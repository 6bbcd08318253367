//! Not there yet: models.

use core::ffi::c_char;

use super::unimplemented;
use crate::ffi::types::{
    LLAMA_TOKEN_NULL, llama_ftype_e, llama_model, llama_rope_type_e, llama_token, llama_vocab,
};

/// Old name of llama_model_n_ctx_train.
#[deprecated(note = "use llama_model_n_ctx_train instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_ctx_train(model: *const llama_model) -> i32 {
    unimplemented("llama_n_ctx_train", -1)
}

/// Old name of llama_model_n_embd.
#[deprecated(note = "use llama_model_n_embd instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_embd(model: *const llama_model) -> i32 {
    unimplemented("llama_n_embd", -1)
}

/// Old name of llama_model_n_layer.
#[deprecated(note = "use llama_model_n_layer instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_layer(model: *const llama_model) -> i32 {
    unimplemented("llama_n_layer", -1)
}

/// Old name of llama_model_n_head.
#[deprecated(note = "use llama_model_n_head instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_head(model: *const llama_model) -> i32 {
    unimplemented("llama_n_head", -1)
}

/// The vocabulary of a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_get_vocab(model: *const llama_model) -> *const llama_vocab {
    unimplemented("llama_model_get_vocab", core::ptr::null())
}

/// How rotary embedding pairs values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_rope_type(model: *const llama_model) -> llama_rope_type_e {
    unimplemented("llama_model_rope_type", -1)
}

/// Context length that the model was trained with.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_ctx_train(model: *const llama_model) -> i32 {
    unimplemented("llama_model_n_ctx_train", -1)
}

/// Width of the embeddings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_embd(model: *const llama_model) -> i32 {
    unimplemented("llama_model_n_embd", -1)
}

/// Width of input embeddings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_embd_inp(model: *const llama_model) -> i32 {
    unimplemented("llama_model_n_embd_inp", -1)
}

/// Width of output embeddings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_embd_out(model: *const llama_model) -> i32 {
    unimplemented("llama_model_n_embd_out", -1)
}

/// Number of layers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_layer(model: *const llama_model) -> i32 {
    unimplemented("llama_model_n_layer", -1)
}

/// Number of layers that predict further tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_layer_nextn(model: *const llama_model) -> i32 {
    unimplemented("llama_model_n_layer_nextn", -1)
}

/// Number of attention heads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_head(model: *const llama_model) -> i32 {
    unimplemented("llama_model_n_head", -1)
}

/// Number of key and value heads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_head_kv(model: *const llama_model) -> i32 {
    unimplemented("llama_model_n_head_kv", -1)
}

/// Size of the attention window; 0 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_swa(model: *const llama_model) -> i32 {
    unimplemented("llama_model_n_swa", -1)
}

/// Rotary frequency scale that the model was trained with.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_rope_freq_scale_train(model: *const llama_model) -> f32 {
    unimplemented("llama_model_rope_freq_scale_train", 0.0)
}

/// Number of classifier outputs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_cls_out(model: *const llama_model) -> u32 {
    unimplemented("llama_model_n_cls_out", 0)
}

/// Label of a classifier output; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_cls_label(model: *const llama_model, i: u32) -> *const c_char {
    unimplemented("llama_model_cls_label", core::ptr::null())
}

/// Metadata value as text: its length, or -1 and an empty string when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_meta_val_str(
    model: *const llama_model,
    key: *const c_char,
    buf: *mut c_char,
    buf_size: usize,
) -> i32 {
    unimplemented("llama_model_meta_val_str", -1)
}

/// Number of metadata entries.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_meta_count(model: *const llama_model) -> i32 {
    unimplemented("llama_model_meta_count", -1)
}

/// Name of the i-th metadata entry: its length, or -1 and an empty string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_meta_key_by_index(
    model: *const llama_model,
    i: i32,
    buf: *mut c_char,
    buf_size: usize,
) -> i32 {
    unimplemented("llama_model_meta_key_by_index", -1)
}

/// Value of the i-th metadata entry as text: its length, or -1 and an empty string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_meta_val_str_by_index(
    model: *const llama_model,
    i: i32,
    buf: *mut c_char,
    buf_size: usize,
) -> i32 {
    unimplemented("llama_model_meta_val_str_by_index", -1)
}

/// Describes the model, for example "llama 135M Q4_1"; returns the length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_desc(
    model: *const llama_model,
    buf: *mut c_char,
    buf_size: usize,
) -> i32 {
    unimplemented("llama_model_desc", -1)
}

/// Predominant format of the weights.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_ftype(model: *const llama_model) -> llama_ftype_e {
    unimplemented("llama_model_ftype", 0)
}

/// Bytes of all tensors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_size(model: *const llama_model) -> u64 {
    unimplemented("llama_model_size", 0)
}

/// Number of weights.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_params(model: *const llama_model) -> u64 {
    unimplemented("llama_model_n_params", 0)
}

/// Whether the model has an encoder.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_has_encoder(model: *const llama_model) -> bool {
    unimplemented("llama_model_has_encoder", false)
}

/// Whether the model has a decoder.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_has_decoder(model: *const llama_model) -> bool {
    unimplemented("llama_model_has_decoder", false)
}

/// First token of the decoder of an encoder-decoder model; -1 for others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_decoder_start_token(model: *const llama_model) -> llama_token {
    unimplemented("llama_model_decoder_start_token", LLAMA_TOKEN_NULL)
}

/// Whether the model is recurrent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_is_recurrent(model: *const llama_model) -> bool {
    unimplemented("llama_model_is_recurrent", false)
}

/// Whether the model mixes attention and recurrence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_is_hybrid(model: *const llama_model) -> bool {
    unimplemented("llama_model_is_hybrid", false)
}

/// Whether the model generates by diffusion.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_is_diffusion(model: *const llama_model) -> bool {
    unimplemented("llama_model_is_diffusion", false)
}
