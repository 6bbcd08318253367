//! The C ABI: the only `extern "C"`. Checks, converts, never computes.
//!
//! # The contract of every function
//!
//! Pointers are NULL or valid for what the headers say about them; a handle came from this
//! library and was not freed; a context is used by one thread at a time. Within that, nothing
//! that C passes is trusted: NULL, sizes, indices, token ids and enum values are checked, and a
//! bad one gives the failure that `llama.h` documents and a line in the log. No panic crosses the
//! boundary (`guard`). Callbacks are called with no lock held.
//!
//! # Adding a function
//!
//! Write it out in the file of its subject (cbindgen does not see functions that macros make),
//! with a body in `guard::call`; take it out of [`mod@unimplemented`]; run `make headers`. The symbol
//! test knows the name from `tests/abi/functions.json`; add a test with NULL and bad arguments.
#![allow(unsafe_code, reason = "the C boundary")]
#![allow(non_camel_case_types, reason = "the names are those of the C headers")]
#![allow(clippy::missing_safety_doc, reason = "the module doc states one contract for all")]

pub mod adapter;
pub mod batch;
pub mod batch_ext;
pub mod chat;
pub mod context;
pub mod decode;
mod eval;
pub mod ext;
pub mod ggml;
pub mod gguf;
mod guard;
pub mod load;
pub mod log;
pub mod memory;
pub mod model;
pub mod model_make;
pub mod model_meta;
pub mod names;
mod offload;
pub mod params;
pub mod powerinfer;
pub mod quantize;
pub mod sampler;
pub mod sampling;
pub mod state;
mod strings;
pub mod system;
pub mod types;
pub mod unimplemented;
pub mod vocab;
pub mod vocab_old;
