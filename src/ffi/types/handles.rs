//! Handles whose inside C never sees.
#![allow(dead_code, reason = "handles that nothing makes yet")]

pub use crate::ffi::adapter::llama_adapter_lora;
pub use crate::ffi::batch_ext::llama_batch_ext;
pub use crate::ffi::context::{llama_context, llama_memory_i};
pub use crate::ffi::ggml::buffer::{ggml_backend_buffer, ggml_backend_buffer_type};
pub use crate::ffi::ggml::device::{ggml_backend_device, ggml_backend_reg};
pub use crate::ffi::ggml::opened::ggml_backend;
pub use crate::ffi::ggml::tensor::ggml_context;
pub use crate::ffi::ggml::threadpool::ggml_threadpool;
pub use crate::ffi::gguf::gguf_context;
pub use crate::ffi::load::llama_model;
pub use crate::ffi::vocab::llama_vocab;

/// A graph of tensors; only ever named in the signatures of device samplers.
pub struct ggml_cgraph(());
/// A point in the work of a device.
pub struct ggml_backend_event(());
/// Divides a graph between backends.
pub struct ggml_backend_sched(());
/// Allocates the tensors of a graph.
pub struct ggml_gallocr(());
/// A training run.
pub struct ggml_opt_context(());
/// Training data.
pub struct ggml_opt_dataset(());
/// Loss and accuracy so far.
pub struct ggml_opt_result(());
