//! AVX-512: F, BW, DQ and VL everywhere, VNNI where a kernel's name or table row says so.

pub(crate) mod float;
pub(crate) mod int8;
mod int8_bits;
mod int8_blocks;
mod int8_decoded;
mod int8_iq;
mod int8_k;
mod int8_unpack;
pub(crate) mod places;
pub(crate) mod signs;
pub(crate) mod sum_rows;
pub(crate) mod tiles;
