//! Blocks that plain code has decoded.

use std::arch::x86_64::*;
use std::mem::offset_of;

use super::int8_blocks::dword;
use super::int8_k::dwords8;
use super::int8_unpack::{Block8, Format};
use crate::backend::cpu::kernels::int8::Rows;
use crate::backend::cpu::kernels::int8_decoded::{DecodedBlock, OFFSET};

pub(super) struct Decoded;
// SAFETY: reads the two scales, 4 bytes each, and the 32 codes.
unsafe impl Format<1> for Decoded {
    const BLOCK_BYTES: usize = DecodedBlock::BYTES;
    const OFFSET: i32 = OFFSET as i32;
    const PLANE_BITS: u32 = 7;
    const HAS_MIN: bool = false;
    const TWO_SCALES: bool = true;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block8<1> {
        const CODES: usize = offset_of!(DecodedBlock, codes);
        // SAFETY: as the caller vouches.
        unsafe {
            let [scale, min] = [0, 4].map(|at| _mm256_castsi256_ps(dword(rows, at)));
            Block8 { planes: [dwords8(rows, CODES)], scale, min }
        }
    }
}
