//! Unpacking a block of 16 weight rows into registers, one row per 32-bit lane.
//!
//! To add a weight type: a [`Format`] here or in a file beside this one, or [`Blocks`] for one with
//! super-blocks, and a line in the two tables of `int8.rs`.

use std::arch::x86_64::*;

use crate::backend::cpu::kernels::int8::Rows;

/// Weight rows in a group.
pub(super) const LANES: usize = 16;

/// A block of 16 rows, unpacked.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Block16 {
    /// Lane `r` of register `j`: codes `4j..4j+4` of row `r`, as unsigned bytes.
    pub(super) codes: [__m512i; 8],
    pub(super) scale: __m512,
    /// The scale of the last half where halves have their own; unused by types with neither.
    pub(super) min: __m512,
}

/// Integers that weigh the two halves of a block: two words in each lane.
#[derive(Clone, Copy)]
pub(super) struct Halves {
    /// Weights of the products.
    pub(super) a: __m512i,
    /// Weights of the sums of codes in the minimum; unused by types without a minimum.
    pub(super) b: __m512i,
}

/// [`Halves`], or `()` for types without: both weights are 1.
pub(super) trait HalfWeights: Copy {
    const SOME: bool;
    /// # Safety
    /// AVX-512 F.
    unsafe fn get(self) -> Halves;
}

impl HalfWeights for Halves {
    const SOME: bool = true;
    #[inline(always)]
    unsafe fn get(self) -> Halves {
        self
    }
}

impl HalfWeights for () {
    const SOME: bool = false;
    #[inline(always)]
    unsafe fn get(self) -> Halves {
        // SAFETY: as the caller vouches.
        let one = unsafe { _mm512_set1_epi16(1) };
        Halves { a: one, b: one }
    }
}

/// Takes blocks one after the other.
pub(super) trait Sink<H> {
    /// # Safety
    /// The instructions of the implementation, and room for another block.
    unsafe fn take(&mut self, block: Block16, halves: H);
}

/// What differs between weight types.
///
/// # Safety
/// `each` reads only `BYTES` bytes at each row.
pub(super) unsafe trait Blocks {
    /// Blocks of 32 elements in one of the file.
    const N: usize;
    /// Bytes of `N` blocks.
    const BYTES: usize;
    const OFFSET: i32;
    /// Bits of a code that can be set.
    const BITS: u32;
    const HAS_MIN: bool;
    /// The halves of a block have scales of their own.
    const TWO_SCALES: bool = false;
    type Halves: HalfWeights;
    /// Hands the `N` blocks at `rows` to `sink`, in order.
    ///
    /// # Safety
    /// AVX-512 F, BW and what `sink` needs; `BYTES` bytes can be read at every row.
    unsafe fn each<S: Sink<Self::Halves>>(rows: impl Rows, sink: &mut S);
}

// SAFETY: reads what `unpack` reads.
unsafe impl<F: Format> Blocks for F {
    const N: usize = 1;
    const BYTES: usize = F::BLOCK_BYTES;
    const OFFSET: i32 = F::OFFSET;
    const BITS: u32 = F::BITS;
    const HAS_MIN: bool = F::HAS_MIN;
    const TWO_SCALES: bool = F::TWO_SCALES;
    type Halves = ();
    #[inline(always)]
    unsafe fn each<S: Sink<()>>(rows: impl Rows, sink: &mut S) {
        // SAFETY: as the caller vouches.
        unsafe { sink.take(F::unpack(rows), ()) };
    }
}

/// What differs between weight types with blocks of 32.
///
/// # Safety
/// `unpack` reads only `BLOCK_BYTES` bytes at each row.
pub(super) unsafe trait Format {
    const BLOCK_BYTES: usize;
    const OFFSET: i32;
    /// Bits of a code that can be set.
    const BITS: u32;
    const HAS_MIN: bool;
    /// The halves of a block have scales of their own.
    const TWO_SCALES: bool = false;
    /// # Safety
    /// AVX-512 F, BW; a whole block can be read at every row.
    unsafe fn unpack(rows: impl Rows) -> Block16;
}

/// 16 bytes at `offset` of each block: row `4i + p` in 128-bit lane `i` of register `p`.
///
/// # Safety
/// AVX-512 F; the bytes can be read.
#[inline(always)]
pub(super) unsafe fn load_16x16(rows: impl Rows, offset: usize) -> [__m512i; 4] {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut x = [_mm512_setzero_si512(); 4];
        for (p, x) in x.iter_mut().enumerate() {
            let row = |i: usize| rows.row(4 * i + p).wrapping_add(offset).cast();
            *x = _mm512_castsi128_si512(_mm_loadu_si128(row(0)));
            *x = _mm512_mask_broadcast_i32x4(*x, 0x00f0, _mm_loadu_si128(row(1)));
            *x = _mm512_mask_broadcast_i32x4(*x, 0x0f00, _mm_loadu_si128(row(2)));
            *x = _mm512_mask_broadcast_i32x4(*x, 0xf000, _mm_loadu_si128(row(3)));
        }
        x
    }
}

