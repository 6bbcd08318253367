//! Block formats: the type table and the reference codecs.
//!
//! To add a type: a row in [`types`], a codec file beside the others, kernels under
//! `backend/cpu/kernels`, golden blocks from an independent implementation.

pub mod types;

pub use types::{QuantType, TypeInfo};
