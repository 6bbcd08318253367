//! What the library logs while a test does something. The log is one per process, so those who
//! listen take turns.
#![allow(unsafe_code, reason = "sets the callback of C")]
#![allow(dead_code, reason = "each test uses its own part")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard};

use powerinfer::ffi::log::llama_log_set;

/// Texts with their levels (2: info, 3: warning, 4: error).
pub type Lines = Vec<(c_int, String)>;

/// Nobody else listens while this is kept.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The callback, with a `Mutex<Lines>` as its data.
pub unsafe extern "C" fn collect(level: c_int, text: *const c_char, user: *mut c_void) {
    // SAFETY: `user` is as said; the text is terminated.
    let (lines, text) = unsafe { (&*user.cast::<Mutex<Lines>>(), CStr::from_ptr(text)) };
    lines.lock().expect("not poisoned").push((level, text.to_string_lossy().into_owned()));
}

/// What `body` gives, and what is logged meanwhile.
pub fn logged<T>(body: impl FnOnce() -> T) -> (T, Lines) {
    let _turn = turn();
    let lines: Mutex<Lines> = Mutex::default();
    // SAFETY: the lines outlive the callback.
    unsafe { llama_log_set(Some(collect), (&raw const lines).cast_mut().cast()) };
    let value = body();
    // SAFETY: back to the default.
    unsafe { llama_log_set(None, null_mut()) };
    (value, lines.into_inner().expect("not poisoned"))
}

/// Errors that are logged meanwhile.
pub fn errors(body: impl FnOnce()) -> Vec<String> {
    let ((), lines) = logged(body);
    lines.into_iter().filter(|(level, _)| *level == 4).map(|(_, text)| text).collect()
}

/// Asserts that one error is logged meanwhile, which has this text.
#[track_caller]
pub fn one_error(text: &str, body: impl FnOnce()) {
    let seen = errors(body);
    assert!(matches!(&seen[..], [line] if line.contains(text)), "{seen:?}, not '{text}'");
}
