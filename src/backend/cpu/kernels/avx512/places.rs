//! Places of the elements of a vector that pass a test.

use std::arch::x86_64::*;

/// # Safety
/// As [`crate::backend::cpu::kernels::scalar::places::PlacesFn`] says.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn not_less(x: &[f32], than: f32, places: &mut [u32]) -> usize {
    // SAFETY: as the caller vouches.
    unsafe { places_where::<_CMP_NLT_UQ>(x, than, places) }
}

/// # Safety
/// As [`crate::backend::cpu::kernels::scalar::places::PlacesFn`] says.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn not_equal(x: &[f32], than: f32, places: &mut [u32]) -> usize {
    // SAFETY: as the caller vouches.
    unsafe { places_where::<_CMP_NEQ_UQ>(x, than, places) }
}

/// # Safety
/// As [`crate::backend::cpu::kernels::scalar::places::PlacesFn`] says.
#[inline(always)]
unsafe fn places_where<const TEST: i32>(x: &[f32], than: f32, places: &mut [u32]) -> usize {
    const LANES: usize = 16;
    let mut n = 0;
    // SAFETY: as the caller vouches; n <= i, so whole registers end before x does.
    unsafe {
        let than = _mm512_set1_ps(than);
        let mut place = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        for i in (0..x.len()).step_by(LANES) {
            let there = x.len() - i;
            let mask = if there < LANES { (1 << there) - 1 } else { !0 };
            let x = _mm512_maskz_loadu_ps(mask, x.as_ptr().add(i));
            let passes = _mm512_mask_cmp_ps_mask::<TEST>(mask, x, than);
            // Compressing straight to memory is several times slower on Zen 4.
            let found = _mm512_maskz_compress_epi32(passes, place);
            _mm512_mask_storeu_epi32(places.as_mut_ptr().add(n).cast(), mask, found);
            n += passes.count_ones() as usize;
            place = _mm512_add_epi32(place, _mm512_set1_epi32(LANES as i32));
        }
    }
    n
}
