//! Unpacking codes of one or two bits and of base 3, one scale for all of a block in the file.
#![allow(clippy::needless_range_loop, reason = "index loops unroll into registers, zips may not")]
#![allow(non_camel_case_types, reason = "the types are spelt so everywhere")]

use std::arch::x86_64::*;

use super::int8_blocks::{dword, with_bits};
use super::int8_k::{bits, dwords8};
use super::int8_unpack::{Block8, Blocks, Sink, dwords, halves};
use crate::backend::cpu::kernels::int8::Rows;

pub(super) struct Q1_0;
// SAFETY: reads 2 and 16 of 18 bytes.
unsafe impl Blocks<1> for Q1_0 {
    const N: usize = 4;
    const BYTES: usize = 18;
    const OFFSET: i32 = 1;
    const PLANE_BITS: u32 = 2;
    const HAS_MIN: bool = false;
    type Halves = ();
    #[inline(always)]
    unsafe fn each<S: Sink<1, ()>>(rows: impl Rows, sink: &mut S) {
        // SAFETY: as the caller vouches.
        unsafe {
            let (scale, min) = (halves(rows, 0), _mm256_setzero_ps());
            let bytes = dwords(rows, 2);
            for i in 0..4 {
                let planes = [with_bits([_mm256_setzero_si256(); 8], bytes[i], 2)];
                sink.take(Block8 { planes, scale, min }, ());
            }
        }
    }
}

pub(super) struct Q2_0;
// SAFETY: reads 2 and 16 of 18 bytes.
unsafe impl Blocks<1> for Q2_0 {
    const N: usize = 2;
    const BYTES: usize = 18;
    const OFFSET: i32 = 1;
    const PLANE_BITS: u32 = 2;
    const HAS_MIN: bool = false;
    type Halves = ();
    #[inline(always)]
    unsafe fn each<S: Sink<1, ()>>(rows: impl Rows, sink: &mut S) {
        // SAFETY: as the caller vouches.
        unsafe {
            let (scale, min) = (halves(rows, 0), _mm256_setzero_ps());
            let bytes = dwords(rows, 2);
            for i in 0..2 {
                let mut codes = [bytes[0]; 8];
                for j in 0..8 {
                    let shift = _mm256_set1_epi32(8 * (j % 4) as i32);
                    let byte = _mm256_srlv_epi32(bytes[2 * i + j / 4], shift);
                    let byte = _mm256_and_si256(byte, _mm256_set1_epi32(0xff));
                    // Copies at distances of 6 bits have the next two bits at the next byte's end.
                    let two = _mm256_or_si256(byte, _mm256_slli_epi32::<6>(byte));
                    let four = _mm256_or_si256(two, _mm256_slli_epi32::<12>(two));
                    codes[j] = _mm256_and_si256(four, _mm256_set1_epi8(3));
                }
                sink.take(Block8 { planes: [codes], scale, min }, ());
            }
        }
    }
}

pub(super) struct TQ2_0;
// SAFETY: reads twice 32, and 2 of 66 bytes.
unsafe impl Blocks<1> for TQ2_0 {
    const N: usize = 8;
    const BYTES: usize = 66;
    const OFFSET: i32 = 1;
    const PLANE_BITS: u32 = 2;
    const HAS_MIN: bool = false;
    type Halves = ();
    #[inline(always)]
    unsafe fn each<S: Sink<1, ()>>(rows: impl Rows, sink: &mut S) {
        // SAFETY: as the caller vouches.
        unsafe {
            let (scale, min) = (halves(rows, 64), _mm256_setzero_ps());
            for part in 0..2 {
                let bytes = dwords8(rows, 32 * part);
                for i in 0..4 {
                    let mut codes = bytes;
                    for j in 0..8 {
                        codes[j] = bits(bytes[j], 2 * i, 3);
                    }
                    sink.take(Block8 { planes: [codes], scale, min }, ());
                }
            }
        }
    }
}

/// Takes the highest base-3 digit out of each byte, and leaves the rest in its place.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn digit(x: &mut __m256i) -> __m256i {
    // SAFETY: as the caller vouches.
    unsafe {
        // A byte is 256 / 243 times the number of its digits: from 86 on, 3 times it exceeds 256.
        let at_least = |limit: u8| {
            let limit = _mm256_set1_epi8(limit.cast_signed());
            _mm256_cmpeq_epi8(_mm256_max_epu8(*x, limit), *x)
        };
        // Comparisons give -1.
        let digit = _mm256_add_epi8(at_least(86), at_least(171));
        *x = _mm256_add_epi8(*x, _mm256_add_epi8(*x, *x));
        _mm256_sub_epi8(_mm256_setzero_si256(), digit)
    }
}

pub(super) struct TQ1_0;
// SAFETY: reads 32 and 16 bytes, 4 from byte 48 on, and 2, of 54.
unsafe impl Blocks<1> for TQ1_0 {
    const N: usize = 8;
    const BYTES: usize = 54;
    const OFFSET: i32 = 1;
    const PLANE_BITS: u32 = 2;
    const HAS_MIN: bool = false;
    type Halves = ();
    #[inline(always)]
    unsafe fn each<S: Sink<1, ()>>(rows: impl Rows, sink: &mut S) {
        // SAFETY: as the caller vouches.
        unsafe {
            let (scale, min) = (halves(rows, 52), _mm256_setzero_ps());
            // 32 bytes with a digit for each of five blocks.
            let mut bytes = dwords8(rows, 0);
            for _ in 0..5 {
                let mut codes = bytes;
                for j in 0..8 {
                    codes[j] = digit(&mut bytes[j]);
                }
                sink.take(Block8 { planes: [codes], scale, min }, ());
            }
            // 16 bytes with digits for five halves of blocks; 4 bytes with four for the last half.
            let mut bytes = dwords(rows, 32);
            let mut last = dword(rows, 48);
            for i in 0..3 {
                let mut codes = [last; 8];
                for j in 0..8 {
                    codes[j] =
                        if i == 2 && j >= 4 { digit(&mut last) } else { digit(&mut bytes[j % 4]) };
                }
                sink.take(Block8 { planes: [codes], scale, min }, ());
            }
        }
    }
}
