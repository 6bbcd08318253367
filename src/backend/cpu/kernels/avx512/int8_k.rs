//! Unpacking super-blocks of 256 elements of 16 weight rows, one row per 32-bit lane.
//!
//! The fields of a super-block are transposed as they lie in the file; the blocks of 32 are then
//! bits of the same registers. What belongs to the whole super-block is decoded once.
#![allow(clippy::needless_range_loop, reason = "index loops unroll into registers, zips may not")]
#![allow(non_camel_case_types, reason = "the types are spelt so everywhere")]

use std::arch::x86_64::*;

use super::int8_unpack::{Block16, Blocks, Halves, Sink, heads, load_16x16, low_halves, transpose};
use crate::backend::cpu::kernels::int8::Rows;

/// 32 bytes at `offset` of each row as dwords.
///
/// # Safety
/// AVX-512 F; the bytes can be read.
#[inline(always)]
pub(super) unsafe fn dwords(rows: impl Rows, offset: usize) -> [__m512i; 8] {
    // SAFETY: as the caller vouches.
    unsafe {
        let [a, b, c, d] = transpose(load_16x16(rows, offset));
        let [e, f, g, h] = transpose(load_16x16(rows, offset + 16));
        [a, b, c, d, e, f, g, h]
    }
}

/// `x` shifted right by `n` bits, for those bits that `mask` has in all bytes.
///
/// # Safety
/// AVX-512 F, BW.
#[inline(always)]
pub(super) unsafe fn bits(x: __m512i, n: usize, mask: i8) -> __m512i {
    // SAFETY: as the caller vouches.
    unsafe {
        let x = _mm512_srlv_epi32(x, _mm512_set1_epi32(n as i32));
        _mm512_and_si512(x, _mm512_set1_epi8(mask))
    }
}

/// `x` rotated left by `n` bits, for those bits that `mask` has in all bytes.
///
/// # Safety
/// AVX-512 F, BW.
#[inline(always)]
unsafe fn rotated(x: __m512i, n: i32, mask: i8) -> __m512i {
    // SAFETY: as the caller vouches.
    unsafe {
        let x = _mm512_rolv_epi32(x, _mm512_set1_epi32(n & 31));
        _mm512_and_si512(x, _mm512_set1_epi8(mask))
    }
}

/// Byte `i` of each lane as a float.
///
/// # Safety
/// AVX-512 F, BW.
#[inline(always)]
unsafe fn byte(x: __m512i, i: usize) -> __m512 {
    // SAFETY: as the caller vouches.
    unsafe {
        let first = _mm_setr_epi32(-256, -252, -248, -244); // 0xffffff00 + 4 * lane
        let place = _mm512_add_epi32(_mm512_broadcast_i32x4(first), _mm512_set1_epi32(i as i32));
        _mm512_cvtepi32_ps(_mm512_shuffle_epi8(x, place))
    }
}

/// Bytes `2i` and `2i + 1` of each lane as two words; `signed` or not.
///
/// # Safety
/// AVX-512 F, BW.
#[inline(always)]
pub(super) unsafe fn words(x: __m512i, i: usize, signed: bool) -> __m512i {
    // SAFETY: as the caller vouches.
    unsafe {
        // Each byte becomes the high one of its word, the shift brings it down.
        let first = _mm_setr_epi32(0x01ff_00ff, 0x05ff_04ff, 0x09ff_08ff, 0x0dff_0cff);
        let place = _mm512_or_si512(
            _mm512_broadcast_i32x4(first),
            _mm512_set1_epi32(0x0200_0200 * i as i32),
        );
        let x = _mm512_shuffle_epi8(x, place);
        if signed { _mm512_srai_epi16::<8>(x) } else { _mm512_srli_epi16::<8>(x) }
    }
}

