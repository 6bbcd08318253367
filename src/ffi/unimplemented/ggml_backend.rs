//! Not there yet: ggml backends.

use core::ffi::{c_char, c_void};

use super::unimplemented;
use crate::ffi::types::{
    ggml_backend_buffer_t, ggml_backend_buffer_type_t, ggml_backend_buffer_usage_e,
    ggml_backend_dev_props, ggml_backend_dev_t, ggml_backend_dev_type_e, ggml_backend_reg_t,
    ggml_backend_t, ggml_guid_t, ggml_status_e, ggml_tensor,
};

/// Name of a buffer type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buft_name(buft: ggml_backend_buffer_type_t) -> *const c_char {
    unimplemented("ggml_backend_buft_name", core::ptr::null())
}

/// Allocates a buffer; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buft_alloc_buffer(
    buft: ggml_backend_buffer_type_t,
    size: usize,
) -> ggml_backend_buffer_t {
    unimplemented("ggml_backend_buft_alloc_buffer", core::ptr::null_mut())
}

/// Alignment of tensors in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buft_get_alignment(
    buft: ggml_backend_buffer_type_t,
) -> usize {
    unimplemented("ggml_backend_buft_get_alignment", 0)
}

/// Largest buffer in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buft_get_max_size(buft: ggml_backend_buffer_type_t) -> usize {
    unimplemented("ggml_backend_buft_get_max_size", 0)
}

/// Bytes to allocate for a tensor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buft_get_alloc_size(
    buft: ggml_backend_buffer_type_t,
    tensor: *const ggml_tensor,
) -> usize {
    unimplemented("ggml_backend_buft_get_alloc_size", 0)
}

/// Whether the processor can address the memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buft_is_host(buft: ggml_backend_buffer_type_t) -> bool {
    unimplemented("ggml_backend_buft_is_host", false)
}

/// The device of a buffer type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buft_get_device(
    buft: ggml_backend_buffer_type_t,
) -> ggml_backend_dev_t {
    unimplemented("ggml_backend_buft_get_device", core::ptr::null_mut())
}

/// Name of a buffer's type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_name(buffer: ggml_backend_buffer_t) -> *const c_char {
    unimplemented("ggml_backend_buffer_name", core::ptr::null())
}

/// Frees a buffer. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_free(buffer: ggml_backend_buffer_t) {
    unimplemented("ggml_backend_buffer_free", ())
}

/// First byte of a buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_get_base(
    buffer: ggml_backend_buffer_t,
) -> *mut c_void {
    unimplemented("ggml_backend_buffer_get_base", core::ptr::null_mut())
}

/// Size of a buffer in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_get_size(buffer: ggml_backend_buffer_t) -> usize {
    unimplemented("ggml_backend_buffer_get_size", 0)
}

/// Prepares a tensor that was placed in a buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_init_tensor(
    buffer: ggml_backend_buffer_t,
    tensor: *mut ggml_tensor,
) -> ggml_status_e {
    unimplemented("ggml_backend_buffer_init_tensor", -1)
}

/// Alignment of tensors in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_get_alignment(buffer: ggml_backend_buffer_t) -> usize {
    unimplemented("ggml_backend_buffer_get_alignment", 0)
}

/// Largest buffer of this type in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_get_max_size(buffer: ggml_backend_buffer_t) -> usize {
    unimplemented("ggml_backend_buffer_get_max_size", 0)
}

/// Bytes to allocate for a tensor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_get_alloc_size(
    buffer: ggml_backend_buffer_t,
    tensor: *const ggml_tensor,
) -> usize {
    unimplemented("ggml_backend_buffer_get_alloc_size", 0)
}

/// Fills a buffer with one byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_clear(buffer: ggml_backend_buffer_t, value: u8) {
    unimplemented("ggml_backend_buffer_clear", ())
}

/// Whether the processor can address the memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_is_host(buffer: ggml_backend_buffer_t) -> bool {
    unimplemented("ggml_backend_buffer_is_host", false)
}

/// Says what a buffer is used for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_set_usage(
    buffer: ggml_backend_buffer_t,
    usage: ggml_backend_buffer_usage_e,
) {
    unimplemented("ggml_backend_buffer_set_usage", ())
}

/// What a buffer is used for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_get_usage(
    buffer: ggml_backend_buffer_t,
) -> ggml_backend_buffer_usage_e {
    unimplemented("ggml_backend_buffer_get_usage", 0)
}

