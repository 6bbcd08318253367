//! Float kernels in registers of 8.
#![allow(clippy::needless_range_loop, reason = "register tiles are indexed by position")]

use std::arch::x86_64::*;

use crate::backend::cpu::kernels::lanes::{Lanes, lane_kernels};

lane_kernels!(__m256, "avx2,fma,f16c", 3, 3);

/// A window of 8 that starts at `8 - n` has its first `n` lanes set.
static FIRST: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

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

/// The first `n` of 8 lanes.
///
/// # Safety
/// Needs AVX2; `n <= 8`.
#[inline(always)]
unsafe fn first(n: usize) -> __m256i {
    // SAFETY: the caller's promise: a window of 8 starts at most at 8.
    unsafe { _mm256_loadu_si256(FIRST.as_ptr().add(8 - n).cast()) }
}

/// `n` 16-bit numbers, zeros after them: AVX2 has no masked load for them.
///
/// # Safety
/// `n <= 8` numbers at `p`.
#[inline(always)]
unsafe fn load_u16_part(p: *const u16, n: usize) -> __m128i {
    let mut x = [0u16; 8];
    // SAFETY: the caller's promise.
    unsafe {
        std::ptr::copy_nonoverlapping(p.cast::<u8>(), x.as_mut_ptr().cast(), 2 * n);
        _mm_loadu_si128(x.as_ptr().cast())
    }
}

impl Lanes for __m256 {
    const N: usize = 8;
    type Wide = [__m256d; 2];

