//! Plain loops: the reference of every other kernel, and what runs on a machine without AVX2.

pub(crate) mod act;
pub(crate) mod attn;
pub(crate) mod float;
pub(crate) mod int8;
mod int8_bits;
mod int8_blocks;
mod int8_k;
pub(crate) mod places;
pub(crate) mod signs;
pub(crate) mod sum_rows;
pub(crate) mod tiles;
pub(crate) mod vec;
