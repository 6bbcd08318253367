//! Not there yet: ggml tensors and training.

use super::unimplemented;
use crate::ffi::types::{
    cbool, ggml_opt_context_t, ggml_opt_dataset_t, ggml_opt_result_t, ggml_tensor, ggml_type_e,
};

/// Makes a data set for training; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_opt_dataset_init(
    type_data: ggml_type_e,
    type_label: ggml_type_e,
    ne_datapoint: i64,
    ne_label: i64,
    ndata: i64,
    ndata_shard: i64,
) -> ggml_opt_dataset_t {
    unimplemented("ggml_opt_dataset_init", core::ptr::null_mut())
}

/// Number of data points.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_opt_dataset_ndata(dataset: ggml_opt_dataset_t) -> i64 {
    unimplemented("ggml_opt_dataset_ndata", 0)
}

/// Tensor with the data points.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_opt_dataset_data(dataset: ggml_opt_dataset_t) -> *mut ggml_tensor {
    unimplemented("ggml_opt_dataset_data", core::ptr::null_mut())
}

/// Tensor with the labels.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_opt_dataset_labels(dataset: ggml_opt_dataset_t) -> *mut ggml_tensor {
    unimplemented("ggml_opt_dataset_labels", core::ptr::null_mut())
}

/// Makes an empty result of training; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_opt_result_init() -> ggml_opt_result_t {
    unimplemented("ggml_opt_result_init", core::ptr::null_mut())
}

/// Frees a result. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_opt_result_free(result: ggml_opt_result_t) {
    unimplemented("ggml_opt_result_free", ())
}

/// Empties a result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_opt_result_reset(result: ggml_opt_result_t) {
    unimplemented("ggml_opt_result_reset", ())
}

/// A callback for training that draws a progress bar.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_opt_epoch_callback_progress_bar(
    train: cbool,
    opt_ctx: ggml_opt_context_t,
    dataset: ggml_opt_dataset_t,
    result: ggml_opt_result_t,
    ibatch: i64,
    ibatch_max: i64,
    t_start_us: i64,
) {
    unimplemented("ggml_opt_epoch_callback_progress_bar", ())
}