/// The type of a buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_get_type(
    buffer: ggml_backend_buffer_t,
) -> ggml_backend_buffer_type_t {
    unimplemented("ggml_backend_buffer_get_type", core::ptr::null_mut())
}

/// Forgets the tensors that were placed in a buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_reset(buffer: ggml_backend_buffer_t) {
    unimplemented("ggml_backend_buffer_reset", ())
}

/// Sixteen bytes that name a backend.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_guid(backend: ggml_backend_t) -> ggml_guid_t {
    unimplemented("ggml_backend_guid", core::ptr::null_mut())
}

/// Name of a backend.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_name(backend: ggml_backend_t) -> *const c_char {
    unimplemented("ggml_backend_name", core::ptr::null())
}

/// Frees a backend. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_free(backend: ggml_backend_t) {
    unimplemented("ggml_backend_free", ())
}

/// The usual memory of a backend.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_get_default_buffer_type(
    backend: ggml_backend_t,
) -> ggml_backend_buffer_type_t {
    unimplemented("ggml_backend_get_default_buffer_type", core::ptr::null_mut())
}

/// Allocates a buffer in the usual memory; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_alloc_buffer(
    backend: ggml_backend_t,
    size: usize,
) -> ggml_backend_buffer_t {
    unimplemented("ggml_backend_alloc_buffer", core::ptr::null_mut())
}

/// Alignment of tensors in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_get_alignment(backend: ggml_backend_t) -> usize {
    unimplemented("ggml_backend_get_alignment", 0)
}

/// Largest buffer in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_get_max_size(backend: ggml_backend_t) -> usize {
    unimplemented("ggml_backend_get_max_size", 0)
}

/// Copies bytes of a tensor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_tensor_get(
    tensor: *const ggml_tensor,
    data: *mut c_void,
    offset: usize,
    size: usize,
) {
    unimplemented("ggml_backend_tensor_get", ())
}

/// Whether a backend can compute in a kind of memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_supports_buft(
    backend: ggml_backend_t,
    buft: ggml_backend_buffer_type_t,
) -> bool {
    unimplemented("ggml_backend_supports_buft", false)
}

/// The device of a backend.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_get_device(backend: ggml_backend_t) -> ggml_backend_dev_t {
    unimplemented("ggml_backend_get_device", core::ptr::null_mut())
}

/// Short name of a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_name(device: ggml_backend_dev_t) -> *const c_char {
    unimplemented("ggml_backend_dev_name", core::ptr::null())
}

/// Longer name of a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_description(device: ggml_backend_dev_t) -> *const c_char {
    unimplemented("ggml_backend_dev_description", core::ptr::null())
}

/// Free and total memory of a device in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_memory(
    device: ggml_backend_dev_t,
    free: *mut usize,
    total: *mut usize,
) {
    unimplemented("ggml_backend_dev_memory", ())
}

/// Kind of a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_type(
    device: ggml_backend_dev_t,
) -> ggml_backend_dev_type_e {
    unimplemented("ggml_backend_dev_type", 0)
}

/// Everything about a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_get_props(
    device: ggml_backend_dev_t,
    props: *mut ggml_backend_dev_props,
) {
    unimplemented("ggml_backend_dev_get_props", ())
}

/// The family of a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_backend_reg(
    device: ggml_backend_dev_t,
) -> ggml_backend_reg_t {
    unimplemented("ggml_backend_dev_backend_reg", core::ptr::null_mut())
}

/// Opens a device; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_init(
    device: ggml_backend_dev_t,
    params: *const c_char,
) -> ggml_backend_t {
    unimplemented("ggml_backend_dev_init", core::ptr::null_mut())
}

/// The usual memory of a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_buffer_type(
    device: ggml_backend_dev_t,
) -> ggml_backend_buffer_type_t {
    unimplemented("ggml_backend_dev_buffer_type", core::ptr::null_mut())
}

/// Host memory that a device reaches fast; NULL when there is no special one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_host_buffer_type(
    device: ggml_backend_dev_t,
) -> ggml_backend_buffer_type_t {
    unimplemented("ggml_backend_dev_host_buffer_type", core::ptr::null_mut())
}

/// Wraps the caller's memory as a buffer; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_buffer_from_host_ptr(
    device: ggml_backend_dev_t,
    ptr: *mut c_void,
    size: usize,
    max_tensor_size: usize,
) -> ggml_backend_buffer_t {
    unimplemented("ggml_backend_dev_buffer_from_host_ptr", core::ptr::null_mut())
}

