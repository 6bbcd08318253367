//! Unpacking a block of 8 weight rows into registers, one row per 32-bit lane.
//!
//! To add a weight type: a [`Format`] here or in a file beside this one, or [`Blocks`] for one with
//! super-blocks, and a line in the table of `int8.rs`.
#![allow(clippy::needless_range_loop, reason = "index loops unroll into registers, zips may not")]

use std::arch::x86_64::*;

use crate::backend::cpu::kernels::int8::Rows;

/// A block of 8 rows, unpacked.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Block8<const PLANES: usize> {
    /// The codes' bits from `4p` on; lane `r` of register `j` of a plane: codes `4j..4j+4` of row `r`.
    pub(super) planes: [[__m256i; 8]; PLANES],
    pub(super) scale: __m256,
    /// The scale of the last half where halves have their own; unused by types with neither.
    pub(super) min: __m256,
}

/// Integers that weigh the two halves of a block: two words in each lane.
#[derive(Clone, Copy)]
pub(super) struct Halves {
    /// Weights of the products.
    pub(super) a: __m256i,
    /// Weights of the sums of codes in the minimum; unused by types without a minimum.
    pub(super) b: __m256i,
}

/// [`Halves`], or `()` for types without: both weights are 1.
pub(super) trait HalfWeights: Copy {
    const SOME: bool;
    /// # Safety
    /// AVX2.
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
        let one = unsafe { _mm256_set1_epi16(1) };
        Halves { a: one, b: one }
    }
}

/// Takes blocks one after the other.
pub(super) trait Sink<const PLANES: usize, H> {
    /// # Safety
    /// The instructions of the implementation, and room for another block.
    unsafe fn take(&mut self, block: Block8<PLANES>, halves: H);
}

/// What differs between weight types.
///
/// # Safety
/// `each` reads only `BYTES` bytes at each row.
pub(super) unsafe trait Blocks<const PLANES: usize> {
    /// Blocks of 32 elements in one of the file.
    const N: usize;
    /// Bytes of `N` blocks.
    const BYTES: usize;
    const OFFSET: i32;
    /// Bits of a plane that can be set: up to 7.
    const PLANE_BITS: u32;
    const HAS_MIN: bool;
    /// The halves of a block have scales of their own.
    const TWO_SCALES: bool = false;
    type Halves: HalfWeights;
    /// Hands the `N` blocks at `rows` to `sink`, in order.
    ///
    /// # Safety
    /// AVX2, F16C and what `sink` needs; `BYTES` bytes can be read at every row.
    unsafe fn each<S: Sink<PLANES, Self::Halves>>(rows: impl Rows, sink: &mut S);
}

// SAFETY: reads what `unpack` reads.
unsafe impl<F: Format<PLANES>, const PLANES: usize> Blocks<PLANES> for F {
    const N: usize = 1;
    const BYTES: usize = F::BLOCK_BYTES;
    const OFFSET: i32 = F::OFFSET;
    const PLANE_BITS: u32 = F::PLANE_BITS;
    const HAS_MIN: bool = F::HAS_MIN;
    const TWO_SCALES: bool = F::TWO_SCALES;
    type Halves = ();
    #[inline(always)]
    unsafe fn each<S: Sink<PLANES, ()>>(rows: impl Rows, sink: &mut S) {
        // SAFETY: as the caller vouches.
        unsafe { sink.take(F::unpack(rows), ()) };
    }
}

/// What differs between weight types with blocks of 32.
///
/// # Safety
/// `unpack` reads only `BLOCK_BYTES` bytes at each row.
pub(super) unsafe trait Format<const PLANES: usize> {
    const BLOCK_BYTES: usize;
    const OFFSET: i32;
    /// Bits of a plane that can be set: 4, 5 or 7.
    const PLANE_BITS: u32 = 4;
    const HAS_MIN: bool;
    /// The halves of a block have scales of their own.
    const TWO_SCALES: bool = false;
    /// # Safety
    /// AVX2, F16C; a whole block can be read at every row.
    unsafe fn unpack(rows: impl Rows) -> Block8<PLANES>;
}

