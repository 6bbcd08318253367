//! Not there yet: GGUF files.

use core::ffi::{c_char, c_void};

use super::unimplemented;
use crate::ffi::types::{cbool, ggml_tensor, gguf_context, gguf_init_params, gguf_type_e};

/// Makes an empty GGUF file in memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_init_empty() -> *mut gguf_context {
    unimplemented("gguf_init_empty", core::ptr::null_mut())
}

/// Reads metadata and tensor table of a file; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_init_from_file(
    fname: *const c_char,
    params: gguf_init_params,
) -> *mut gguf_context {
    unimplemented("gguf_init_from_file", core::ptr::null_mut())
}

/// Reads metadata and tensor table from memory; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_init_from_buffer(
    data: *const c_void,
    size: usize,
    params: gguf_init_params,
) -> *mut gguf_context {
    unimplemented("gguf_init_from_buffer", core::ptr::null_mut())
}

/// Frees what a gguf_init function made. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_free(ctx: *mut gguf_context) {
    unimplemented("gguf_free", ())
}

/// Where tensor data begins in the file, in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_data_offset(ctx: *const gguf_context) -> usize {
    unimplemented("gguf_get_data_offset", 0)
}

/// Number of metadata entries.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_n_kv(ctx: *const gguf_context) -> i64 {
    unimplemented("gguf_get_n_kv", 0)
}

/// Index of a metadata entry; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_find_key(ctx: *const gguf_context, key: *const c_char) -> i64 {
    unimplemented("gguf_find_key", -1)
}

/// Name of a metadata entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_key(ctx: *const gguf_context, key_id: i64) -> *const c_char {
    unimplemented("gguf_get_key", core::ptr::null())
}

/// Type of a metadata entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_kv_type(ctx: *const gguf_context, key_id: i64) -> gguf_type_e {
    unimplemented("gguf_get_kv_type", 13)
}

/// Element type of an array entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_arr_type(ctx: *const gguf_context, key_id: i64) -> gguf_type_e {
    unimplemented("gguf_get_arr_type", 13)
}

/// Value of a UINT16 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_val_u16(ctx: *const gguf_context, key_id: i64) -> u16 {
    unimplemented("gguf_get_val_u16", 0)
}

/// Value of a UINT32 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_val_u32(ctx: *const gguf_context, key_id: i64) -> u32 {
    unimplemented("gguf_get_val_u32", 0)
}

/// Value of an INT32 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_val_i32(ctx: *const gguf_context, key_id: i64) -> i32 {
    unimplemented("gguf_get_val_i32", -1)
}

/// Value of a UINT64 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_val_u64(ctx: *const gguf_context, key_id: i64) -> u64 {
    unimplemented("gguf_get_val_u64", 0)
}

/// Value of a STRING entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_val_str(ctx: *const gguf_context, key_id: i64) -> *const c_char {
    unimplemented("gguf_get_val_str", core::ptr::null())
}

/// Number of elements of an array entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_arr_n(ctx: *const gguf_context, key_id: i64) -> usize {
    unimplemented("gguf_get_arr_n", 0)
}

/// The i-th element of an array of strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_arr_str(
    ctx: *const gguf_context,
    key_id: i64,
    i: usize,
) -> *const c_char {
    unimplemented("gguf_get_arr_str", core::ptr::null())
}

/// Number of tensors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_n_tensors(ctx: *const gguf_context) -> i64 {
    unimplemented("gguf_get_n_tensors", 0)
}

/// Index of a tensor; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_find_tensor(ctx: *const gguf_context, name: *const c_char) -> i64 {
    unimplemented("gguf_find_tensor", -1)
}

/// Where a tensor's data begins, counted from the data offset.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_tensor_offset(ctx: *const gguf_context, tensor_id: i64) -> usize {
    unimplemented("gguf_get_tensor_offset", 0)
}

/// Name of a tensor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_tensor_name(
    ctx: *const gguf_context,
    tensor_id: i64,
) -> *const c_char {
    unimplemented("gguf_get_tensor_name", core::ptr::null())
}

/// Sets a UINT8 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_u8(ctx: *mut gguf_context, key: *const c_char, val: u8) {
    unimplemented("gguf_set_val_u8", ())
}

/// Sets an INT8 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_i8(ctx: *mut gguf_context, key: *const c_char, val: i8) {
    unimplemented("gguf_set_val_i8", ())
}

/// Sets a UINT16 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_u16(ctx: *mut gguf_context, key: *const c_char, val: u16) {
    unimplemented("gguf_set_val_u16", ())
}

/// Sets an INT16 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_i16(ctx: *mut gguf_context, key: *const c_char, val: i16) {
    unimplemented("gguf_set_val_i16", ())
}

/// Sets a UINT32 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_u32(ctx: *mut gguf_context, key: *const c_char, val: u32) {
    unimplemented("gguf_set_val_u32", ())
}

/// Sets an INT32 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_i32(ctx: *mut gguf_context, key: *const c_char, val: i32) {
    unimplemented("gguf_set_val_i32", ())
}

/// Sets a UINT64 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_u64(ctx: *mut gguf_context, key: *const c_char, val: u64) {
    unimplemented("gguf_set_val_u64", ())
}

/// Sets an INT64 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_i64(ctx: *mut gguf_context, key: *const c_char, val: i64) {
    unimplemented("gguf_set_val_i64", ())
}

/// Sets a FLOAT64 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_f64(ctx: *mut gguf_context, key: *const c_char, val: f64) {
    unimplemented("gguf_set_val_f64", ())
}

/// Sets a BOOL entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_bool(ctx: *mut gguf_context, key: *const c_char, val: cbool) {
    unimplemented("gguf_set_val_bool", ())
}

/// Sets a STRING entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_str(
    ctx: *mut gguf_context,
    key: *const c_char,
    val: *const c_char,
) {
    unimplemented("gguf_set_val_str", ())
}

/// Sets an array of strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_arr_str(
    ctx: *mut gguf_context,
    key: *const c_char,
    data: *mut *const c_char,
    n: usize,
) {
    unimplemented("gguf_set_arr_str", ())
}

/// Copies all entries of another file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_kv(ctx: *mut gguf_context, src: *const gguf_context) {
    unimplemented("gguf_set_kv", ())
}

/// Adds a tensor to the table.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_add_tensor(ctx: *mut gguf_context, tensor: *const ggml_tensor) {
    unimplemented("gguf_add_tensor", ())
}

/// Writes the file, or only its metadata; false on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_write_to_file(
    ctx: *const gguf_context,
    fname: *const c_char,
    only_meta: cbool,
) -> bool {
    unimplemented("gguf_write_to_file", false)
}

/// Bytes of metadata and tensor table, padded.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_meta_size(ctx: *const gguf_context) -> usize {
    unimplemented("gguf_get_meta_size", 0)
}

/// Copies metadata and tensor table.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_meta_data(ctx: *const gguf_context, data: *mut c_void) {
    unimplemented("gguf_get_meta_data", ())
}
