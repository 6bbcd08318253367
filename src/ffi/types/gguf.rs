//! Types of `gguf.h`.
#![allow(missing_docs, reason = "fields and variants carry the names of the C header")]

use core::ffi::{c_int, c_void};

use super::{cbool, ggml_context, try_from_int};

/// Reads `len` bytes at `offset` into `output`; returns how many it could.
pub type gguf_reader_callback_t = Option<
    unsafe extern "C" fn(
        userdata: *mut c_void,
        output: *mut c_void,
        offset: u64,
        len: usize,
    ) -> usize,
>;

/// Type of a GGUF metadata value; the numbers are the ones in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum gguf_type {
    GGUF_TYPE_UINT8 = 0,
    GGUF_TYPE_INT8 = 1,
    GGUF_TYPE_UINT16 = 2,
    GGUF_TYPE_INT16 = 3,
    GGUF_TYPE_UINT32 = 4,
    GGUF_TYPE_INT32 = 5,
    GGUF_TYPE_FLOAT32 = 6,
    GGUF_TYPE_BOOL = 7,
    GGUF_TYPE_STRING = 8,
    GGUF_TYPE_ARRAY = 9,
    GGUF_TYPE_UINT64 = 10,
    GGUF_TYPE_INT64 = 11,
    GGUF_TYPE_FLOAT64 = 12,
    GGUF_TYPE_COUNT = 13,
}
/// [`gguf_type`] as C passes it: any number.
pub type gguf_type_e = c_int;
try_from_int!(gguf_type: GGUF_TYPE_UINT8, GGUF_TYPE_INT8, GGUF_TYPE_UINT16, GGUF_TYPE_INT16, GGUF_TYPE_UINT32, GGUF_TYPE_INT32, GGUF_TYPE_FLOAT32, GGUF_TYPE_BOOL, GGUF_TYPE_STRING, GGUF_TYPE_ARRAY, GGUF_TYPE_UINT64, GGUF_TYPE_INT64, GGUF_TYPE_FLOAT64, GGUF_TYPE_COUNT);

/// How a GGUF file is opened; `ctx` receives a ggml context with the tensors when it is not NULL.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct gguf_init_params {
    pub no_alloc: cbool,
    pub ctx: *mut *mut ggml_context,
}
