//! Weighted sums of rows, 16 lanes in two registers.

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
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn sum_rows<F: formats::Format>(a: &SumRows<'_>) {
    // SAFETY: the caller's promise.
    unsafe { lanes::sum_rows::<Words256, F>(a) }
}

/// Lanes 0 to 7 and 8 to 15.
#[derive(Clone, Copy)]
struct Words256([__m256i; 2]);

/// Methods from an expression for each register.
macro_rules! each {
    ($(fn $name:ident($($arg:tt)*) { |$i:ident| $one:expr })*) => {$(
        #[inline(always)]
        unsafe fn $name($($arg)*) -> Self {
            // SAFETY: as the caller vouches.
            unsafe { Self([{ let $i = 0; $one }, { let $i = 1; $one }]) }
        }
    )*};
}

/// The same of lanes of f32.
macro_rules! each_f {
    ($(fn $name:ident($($arg:tt)*) { |$i:ident| $one:expr })*) => {$(
        #[inline(always)]
        unsafe fn $name($($arg)*) -> [__m256; 2] {
            // SAFETY: as the caller vouches.
            unsafe { [{ let $i = 0; $one }, { let $i = 1; $one }] }
        }
    )*};
}

/// Dwords with the low words of two.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn pair(lo: __m256i, hi: __m256i) -> __m256i {
    // SAFETY: as the caller vouches.
    unsafe { _mm256_blend_epi16::<0xaa>(lo, _mm256_slli_epi32::<16>(hi)) }
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

/// A constant count of a shift.
///
/// # Safety
/// SSE2.
#[inline(always)]
unsafe fn count(n: i32) -> __m128i {
    // SAFETY: as the caller vouches.
    unsafe { _mm_cvtsi32_si128(n) }
}

impl Words for Words256 {
    type F = [__m256; 2];
    type Order = ();

    unsafe fn order() {}

    #[inline(always)]
    unsafe fn interleave((): (), rows: Quad, at: usize) -> Self {
        // SAFETY: as the caller vouches.
        unsafe {
            let [a, b, c, d] =
                [load(rows[0], at), load(rows[1], at), load(rows[2], at), load(rows[3], at)];
            let (ab, cd) = (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
            let lo = _mm256_set_m128i(_mm_unpackhi_epi16(ab, cd), _mm_unpacklo_epi16(ab, cd));
            let (ab, cd) = (_mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d));
            let hi = _mm256_set_m128i(_mm_unpackhi_epi16(ab, cd), _mm_unpacklo_epi16(ab, cd));
            Self([lo, hi])
        }
    }

