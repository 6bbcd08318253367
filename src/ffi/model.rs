//! Facts about a model. A NULL model gets 0, NULL or false; so does a fact that a model loaded
//! for its vocabulary only does not have.

use core::ffi::{CStr, c_char, c_int};
use core::ptr;

use super::guard;
use super::load::{llama_model, model_ref};
use super::strings::c_str;
use super::types::{
    LLAMA_TOKEN_NULL, llama_ftype_e, llama_rope_type, llama_rope_type_e, llama_token, llama_vocab,
};
use crate::api::{Hparams, RopeStyle};

/// A fact from the hyper-parameters; 0 where there are none.
///
/// # Safety
/// `model` is NULL or a model.
unsafe fn size(model: *const llama_model, fact: impl FnOnce(&Hparams) -> usize) -> i32 {
    // SAFETY: the caller's promise.
    let hparams = unsafe { model_ref(model) }.and_then(|m| m.model.hparams());
    hparams.and_then(|h| i32::try_from(fact(h)).ok()).unwrap_or(0)
}

/// The vocabulary of a model, valid as long as the model; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_get_vocab(model: *const llama_model) -> *const llama_vocab {
    // SAFETY: NULL or a model.
    unsafe { model_ref(model) }.map_or(ptr::null(), |m| llama_vocab::handle(m.model.vocab()))
}

/// How rotary embedding pairs values; NONE without a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_rope_type(model: *const llama_model) -> llama_rope_type_e {
    // SAFETY: NULL or a model.
    let model = unsafe { model_ref(model) };
    let mrope = model.and_then(|m| m.model.hparams()).is_some_and(|h| h.mrope);
    let ty = match model.and_then(|m| m.model.rope_style()) {
        Some(_) if mrope => llama_rope_type::LLAMA_ROPE_TYPE_MROPE,
        None => llama_rope_type::LLAMA_ROPE_TYPE_NONE,
        Some(RopeStyle::Norm) => llama_rope_type::LLAMA_ROPE_TYPE_NORM,
        Some(RopeStyle::Neox) => llama_rope_type::LLAMA_ROPE_TYPE_NEOX,
    };
    ty as c_int
}

/// Context length that the model was trained with.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_ctx_train(model: *const llama_model) -> i32 {
    // SAFETY: NULL or a model.
    unsafe { size(model, |h| h.n_ctx_train) }
}

/// Width of the embeddings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_embd(model: *const llama_model) -> i32 {
    // SAFETY: NULL or a model.
    unsafe { size(model, |h| h.n_embd) }
}

/// Width of input embeddings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_embd_inp(model: *const llama_model) -> i32 {
    // SAFETY: NULL or a model.
    unsafe { size(model, |h| h.n_embd) }
}

/// Width of output embeddings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_embd_out(model: *const llama_model) -> i32 {
    // SAFETY: NULL or a model.
    unsafe { size(model, |h| h.n_embd) }
}

/// Number of layers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_layer(model: *const llama_model) -> i32 {
    // SAFETY: NULL or a model.
    unsafe { size(model, |h| h.n_layer) }
}

/// Number of layers that predict further tokens: 0, no model that runs here has them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_layer_nextn(_model: *const llama_model) -> i32 {
    0
}

/// Number of attention heads of the first layer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_head(model: *const llama_model) -> i32 {
    // SAFETY: NULL or a model.
    unsafe { size(model, |h| h.n_head.first().copied().unwrap_or(0)) }
}

/// Number of key and value heads of the first layer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_head_kv(model: *const llama_model) -> i32 {
    // SAFETY: NULL or a model.
    unsafe { size(model, |h| h.n_head_kv.first().copied().unwrap_or(0)) }
}

/// Size of the attention window; 0 when no layer has one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_swa(model: *const llama_model) -> i32 {
    // SAFETY: NULL or a model.
    unsafe { size(model, |h| h.n_swa) }
}

/// Rotary frequency scale that the model was trained with.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_rope_freq_scale_train(model: *const llama_model) -> f32 {
    // SAFETY: NULL or a model.
    let hparams = unsafe { model_ref(model) }.and_then(|m| m.model.hparams());
    hparams.map_or(0.0, |h| h.rope.freq_scale)
}

