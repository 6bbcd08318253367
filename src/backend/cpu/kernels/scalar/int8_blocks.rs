//! Blocks of 32 with a fifth bit, and of 32 codes that are looked up (IQ4_XS: 8 of them).

use super::int8::{Block, Blocks, Format, half_at, nibbles};
use crate::backend::cpu::kernels::int8::{BLOCK, IQ4_NL_VALUES, MXFP4_VALUES, mxfp4_scale};

/// Element `i` has its lowest four bits among `low` and the fifth in bit `i` of `high`.
fn five_bits(high: &[u8], low: &[u8], offset: i32) -> [i32; BLOCK] {
    let low = nibbles(low, 0);
    std::array::from_fn(|i| (low[i] | i32::from(high[i / 8] >> (i % 8) & 1) << 4) - offset)
}

/// Nibbles as places in a table.
fn looked_up(bytes: &[u8], values: [i8; 16]) -> [i32; BLOCK] {
    nibbles(bytes, 0).map(|i| i32::from(values[i as usize]))
}

pub(super) struct Q5_0;
impl Format for Q5_0 {
    const BLOCK_BYTES: usize = 22;
    const HAS_MIN: bool = false;
    fn decode(block: &[u8]) -> Block {
        let codes = five_bits(&block[2..6], &block[6..], 16);
        Block { codes, scale: half_at(block, 0), min: 0.0 }
    }
}

pub(super) struct Q5_1;
impl Format for Q5_1 {
    const BLOCK_BYTES: usize = 24;
    const HAS_MIN: bool = true;
    fn decode(block: &[u8]) -> Block {
        let codes = five_bits(&block[4..8], &block[8..], 0);
        Block { codes, scale: half_at(block, 0), min: half_at(block, 2) }
    }
}

#[allow(non_camel_case_types, reason = "the type's name")]
pub(super) struct IQ4_NL;
impl Format for IQ4_NL {
    const BLOCK_BYTES: usize = 18;
    const HAS_MIN: bool = false;
    fn decode(block: &[u8]) -> Block {
        let codes = looked_up(&block[2..], IQ4_NL_VALUES);
        Block { codes, scale: half_at(block, 0), min: 0.0 }
    }
}

pub(super) struct MXFP4;
impl Format for MXFP4 {
    const BLOCK_BYTES: usize = 17;
    const HAS_MIN: bool = false;
    fn decode(block: &[u8]) -> Block {
        let codes = looked_up(&block[1..], MXFP4_VALUES);
        Block { codes, scale: mxfp4_scale(block[0]), min: 0.0 }
    }
}

#[allow(non_camel_case_types, reason = "the type's name")]
pub(super) struct IQ4_XS;
impl Blocks for IQ4_XS {
    const N: usize = 8;
    const BYTES: usize = 136;
    const HAS_MIN: bool = false;
    fn decode(bytes: &[u8], block: usize) -> Block {
        // Six bits: two of a word after the half, a nibble of the four bytes after it.
        let low = bytes[4 + block / 2] >> (4 * (block % 2)) & 15;
        let high = bytes[2 + block / 4] >> (2 * (block % 4)) & 3;
        let scale = i16::from(low | high << 4) - 32;
        Block {
            codes: looked_up(&bytes[8 + 16 * block..], IQ4_NL_VALUES),
            scale: half_at(bytes, 0) * f32::from(scale),
            min: 0.0,
        }
    }
}
