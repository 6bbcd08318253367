//! Unpacking codes of one or two bits and of base 3, one scale for all of a block in the file.
#![allow(clippy::needless_range_loop, reason = "index loops unroll into registers, zips may not")]
#![allow(non_camel_case_types, reason = "the types are spelt so everywhere")]

use std::arch::x86_64::*;

use super::int8_blocks::with_bits;
use super::int8_k::{bits, dwords};
use super::int8_unpack::{Block16, Blocks, Sink, heads, load_16x16, low_halves, transpose};
use crate::backend::cpu::kernels::int8::Rows;

/// The half that ends at byte `end` of each block, at least 4 bytes into it.
///
/// # Safety
/// AVX-512 F; the 4 bytes before `end` can be read.
#[inline(always)]
unsafe fn last_half(rows: impl Rows, end: usize) -> __m512 {
    // SAFETY: as the caller vouches.
    unsafe { low_halves(_mm512_srli_epi32::<16>(heads(rows.advance(end - 4)))) }
}

pub(super) struct Q1_0;
// SAFETY: reads 4 and, from byte 2 on, 16 of 18 bytes.
unsafe impl Blocks for Q1_0 {
    const N: usize = 4;
    const BYTES: usize = 18;
    const OFFSET: i32 = 1;
    const BITS: u32 = 2;
    const HAS_MIN: bool = false;
    type Halves = ();
    #[inline(always)]
    unsafe fn each<S: Sink<()>>(rows: impl Rows, sink: &mut S) {
        // SAFETY: as the caller vouches.
        unsafe {
            let (scale, min) = (low_halves(heads(rows)), _mm512_setzero_ps());
            let bytes = transpose(load_16x16(rows, 2));
            for i in 0..4 {
                let codes = with_bits([min; 8].map(|x| _mm512_castps_si512(x)), bytes[i], 2);
                sink.take(Block16 { codes, scale, min }, ());
            }
        }
    }
}

pub(super) struct Q2_0;
// SAFETY: reads 4 and, from byte 2 on, 16 of 18 bytes.
unsafe impl Blocks for Q2_0 {
    const N: usize = 2;
    const BYTES: usize = 18;
    const OFFSET: i32 = 1;
    const BITS: u32 = 2;
    const HAS_MIN: bool = false;
    type Halves = ();
    #[inline(always)]
    unsafe fn each<S: Sink<()>>(rows: impl Rows, sink: &mut S) {
        // SAFETY: as the caller vouches.
        unsafe {
            let (scale, min) = (low_halves(heads(rows)), _mm512_setzero_ps());
            let bytes = transpose(load_16x16(rows, 2));
            for i in 0..2 {
                let mut codes = [bytes[0]; 8];
                for j in 0..8 {
                    let byte = _mm512_srlv_epi32(
                        bytes[2 * i + j / 4],
                        _mm512_set1_epi32(8 * (j % 4) as i32),
                    );
                    let byte = _mm512_and_si512(byte, _mm512_set1_epi32(0xff));
                    // Copies at distances of 6 bits have the next two bits at the next byte's end.
                    let two = _mm512_or_si512(byte, _mm512_slli_epi32::<6>(byte));
                    let four = _mm512_or_si512(two, _mm512_slli_epi32::<12>(two));
                    codes[j] = _mm512_and_si512(four, _mm512_set1_epi8(3));
                }
                sink.take(Block16 { codes, scale, min }, ());
            }
        }
    }
}

pub(super) struct TQ2_0;
// SAFETY: reads twice 32, and 4 bytes that end at 66, of 66.
unsafe impl Blocks for TQ2_0 {
    const N: usize = 8;
    const BYTES: usize = 66;
    const OFFSET: i32 = 1;
    const BITS: u32 = 2;
    const HAS_MIN: bool = false;
    type Halves = ();
    #[inline(always)]
    unsafe fn each<S: Sink<()>>(rows: impl Rows, sink: &mut S) {
        // SAFETY: as the caller vouches.
        unsafe {
            let (scale, min) = (last_half(rows, 66), _mm512_setzero_ps());
            for part in 0..2 {
                let bytes = dwords(rows, 32 * part);
                for i in 0..4 {
                    let mut codes = bytes;
                    for j in 0..8 {
                        codes[j] = bits(bytes[j], 2 * i, 3);
                    }
                    sink.take(Block16 { codes, scale, min }, ());
                }
            }
        }
    }
}

/// Takes the highest base-3 digit out of each byte, and leaves the rest in its place.
///
/// # Safety
/// AVX-512 F, BW.
#[inline(always)]
unsafe fn digit(x: &mut __m512i) -> __m512i {
    // SAFETY: as the caller vouches.
    unsafe {
        // A byte is 256 / 243 times the number of its digits: from 86 on, 3 times it exceeds 256.
        let one = _mm512_set1_epi8(1);
        let some = _mm512_cmpge_epu8_mask(*x, _mm512_set1_epi8(86));
        let two = _mm512_cmpge_epu8_mask(*x, _mm512_set1_epi8(171_u8.cast_signed()));
        let digit = _mm512_maskz_mov_epi8(some, one);
        *x = _mm512_add_epi8(*x, _mm512_add_epi8(*x, *x));
        _mm512_mask_add_epi8(digit, two, digit, one)
    }
}

pub(super) struct TQ1_0;
// SAFETY: reads 32 and 16 bytes, and 16 and 4 that end at 54, of 54.
unsafe impl Blocks for TQ1_0 {
    const N: usize = 8;
    const BYTES: usize = 54;
    const OFFSET: i32 = 1;
    const BITS: u32 = 2;
    const HAS_MIN: bool = false;
    type Halves = ();
    #[inline(always)]
    unsafe fn each<S: Sink<()>>(rows: impl Rows, sink: &mut S) {
        // SAFETY: as the caller vouches.
        unsafe {
            let (scale, min) = (last_half(rows, 54), _mm512_setzero_ps());
            // 32 bytes with a digit for each of five blocks.
            let mut bytes = dwords(rows, 0);
            for _ in 0..5 {
                let mut codes = bytes;
                for j in 0..8 {
                    codes[j] = digit(&mut bytes[j]);
                }
                sink.take(Block16 { codes, scale, min }, ());
            }
            // 16 bytes with digits for five halves of blocks; 4 bytes with four for the last half.
            let mut bytes = transpose(load_16x16(rows, 32));
            let mut last = heads(rows.advance(48));
            for i in 0..3 {
                let mut codes = [scale; 8].map(|x| _mm512_castps_si512(x));
                for j in 0..8 {
                    codes[j] =
                        if i == 2 && j >= 4 { digit(&mut last) } else { digit(&mut bytes[j % 4]) };
                }
                sink.take(Block16 { codes, scale, min }, ());
            }
        }
    }
}