/// From 16 bytes of 16 rows as [`load_16x16`] gives them to their dwords `j`, one row per lane.
///
/// # Safety
/// AVX-512 F.
#[inline(always)]
pub(super) unsafe fn transpose(x: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: as the caller vouches.
    unsafe {
        let lo01 = _mm512_unpacklo_epi32(x[0], x[1]);
        let hi01 = _mm512_unpackhi_epi32(x[0], x[1]);
        let lo23 = _mm512_unpacklo_epi32(x[2], x[3]);
        let hi23 = _mm512_unpackhi_epi32(x[2], x[3]);
        [
            _mm512_unpacklo_epi64(lo01, lo23),
            _mm512_unpackhi_epi64(lo01, lo23),
            _mm512_unpacklo_epi64(hi01, hi23),
            _mm512_unpackhi_epi64(hi01, hi23),
        ]
    }
}

/// The first four bytes of each block, one row per lane: scale, and what follows it.
///
/// # Safety
/// AVX-512 F; the bytes can be read.
#[inline(always)]
pub(super) unsafe fn heads(rows: impl Rows) -> __m512i {
    // SAFETY: as the caller vouches.
    unsafe {
        let head = |r: usize| rows.row(r).cast::<i32>().read_unaligned();
        _mm512_setr_epi32(
            head(0),
            head(1),
            head(2),
            head(3),
            head(4),
            head(5),
            head(6),
            head(7),
            head(8),
            head(9),
            head(10),
            head(11),
            head(12),
            head(13),
            head(14),
            head(15),
        )
    }
}

/// The f16 in the low half of each lane.
///
/// # Safety
/// AVX-512 F.
#[inline(always)]
pub(super) unsafe fn low_halves(x: __m512i) -> __m512 {
    // SAFETY: as the caller vouches.
    unsafe { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x)) }
}

/// Codes in nibbles, element `i` low and element `16 + i` high in byte `i`.
///
/// # Safety
/// AVX-512 F; the 16 bytes at `offset` of each row can be read.
#[inline(always)]
pub(super) unsafe fn nibbles(rows: impl Rows, offset: usize) -> [__m512i; 8] {
    // SAFETY: as the caller vouches.
    unsafe {
        let bytes = transpose(load_16x16(rows, offset));
        let mask = _mm512_set1_epi8(15);
        let mut codes = [mask; 8];
        for j in 0..4 {
            codes[j] = _mm512_and_si512(bytes[j], mask);
            codes[4 + j] = _mm512_and_si512(_mm512_srli_epi32::<4>(bytes[j]), mask);
        }
        codes
    }
}

pub(super) struct Q4_0;
// SAFETY: reads 4 and 16 of 18 bytes.
unsafe impl Format for Q4_0 {
    const BLOCK_BYTES: usize = 18;
    const OFFSET: i32 = 8;
    const BITS: u32 = 4;
    const HAS_MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block16 {
        // SAFETY: as the caller vouches.
        unsafe {
            Block16 {
                codes: nibbles(rows, 2),
                scale: low_halves(heads(rows)),
                min: _mm512_setzero_ps(),
            }
        }
    }
}

pub(super) struct Q4_1;
// SAFETY: reads 4 and 16 of 20 bytes.
unsafe impl Format for Q4_1 {
    const BLOCK_BYTES: usize = 20;
    const OFFSET: i32 = 0;
    const BITS: u32 = 4;
    const HAS_MIN: bool = true;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block16 {
        // SAFETY: as the caller vouches.
        unsafe {
            let heads = heads(rows);
            Block16 {
                codes: nibbles(rows, 4),
                scale: low_halves(heads),
                min: low_halves(_mm512_srli_epi32::<16>(heads)),
            }
        }
    }
}

pub(super) struct Q8_0;
// SAFETY: reads 4 and twice 16 of 34 bytes.
unsafe impl Format for Q8_0 {
    const BLOCK_BYTES: usize = 34;
    const OFFSET: i32 = 128;
    const BITS: u32 = 8;
    const HAS_MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block16 {
        // SAFETY: as the caller vouches.
        unsafe {
            let lo = transpose(load_16x16(rows, 2));
            let hi = transpose(load_16x16(rows, 18));
            // Adding 128 modulo 256 makes signed codes unsigned.
            let sign = _mm512_set1_epi8(-128);
            let mut codes = [sign; 8];
            for j in 0..4 {
                codes[j] = _mm512_xor_si512(lo[j], sign);
                codes[4 + j] = _mm512_xor_si512(hi[j], sign);
            }
            Block16 { codes, scale: low_halves(heads(rows)), min: _mm512_setzero_ps() }
        }
    }
}
