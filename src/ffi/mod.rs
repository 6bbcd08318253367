//! The C ABI: the only `extern "C"`. Checks, converts, never computes.
#![allow(unsafe_code, reason = "the C boundary")]

pub mod types;
