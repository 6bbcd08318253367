//! `libpowerinfer`: the C ABI of `llama.h` over a hybrid sparse inference engine.
//!
//! # The house
//!
//! Data flows one way, from the C boundary down to bytes. A folder may use what stands below it
//! in this table and `util`; `tests/layers.rs` holds the exact edges and fails on a new one.
//!
//! | folder | what it is |
//! |---|---|
//! | [`ffi`] | the only `extern "C"`: checks, converts, never computes |
//! | [`api`] | the safe façade: `Model`, `Context`, `Batch` |
//! | [`tools`] | work over whole models, files and texts: calibration, quantisation, tuning |
//! | [`sampler`], [`chat`] | choosing the next token, laying out a conversation |
//! | [`grammar`] | which tokens go on with a text of a language |
//! | [`engine`] | runs a plan: batches, ubatches, KV cache, outputs |
//! | [`adapter`] | LoRA and control vectors: what is added to a plan |
//! | [`sparse`] | which neurons fire |
//! | [`model`] | hyper-parameters, weights, one short file per architecture |
//! | [`plan`] | the step types, and the builder that architectures write into |
//! | [`vocab`] | tokenizers |
//! | [`backend`] | devices: thread pool, kernel tables per instruction set, step execution |
//! | [`gguf`] | bytes ⇄ typed values, memory maps, splits, writer |
//! | [`quant`], [`tensor`] | block formats and their reference codecs; shapes |
//! | [`util`] | logging, aligned memory, system calls |
//!
//! # Unsafe code
//!
//! Denied for the crate and allowed, each time with a reason, only in `ffi`,
//! `backend/cpu/{kernels,pool,table}`, `backend/cuda`, `gguf/mmap` and
//! `util/{aligned,bytes,sys}`.

pub mod adapter;
pub mod api;
pub mod backend;
pub mod chat;
pub mod engine;
pub mod ffi;
pub mod gguf;
pub mod grammar;
pub mod model;
pub mod plan;
pub mod quant;
pub mod sampler;
pub mod sparse;
pub mod tensor;
pub mod tools;
pub mod util;
pub mod vocab;
