//! Decoding the K types, super-blocks of 256 elements with packed scales; formats as in ggml's
//! `block_q4_K` and so on.

#![allow(non_camel_case_types, reason = "the types are spelt so everywhere")]

use super::int8::{Block, Blocks, half_at};
use crate::backend::cpu::kernels::int8::BLOCK;

/// Blocks of 32 in a super-block.
const N: usize = 8;

pub(super) struct Q2_K;
pub(super) struct Q3_K;
pub(super) struct Q4_K;
pub(super) struct Q5_K;
pub(super) struct Q6_K;

/// Scale and minimum of block `i` in the 12 bytes of Q4_K and Q5_K: six bits each, those of the
/// last four blocks split into nibbles and the tops of the first bytes.
fn scale_and_min(bytes: &[u8], i: usize) -> (u8, u8) {
    match i {
        0..4 => (bytes[i] & 63, bytes[4 + i] & 63),
        _ => (bytes[4 + i] & 15 | bytes[i - 4] >> 6 << 4, bytes[4 + i] >> 4 | bytes[i] >> 6 << 4),
    }
}

/// A block of Q4_K or Q5_K with these codes.
fn with_minimum(bytes: &[u8], i: usize, codes: [i32; BLOCK]) -> Block {
    let (scale, min) = scale_and_min(&bytes[4..16], i);
    Block {
        codes,
        scale: half_at(bytes, 0) * f32::from(scale),
        min: -(half_at(bytes, 2) * f32::from(min)),
    }
}

/// Two blocks share 32 bytes: one has the low nibbles, the other the high ones.
fn nibble(bytes: &[u8], block: usize, i: usize) -> i32 {
    i32::from(bytes[32 * (block / 2) + i] >> (4 * (block % 2)) & 15)
}

/// Four blocks share 32 bytes, two bits of each for one.
fn two_bits(bytes: &[u8], block: usize, i: usize) -> i32 {
    i32::from(bytes[32 * (block / 4) + i] >> (2 * (block % 4)) & 3)
}

/// Eight blocks share 32 bytes, one bit of each for one.
fn bit(bytes: &[u8], block: usize, i: usize) -> i32 {
    i32::from(bytes[i] >> block & 1)
}

impl Blocks for Q4_K {
    const N: usize = N;
    const BYTES: usize = 144;
    const HAS_MIN: bool = true;
    fn decode(bytes: &[u8], block: usize) -> Block {
        with_minimum(bytes, block, std::array::from_fn(|i| nibble(&bytes[16..], block, i)))
    }
}

impl Blocks for Q5_K {
    const N: usize = N;
    const BYTES: usize = 176;
    const HAS_MIN: bool = true;
    fn decode(bytes: &[u8], block: usize) -> Block {
        let (high, low) = (&bytes[16..48], &bytes[48..]);
        let code = |i| nibble(low, block, i) + 16 * bit(high, block, i);
        with_minimum(bytes, block, std::array::from_fn(code))
    }
}

/// A block of Q6_K: codes less their offset, the integers that belong to its halves, the scale.
pub(super) fn q6_k(bytes: &[u8], block: usize) -> ([i32; BLOCK], [i32; 2], f32) {
    let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
    // Of the 64 bytes for 4 blocks, the first two have the low nibbles.
    let nibbles = block / 4 * 4 + block % 2 * 2 + block % 4 / 2;
    let code = |i| nibble(low, nibbles, i) + 16 * two_bits(high, block, i) - 32;
    let scale = |h: usize| i32::from(scales[2 * block + h].cast_signed());
    (std::array::from_fn(code), [scale(0), scale(1)], half_at(bytes, 208))
}

impl Blocks for Q6_K {
    const N: usize = N;
    const BYTES: usize = 210;
    const HAS_MIN: bool = false;
    fn decode(bytes: &[u8], block: usize) -> Block {
        let (codes, a, scale) = q6_k(bytes, block);
        let codes = std::array::from_fn(|i| a[i / 16] * codes[i]);
        Block { codes, scale, min: 0.0 }
    }
}

impl Blocks for Q3_K {
    const N: usize = N;
    const BYTES: usize = 110;
    const HAS_MIN: bool = false;
    fn decode(bytes: &[u8], block: usize) -> Block {
        let (high, low, scales) = (&bytes[..32], &bytes[32..96], &bytes[96..108]);
        let code = |i| two_bits(low, block, i) + 4 * bit(high, block, i) - 4;
        // Six bits: 16 nibbles, then 16 pairs of bits, four to a byte.
        let scale = |i: usize| {
            let j = 2 * block + i / 16;
            let low = scales[j % 8] >> (4 * (j / 8)) & 15;
            let high = scales[8 + j % 4] >> (2 * (j / 4)) & 3;
            i32::from(low | high << 4) - 32
        };
        Block {
            codes: std::array::from_fn(|i| scale(i) * code(i)),
            scale: half_at(bytes, 108),
            min: 0.0,
        }
    }
}

impl Blocks for Q2_K {
    const N: usize = N;
    const BYTES: usize = 84;
    const HAS_MIN: bool = true;
    fn decode(bytes: &[u8], block: usize) -> Block {
        let (scales, low) = (&bytes[..16], &bytes[16..80]);
        let scale = |i: usize| i32::from(scales[2 * block + i / 16] & 15);
        Block {
            codes: std::array::from_fn(|i| scale(i) * two_bits(low, block, i)),
            scale: half_at(bytes, 80),
            min: -half_at(bytes, 82),
        }
    }
    fn min_weights(bytes: &[u8], block: usize) -> [i32; 2] {
        [2 * block, 2 * block + 1].map(|i| i32::from(bytes[i] >> 4))
    }
}