    ops! {
        fn splat(x: f32) -> Self { _mm256_set1_ps(x) }
        fn splat_f16(p: *const u8) -> Self {
            let bits = p.cast::<u16>().read_unaligned();
            _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
        }
        fn add(self, b: Self) -> Self { _mm256_add_ps(self, b) }
        fn sub(self, b: Self) -> Self { _mm256_sub_ps(self, b) }
        fn mul(self, b: Self) -> Self { _mm256_mul_ps(self, b) }
        fn div(self, b: Self) -> Self { _mm256_div_ps(self, b) }
        fn fma(self, b: Self, c: Self) -> Self { _mm256_fmadd_ps(self, b, c) }
        fn min(self, b: Self) -> Self { _mm256_min_ps(self, b) }
        fn max(self, b: Self) -> Self { _mm256_max_ps(self, b) }
        fn abs(self) -> Self { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self) }
        fn copysign(self, sign: Self) -> Self {
            let bit = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(bit, self), _mm256_and_ps(bit, sign))
        }
        fn round(self) -> Self {
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self)
        }
        fn scale_pow2(self, n: Self) -> Self {
            // Two factors: 2^n alone leaves the exponent's range at both ends. The first product
            // is exact, so the result is rounded once.
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let bias = _mm256_set1_epi32(127);
            let a = _mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias));
            let b = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias));
            _mm256_mul_ps(_mm256_mul_ps(self, _mm256_castsi256_ps(a)), _mm256_castsi256_ps(b))
        }
        fn select_lt(self, b: Self, yes: Self, no: Self) -> Self {
            _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(self, b))
        }
        fn keep(self, lo: usize, hi: usize, other: Self) -> Self {
            let kept = _mm256_andnot_si256(first(lo), first(hi));
            _mm256_blendv_ps(other, self, _mm256_castsi256_ps(kept))
        }
        fn greatest(self) -> f32 {
            let quarter = _mm_max_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
            let two = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
        fn sum(self) -> f32 {
            let quarter = _mm_add_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
            let two = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
        fn sum4([a, b, c, d]: [Self; 4]) -> [f32; 4] {
            let ab = _mm256_add_ps(
                _mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b));
            let cd = _mm256_add_ps(
                _mm256_permute2f128_ps::<0x20>(c, d), _mm256_permute2f128_ps::<0x31>(c, d));
            // [a a c c | b b d d]
            let v = _mm256_add_ps(
                _mm256_shuffle_ps::<0x44>(ab, cd), _mm256_shuffle_ps::<0xEE>(ab, cd));
            let v = _mm256_add_ps(v, _mm256_permute_ps::<0xB1>(v));
            let mut sums = [0.0; 4];
            let v = _mm_blend_ps::<0b1010>(
                _mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            _mm_storeu_ps(sums.as_mut_ptr(), v);
            sums
        }
        fn wide_zero() -> Self::Wide { [_mm256_setzero_pd(); 2] }
        fn wide_add(self, acc: Self::Wide) -> Self::Wide {
            let lo = _mm256_cvtps_pd(_mm256_castps256_ps128(self));
            let hi = _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(self));
            [_mm256_add_pd(acc[0], lo), _mm256_add_pd(acc[1], hi)]
        }
        fn wide_add_squares(self, acc: Self::Wide) -> Self::Wide {
            let lo = _mm256_cvtps_pd(_mm256_castps256_ps128(self));
            let hi = _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(self));
            [_mm256_fmadd_pd(lo, lo, acc[0]), _mm256_fmadd_pd(hi, hi, acc[1])]
        }
        fn wide_sum(acc: Self::Wide) -> f64 {
            let v = _mm256_add_pd(acc[0], acc[1]);
            let two = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd::<1>(v));
            _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
        }
        fn load(p: *const f32) -> Self { _mm256_loadu_ps(p) }
        fn load_part(p: *const f32, n: usize) -> Self { _mm256_maskload_ps(p, first(n)) }
        fn store(self, p: *mut f32) { _mm256_storeu_ps(p, self) }
        fn store_part(self, p: *mut f32, n: usize) { _mm256_maskstore_ps(p, first(n), self) }
        fn load_f16(p: *const u16) -> Self { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
        fn load_f16_part(p: *const u16, n: usize) -> Self { _mm256_cvtph_ps(load_u16_part(p, n)) }
        fn store_f16(self, p: *mut u16) {
            _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self))
        }
        fn store_f16_part(self, p: *mut u16, n: usize) {
            let mut x = [0u16; 8];
            self.store_f16(x.as_mut_ptr());
            std::ptr::copy_nonoverlapping(x.as_ptr().cast::<u8>(), p.cast(), 2 * n);
        }
        fn load_bf16(p: *const u16) -> Self {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }
        fn load_bf16_part(p: *const u16, n: usize) -> Self {
            let bits = _mm256_cvtepu16_epi32(load_u16_part(p, n));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }
        fn load_i8(p: *const i8) -> Self {
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())))
        }
        fn load_nibbles(p: *const u8) -> (Self, Self) {
            let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
            let lo = _mm256_and_si256(bytes, _mm256_set1_epi32(15));
            (_mm256_cvtepi32_ps(lo), _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(bytes)))
        }
        fn rotate_pairs(self, cos_sin: Self) -> Self {
            let swapped = _mm256_permute_ps::<0xB1>(self);
            let crossed = _mm256_mul_ps(swapped, _mm256_movehdup_ps(cos_sin));
            _mm256_fmaddsub_ps(self, _mm256_moveldup_ps(cos_sin), crossed)
        }
        fn deinterleave(a: Self, b: Self) -> (Self, Self) {
            // [a0 a2 b0 b2 | a4 a6 b4 b6], the halves of a and b still to be brought together.
            let (even, odd) = (_mm256_shuffle_ps::<0x88>(a, b), _mm256_shuffle_ps::<0xDD>(a, b));
            let ordered = |v: __m256| {
                _mm256_castpd_ps(_mm256_permute4x64_pd::<0xD8>(_mm256_castps_pd(v)))
            };
            (ordered(even), ordered(odd))
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
            let mut r = [_mm256_setzero_ps(); 8];
            for i in 0..8 {
                // An empty mask reads nothing; one loop of fixed length keeps r in registers.
                let mask = if i < n_rows { cols } else { _mm256_setzero_si256() };
                r[i] = _mm256_maskload_ps(p.wrapping_add(i * ld), mask);
            }
            // Half L of u[4 g + c] will be column 4 L + c of rows 4 g .. 4 g + 4.
            let mut u = r;
            for g in 0..2 {
                let [a, b, c, d] = [r[4 * g], r[4 * g + 1], r[4 * g + 2], r[4 * g + 3]];
                let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
                u[4 * g] = _mm256_shuffle_ps::<0x44>(ab, cd);
                u[4 * g + 1] = _mm256_shuffle_ps::<0xEE>(ab, cd);
                let (ab, cd) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
                u[4 * g + 2] = _mm256_shuffle_ps::<0x44>(ab, cd);
                u[4 * g + 3] = _mm256_shuffle_ps::<0xEE>(ab, cd);
            }
            for c in 0..8 {
                if c < n_cols {
                    let (lo, hi) = (u[c % 4], u[4 + c % 4]);
                    let t = if c < 4 {
                        _mm256_permute2f128_ps::<0x20>(lo, hi)
                    } else {
                        _mm256_permute2f128_ps::<0x31>(lo, hi)
                    };
                    _mm256_storeu_ps(out.add(c * ld_out), t);
                }
            }
        }
    }
}
