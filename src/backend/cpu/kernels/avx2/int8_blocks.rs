//! Unpacking of blocks of 32 with a fifth bit, and of 32 codes that are looked up.
#![allow(clippy::needless_range_loop, reason = "index loops unroll into registers, zips may not")]

use std::arch::x86_64::*;

use super::int8_unpack::{Block8, Format, halves, nibble_codes};
use crate::backend::cpu::kernels::int8::{
    IQ4_NL_VALUES, MXFP4_VALUES, Rows, mxfp4_scale, unsigned_values,
};

/// Adds `value` to code `i`, which has none of its bits, where bit `i` of `high` is set.
///
/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn with_bits(mut codes: [__m256i; 8], high: __m256i, value: i8) -> [__m256i; 8] {
    // SAFETY: as the caller vouches.
    unsafe {
        let first = _mm_setr_epi32(0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c);
        let first = _mm256_broadcastsi128_si256(first);
        for j in 0..8 {
            // Byte j / 2 of each lane four times: the bits of codes 4j..4j+4 are in one half of it.
            let place = _mm256_or_si256(first, _mm256_set1_epi8(j as i8 / 2));
            let bytes = _mm256_shuffle_epi8(high, place);
            let bits = if j % 2 == 0 { 0x0804_0201 } else { 0x8040_2010_u32.cast_signed() };
            let bits = _mm256_set1_epi32(bits);
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bits), bits);
            codes[j] = _mm256_or_si256(codes[j], _mm256_and_si256(set, _mm256_set1_epi8(value)));
        }
        codes
    }
}

/// The 4 bytes at `offset` of each row.
///
/// # Safety
/// AVX2; the bytes can be read.
#[inline(always)]
pub(super) unsafe fn dword(rows: impl Rows, offset: usize) -> __m256i {
    // SAFETY: as the caller vouches.
    unsafe {
        let at = |r: usize| rows.row(r).add(offset).cast::<i32>().read_unaligned();
        _mm256_setr_epi32(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7))
    }
}

/// What nibbles stand for.
///
/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn looked_up(mut nibbles: [__m256i; 8], table: &[u8; 16]) -> [__m256i; 8] {
    // SAFETY: as the caller vouches.
    unsafe {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        for j in 0..8 {
            nibbles[j] = _mm256_shuffle_epi8(table, nibbles[j]);
        }
        nibbles
    }
}

pub(super) struct Q5_0;
// SAFETY: reads 2, 4 and 16 of 22 bytes.
unsafe impl Format<1> for Q5_0 {
    const BLOCK_BYTES: usize = 22;
    const OFFSET: i32 = 16;
    const PLANE_BITS: u32 = 5;
    const HAS_MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block8<1> {
        // SAFETY: as the caller vouches.
        unsafe {
            let planes = [with_bits(nibble_codes(rows, 6), dword(rows, 2), 16)];
            Block8 { planes, scale: halves(rows, 0), min: _mm256_setzero_ps() }
        }
    }
}

pub(super) struct Q5_1;
// SAFETY: reads 2, 2, 4 and 16 of 24 bytes.
unsafe impl Format<1> for Q5_1 {
    const BLOCK_BYTES: usize = 24;
    const OFFSET: i32 = 0;
    const PLANE_BITS: u32 = 5;
    const HAS_MIN: bool = true;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block8<1> {
        // SAFETY: as the caller vouches.
        unsafe {
            let planes = [with_bits(nibble_codes(rows, 8), dword(rows, 4), 16)];
            Block8 { planes, scale: halves(rows, 0), min: halves(rows, 2) }
        }
    }
}

/// The low and the high nibbles of the codes of IQ4_NL and IQ4_XS.
pub(super) static IQ4_NL_PLANES: [[u8; 16]; 2] = {
    let codes = unsigned_values(IQ4_NL_VALUES, 128);
    let mut planes = [[0; 16]; 2];
    let mut i = 0;
    while i < 16 {
        planes[0][i] = codes[i] & 15;
        planes[1][i] = codes[i] >> 4;
        i += 1;
    }
    planes
};

#[allow(non_camel_case_types, reason = "the type's name")]
pub(super) struct IQ4_NL;
// SAFETY: reads 2 and 16 of 18 bytes.
unsafe impl Format<2> for IQ4_NL {
    const BLOCK_BYTES: usize = 18;
    const OFFSET: i32 = 128;
    const HAS_MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block8<2> {
        // SAFETY: as the caller vouches.
        unsafe {
            let nibbles = nibble_codes(rows, 2);
            let planes =
                [looked_up(nibbles, &IQ4_NL_PLANES[0]), looked_up(nibbles, &IQ4_NL_PLANES[1])];
            Block8 { planes, scale: halves(rows, 0), min: _mm256_setzero_ps() }
        }
    }
}

pub(super) struct MXFP4;
// SAFETY: reads 1 and 16 of 17 bytes.
unsafe impl Format<1> for MXFP4 {
    const BLOCK_BYTES: usize = 17;
    const OFFSET: i32 = 12;
    const PLANE_BITS: u32 = 5;
    const HAS_MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block8<1> {
        const TABLE: [u8; 16] = unsigned_values(MXFP4_VALUES, MXFP4::OFFSET);
        // SAFETY: as the caller vouches.
        unsafe {
            let s = |r: usize| mxfp4_scale(*rows.row(r));
            Block8 {
                planes: [looked_up(nibble_codes(rows, 1), &TABLE)],
                scale: _mm256_setr_ps(s(0), s(1), s(2), s(3), s(4), s(5), s(6), s(7)),
                min: _mm256_setzero_ps(),
            }
        }
    }
}