/// 16 bytes at `offset` of each block, as their dwords `j`, one row per lane.
///
/// # Safety
/// AVX2; the bytes can be read.
#[inline(always)]
pub(super) unsafe fn dwords(rows: impl Rows, offset: usize) -> [__m256i; 4] {
    // SAFETY: as the caller vouches.
    unsafe {
        // Rows p and 4 + p in the two halves of register p; then two 4x4 transpositions.
        let mut x = [_mm256_setzero_si256(); 4];
        for (p, x) in x.iter_mut().enumerate() {
            let row = |r: usize| rows.row(r).wrapping_add(offset).cast();
            *x = _mm256_castsi128_si256(_mm_loadu_si128(row(p)));
            *x = _mm256_inserti128_si256::<1>(*x, _mm_loadu_si128(row(4 + p)));
        }
        let lo01 = _mm256_unpacklo_epi32(x[0], x[1]);
        let hi01 = _mm256_unpackhi_epi32(x[0], x[1]);
        let lo23 = _mm256_unpacklo_epi32(x[2], x[3]);
        let hi23 = _mm256_unpackhi_epi32(x[2], x[3]);
        [
            _mm256_unpacklo_epi64(lo01, lo23),
            _mm256_unpackhi_epi64(lo01, lo23),
            _mm256_unpacklo_epi64(hi01, hi23),
            _mm256_unpackhi_epi64(hi01, hi23),
        ]
    }
}

/// The f16 at `offset` of each block, one row per lane.
///
/// # Safety
/// AVX2, F16C; the bytes can be read.
#[inline(always)]
pub(super) unsafe fn halves(rows: impl Rows, offset: usize) -> __m256 {
    // SAFETY: as the caller vouches.
    unsafe {
        let at = |r: usize| rows.row(r).add(offset).cast::<i16>().read_unaligned();
        let halves = _mm_setr_epi16(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
        _mm256_cvtph_ps(halves)
    }
}

/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn low_nibbles(x: __m256i) -> __m256i {
    // SAFETY: as the caller vouches.
    unsafe { _mm256_and_si256(x, _mm256_set1_epi8(15)) }
}

/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn high_nibbles(x: __m256i) -> __m256i {
    // SAFETY: as the caller vouches.
    unsafe { low_nibbles(_mm256_srli_epi32::<4>(x)) }
}

/// Codes in nibbles, element `i` low and element `16 + i` high in byte `i`.
///
/// # Safety
/// AVX2; the 16 bytes at `offset` of each row can be read.
#[inline(always)]
pub(super) unsafe fn nibble_codes(rows: impl Rows, offset: usize) -> [__m256i; 8] {
    // SAFETY: as the caller vouches.
    unsafe {
        let x = dwords(rows, offset);
        let mut codes = [_mm256_setzero_si256(); 8];
        for j in 0..4 {
            codes[j] = low_nibbles(x[j]);
            codes[4 + j] = high_nibbles(x[j]);
        }
        codes
    }
}

pub(super) struct Q4_0;
// SAFETY: reads 2 and 16 of 18 bytes.
unsafe impl Format<1> for Q4_0 {
    const BLOCK_BYTES: usize = 18;
    const OFFSET: i32 = 8;
    const HAS_MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block8<1> {
        // SAFETY: as the caller vouches.
        unsafe {
            let planes = [nibble_codes(rows, 2)];
            Block8 { planes, scale: halves(rows, 0), min: _mm256_setzero_ps() }
        }
    }
}

pub(super) struct Q4_1;
// SAFETY: reads 4 and 16 of 20 bytes.
unsafe impl Format<1> for Q4_1 {
    const BLOCK_BYTES: usize = 20;
    const OFFSET: i32 = 0;
    const HAS_MIN: bool = true;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block8<1> {
        // SAFETY: as the caller vouches.
        unsafe {
            let planes = [nibble_codes(rows, 4)];
            Block8 { planes, scale: halves(rows, 0), min: halves(rows, 2) }
        }
    }
}

pub(super) struct Q8_0;
// SAFETY: reads 2 and twice 16 of 34 bytes.
unsafe impl Format<2> for Q8_0 {
    const BLOCK_BYTES: usize = 34;
    const OFFSET: i32 = 128;
    const HAS_MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block8<2> {
        // SAFETY: as the caller vouches.
        unsafe {
            let (lo, hi) = (dwords(rows, 2), dwords(rows, 18));
            // Adding 128 modulo 256 makes signed codes unsigned.
            let sign = _mm256_set1_epi8(-128);
            let mut planes = [[sign; 8]; 2];
            for j in 0..8 {
                let codes = _mm256_xor_si256(if j < 4 { lo[j] } else { hi[j - 4] }, sign);
                planes[0][j] = low_nibbles(codes);
                planes[1][j] = high_nibbles(codes);
            }
            Block8 { planes, scale: halves(rows, 0), min: _mm256_setzero_ps() }
        }
    }
}
