//! Types of `ggml-opt.h`: training.
#![allow(missing_docs, reason = "fields and variants carry the names of the C header")]

use core::ffi::{c_int, c_void};

use super::{cbool, ggml_opt_context, ggml_opt_dataset, ggml_opt_result, try_from_int};

/// Training data.
pub type ggml_opt_dataset_t = *mut ggml_opt_dataset;
/// A training run.
pub type ggml_opt_context_t = *mut ggml_opt_context;
/// Loss and accuracy so far.
pub type ggml_opt_result_t = *mut ggml_opt_result;
/// Gives the hyper-parameters of the next step.
pub type ggml_opt_get_optimizer_params =
    Option<unsafe extern "C" fn(userdata: *mut c_void) -> ggml_opt_optimizer_params>;
/// Told about each batch of an epoch.
pub type ggml_opt_epoch_callback = Option<
    unsafe extern "C" fn(
        train: cbool,
        opt_ctx: ggml_opt_context_t,
        dataset: ggml_opt_dataset_t,
        result: ggml_opt_result_t,
        ibatch: i64,
        ibatch_max: i64,
        t_start_us: i64,
    ),
>;

/// Hyper-parameters of AdamW.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ggml_opt_adamw_params {
    pub alpha: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    pub wd: f32,
}

/// Hyper-parameters of stochastic gradient descent.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ggml_opt_sgd_params {
    pub alpha: f32,
    pub wd: f32,
}

/// Hyper-parameters of both optimisers.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ggml_opt_optimizer_params {
    pub adamw: ggml_opt_adamw_params,
    pub sgd: ggml_opt_sgd_params,
}

/// Loss that training minimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum ggml_opt_loss_type {
    GGML_OPT_LOSS_TYPE_MEAN = 0,
    GGML_OPT_LOSS_TYPE_SUM = 1,
    GGML_OPT_LOSS_TYPE_CROSS_ENTROPY = 2,
    GGML_OPT_LOSS_TYPE_MEAN_SQUARED_ERROR = 3,
}
/// [`ggml_opt_loss_type`] as C passes it: any number.
pub type ggml_opt_loss_type_e = c_int;

/// How far a training graph is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum ggml_opt_build_type {
    GGML_OPT_BUILD_TYPE_FORWARD = 10,
    GGML_OPT_BUILD_TYPE_GRAD = 20,
    GGML_OPT_BUILD_TYPE_OPT = 30,
}
/// [`ggml_opt_build_type`] as C passes it: any number.
pub type ggml_opt_build_type_e = c_int;

/// Optimiser of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum ggml_opt_optimizer_type {
    GGML_OPT_OPTIMIZER_TYPE_ADAMW = 0,
    GGML_OPT_OPTIMIZER_TYPE_SGD = 1,
    GGML_OPT_OPTIMIZER_TYPE_COUNT = 2,
}
/// [`ggml_opt_optimizer_type`] as C passes it: any number.
pub type ggml_opt_optimizer_type_e = c_int;
try_from_int!(ggml_opt_optimizer_type: GGML_OPT_OPTIMIZER_TYPE_ADAMW, GGML_OPT_OPTIMIZER_TYPE_SGD, GGML_OPT_OPTIMIZER_TYPE_COUNT);
