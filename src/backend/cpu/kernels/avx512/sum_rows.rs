//! Weighted sums of rows in one register of 16 lanes.
//!
//! Without VNNI: LLVM makes a multiplication and an addition of `vpdpwssd`, and is right, as the
//! sums are short.

use std::arch::x86_64::*;

use crate::backend::cpu::kernels::lanes::sum_rows::{Factors, QUAD, Quad, Words};
use crate::backend::cpu::kernels::lanes::{sum_formats as formats, sum_rows as lanes};
use crate::backend::cpu::kernels::sum_rows::{C_MAX, GROUP, SumKernels, SumRows};
use crate::quant::QuantType;

macro_rules! rows {
    ($($ty:ident)*) => { &[$((QuantType::$ty, sum_rows::<formats::$ty>)),*] };
}

pub(crate) const KERNELS: SumKernels = SumKernels {
    rows: rows!(Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL Q4_K Q5_K Q6_K),
    plain: super::float::SUM_PLAIN,
};

/// # Safety
/// As [`crate::backend::cpu::kernels::sum_rows::SumRowsFn`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn sum_rows<F: formats::Format>(a: &SumRows<'_>) {
    // SAFETY: the caller's promise.
    unsafe { lanes::sum_rows::<Words512, F>(a) }
}

/// 16 dwords.
#[derive(Clone, Copy)]
struct Words512(__m512i);

