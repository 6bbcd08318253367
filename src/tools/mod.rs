//! Work over whole models, files and texts.
//!
//! | file | what it is |
//! |---|---|
//! | `calibrate` | thresholds of the sparse mode `magnitude`, from a text |
//! | [`mod@quantize`] | model files in other number formats |
//! | `tune` | how a model's layers run fastest on this machine, once |
//!
//! To add a tool: a file or folder here that takes a model, or the path of one, and gives its result
//! as a plain struct; `api` loads and stores, `ffi` converts.

pub mod calibrate;
pub mod quantize;
pub mod tune;
