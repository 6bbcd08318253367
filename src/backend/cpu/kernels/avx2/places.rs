//! Places of the elements of a vector that pass a test.

use std::arch::x86_64::*;

use crate::backend::cpu::kernels::scalar;

const LANES: usize = 8;

/// The numbers of the bits that are set in a byte, ascending, as bytes from the lowest on.
static BITS: [u64; 256] = {
    let mut bits = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut n) = (0, 0);
        while bit < LANES {
            if byte >> bit & 1 == 1 {
                bits[byte] |= (bit as u64) << (8 * n);
                n += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    bits
};

/// # Safety
/// As [`crate::backend::cpu::kernels::scalar::places::PlacesFn`] says.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn not_less(x: &[f32], than: f32, places: &mut [u32]) -> usize {
    // SAFETY: as the caller vouches.
    let (n, done) = unsafe { places_where::<_CMP_NLT_UQ>(x, than, places) };
    finish(scalar::places::not_less, &x[done..], than, (places, n, done))
}

/// # Safety
/// As [`crate::backend::cpu::kernels::scalar::places::PlacesFn`] says.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn not_equal(x: &[f32], than: f32, places: &mut [u32]) -> usize {
    // SAFETY: as the caller vouches.
    let (n, done) = unsafe { places_where::<_CMP_NEQ_UQ>(x, than, places) };
    finish(scalar::places::not_equal, &x[done..], than, (places, n, done))
}

/// All whole registers: how many were found, in how many elements.
///
/// # Safety
/// As [`crate::backend::cpu::kernels::scalar::places::PlacesFn`] says.
#[inline(always)]
unsafe fn places_where<const TEST: i32>(
    x: &[f32],
    than: f32,
    places: &mut [u32],
) -> (usize, usize) {
    let (mut n, whole) = (0, x.len() / LANES * LANES);
    // SAFETY: as the caller vouches; n <= i, so registers end before x does.
    unsafe {
        let than = _mm256_set1_ps(than);
        for i in (0..whole).step_by(LANES) {
            let passes = _mm256_cmp_ps::<TEST>(_mm256_loadu_ps(x.as_ptr().add(i)), than);
            let passes = _mm256_movemask_ps(passes) as usize & 0xff;
            let found = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(BITS[passes].cast_signed()));
            let found = _mm256_add_epi32(found, _mm256_set1_epi32(i as i32));
            _mm256_storeu_si256(places.as_mut_ptr().add(n).cast(), found);
            n += passes.count_ones() as usize;
        }
    }
    (n, whole)
}

/// The elements that do not fill a register.
fn finish(
    tail: fn(&[f32], f32, &mut [u32]) -> usize,
    x: &[f32],
    than: f32,
    (places, n, done): (&mut [u32], usize, usize),
) -> usize {
    let found = &mut places[n..];
    let n_found = tail(x, than, found);
    found[..n_found].iter_mut().for_each(|place| *place += done as u32);
    n + n_found
}