/// Dwords that bring four bytes of each of four rows into every 128 bits.
static DWORDS: [i32; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
/// Bytes that bring a row's bytes four apart.
static BYTES: [i8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

/// A constant count of a shift.
///
/// # Safety
/// SSE2.
#[inline(always)]
unsafe fn count(n: i32) -> __m128i {
    // SAFETY: as the caller vouches.
    unsafe { _mm_cvtsi32_si128(n) }
}

/// Dwords with the low words of two.
///
/// # Safety
/// AVX-512 BW.
#[inline(always)]
unsafe fn pair(lo: __m512i, hi: __m512i) -> __m512i {
    // SAFETY: as the caller vouches.
    unsafe { _mm512_mask_blend_epi16(0xaaaa_aaaa, lo, _mm512_slli_epi32::<16>(hi)) }
}

/// 16 bytes of a row.
///
/// # Safety
/// The bytes can be read.
#[inline(always)]
unsafe fn load(row: *const u8, at: usize) -> __m128i {
    // SAFETY: as the caller vouches.
    unsafe { _mm_loadu_si128(row.wrapping_add(at).cast()) }
}

impl Words for Words512 {
    type F = __m512;
    type Order = [__m512i; 2];

    #[inline(always)]
    unsafe fn order() -> [__m512i; 2] {
        // SAFETY: as the caller vouches. The reads are volatile so that the places are not known
        // at compile time: LLVM would make ten shuffles of the two in `interleave`.
        unsafe {
            let dwords = (&raw const DWORDS).read_volatile();
            let bytes = (&raw const BYTES).read_volatile();
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            [_mm512_loadu_si512(dwords.as_ptr().cast()), _mm512_broadcast_i32x4(bytes)]
        }
    }

    #[inline(always)]
    unsafe fn interleave(order: [__m512i; 2], rows: Quad, at: usize) -> Self {
        // SAFETY: as the caller vouches.
        unsafe {
            let mut x = _mm512_castsi128_si512(load(rows[0], at));
            x = _mm512_mask_broadcast_i32x4(x, 0x00f0, load(rows[1], at));
            x = _mm512_mask_broadcast_i32x4(x, 0x0f00, load(rows[2], at));
            x = _mm512_mask_broadcast_i32x4(x, 0xf000, load(rows[3], at));
            let x = _mm512_permutexvar_epi32(order[0], x);
            Self(_mm512_shuffle_epi8(x, order[1]))
        }
    }

    #[inline(always)]
    unsafe fn splat(x: i32) -> Self {
        // SAFETY: as the caller vouches.
        unsafe { Self(_mm512_set1_epi32(x)) }
    }

    #[inline(always)]
    unsafe fn broadcast(p: *const i32) -> Self {
        // SAFETY: as the caller vouches.
        unsafe { Self(_mm512_set1_epi32(*p)) }
    }

    #[inline(always)]
    unsafe fn and(self, b: Self) -> Self {
        // SAFETY: as the caller vouches.
        unsafe { Self(_mm512_and_si512(self.0, b.0)) }
    }

    #[inline(always)]
    unsafe fn or(self, b: Self) -> Self {
        // SAFETY: as the caller vouches.
        unsafe { Self(_mm512_or_si512(self.0, b.0)) }
    }

    #[inline(always)]
    unsafe fn shl(self, n: i32) -> Self {
        // SAFETY: as the caller vouches.
        unsafe { Self(_mm512_sll_epi16(self.0, count(n))) }
    }

    #[inline(always)]
    unsafe fn shr(self, n: i32) -> Self {
        // SAFETY: as the caller vouches.
        unsafe { Self(_mm512_srl_epi16(self.0, count(n))) }
    }

    #[inline(always)]
    unsafe fn sar(self, n: i32) -> Self {
        // SAFETY: as the caller vouches.
        unsafe { Self(_mm512_sra_epi16(self.0, count(n))) }
    }

    #[inline(always)]
    unsafe fn look_up(self, table: &[i8; 16]) -> Self {
        // SAFETY: as the caller vouches.
        unsafe {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            Self(_mm512_shuffle_epi8(table, self.0))
        }
    }

    #[inline(always)]
    unsafe fn with_bits(self, words: [u32; QUAD], at: usize, value: i8) -> Self {
        // SAFETY: as the caller vouches.
        unsafe {
            let words = _mm_loadu_si128(words.as_ptr().cast());
            // A byte of each row's word in every lane; two lanes of 128 bits share it.
            let place = _mm512_set_epi64(1, 1, 1, 1, 0, 0, 0, 0);
            let place = _mm512_mul_epu32(place, _mm512_set1_epi64(0x0101_0101));
            let place = _mm512_or_si512(place, _mm512_slli_epi64::<32>(place));
            let rows = _mm512_set1_epi32(0x0c08_0400 + 0x0101_0101 * (at as i32 / 8));
            let bytes = _mm512_broadcast_i32x4(words);
            let bytes = _mm512_shuffle_epi8(bytes, _mm512_add_epi8(rows, place));
            let bit = |i: i32| 0x0101_0101_u32.wrapping_shl(i as u32) as i32;
            let bits =
                _mm256_setr_epi32(bit(0), bit(1), bit(2), bit(3), bit(4), bit(5), bit(6), bit(7));
            let set = _mm512_test_epi8_mask(bytes, _mm512_broadcast_i64x4(bits));
            Self(_mm512_or_si512(self.0, _mm512_maskz_set1_epi8(set, value)))
        }
    }

    #[inline(always)]
    unsafe fn dot(self, b: Self) -> Self {
        // SAFETY: as the caller vouches.
        unsafe { Self(_mm512_madd_epi16(self.0, b.0)) }
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: as the caller vouches.
        unsafe { Self(_mm512_add_epi32(self.0, b.0)) }
    }

    #[inline(always)]
    unsafe fn add_to(self, f: *const f32, min: Option<*const f32>, y: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe {
            let sum = _mm512_cvtepi32_ps(self.0);
            let mut sum = _mm512_fmadd_ps(sum, _mm512_set1_ps(*f), _mm512_loadu_ps(y));
            if let Some(min) = min {
                sum = _mm512_add_ps(sum, _mm512_set1_ps(*min));
            }
            _mm512_storeu_ps(y, sum);
        }
    }

    #[inline(always)]
    unsafe fn half(p: *const u8) -> f32 {
        // SAFETY: as the caller vouches.
        unsafe {
            let bits = i32::from(p.cast::<u16>().read_unaligned());
            _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)))
        }
    }

    #[inline(always)]
    unsafe fn halves(p: *const u8, stride: usize, n: usize) -> __m512 {
        // SAFETY: as the caller vouches.
        unsafe {
            // A load of 32 bytes reaches the next half, and stays within two blocks.
            if n == 16 && (18..=30).contains(&stride) && stride.is_multiple_of(2) {
                let next = stride as i64 / 2;
                let places = _mm256_set1_epi64x(next << 16 | 16 << 32 | (16 + next) << 48);
                let mut fours = [_mm_setzero_si128(); 4];
                for (i, four) in fours.iter_mut().enumerate() {
                    let p = p.wrapping_add(4 * i * stride);
                    let a = _mm256_loadu_si256(p.cast());
                    let b = _mm256_loadu_si256(p.wrapping_add(2 * stride).cast());
                    *four = _mm256_castsi256_si128(_mm256_permutex2var_epi16(a, places, b));
                }
                let [a, b, c, d] = fours;
                let (lo, hi) = (_mm_unpacklo_epi64(a, b), _mm_unpacklo_epi64(c, d));
                return _mm512_cvtph_ps(_mm256_set_m128i(hi, lo));
            }
            let mut halves = [0u16; 16];
            for (i, half) in halves.iter_mut().enumerate() {
                let i = if n == 16 { i } else { i.min(n - 1) };
                *half = p.wrapping_add(i * stride).cast::<u16>().read_unaligned();
            }
            _mm512_cvtph_ps(_mm256_loadu_si256(halves.as_ptr().cast()))
        }
    }

    #[inline(always)]
    unsafe fn unsigned(x: [u8; 16], d: [f32; 2]) -> __m512 {
        // SAFETY: as the caller vouches.
        unsafe {
            let x = _mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            let d = _mm512_mask_mov_ps(_mm512_set1_ps(d[0]), 0xff00, _mm512_set1_ps(d[1]));
            _mm512_mul_ps(d, _mm512_cvtepi32_ps(x))
        }
    }

    #[inline(always)]
    unsafe fn signed(x: *const i8, d: f32) -> __m512 {
        // SAFETY: as the caller vouches.
        unsafe {
            let x = _mm512_cvtepi8_epi32(_mm_loadu_si128(x.cast()));
            _mm512_mul_ps(_mm512_set1_ps(d), _mm512_cvtepi32_ps(x))
        }
    }

    #[inline(always)]
    unsafe fn negated(x: __m512) -> __m512 {
        // SAFETY: as the caller vouches.
        unsafe { _mm512_xor_ps(x, _mm512_set1_ps(-0.0)) }
    }

    #[inline(always)]
    unsafe fn scaled(h: f32, x: __m512) -> __m512 {
        // SAFETY: as the caller vouches.
        unsafe { _mm512_mul_ps(_mm512_set1_ps(h), x) }
    }

    #[inline(always)]
    unsafe fn add_scaled(h: f32, x: __m512, sum: __m512) -> __m512 {
        // SAFETY: as the caller vouches.
        unsafe { _mm512_fmadd_ps(_mm512_set1_ps(h), x, sum) }
    }

    #[inline(always)]
    unsafe fn store(x: __m512, p: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { _mm512_storeu_ps(p, x) };
    }

    #[inline(always)]
    unsafe fn factors(p: [__m512; GROUP], offset: i32, unit: usize, out: *mut Factors) {
        // SAFETY: as the caller vouches.
        unsafe {
            // As integers, infinities and NaNs come out above every number.
            let mut bits = _mm512_setzero_si512();
            for p in p {
                bits = _mm512_max_epi32(bits, _mm512_castps_si512(_mm512_abs_ps(p)));
            }
            let s = _mm512_castsi512_ps(bits);
            let inv = _mm512_div_ps(_mm512_set1_ps(C_MAX), s);
            let infinite = _mm512_set1_epi32(f32::INFINITY.to_bits() as i32);
            let finite = _mm512_cmplt_epi32_mask(bits, infinite);
            let some = _mm512_mask_cmplt_epi32_mask(finite, _mm512_castps_si512(inv), infinite);
            let mut c = [_mm512_setzero_si512(); GROUP];
            for (c, p) in c.iter_mut().zip(p) {
                *c = _mm512_maskz_cvtps_epi32(some, _mm512_mul_ps(p, inv));
            }
            let f = _mm512_maskz_mul_ps(some, s, _mm512_set1_ps(1.0 / C_MAX));
            let f = _mm512_mask_mov_ps(_mm512_set1_ps(f32::NAN), finite, f);

            let mut sum = _mm512_setzero_si512();
            for c in c {
                sum = _mm512_add_epi32(sum, c);
            }
            let bias = _mm512_mullo_epi32(sum, _mm512_set1_epi32(-offset));
            let out = &mut *out;
            for (c, out) in c.as_chunks::<QUAD>().0.iter().zip(&mut out.c) {
                _mm512_storeu_si512(out[0].as_mut_ptr().add(unit).cast(), pair(c[0], c[2]));
                _mm512_storeu_si512(out[1].as_mut_ptr().add(unit).cast(), pair(c[1], c[3]));
            }
            if offset != 0 {
                _mm512_storeu_si512(out.bias.as_mut_ptr().add(unit).cast(), bias);
            }
            _mm512_storeu_ps(out.f.as_mut_ptr().add(unit), f);
        }
    }
}
