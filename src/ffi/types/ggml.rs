//! Structs and callbacks of `ggml.h`.
#![allow(missing_docs, reason = "fields carry the names of the C header")]

use core::ffi::{c_char, c_int, c_void};

use super::{
    cbool, ggml_backend_buffer, ggml_log_level_e, ggml_op_e, ggml_sched_priority_e, ggml_type_e,
};

/// Dimensions of a tensor.
pub const GGML_MAX_DIMS: usize = 4;
/// Bytes of a tensor's name, with its NUL.
pub const GGML_MAX_NAME: usize = 64;
/// Largest thread count of a thread pool.
pub const GGML_MAX_N_THREADS: usize = 512;
/// Threads when the caller names none.
pub const GGML_DEFAULT_N_THREADS: i32 = 4;

/// An IEEE half as its bits.
pub type ggml_fp16_t = u16;
/// Sixteen bytes that name a backend.
pub type ggml_guid = [u8; 16];
/// Pointer to a [`ggml_guid`].
pub type ggml_guid_t = *mut ggml_guid;
/// Takes log text; one call is not one line.
pub type ggml_log_callback = Option<
    unsafe extern "C" fn(level: ggml_log_level_e, text: *const c_char, user_data: *mut c_void),
>;
/// Asked between steps of a computation; true stops it.
pub type ggml_abort_callback = Option<unsafe extern "C" fn(data: *mut c_void) -> cbool>;
/// Told the message when the library must end the process.
pub type ggml_abort_callback_t = Option<unsafe extern "C" fn(error_message: *const c_char)>;

/// A bfloat16 number: the upper half of a float.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ggml_bf16_t {
    pub bits: u16,
}

/// Turns `k` elements of a number format into floats.
pub type ggml_to_float_t = Option<unsafe extern "C" fn(x: *const c_void, y: *mut f32, k: i64)>;
/// Turns `k` floats into elements of a number format.
pub type ggml_from_float_t = Option<unsafe extern "C" fn(x: *const f32, y: *mut c_void, k: i64)>;

/// A number format: elements and bytes of a block, and how rows of it become floats and back.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ggml_type_traits {
    pub type_name: *const c_char,
    pub blck_size: i64,
    pub blck_size_interleave: i64,
    pub type_size: usize,
    pub is_quantized: cbool,
    pub to_float: ggml_to_float_t,
    pub from_float_ref: ggml_from_float_t,
}

/// How much memory a ggml context manages, and whose.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ggml_init_params {
    pub mem_size: usize,
    pub mem_buffer: *mut c_void,
    pub no_alloc: cbool,
}

/// A tensor as eval callbacks and GGUF tools see it. `ne` counts elements, `nb` bytes between
/// neighbours of each dimension.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ggml_tensor {
    pub r#type: ggml_type_e,
    pub buffer: *mut ggml_backend_buffer,
    pub ne: [i64; 4],
    pub nb: [usize; 4],
    pub op: ggml_op_e,
    pub op_params: [i32; 16],
    pub flags: i32,
    pub src: [*mut ggml_tensor; 10],
    pub view_src: *mut ggml_tensor,
    pub view_offs: usize,
    pub data: *mut c_void,
    pub name: [c_char; 64],
    pub extra: *mut c_void,
    pub padding: [c_char; 8],
}

/// Settings of a thread pool; `poll` is how eagerly idle threads spin, 0 to 100.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ggml_threadpool_params {
    pub cpumask: [cbool; 512],
    pub n_threads: c_int,
    pub prio: ggml_sched_priority_e,
    pub poll: u32,
    pub strict_cpu: cbool,
    pub paused: cbool,
}
