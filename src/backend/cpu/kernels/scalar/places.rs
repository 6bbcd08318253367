//! Places of the elements of a vector that pass a test.

/// Writes the places of elements of `x` that pass a comparison with a number to the front of
/// `places`, ascending, and gives how many they are. Up to the length of `x` anything may be written
/// behind them.
///
/// # Safety
/// The processor has the kernel's instruction set; `places` is as long as `x` or longer.
pub(crate) type PlacesFn = unsafe fn(x: &[f32], than: f32, places: &mut [u32]) -> usize;

/// Those that are not less than `than`: NaN is not.
pub(crate) fn not_less(x: &[f32], than: f32, places: &mut [u32]) -> usize {
    #[allow(clippy::neg_cmp_op_on_partial_ord, reason = "NaN passes")]
    places_where(x, places, |x| !(x < than))
}

/// Those that are not equal to `than`: NaN is not.
pub(crate) fn not_equal(x: &[f32], than: f32, places: &mut [u32]) -> usize {
    places_where(x, places, |x| x != than)
}

fn places_where(x: &[f32], places: &mut [u32], passes: impl Fn(f32) -> bool) -> usize {
    let mut n = 0;
    for (i, &x) in x.iter().enumerate() {
        places[n] = i as u32;
        n += usize::from(passes(x));
    }
    n
}