    each! {
        fn splat(x: i32) { |_i| _mm256_set1_epi32(x) }
        fn broadcast(p: *const i32) { |_i| _mm256_set1_epi32(*p) }
        fn and(self, b: Self) { |i| _mm256_and_si256(self.0[i], b.0[i]) }
        fn or(self, b: Self) { |i| _mm256_or_si256(self.0[i], b.0[i]) }
        fn shl(self, n: i32) { |i| _mm256_sll_epi16(self.0[i], count(n)) }
        fn shr(self, n: i32) { |i| _mm256_srl_epi16(self.0[i], count(n)) }
        fn sar(self, n: i32) { |i| _mm256_sra_epi16(self.0[i], count(n)) }
        fn look_up(self, table: &[i8; 16]) { |i| {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            _mm256_shuffle_epi8(table, self.0[i])
        } }
        fn with_bits(self, words: [u32; QUAD], at: usize, value: i8) { |i| {
            let words = _mm_loadu_si128(words.as_ptr().cast());
            let words = _mm256_broadcastsi128_si256(words);
            // The byte that has this register's bits, of each row's word in every lane.
            let place = _mm256_set1_epi32(0x0c08_0400 + 0x0101_0101 * (at as i32 / 8 + i as i32));
            let bytes = _mm256_shuffle_epi8(words, place);
            let bits = _mm256_sllv_epi32(
                _mm256_set1_epi32(0x0101_0101),
                _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
            );
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bits), bits);
            _mm256_or_si256(self.0[i], _mm256_and_si256(set, _mm256_set1_epi8(value)))
        } }
        fn dot(self, b: Self) { |i| _mm256_madd_epi16(self.0[i], b.0[i]) }
        fn add(self, b: Self) { |i| _mm256_add_epi32(self.0[i], b.0[i]) }
    }

    #[inline(always)]
    unsafe fn add_to(self, f: *const f32, min: Option<*const f32>, y: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe {
            for (i, sum) in self.0.into_iter().enumerate() {
                let y = y.add(8 * i);
                let sum = _mm256_cvtepi32_ps(sum);
                let mut sum = _mm256_fmadd_ps(sum, _mm256_set1_ps(*f), _mm256_loadu_ps(y));
                if let Some(min) = min {
                    sum = _mm256_add_ps(sum, _mm256_set1_ps(*min));
                }
                _mm256_storeu_ps(y, sum);
            }
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
    unsafe fn halves(p: *const u8, stride: usize, n: usize) -> [__m256; 2] {
        // SAFETY: as the caller vouches.
        unsafe {
            let mut halves = [0u16; 16];
            for (i, half) in halves.iter_mut().enumerate() {
                let i = if n == 16 { i } else { i.min(n - 1) };
                *half = p.wrapping_add(i * stride).cast::<u16>().read_unaligned();
            }
            let halves = halves.as_ptr().cast::<__m128i>();
            [
                _mm256_cvtph_ps(_mm_loadu_si128(halves)),
                _mm256_cvtph_ps(_mm_loadu_si128(halves.add(1))),
            ]
        }
    }

    each_f! {
        fn unsigned(x: [u8; 16], d: [f32; 2]) { |i| {
            let x = _mm256_cvtepu8_epi32(_mm_loadl_epi64(x.as_ptr().add(8 * i).cast()));
            _mm256_mul_ps(_mm256_set1_ps(d[i]), _mm256_cvtepi32_ps(x))
        } }
        fn signed(x: *const i8, d: f32) { |i| {
            let x = _mm256_cvtepi8_epi32(_mm_loadl_epi64(x.add(8 * i).cast()));
            _mm256_mul_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(x))
        } }
        fn negated(x: [__m256; 2]) { |i| _mm256_xor_ps(x[i], _mm256_set1_ps(-0.0)) }
        fn scaled(h: f32, x: [__m256; 2]) { |i| _mm256_mul_ps(_mm256_set1_ps(h), x[i]) }
        fn add_scaled(h: f32, x: [__m256; 2], sum: [__m256; 2]) { |i|
            _mm256_fmadd_ps(_mm256_set1_ps(h), x[i], sum[i])
        }
    }

    #[inline(always)]
    unsafe fn store(x: [__m256; 2], p: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe {
            _mm256_storeu_ps(p, x[0]);
            _mm256_storeu_ps(p.add(8), x[1]);
        }
    }

    #[inline(always)]
    unsafe fn factors(p: [[__m256; 2]; GROUP], offset: i32, unit: usize, out: *mut Factors) {
        for i in 0..2 {
            // SAFETY: as the caller vouches.
            unsafe {
                let mut half = [_mm256_setzero_ps(); GROUP];
                for (half, p) in half.iter_mut().zip(p) {
                    *half = p[i];
                }
                factors8(half, offset, unit + 8 * i, &mut *out);
            }
        }
    }
}

/// The factors of 8 units.
///
/// # Safety
/// AVX2; room for 8 at `unit`.
#[inline(always)]
unsafe fn factors8(p: [__m256; GROUP], offset: i32, unit: usize, out: &mut Factors) {
    // SAFETY: as the caller vouches.
    unsafe {
        // As integers, infinities and NaNs come out above every number.
        let mut bits = _mm256_setzero_si256();
        for p in p {
            let p = _mm256_andnot_ps(_mm256_set1_ps(-0.0), p);
            bits = _mm256_max_epi32(bits, _mm256_castps_si256(p));
        }
        let s = _mm256_castsi256_ps(bits);
        let inv = _mm256_div_ps(_mm256_set1_ps(C_MAX), s);
        let infinite = _mm256_set1_epi32(f32::INFINITY.to_bits() as i32);
        let finite = _mm256_cmpgt_epi32(infinite, bits);
        let some = _mm256_cmpgt_epi32(infinite, _mm256_castps_si256(inv));
        let some = _mm256_and_si256(finite, some);
        let mut c = [_mm256_setzero_si256(); GROUP];
        for (c, p) in c.iter_mut().zip(p) {
            *c = _mm256_and_si256(some, _mm256_cvtps_epi32(_mm256_mul_ps(p, inv)));
        }
        let f = _mm256_mul_ps(s, _mm256_set1_ps(1.0 / C_MAX));
        let f = _mm256_and_ps(f, _mm256_castsi256_ps(some));
        let f = _mm256_blendv_ps(_mm256_set1_ps(f32::NAN), f, _mm256_castsi256_ps(finite));

        let mut sum = _mm256_setzero_si256();
        for c in c {
            sum = _mm256_add_epi32(sum, c);
        }
        let bias = _mm256_mullo_epi32(sum, _mm256_set1_epi32(-offset));
        for (c, out) in c.as_chunks::<QUAD>().0.iter().zip(&mut out.c) {
            _mm256_storeu_si256(out[0].as_mut_ptr().add(unit).cast(), pair(c[0], c[2]));
            _mm256_storeu_si256(out[1].as_mut_ptr().add(unit).cast(), pair(c[1], c[3]));
        }
        if offset != 0 {
            _mm256_storeu_si256(out.bias.as_mut_ptr().add(unit).cast(), bias);
        }
        _mm256_storeu_ps(out.f.as_mut_ptr().add(unit), f);
    }
}
