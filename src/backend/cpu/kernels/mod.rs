//! The inner loops, one folder per instruction set; `scalar` is the reference of all.
#![allow(unsafe_code, reason = "SIMD loads and stores through pointers")]

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod int8;
#[cfg(target_arch = "x86_64")]
mod lanes;
pub mod scalar;
