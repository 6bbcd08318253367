//! Codes of one or two bits and of base 3, one scale for all of a block in the file.

#![allow(non_camel_case_types, reason = "the types are spelt so everywhere")]

use super::int8::{Block, Blocks, half_at};
use crate::backend::cpu::kernels::int8::BLOCK;

pub(super) struct Q1_0;
impl Blocks for Q1_0 {
    const N: usize = 4;
    const BYTES: usize = 18;
    const HAS_MIN: bool = false;
    fn decode(bytes: &[u8], block: usize) -> Block {
        let code = |i: usize| 2 * i32::from(bytes[2 + 4 * block + i / 8] >> (i % 8) & 1) - 1;
        Block { codes: std::array::from_fn(code), scale: half_at(bytes, 0), min: 0.0 }
    }
}

pub(super) struct Q2_0;
impl Blocks for Q2_0 {
    const N: usize = 2;
    const BYTES: usize = 18;
    const HAS_MIN: bool = false;
    fn decode(bytes: &[u8], block: usize) -> Block {
        let code = |i: usize| i32::from(bytes[2 + 8 * block + i / 4] >> (2 * (i % 4)) & 3) - 1;
        Block { codes: std::array::from_fn(code), scale: half_at(bytes, 0), min: 0.0 }
    }
}

pub(super) struct TQ1_0;
impl Blocks for TQ1_0 {
    const N: usize = 8;
    const BYTES: usize = 54;
    const HAS_MIN: bool = false;
    fn decode(bytes: &[u8], block: usize) -> Block {
        let code = |i: usize| {
            // Runs of bytes with five digits each, or four: first byte and width of the run.
            let (at, width, i) = match block * BLOCK + i {
                i @ 0..160 => (0, 32, i),
                i @ 160..240 => (32, 16, i - 160),
                i => (48, 4, i - 240),
            };
            // A byte is 256 / 243 times the number of its digits, the first the highest.
            let rest = bytes[at + i % width].wrapping_mul(3u8.pow((i / width) as u32));
            ((i32::from(rest) * 3) >> 8) - 1
        };
        Block { codes: std::array::from_fn(code), scale: half_at(bytes, 52), min: 0.0 }
    }
}

pub(super) struct TQ2_0;
impl Blocks for TQ2_0 {
    const N: usize = 8;
    const BYTES: usize = 66;
    const HAS_MIN: bool = false;
    fn decode(bytes: &[u8], block: usize) -> Block {
        let code = |i: usize| i32::from(bytes[32 * (block / 4) + i] >> (2 * (block % 4)) & 3) - 1;
        Block { codes: std::array::from_fn(code), scale: half_at(bytes, 64), min: 0.0 }
    }
}