/// Scale and minimum of block `i` from the first 16 bytes of Q4_K and Q5_K as dwords.
///
/// # Safety
/// AVX-512 F, BW.
#[inline(always)]
pub(super) unsafe fn scale_and_minimum([halves, a, b, c]: [__m512i; 4], i: usize) -> [__m512; 2] {
    // SAFETY: as the caller vouches.
    unsafe {
        let d = low_halves(halves);
        let dmin = low_halves(_mm512_srli_epi32::<16>(halves));
        let dmin = _mm512_xor_ps(dmin, _mm512_set1_ps(-0.0));
        // Six bits each: four bytes with the first four scales, four with minimums; the nibbles of
        // four more bytes have the others', topped by the highest two bits of the first bytes.
        let (scales, mins) = if i < 4 {
            (bits(a, 0, 63), bits(b, 0, 63))
        } else {
            let scales = _mm512_or_si512(bits(c, 0, 15), bits(a, 2, 0x30));
            (scales, _mm512_or_si512(bits(c, 4, 15), bits(b, 2, 0x30)))
        };
        [_mm512_mul_ps(d, byte(scales, i % 4)), _mm512_mul_ps(dmin, byte(mins, i % 4))]
    }
}

/// Scales and minimums of the 8 blocks of Q4_K and Q5_K.
///
/// # Safety
/// AVX-512 F, BW; 16 bytes can be read at each row.
#[inline(always)]
unsafe fn scales_and_minimums(rows: impl Rows) -> [[__m512; 8]; 2] {
    // SAFETY: as the caller vouches.
    unsafe {
        let fields = transpose(load_16x16(rows, 0));
        let mut out = [[_mm512_setzero_ps(); 8]; 2];
        for i in 0..8 {
            [out[0][i], out[1][i]] = scale_and_minimum(fields, i);
        }
        out
    }
}

pub(super) struct Q4_K;
// SAFETY: reads 16 bytes and 4 times 32 of 144.
unsafe impl Blocks for Q4_K {
    const N: usize = 8;
    const BYTES: usize = 144;
    const OFFSET: i32 = 0;
    const BITS: u32 = 4;
    const HAS_MIN: bool = true;
    type Halves = ();
    #[inline(always)]
    unsafe fn each<S: Sink<()>>(rows: impl Rows, sink: &mut S) {
        // SAFETY: as the caller vouches.
        unsafe {
            let [scales, mins] = scales_and_minimums(rows);
            for pair in 0..4 {
                let bytes = dwords(rows, 16 + 32 * pair);
                for i in 0..2 {
                    let mut codes = bytes;
                    for j in 0..8 {
                        codes[j] = bits(bytes[j], 4 * i, 15);
                    }
                    let (scale, min) = (scales[2 * pair + i], mins[2 * pair + i]);
                    sink.take(Block16 { codes, scale, min }, ());
                }
            }
        }
    }
}

pub(super) struct Q5_K;
// SAFETY: reads 16 bytes and 5 times 32 of 176.
unsafe impl Blocks for Q5_K {
    const N: usize = 8;
    const BYTES: usize = 176;
    const OFFSET: i32 = 0;
    const BITS: u32 = 5;
    const HAS_MIN: bool = true;
    type Halves = ();
    #[inline(always)]
    unsafe fn each<S: Sink<()>>(rows: impl Rows, sink: &mut S) {
        // SAFETY: as the caller vouches.
        unsafe {
            let [scales, mins] = scales_and_minimums(rows);
            let fifth = dwords(rows, 16);
            for pair in 0..4 {
                let bytes = dwords(rows, 48 + 32 * pair);
                for i in 0..2 {
                    let mut codes = bytes;
                    for j in 0..8 {
                        let high = rotated(fifth[j], 4 - (2 * pair + i) as i32, 16);
                        codes[j] = _mm512_or_si512(bits(bytes[j], 4 * i, 15), high);
                    }
                    let (scale, min) = (scales[2 * pair + i], mins[2 * pair + i]);
                    sink.take(Block16 { codes, scale, min }, ());
                }
            }
        }
    }
}

