//! Unpacking super-blocks of IQ4_XS.
#![allow(non_camel_case_types, reason = "the types are spelt so everywhere")]

use std::arch::x86_64::*;

use super::int8_blocks::{heads8, looked_up};
use super::int8_unpack::{Block16, Blocks, Sink, low_halves};
use crate::backend::cpu::kernels::int8::{IQ4_NL_VALUES, Rows, unsigned_values};

pub(super) struct IQ4_XS;
// SAFETY: reads 8 bytes and 8 times 16 of 136.
unsafe impl Blocks for IQ4_XS {
    const N: usize = 8;
    const BYTES: usize = 136;
    const OFFSET: i32 = 128;
    const BITS: u32 = 8;
    const HAS_MIN: bool = false;
    type Halves = ();
    #[inline(always)]
    unsafe fn each<S: Sink<()>>(rows: impl Rows, sink: &mut S) {
        const TABLE: [u8; 16] = unsigned_values(IQ4_NL_VALUES, IQ4_XS::OFFSET);
        // SAFETY: as the caller vouches.
        unsafe {
            // The half, a word with the top two bits of the scales, their low nibbles.
            let [lo, nibbles] = heads8(rows).map(|head| _mm512_castps_si512(head));
            let tops = _mm512_srli_epi32::<16>(lo);
            let (d, min) = (low_halves(lo), _mm512_setzero_ps());
            for i in 0..8 {
                let low = _mm512_srlv_epi32(nibbles, _mm512_set1_epi32(4 * i));
                let low = _mm512_and_si512(low, _mm512_set1_epi32(15));
                let high = _mm512_srlv_epi32(tops, _mm512_set1_epi32(2 * i));
                let high = _mm512_and_si512(high, _mm512_set1_epi32(3));
                let six = _mm512_or_si512(low, _mm512_slli_epi32::<4>(high));
                let six = _mm512_sub_epi32(six, _mm512_set1_epi32(32));
                let scale = _mm512_mul_ps(d, _mm512_cvtepi32_ps(six));
                let codes = looked_up(rows, 8 + 16 * i as usize, &TABLE);
                sink.take(Block16 { codes, scale, min }, ());
            }
        }
    }
}
