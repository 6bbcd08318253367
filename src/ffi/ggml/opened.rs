//! Devices that programs opened. They carry settings, and compute nothing.

use core::ffi::{c_char, c_int, c_void};
use core::ptr;

use super::buffer::{ggml_backend_buft_alloc_buffer, ggml_backend_buft_get_alignment};
use super::device::{
    cpu_device, ggml_backend_dev_buffer_type, ggml_backend_dev_by_name, ggml_backend_dev_by_type,
    ggml_backend_dev_supports_buft, ggml_backend_device,
};
use super::threadpool::ggml_threadpool;
use crate::ffi::guard;
use crate::ffi::types::{
    ggml_abort_callback, ggml_backend_buffer_t, ggml_backend_buffer_type_t, ggml_backend_dev_t,
    ggml_backend_dev_type as DevType, ggml_backend_dev_type_e, ggml_backend_t, ggml_guid,
    ggml_guid_t,
};
use crate::util::sys;

/// A device that was opened.
pub struct ggml_backend {
    device: &'static ggml_backend_device,
    n_threads: c_int,
    abort_callback: ggml_abort_callback,
    abort_callback_data: *mut c_void,
    threadpool: *mut ggml_threadpool,
}

/// Names this library's backends, so that programs do not take them for ggml's.
static CPU_GUID: ggml_guid = *b"powerinfer-cpu-1";
static CARD_GUID: ggml_guid = *b"powerinfer-cuda1";

pub(super) unsafe extern "C" fn set_n_threads(backend: ggml_backend_t, n_threads: c_int) {
    // SAFETY: NULL or an opened device that no one else uses now.
    if let Some(backend) = unsafe { backend.as_mut() } {
        backend.n_threads = n_threads.max(1);
    }
}

pub(super) unsafe extern "C" fn set_abort_callback(
    backend: ggml_backend_t,
    abort_callback: ggml_abort_callback,
    abort_callback_data: *mut c_void,
) {
    // SAFETY: NULL or an opened device that no one else uses now.
    if let Some(backend) = unsafe { backend.as_mut() } {
        backend.abort_callback = abort_callback;
        backend.abort_callback_data = abort_callback_data;
    }
}

pub(super) unsafe extern "C" fn set_threadpool(
    backend: ggml_backend_t,
    threadpool: *mut ggml_threadpool,
) {
    // SAFETY: NULL or an opened device that no one else uses now.
    if let Some(backend) = unsafe { backend.as_mut() } {
        backend.threadpool = threadpool;
    }
}

/// Opens a device; NULL on failure. No device here takes parameters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_init(
    device: ggml_backend_dev_t,
    _params: *const c_char,
) -> ggml_backend_t {
    guard::call(ptr::null_mut(), "ggml_backend_dev_init", || {
        // SAFETY: NULL or a device.
        let Some(device) = (unsafe { device.as_ref() }) else { return ptr::null_mut() };
        Box::into_raw(Box::new(ggml_backend {
            device,
            n_threads: c_int::try_from(sys::n_cpus()).unwrap_or(c_int::MAX),
            abort_callback: None,
            abort_callback_data: ptr::null_mut(),
            threadpool: ptr::null_mut(),
        }))
    })
}

/// Opens a device by its name; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_init_by_name(
    name: *const c_char,
    params: *const c_char,
) -> ggml_backend_t {
    // SAFETY: the arguments are passed on; NULL gives NULL.
    unsafe { ggml_backend_dev_init(ggml_backend_dev_by_name(name), params) }
}

/// Opens the first device of a kind; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_init_by_type(
    r#type: ggml_backend_dev_type_e,
    params: *const c_char,
) -> ggml_backend_t {
    // SAFETY: the arguments are passed on; NULL gives NULL.
    unsafe { ggml_backend_dev_init(ggml_backend_dev_by_type(r#type), params) }
}

/// Opens the fastest device: the first GPU, or else the processor; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_init_best() -> ggml_backend_t {
    // SAFETY: handles of this library.
    unsafe {
        let card = ggml_backend_dev_by_type(DevType::GGML_BACKEND_DEVICE_TYPE_GPU as c_int);
        let best = if card.is_null() { cpu_device() } else { card };
        ggml_backend_dev_init(best, ptr::null())
    }
}

/// Frees an opened device. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_free(backend: ggml_backend_t) {
    guard::call((), "ggml_backend_free", || {
        if !backend.is_null() {
            // SAFETY: opened by this library, freed once.
            drop(unsafe { Box::from_raw(backend) });
        }
    });
}

/// Sixteen bytes that name a backend; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_guid(backend: ggml_backend_t) -> ggml_guid_t {
    // SAFETY: NULL or an opened device.
    match unsafe { backend.as_ref() } {
        None => ptr::null_mut(),
        Some(backend) if backend.device.card.is_some() => (&raw const CARD_GUID).cast_mut(),
        Some(_) => (&raw const CPU_GUID).cast_mut(),
    }
}

/// Name of an opened device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_name(backend: ggml_backend_t) -> *const c_char {
    // SAFETY: NULL or an opened device.
    unsafe { backend.as_ref() }.map_or(c"NULL", |backend| backend.device.name).as_ptr()
}

/// The usual memory of an opened device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_get_default_buffer_type(
    backend: ggml_backend_t,
) -> ggml_backend_buffer_type_t {
    // SAFETY: NULL or an opened device.
    unsafe { ggml_backend_dev_buffer_type(ggml_backend_get_device(backend)) }
}

/// Allocates a buffer in the usual memory; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_alloc_buffer(
    backend: ggml_backend_t,
    size: usize,
) -> ggml_backend_buffer_t {
    // SAFETY: the handle is passed on; NULL gives NULL.
    unsafe {
        let buft = ggml_backend_get_default_buffer_type(backend);
        ggml_backend_buft_alloc_buffer(buft, size)
    }
}

/// Alignment of tensors in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_get_alignment(backend: ggml_backend_t) -> usize {
    // SAFETY: NULL or an opened device.
    unsafe { ggml_backend_buft_get_alignment(ggml_backend_get_default_buffer_type(backend)) }
}

/// Largest buffer in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_get_max_size(_backend: ggml_backend_t) -> usize {
    usize::MAX
}

/// Whether an opened device can compute in a kind of memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_supports_buft(
    backend: ggml_backend_t,
    buft: ggml_backend_buffer_type_t,
) -> bool {
    // SAFETY: NULL or an opened device, NULL or a buffer type.
    unsafe { ggml_backend_dev_supports_buft(ggml_backend_get_device(backend), buft) }
}

/// The device that was opened.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_get_device(backend: ggml_backend_t) -> ggml_backend_dev_t {
    // SAFETY: NULL or an opened device.
    unsafe { backend.as_ref() }.map_or(ptr::null_mut(), |b| ptr::from_ref(b.device).cast_mut())
}
