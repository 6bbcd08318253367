//! Clock and files.

use core::ffi::c_char;

use libc::FILE;

use crate::ffi::guard;
use crate::util::sys;

/// Prepares the clock; not needed here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_time_init() {
    guard::call((), "ggml_time_init", || {
        sys::time_us(); // starts it
    });
}

/// Milliseconds on a clock that never goes back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_time_ms() -> i64 {
    guard::call(0, "ggml_time_ms", || sys::time_us() / 1000)
}

/// Microseconds on a clock that never goes back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_time_us() -> i64 {
    guard::call(0, "ggml_time_us", sys::time_us)
}

/// Opens a file whose name is UTF-8; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_fopen(fname: *const c_char, mode: *const c_char) -> *mut FILE {
    if fname.is_null() || mode.is_null() {
        return core::ptr::null_mut();
    }
    // SAFETY: both are C strings.
    unsafe { libc::fopen(fname, mode) }
}
