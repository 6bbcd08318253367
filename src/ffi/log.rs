//! `llama_log_set` and its kin: the user's callback as a log sink.

use core::ffi::{CStr, c_char, c_void};
use std::ffi::CString;
use std::io::Write;
use std::sync::{Arc, Mutex};

use super::guard;
use super::types::{ggml_log_callback, ggml_log_level_e};
use crate::util::log::{self, Level, Sink};

type RawCallback = unsafe extern "C" fn(ggml_log_level_e, *const c_char, *mut c_void);

/// A callback with its user data, as C set them.
#[derive(Clone, Copy)]
struct Callback {
    function: RawCallback,
    user_data: *mut c_void,
}

// SAFETY: llama.h asks of a log callback that it may be called from any thread; the library
// itself never looks at what user_data points to.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

impl Sink for Callback {
    fn write(&self, level: Level, text: &str) {
        // A NUL inside (from a hostile model's strings) would end the text for C.
        let Ok(text) = CString::new(text.replace('\0', "\u{fffd}")) else { return };
        // SAFETY: function is what the user gave for this signature; text is terminated.
        unsafe { (self.function)(level as ggml_log_level_e, text.as_ptr(), self.user_data) };
    }
}

/// What was set last; `None` is the default. Kept beside the sink so that it can be given back.
static CURRENT: Mutex<Option<Callback>> = Mutex::new(None);

/// The default as a C function, so that a program that asks for the callback in order to chain
/// to it always gets one.
unsafe extern "C" fn write_to_stderr(
    level: ggml_log_level_e,
    text: *const c_char,
    _user_data: *mut c_void,
) {
    if text.is_null() || level == Level::Debug as ggml_log_level_e {
        return;
    }
    // SAFETY: the caller passes a terminated string.
    let text = unsafe { CStr::from_ptr(text) };
    // A closed stderr is no reason to fail the caller.
    let _ = std::io::stderr().lock().write_all(text.to_bytes());
}

fn set(callback: ggml_log_callback, user_data: *mut c_void) {
    let is_default = |f: RawCallback| core::ptr::fn_addr_eq(f, write_to_stderr as RawCallback);
    let callback =
        callback.filter(|&f| !is_default(f)).map(|function| Callback { function, user_data });
    *CURRENT.lock().unwrap_or_else(|e| e.into_inner()) = callback;
    log::set_sink(callback.map(|c| Arc::new(c) as Arc<dyn Sink>));
}

/// Sends log text to a callback; NULL restores stderr. One call is not one line: level CONT
/// continues the text before it. The callback can be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_log_set(log_callback: ggml_log_callback, user_data: *mut c_void) {
    guard::call((), "llama_log_set", || set(log_callback, user_data));
}

/// What llama_log_set set, or the function that writes to stderr.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_log_get(
    log_callback: *mut ggml_log_callback,
    user_data: *mut *mut c_void,
) {
    guard::call((), "llama_log_get", || {
        let current = *CURRENT.lock().unwrap_or_else(|e| e.into_inner());
        // SAFETY: the caller passes places to write to, or NULL.
        if let Some(place) = unsafe { log_callback.as_mut() } {
            *place = Some(current.map_or(write_to_stderr as RawCallback, |c| c.function));
        }
        // SAFETY: as above.
        if let Some(place) = unsafe { user_data.as_mut() } {
            *place = current.map_or(core::ptr::null_mut(), |c| c.user_data);
        }
    });
}

/// The same as llama_log_set: there is one log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_log_set(log_callback: ggml_log_callback, user_data: *mut c_void) {
    guard::call((), "ggml_log_set", || set(log_callback, user_data));
}
