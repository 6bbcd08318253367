//! Views between plain number slices and bytes.
#![allow(
    unsafe_code,
    reason = "reinterprets slices of plain numbers, with size and alignment checked"
)]

use super::aligned::Pod;

/// The bytes of a slice of plain numbers.
pub fn as_bytes<T: Pod>(x: &[T]) -> &[u8] {
    // SAFETY: T is a plain number without padding, and u8 has no alignment needs.
    unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), size_of_val(x)) }
}

/// The bytes of a mutable slice of plain numbers; every bit pattern is a value of `T`.
pub fn as_bytes_mut<T: Pod>(x: &mut [T]) -> &mut [u8] {
    // SAFETY: as in as_bytes, and any bytes written are valid numbers.
    unsafe { std::slice::from_raw_parts_mut(x.as_mut_ptr().cast(), size_of_val(x)) }
}

/// The numbers that these bytes hold, or `None` when size or alignment does not fit.
pub fn cast<T: Pod>(x: &[u8]) -> Option<&[T]> {
    let fits = x.len().is_multiple_of(size_of::<T>()) && x.as_ptr().cast::<T>().is_aligned();
    // SAFETY: size and alignment were just checked; any bit pattern is a value of T.
    fits.then(|| unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), x.len() / size_of::<T>()) })
}

/// The numbers that these bytes hold, to write; `None` when size or alignment does not fit.
pub fn cast_mut<T: Pod>(x: &mut [u8]) -> Option<&mut [T]> {
    let fits = x.len().is_multiple_of(size_of::<T>()) && x.as_ptr().cast::<T>().is_aligned();
    // SAFETY: size and alignment were just checked; any bit pattern is a value of T.
    fits.then(|| unsafe {
        std::slice::from_raw_parts_mut(x.as_mut_ptr().cast(), x.len() / size_of::<T>())
    })
}