/// Number of classifier outputs; 1 when the file does not name them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_cls_out(model: *const llama_model) -> u32 {
    // SAFETY: NULL or a model.
    unsafe { size(model, |h| h.n_cls_out) }.max(1).cast_unsigned()
}

/// Label of a classifier output, valid as long as the model; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_cls_label(model: *const llama_model, i: u32) -> *const c_char {
    // SAFETY: NULL or a model.
    let label = unsafe { model_ref(model) }.and_then(|m| m.model.classifier_label(i as usize));
    let text = label.and_then(|label| CStr::from_bytes_until_nul(label).ok());
    text.map_or(ptr::null(), CStr::as_ptr)
}

/// Predominant format of the weights.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_ftype(model: *const llama_model) -> llama_ftype_e {
    // SAFETY: NULL or a model.
    unsafe { model_ref(model) }.map_or(0, |m| m.model.ftype().c_id().cast_signed())
}

/// Bytes of all tensors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_size(model: *const llama_model) -> u64 {
    // SAFETY: NULL or a model.
    unsafe { model_ref(model) }.map_or(0, |m| m.model.n_bytes())
}

/// Number of weights.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_params(model: *const llama_model) -> u64 {
    // SAFETY: NULL or a model.
    unsafe { model_ref(model) }.map_or(0, |m| m.model.n_params())
}

/// Whether the model has an encoder: no model that runs here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_has_encoder(_model: *const llama_model) -> bool {
    false
}

/// Whether the model has a decoder: every model that runs here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_has_decoder(model: *const llama_model) -> bool {
    !model.is_null()
}

/// First token of the decoder of an encoder-decoder model; -1 for others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_decoder_start_token(
    _model: *const llama_model,
) -> llama_token {
    LLAMA_TOKEN_NULL
}

/// Whether the model is recurrent: no model that runs here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_is_recurrent(_model: *const llama_model) -> bool {
    false
}

/// Whether the model mixes attention and recurrence: no model that runs here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_is_hybrid(_model: *const llama_model) -> bool {
    false
}

/// Whether the model generates by diffusion: no model that runs here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_is_diffusion(_model: *const llama_model) -> bool {
    false
}

/// A chat template of the model, the default one for NULL, valid as long as the model; NULL when
/// there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_chat_template(
    model: *const llama_model,
    name: *const c_char,
) -> *const c_char {
    guard::call(ptr::null(), "llama_model_chat_template", || {
        // SAFETY: NULL or a model; NULL or a C string.
        let (model, name) = unsafe { (model_ref(model), c_str(name)) };
        let Some(model) = model else { return ptr::null() };
        let name = name.map(|name| name.to_string_lossy());
        let template = model.model.chat_template(name.as_deref());
        let text = template.and_then(|t| CStr::from_bytes_until_nul(t.as_bytes_with_nul()).ok());
        text.map_or(ptr::null(), CStr::as_ptr)
    })
}

/// Old name of llama_model_n_ctx_train.
#[deprecated(note = "use llama_model_n_ctx_train instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_ctx_train(model: *const llama_model) -> i32 {
    // SAFETY: the same contract.
    unsafe { llama_model_n_ctx_train(model) }
}

/// Old name of llama_model_n_embd.
#[deprecated(note = "use llama_model_n_embd instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_embd(model: *const llama_model) -> i32 {
    // SAFETY: the same contract.
    unsafe { llama_model_n_embd(model) }
}

/// Old name of llama_model_n_layer.
#[deprecated(note = "use llama_model_n_layer instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_layer(model: *const llama_model) -> i32 {
    // SAFETY: the same contract.
    unsafe { llama_model_n_layer(model) }
}

/// Old name of llama_model_n_head.
#[deprecated(note = "use llama_model_n_head instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_head(model: *const llama_model) -> i32 {
    // SAFETY: the same contract.
    unsafe { llama_model_n_head(model) }
}
