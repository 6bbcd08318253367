//! Unpacking super-blocks of IQ4_XS.
#![allow(non_camel_case_types, reason = "the types are spelt so everywhere")]

use std::arch::x86_64::*;

use super::int8_blocks::{IQ4_NL_PLANES, dword, looked_up};
use super::int8_unpack::{Block8, Blocks, Sink, halves, nibble_codes};
use crate::backend::cpu::kernels::int8::Rows;

pub(super) struct IQ4_XS;
// SAFETY: reads 2, twice 4 bytes and 8 times 16 of 136.
unsafe impl Blocks<2> for IQ4_XS {
    const N: usize = 8;
    const BYTES: usize = 136;
    const OFFSET: i32 = 128;
    const PLANE_BITS: u32 = 4;
    const HAS_MIN: bool = false;
    type Halves = ();
    #[inline(always)]
    unsafe fn each<S: Sink<2, ()>>(rows: impl Rows, sink: &mut S) {
        // SAFETY: as the caller vouches.
        unsafe {
            // The half, a word with the top two bits of the scales, their low nibbles.
            let (tops, nibbles) = (_mm256_srli_epi32::<16>(dword(rows, 0)), dword(rows, 4));
            let (d, min) = (halves(rows, 0), _mm256_setzero_ps());
            for i in 0..8 {
                let low = _mm256_srlv_epi32(nibbles, _mm256_set1_epi32(4 * i));
                let low = _mm256_and_si256(low, _mm256_set1_epi32(15));
                let high = _mm256_srlv_epi32(tops, _mm256_set1_epi32(2 * i));
                let high = _mm256_and_si256(high, _mm256_set1_epi32(3));
                let six = _mm256_or_si256(low, _mm256_slli_epi32::<4>(high));
                let six = _mm256_sub_epi32(six, _mm256_set1_epi32(32));
                let scale = _mm256_mul_ps(d, _mm256_cvtepi32_ps(six));
                let codes = nibble_codes(rows, 8 + 16 * i as usize);
                let planes =
                    [looked_up(codes, &IQ4_NL_PLANES[0]), looked_up(codes, &IQ4_NL_PLANES[1])];
                sink.take(Block8 { planes, scale, min }, ());
            }
        }
    }
}
