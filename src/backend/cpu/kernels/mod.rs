//! The inner loops, one folder per instruction set; `scalar` is the reference of all.
//!
//! Kernels know block formats and nothing else: no tensors, no threads, no allocation.
//!
//! To add a quantised type: a `Format` (or `Blocks`, with super-blocks) in one of the `int8_` files
//! of each folder (one function that unpacks a block of 16 or 8 rows) and its dequantisation in
//! `float.rs`, and what `sum_rows` says for sums of rows; the harnesses in `tests/kernels_int8` and `tests/kernels_float` then run it over all lengths and offsets. To
//! add an instruction set: a folder, its name in [`super::Isa`], its row in the tables of
//! [`super::table`].
#![allow(unsafe_code, reason = "SIMD loads and stores through pointers")]

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod int8;
pub(crate) mod int8_decoded;
#[cfg(target_arch = "x86_64")]
mod lanes;
pub mod scalar;
pub(crate) mod sum_rows;
pub(crate) mod tiles;
