//! The inner loops, one folder per instruction set; `scalar` is the reference of all.
#![allow(unsafe_code, reason = "SIMD loads and stores through pointers")]

pub(crate) mod int8;
pub mod scalar;
