//! Functions that are declared and exported but not there yet. Each returns the failure that
//! `llama.h` documents for it and logs one line. The aim is that this folder is empty: to
//! implement a function, move it to the file of its subject.
#![allow(unused_variables, reason = "the header shows the parameters' names")]

pub mod ggml;
pub mod ggml_backend;
pub mod llama;

use crate::log_error;

/// Logs that `name` is missing and returns its failure value.
fn unimplemented<T>(name: &str, value: T) -> T {
    log_error!("{name}: this version of libpowerinfer does not have it yet");
    value
}
