//! Not there yet: ggml tensors and training.

use core::ffi::{c_char, c_int, c_void};

use libc::FILE;

use super::unimplemented;
use crate::ffi::types::{
    cbool, ggml_bf16_t, ggml_context, ggml_fp16_t, ggml_init_params, ggml_op_e,
    ggml_opt_adamw_params, ggml_opt_context_t, ggml_opt_dataset_t, ggml_opt_optimizer_params,
    ggml_opt_optimizer_type_e, ggml_opt_result_t, ggml_opt_sgd_params, ggml_tensor,
    ggml_threadpool, ggml_threadpool_params, ggml_type_e,
};

/// An IEEE half as a float.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_fp16_to_fp32(value: ggml_fp16_t) -> f32 {
    unimplemented("ggml_fp16_to_fp32", 0.0)
}

/// A bfloat16 as a float.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_bf16_to_fp32(value: ggml_bf16_t) -> f32 {
    unimplemented("ggml_bf16_to_fp32", 0.0)
}

/// Prepares the clock; not needed here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_time_init() {
    unimplemented("ggml_time_init", ())
}

/// Milliseconds on a clock that never goes back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_time_ms() -> i64 {
    unimplemented("ggml_time_ms", 0)
}

/// Microseconds on a clock that never goes back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_time_us() -> i64 {
    unimplemented("ggml_time_us", 0)
}

/// Opens a file whose name is UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_fopen(fname: *const c_char, mode: *const c_char) -> *mut FILE {
    unimplemented("ggml_fopen", core::ptr::null_mut())
}

/// Number of elements of a tensor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_nelements(tensor: *const ggml_tensor) -> i64 {
    unimplemented("ggml_nelements", 0)
}

/// Number of rows of a tensor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_nrows(tensor: *const ggml_tensor) -> i64 {
    unimplemented("ggml_nrows", 0)
}

/// Bytes from the first element of a tensor to the end of its last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_nbytes(tensor: *const ggml_tensor) -> usize {
    unimplemented("ggml_nbytes", 0)
}

/// Elements in a block of a type; 0 for no type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_blck_size(r#type: ggml_type_e) -> i64 {
    unimplemented("ggml_blck_size", 0)
}

/// Bytes of a block of a type; 0 for no type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_type_size(r#type: ggml_type_e) -> usize {
    unimplemented("ggml_type_size", 0)
}

/// Bytes of ne elements of a type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_row_size(r#type: ggml_type_e, ne: i64) -> usize {
    unimplemented("ggml_row_size", 0)
}

/// Bytes of one element of a type, with fraction.
#[deprecated(note = "use ggml_row_size instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_type_sizef(r#type: ggml_type_e) -> f64 {
    unimplemented("ggml_type_sizef", 0.0)
}

/// Name of a type, "NONE" for no type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_type_name(r#type: ggml_type_e) -> *const c_char {
    unimplemented("ggml_type_name", core::ptr::null())
}

/// Name of an operation in capitals; NULL for no operation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_op_name(op: ggml_op_e) -> *const c_char {
    unimplemented("ggml_op_name", core::ptr::null())
}

/// What computes a tensor: the operation, or the function of a unary or gated one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_op_desc(t: *const ggml_tensor) -> *const c_char {
    unimplemented("ggml_op_desc", core::ptr::null())
}

/// Bytes of a block of the tensor's type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_element_size(tensor: *const ggml_tensor) -> usize {
    unimplemented("ggml_element_size", 0)
}

/// Whether a type packs several elements into blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_is_quantized(r#type: ggml_type_e) -> bool {
    unimplemented("ggml_is_quantized", false)
}

/// Dimensions of a tensor up to the last that is not 1, at least 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_n_dims(tensor: *const ggml_tensor) -> c_int {
    unimplemented("ggml_n_dims", 0)
}

/// Bytes that a tensor takes in a context besides its data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_tensor_overhead() -> usize {
    unimplemented("ggml_tensor_overhead", 0)
}

/// Makes a context that owns tensors; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_init(params: ggml_init_params) -> *mut ggml_context {
    unimplemented("ggml_init", core::ptr::null_mut())
}

