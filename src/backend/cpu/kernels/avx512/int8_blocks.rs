//! Unpacking of blocks of 32 with a fifth bit, and of 32 codes that are looked up.
#![allow(clippy::needless_range_loop, reason = "index loops unroll into registers, zips may not")]

use std::arch::x86_64::*;

use super::int8_unpack::{Block16, Format, heads, low_halves, nibbles};
use crate::backend::cpu::kernels::int8::{IQ4_NL_VALUES, MXFP4_VALUES, Rows, unsigned_values};

/// The first eight bytes of each block as two dwords, one row per lane.
///
/// # Safety
/// AVX-512 F; the bytes can be read.
#[inline(always)]
pub(super) unsafe fn heads8(rows: impl Rows) -> [__m512; 2] {
    // SAFETY: as the caller vouches.
    unsafe {
        let head = |r: usize| rows.row(r).cast::<i64>().read_unaligned();
        // The rows that a shuffle within 128-bit lanes puts in order.
        let a = _mm512_setr_epi64(
            head(0),
            head(1),
            head(4),
            head(5),
            head(8),
            head(9),
            head(12),
            head(13),
        );
        let b = _mm512_setr_epi64(
            head(2),
            head(3),
            head(6),
            head(7),
            head(10),
            head(11),
            head(14),
            head(15),
        );
        let (a, b) = (_mm512_castsi512_ps(a), _mm512_castsi512_ps(b));
        [_mm512_shuffle_ps::<0b10_00_10_00>(a, b), _mm512_shuffle_ps::<0b11_01_11_01>(a, b)]
    }
}

/// Adds `value` to code `i`, which has none of its bits, where bit `i` of `high` is set.
///
/// # Safety
/// AVX-512 F, BW.
#[inline(always)]
pub(super) unsafe fn with_bits(mut codes: [__m512i; 8], high: __m512i, value: i8) -> [__m512i; 8] {
    // SAFETY: as the caller vouches.
    unsafe {
        let first =
            _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c));
        for j in 0..8 {
            // Byte j / 2 of each lane four times: the bits of codes 4j..4j+4 are in one half of it.
            let place = _mm512_or_si512(first, _mm512_set1_epi8(j as i8 / 2));
            let bytes = _mm512_shuffle_epi8(high, place);
            let bits =
                _mm512_set1_epi32(if j % 2 == 0 { 0x0804_0201 } else { 0x8040_2010_u32 as i32 });
            let set = _mm512_test_epi8_mask(bytes, bits);
            let bit = _mm512_maskz_mov_epi8(set, _mm512_set1_epi8(value));
            codes[j] = _mm512_or_si512(codes[j], bit);
        }
        codes
    }
}

/// What the nibbles at `offset` stand for.
///
/// # Safety
/// AVX-512 F, BW; the 16 bytes at `offset` of each row can be read.
#[inline(always)]
pub(super) unsafe fn looked_up(rows: impl Rows, offset: usize, table: &[u8; 16]) -> [__m512i; 8] {
    // SAFETY: as the caller vouches.
    unsafe {
        let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
        let mut codes = nibbles(rows, offset);
        for j in 0..8 {
            codes[j] = _mm512_shuffle_epi8(table, codes[j]);
        }
        codes
    }
}

pub(super) struct Q5_0;
// SAFETY: reads 8 and, from byte 6 on, 16 of 22 bytes.
unsafe impl Format for Q5_0 {
    const BLOCK_BYTES: usize = 22;
    const OFFSET: i32 = 16;
    const BITS: u32 = 5;
    const HAS_MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block16 {
        // SAFETY: as the caller vouches.
        unsafe {
            let [lo, hi] = heads8(rows).map(|head| _mm512_castps_si512(head));
            let high = _mm512_or_si512(_mm512_srli_epi32::<16>(lo), _mm512_slli_epi32::<16>(hi));
            let codes = with_bits(nibbles(rows, 6), high, 16);
            Block16 { codes, scale: low_halves(lo), min: _mm512_setzero_ps() }
        }
    }
}

pub(super) struct Q5_1;
// SAFETY: reads 8 and, from byte 8 on, 16 of 24 bytes.
unsafe impl Format for Q5_1 {
    const BLOCK_BYTES: usize = 24;
    const OFFSET: i32 = 0;
    const BITS: u32 = 5;
    const HAS_MIN: bool = true;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block16 {
        // SAFETY: as the caller vouches.
        unsafe {
            let [halves, high] = heads8(rows).map(|head| _mm512_castps_si512(head));
            Block16 {
                codes: with_bits(nibbles(rows, 8), high, 16),
                scale: low_halves(halves),
                min: low_halves(_mm512_srli_epi32::<16>(halves)),
            }
        }
    }
}

#[allow(non_camel_case_types, reason = "the type's name")]
pub(super) struct IQ4_NL;
// SAFETY: reads 4 and, from byte 2 on, 16 of 18 bytes.
unsafe impl Format for IQ4_NL {
    const BLOCK_BYTES: usize = 18;
    const OFFSET: i32 = 128;
    const BITS: u32 = 8;
    const HAS_MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block16 {
        const TABLE: [u8; 16] = unsigned_values(IQ4_NL_VALUES, IQ4_NL::OFFSET);
        // SAFETY: as the caller vouches.
        unsafe {
            Block16 {
                codes: looked_up(rows, 2, &TABLE),
                scale: low_halves(heads(rows)),
                min: _mm512_setzero_ps(),
            }
        }
    }
}

pub(super) struct MXFP4;
// SAFETY: reads 4 and, from byte 1 on, 16 of 17 bytes.
unsafe impl Format for MXFP4 {
    const BLOCK_BYTES: usize = 17;
    const OFFSET: i32 = 12;
    const BITS: u32 = 5;
    const HAS_MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block16 {
        const TABLE: [u8; 16] = unsigned_values(MXFP4_VALUES, MXFP4::OFFSET);
        // SAFETY: as the caller vouches.
        unsafe {
            Block16 {
                codes: looked_up(rows, 1, &TABLE),
                scale: mxfp4_scales(_mm512_and_si512(heads(rows), _mm512_set1_epi32(0xff))),
                min: _mm512_setzero_ps(),
            }
        }
    }
}

/// [`crate::backend::cpu::kernels::int8::mxfp4_scale`] of each lane.
///
/// # Safety
/// AVX-512 F.
#[inline(always)]
pub(super) unsafe fn mxfp4_scales(e: __m512i) -> __m512 {
    // SAFETY: as the caller vouches.
    unsafe {
        let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(e, _mm512_set1_epi32(1)));
        let subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), e);
        let small = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2));
        _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, small, subnormal))
    }
}
