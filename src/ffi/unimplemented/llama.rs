//! Not there yet: training.

use core::ffi::c_void;

use super::unimplemented;
use crate::ffi::types::{
    ggml_opt_dataset_t, ggml_opt_epoch_callback, ggml_opt_result_t, ggml_tensor, llama_context,
    llama_model, llama_opt_params,
};

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