/// Frees a context and its tensors. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_free(ctx: *mut ggml_context) {
    unimplemented("ggml_free", ())
}

/// Makes a matrix of ne1 rows of ne0 elements; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_new_tensor_2d(
    ctx: *mut ggml_context,
    r#type: ggml_type_e,
    ne0: i64,
    ne1: i64,
) -> *mut ggml_tensor {
    unimplemented("ggml_new_tensor_2d", core::ptr::null_mut())
}

/// The oldest tensor of a context; NULL when it has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_get_first_tensor(ctx: *const ggml_context) -> *mut ggml_tensor {
    unimplemented("ggml_get_first_tensor", core::ptr::null_mut())
}

/// The tensor made after this one; NULL at the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_get_next_tensor(
    ctx: *const ggml_context,
    tensor: *mut ggml_tensor,
) -> *mut ggml_tensor {
    unimplemented("ggml_get_next_tensor", core::ptr::null_mut())
}

/// The tensor with this name; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_get_tensor(
    ctx: *mut ggml_context,
    name: *const c_char,
) -> *mut ggml_tensor {
    unimplemented("ggml_get_tensor", core::ptr::null_mut())
}

/// Data of an F32 tensor; NULL for another type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_get_data_f32(tensor: *const ggml_tensor) -> *mut f32 {
    unimplemented("ggml_get_data_f32", core::ptr::null_mut())
}

/// Bytes that a graph of `size` nodes would take in a context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_graph_overhead_custom(size: usize, grads: cbool) -> usize {
    unimplemented("ggml_graph_overhead_custom", 0)
}

/// Quantises rows of floats; returns the bytes written, 0 on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_quantize_chunk(
    r#type: ggml_type_e,
    src: *const f32,
    dst: *mut c_void,
    start: i64,
    nrows: i64,
    n_per_row: i64,
    imatrix: *const f32,
) -> usize {
    unimplemented("ggml_quantize_chunk", 0)
}

/// Default settings for n_threads threads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_threadpool_params_default(
    n_threads: c_int,
) -> ggml_threadpool_params {
    unimplemented(
        "ggml_threadpool_params_default",
        ggml_threadpool_params {
            cpumask: [0; 512],
            n_threads: 0,
            prio: 0,
            poll: 0,
            strict_cpu: 0,
            paused: 0,
        },
    )
}

/// Writes default settings for n_threads threads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_threadpool_params_init(
    p: *mut ggml_threadpool_params,
    n_threads: c_int,
) {
    unimplemented("ggml_threadpool_params_init", ())
}

/// Whether two settings are the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_threadpool_params_match(
    p0: *const ggml_threadpool_params,
    p1: *const ggml_threadpool_params,
) -> bool {
    unimplemented("ggml_threadpool_params_match", false)
}

/// An element of a tensor as a float.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_get_f32_nd(
    tensor: *const ggml_tensor,
    i0: c_int,
    i1: c_int,
    i2: c_int,
    i3: c_int,
) -> f32 {
    unimplemented("ggml_get_f32_nd", 0.0)
}

/// Makes a thread pool; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_threadpool_new(
    params: *mut ggml_threadpool_params,
) -> *mut ggml_threadpool {
    unimplemented("ggml_threadpool_new", core::ptr::null_mut())
}

/// Frees a thread pool. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_threadpool_free(threadpool: *mut ggml_threadpool) {
    unimplemented("ggml_threadpool_free", ())
}

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

/// Default hyper-parameters of the optimisers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_opt_get_default_optimizer_params(
    userdata: *mut c_void,
) -> ggml_opt_optimizer_params {
    unimplemented(
        "ggml_opt_get_default_optimizer_params",
        ggml_opt_optimizer_params {
            adamw: ggml_opt_adamw_params {
                alpha: 0.001,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                wd: 0.0,
            },
            sgd: ggml_opt_sgd_params { alpha: 1e-3, wd: 0.0 },
        },
    )
}

/// Name of an optimiser.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_opt_optimizer_name(
    value: ggml_opt_optimizer_type_e,
) -> *const c_char {
    unimplemented("ggml_opt_optimizer_name", c"none".as_ptr())
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
