//! What this library offers beyond `llama.h`; declared in `powerinfer.h`.
//!
//! # Structures that grow
//!
//! Options and counts will get more. So no structure of this header crosses by value: the caller
//! says how large its own is, which is the one it was compiled with, and fields that one side does
//! not know stay as they are by default. New fields come at the end, and for each of them zero
//! means "not given".

mod activation;
mod calibrate;
mod chat;
mod gpu;
mod json_schema;
mod params;
mod stats;

pub use activation::*;
pub use calibrate::*;
pub use chat::*;
pub use gpu::*;
pub use json_schema::*;
pub use params::*;
pub use stats::*;

use core::ffi::c_char;
use once_cell::sync::OnceCell;
use std::ffi::CString;

use super::guard;
use crate::util::sys;

/// Version of this library, for example "0.1.0"; valid for ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn powerinfer_version() -> *const c_char {
    guard::call(c"".as_ptr(), "powerinfer_version", || {
        static VERSION: OnceCell<CString> = OnceCell::new();
        VERSION.get_or_init(|| CString::new(env!("CARGO_PKG_VERSION")).unwrap_or_default()).as_ptr()
    })
}

/// The most memory that this process ever held in RAM, in bytes; 0 when the system does not say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn powerinfer_peak_rss() -> u64 {
    guard::call(0, "powerinfer_peak_rss", sys::peak_rss)
}
