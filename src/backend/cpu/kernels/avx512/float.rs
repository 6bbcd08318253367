//! Float kernels in registers of 16.
#![allow(clippy::needless_range_loop, reason = "register tiles are indexed by position")]

use std::arch::x86_64::*;

use crate::backend::cpu::kernels::lanes::{Lanes, lane_kernels};

lane_kernels!(__m512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c", 6, 6);

/// The first `n` of 16 lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

/// Methods of [`Lanes`] from expressions.
macro_rules! ops {
    ($(fn $name:ident($($arg:tt)*) $(-> $ret:ty)? { $($body:tt)* })*) => {$(
        #[inline(always)]
        unsafe fn $name($($arg)*) $(-> $ret)? {
            // SAFETY: the caller has the instruction set and valid pointers.
            unsafe { $($body)* }
        }
    )*};
}

impl Lanes for __m512 {
    const N: usize = 16;
    type Wide = [__m512d; 2];

    ops! {
        fn splat(x: f32) -> Self { _mm512_set1_ps(x) }
        fn splat_f16(p: *const u8) -> Self {
            let bits = p.cast::<u16>().read_unaligned();
            _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
        }
        fn add(self, b: Self) -> Self { _mm512_add_ps(self, b) }
        fn sub(self, b: Self) -> Self { _mm512_sub_ps(self, b) }
        fn mul(self, b: Self) -> Self { _mm512_mul_ps(self, b) }
        fn div(self, b: Self) -> Self { _mm512_div_ps(self, b) }
        fn fma(self, b: Self, c: Self) -> Self { _mm512_fmadd_ps(self, b, c) }
        fn min(self, b: Self) -> Self { _mm512_min_ps(self, b) }
        fn max(self, b: Self) -> Self { _mm512_max_ps(self, b) }
        fn abs(self) -> Self { _mm512_abs_ps(self) }
        fn copysign(self, sign: Self) -> Self {
            let bit = _mm512_set1_ps(-0.0);
            _mm512_or_ps(_mm512_andnot_ps(bit, self), _mm512_and_ps(bit, sign))
        }
        fn round(self) -> Self {
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self)
        }
        fn scale_pow2(self, n: Self) -> Self { _mm512_scalef_ps(self, n) }
        fn select_lt(self, b: Self, yes: Self, no: Self) -> Self {
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self, b), no, yes)
        }
        fn keep(self, lo: usize, hi: usize, other: Self) -> Self {
            _mm512_mask_blend_ps(first(hi) & !first(lo), other, self)
        }
        fn greatest(self) -> f32 {
            let half = _mm256_max_ps(_mm512_castps512_ps256(self), _mm512_extractf32x8_ps::<1>(self));
            let quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
            let two = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
        fn sum(self) -> f32 {
            let half = _mm256_add_ps(_mm512_castps512_ps256(self), _mm512_extractf32x8_ps::<1>(self));
            let quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
            let two = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
        fn sum4([a, b, c, d]: [Self; 4]) -> [f32; 4] {
            // Lanes of 4: [a0 a1 b0 b1] + [a2 a3 b2 b3], the same of c and d, then their halves.
            let ab = _mm512_add_ps(
                _mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xEE>(a, b));
            let cd = _mm512_add_ps(
                _mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xEE>(c, d));
            let v = _mm512_add_ps(
                _mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xDD>(ab, cd));
            let v = _mm512_add_ps(v, _mm512_permute_ps::<0x4E>(v));
            let v = _mm512_add_ps(v, _mm512_permute_ps::<0xB1>(v));
            let mut sums = [0.0; 4];
            let v = _mm512_maskz_compress_ps(0x1111, v);
            _mm_storeu_ps(sums.as_mut_ptr(), _mm512_castps512_ps128(v));
            sums
        }
        fn wide_zero() -> Self::Wide { [_mm512_setzero_pd(); 2] }
        fn wide_add(self, acc: Self::Wide) -> Self::Wide {
            let lo = _mm512_cvtps_pd(_mm512_castps512_ps256(self));
            let hi = _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(self));
            [_mm512_add_pd(acc[0], lo), _mm512_add_pd(acc[1], hi)]
        }
        fn wide_add_squares(self, acc: Self::Wide) -> Self::Wide {
            let lo = _mm512_cvtps_pd(_mm512_castps512_ps256(self));
            let hi = _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(self));
            [_mm512_fmadd_pd(lo, lo, acc[0]), _mm512_fmadd_pd(hi, hi, acc[1])]
        }
        fn wide_sum(acc: Self::Wide) -> f64 {
            let v = _mm512_add_pd(acc[0], acc[1]);
            let half = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd::<1>(v));
            let two = _mm_add_pd(_mm256_castpd256_pd128(half), _mm256_extractf128_pd::<1>(half));
            _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
        }
        fn load(p: *const f32) -> Self { _mm512_loadu_ps(p) }
        fn load_part(p: *const f32, n: usize) -> Self { _mm512_maskz_loadu_ps(first(n), p) }
        fn store(self, p: *mut f32) { _mm512_storeu_ps(p, self) }
        fn store_part(self, p: *mut f32, n: usize) { _mm512_mask_storeu_ps(p, first(n), self) }
        fn load_f16(p: *const u16) -> Self { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
        fn load_f16_part(p: *const u16, n: usize) -> Self {
            _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p.cast()))
        }
        fn store_f16(self, p: *mut u16) {
            _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_NO_EXC>(self))
        }
        fn store_f16_part(self, p: *mut u16, n: usize) {
            _mm256_mask_storeu_epi16(p.cast(), first(n), _mm512_cvtps_ph::<_MM_FROUND_NO_EXC>(self))
        }
        fn load_bf16(p: *const u16) -> Self {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
        fn load_bf16_part(p: *const u16, n: usize) -> Self {
            let bits = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(n), p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
        fn load_i8(p: *const i8) -> Self {
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())))
        }
        fn load_nibbles(p: *const u8) -> (Self, Self) {
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            let lo = _mm512_and_si512(bytes, _mm512_set1_epi32(15));
            (_mm512_cvtepi32_ps(lo), _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(bytes)))
        }
        fn rotate_pairs(self, cos_sin: Self) -> Self {
            let swapped = _mm512_permute_ps::<0xB1>(self);
            let crossed = _mm512_mul_ps(swapped, _mm512_movehdup_ps(cos_sin));
            _mm512_fmaddsub_ps(self, _mm512_moveldup_ps(cos_sin), crossed)
        }
        fn deinterleave(a: Self, b: Self) -> (Self, Self) {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            (_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b))
        }
        fn transpose(
            p: *const f32,
            ld: usize,
            n_rows: usize,
            n_cols: usize,
            out: *mut f32,
            ld_out: usize
        ) {
            let cols = first(n_cols);
            let mut r = [_mm512_setzero_ps(); 16];
            for i in 0..16 {
                // An empty mask reads nothing; one loop of fixed length keeps r in registers.
                let mask = if i < n_rows { cols } else { 0 };
                r[i] = _mm512_maskz_loadu_ps(mask, p.wrapping_add(i * ld));
            }
            // Lane L of u[4 g + c] will be column 4 L + c of rows 4 g .. 4 g + 4.
            let mut u = r;
            for g in 0..4 {
                let [a, b, c, d] = [r[4 * g], r[4 * g + 1], r[4 * g + 2], r[4 * g + 3]];
                let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
                u[4 * g] = _mm512_shuffle_ps::<0x44>(ab, cd);
                u[4 * g + 1] = _mm512_shuffle_ps::<0xEE>(ab, cd);
                let (ab, cd) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
                u[4 * g + 2] = _mm512_shuffle_ps::<0x44>(ab, cd);
                u[4 * g + 3] = _mm512_shuffle_ps::<0xEE>(ab, cd);
            }
            let mut t = r;
            for c in 0..4 {
                let (lo, hi) = (
                    _mm512_shuffle_f32x4::<0x88>(u[c], u[4 + c]),
                    _mm512_shuffle_f32x4::<0x88>(u[8 + c], u[12 + c]),
                );
                t[c] = _mm512_shuffle_f32x4::<0x88>(lo, hi);
                t[8 + c] = _mm512_shuffle_f32x4::<0xDD>(lo, hi);
                let (lo, hi) = (
                    _mm512_shuffle_f32x4::<0xDD>(u[c], u[4 + c]),
                    _mm512_shuffle_f32x4::<0xDD>(u[8 + c], u[12 + c]),
                );
                t[4 + c] = _mm512_shuffle_f32x4::<0x88>(lo, hi);
                t[12 + c] = _mm512_shuffle_f32x4::<0xDD>(lo, hi);
            }
            for c in 0..16 {
                if c < n_cols {
                    _mm512_storeu_ps(out.add(c * ld_out), t[c]);
                }
            }
        }
    }
}