pub(super) struct Q6_K;
// SAFETY: reads 6 times 32, 16, and 4 bytes that end at 210, of 210.
unsafe impl Blocks for Q6_K {
    const N: usize = 8;
    const BYTES: usize = 210;
    const OFFSET: i32 = 32;
    const BITS: u32 = 6;
    const HAS_MIN: bool = false;
    type Halves = Halves;
    #[inline(always)]
    unsafe fn each<S: Sink<Halves>>(rows: impl Rows, sink: &mut S) {
        // SAFETY: as the caller vouches.
        unsafe {
            let scale = low_halves(_mm512_srli_epi32::<16>(heads(rows.advance(206))));
            let scales = transpose(load_16x16(rows, 192));
            let min = _mm512_setzero_ps();
            for part in 0..2 {
                let low = [dwords(rows, 64 * part), dwords(rows, 64 * part + 32)];
                let high = dwords(rows, 128 + 32 * part);
                for i in 0..4 {
                    let mut codes = high;
                    for j in 0..8 {
                        let low = bits(low[i % 2][j], 4 * (i / 2), 15);
                        codes[j] = _mm512_or_si512(low, rotated(high[j], 4 - 2 * i as i32, 0x30));
                    }
                    let a = words(scales[2 * part + i / 2], i % 2, true);
                    sink.take(Block16 { codes, scale, min }, Halves { a, b: a });
                }
            }
        }
    }
}

pub(super) struct Q3_K;
// SAFETY: reads 3 times 32, and 16 bytes that end at 110, of 110.
unsafe impl Blocks for Q3_K {
    const N: usize = 8;
    const BYTES: usize = 110;
    const OFFSET: i32 = 4;
    const BITS: u32 = 3;
    const HAS_MIN: bool = false;
    type Halves = Halves;
    #[inline(always)]
    unsafe fn each<S: Sink<Halves>>(rows: impl Rows, sink: &mut S) {
        // SAFETY: as the caller vouches.
        unsafe {
            // Twelve bytes of scales and the half, two bytes further in than dwords are wanted.
            let tail = transpose(load_16x16(rows, 94));
            let mut x = tail;
            for j in 0..3 {
                let low = _mm512_srli_epi32::<16>(tail[j]);
                x[j] = _mm512_or_si512(low, _mm512_slli_epi32::<16>(tail[j + 1]));
            }
            let scale = low_halves(_mm512_srli_epi32::<16>(tail[3]));
            // Six bits: the nibbles of eight bytes, topped by two bits of the other four each.
            let mut scales = tail;
            for k in 0..4 {
                let low = bits(x[k % 2], 4 * (k / 2), 15);
                let six = _mm512_or_si512(low, rotated(x[2], 4 - 2 * k as i32, 0x30));
                scales[k] = _mm512_sub_epi8(six, _mm512_set1_epi8(32));
            }
            let third = dwords(rows, 0);
            let min = _mm512_setzero_ps();
            for part in 0..2 {
                let bytes = dwords(rows, 32 + 32 * part);
                for i in 0..4 {
                    let mut codes = bytes;
                    for j in 0..8 {
                        let high = rotated(third[j], 2 - (4 * part + i) as i32, 4);
                        codes[j] = _mm512_or_si512(bits(bytes[j], 2 * i, 3), high);
                    }
                    let a = words(scales[2 * part + i / 2], i % 2, true);
                    sink.take(Block16 { codes, scale, min }, Halves { a, b: a });
                }
            }
        }
    }
}

pub(super) struct Q2_K;
// SAFETY: reads 16 bytes, twice 32, and 4 of 84.
unsafe impl Blocks for Q2_K {
    const N: usize = 8;
    const BYTES: usize = 84;
    const OFFSET: i32 = 0;
    const BITS: u32 = 2;
    const HAS_MIN: bool = true;
    type Halves = Halves;
    #[inline(always)]
    unsafe fn each<S: Sink<Halves>>(rows: impl Rows, sink: &mut S) {
        // SAFETY: as the caller vouches.
        unsafe {
            let halves = heads(rows.advance(80));
            let scale = low_halves(halves);
            let min = low_halves(_mm512_srli_epi32::<16>(halves));
            let min = _mm512_xor_ps(min, _mm512_set1_ps(-0.0));
            let nibbles = transpose(load_16x16(rows, 0));
            for part in 0..2 {
                let bytes = dwords(rows, 16 + 32 * part);
                for i in 0..4 {
                    let mut codes = bytes;
                    for j in 0..8 {
                        codes[j] = bits(bytes[j], 2 * i, 3);
                    }
                    let x = nibbles[2 * part + i / 2];
                    let a = words(bits(x, 0, 15), i % 2, false);
                    let b = words(bits(x, 4, 15), i % 2, false);
                    sink.take(Block16 { codes, scale, min }, Halves { a, b });
                }
            }
        }
    }
}
