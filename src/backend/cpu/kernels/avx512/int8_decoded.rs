//! Blocks that plain code has decoded.

use std::mem::offset_of;

use super::int8_blocks::heads8;
use super::int8_unpack::{Block16, Format, load_16x16, transpose};
use crate::backend::cpu::kernels::int8::Rows;
use crate::backend::cpu::kernels::int8_decoded::{DecodedBlock, OFFSET};

pub(super) struct Decoded;
// SAFETY: reads the two scales, 8 bytes, and the 32 codes.
unsafe impl Format for Decoded {
    const BLOCK_BYTES: usize = DecodedBlock::BYTES;
    const OFFSET: i32 = OFFSET as i32;
    const BITS: u32 = 7;
    const HAS_MIN: bool = false;
    const TWO_SCALES: bool = true;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block16 {
        const CODES: usize = offset_of!(DecodedBlock, codes);
        // SAFETY: as the caller vouches.
        unsafe {
            let [scale, min] = heads8(rows);
            let [a, b, c, d] = transpose(load_16x16(rows, CODES));
            let [e, f, g, h] = transpose(load_16x16(rows, CODES + 16));
            Block16 { codes: [a, b, c, d, e, f, g, h], scale, min }
        }
    }
}