/// Whether a device can run an operation that a client built.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_supports_op(
    device: ggml_backend_dev_t,
    op: *const ggml_tensor,
) -> bool {
    unimplemented("ggml_backend_dev_supports_op", false)
}

/// Whether a device can compute in a kind of memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_supports_buft(
    device: ggml_backend_dev_t,
    buft: ggml_backend_buffer_type_t,
) -> bool {
    unimplemented("ggml_backend_dev_supports_buft", false)
}

/// Whether a device wants an operation whose weights are in host memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_offload_op(
    device: ggml_backend_dev_t,
    op: *const ggml_tensor,
) -> bool {
    unimplemented("ggml_backend_dev_offload_op", false)
}

/// Name of a family of devices.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_name(reg: ggml_backend_reg_t) -> *const c_char {
    unimplemented("ggml_backend_reg_name", core::ptr::null())
}

/// Number of devices in a family.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_dev_count(reg: ggml_backend_reg_t) -> usize {
    unimplemented("ggml_backend_reg_dev_count", 0)
}

/// A device of a family; NULL past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_dev_get(
    reg: ggml_backend_reg_t,
    index: usize,
) -> ggml_backend_dev_t {
    unimplemented("ggml_backend_reg_dev_get", core::ptr::null_mut())
}

/// A function that only this family has; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_get_proc_address(
    reg: ggml_backend_reg_t,
    name: *const c_char,
) -> *mut c_void {
    unimplemented("ggml_backend_reg_get_proc_address", core::ptr::null_mut())
}

/// Adds a family of devices.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_register(reg: ggml_backend_reg_t) {
    unimplemented("ggml_backend_register", ())
}

/// Adds a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_device_register(device: ggml_backend_dev_t) {
    unimplemented("ggml_backend_device_register", ())
}

/// Number of families of devices.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_count() -> usize {
    unimplemented("ggml_backend_reg_count", 0)
}

/// A family of devices; NULL past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_get(index: usize) -> ggml_backend_reg_t {
    unimplemented("ggml_backend_reg_get", core::ptr::null_mut())
}

/// A family of devices by its name; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_by_name(name: *const c_char) -> ggml_backend_reg_t {
    unimplemented("ggml_backend_reg_by_name", core::ptr::null_mut())
}

/// Number of devices.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_count() -> usize {
    unimplemented("ggml_backend_dev_count", 0)
}

/// A device; NULL past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_get(index: usize) -> ggml_backend_dev_t {
    unimplemented("ggml_backend_dev_get", core::ptr::null_mut())
}

/// A device by its name; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_by_name(name: *const c_char) -> ggml_backend_dev_t {
    unimplemented("ggml_backend_dev_by_name", core::ptr::null_mut())
}

/// The first device of a kind; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_by_type(
    r#type: ggml_backend_dev_type_e,
) -> ggml_backend_dev_t {
    unimplemented("ggml_backend_dev_by_type", core::ptr::null_mut())
}

/// Opens a device by its name; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_init_by_name(
    name: *const c_char,
    params: *const c_char,
) -> ggml_backend_t {
    unimplemented("ggml_backend_init_by_name", core::ptr::null_mut())
}

/// Opens the first device of a kind; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_init_by_type(
    r#type: ggml_backend_dev_type_e,
    params: *const c_char,
) -> ggml_backend_t {
    unimplemented("ggml_backend_init_by_type", core::ptr::null_mut())
}

/// Opens the fastest device; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_init_best() -> ggml_backend_t {
    unimplemented("ggml_backend_init_best", core::ptr::null_mut())
}

/// Loads a backend from a shared library; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_load(path: *const c_char) -> ggml_backend_reg_t {
    unimplemented("ggml_backend_load", core::ptr::null_mut())
}

/// Unloads a backend.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_unload(reg: ggml_backend_reg_t) {
    unimplemented("ggml_backend_unload", ())
}

/// Loads all backends; they are built in here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_load_all() {
    unimplemented("ggml_backend_load_all", ())
}

/// Loads all backends of a folder; they are built in here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_load_all_from_path(dir_path: *const c_char) {
    unimplemented("ggml_backend_load_all_from_path", ())
}

/// The processor's memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_cpu_buffer_type() -> ggml_backend_buffer_type_t {
    unimplemented("ggml_backend_cpu_buffer_type", core::ptr::null_mut())
}
