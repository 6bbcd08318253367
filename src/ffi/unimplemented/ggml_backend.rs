//! Not there yet: ggml backends.

use core::ffi::c_char;

use super::unimplemented;
use crate::ffi::types::{ggml_backend_dev_t, ggml_backend_reg_t};

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
