//! What the codecs share: walking over blocks, halves in little-endian bytes.

use half::f16;

use super::QuantType;

/// Asserts, at compile time, that the type table has this block.
pub(super) const fn assert_block(ty: QuantType, len: usize, bytes: usize) {
    let info = ty.info();
    assert!(info.block_len == len && info.block_bytes == bytes);
}

/// Calls `block` with each block of `src` and its numbers in `dst`.
pub(super) fn decode<const BYTES: usize, const LEN: usize>(
    src: &[u8],
    dst: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let blocks = src.as_chunks().0;
    for (numbers, bytes) in dst.as_chunks_mut().0.iter_mut().zip(blocks) {
        block(bytes, numbers);
    }
}

/// Calls `block` with each block's numbers in `src` and its bytes in `dst`.
pub(super) fn encode<const LEN: usize, const BYTES: usize>(
    src: &[f32],
    dst: &mut [u8],
    block: impl Fn(&[f32; LEN], &mut [u8; BYTES]),
) {
    let numbers = src.as_chunks().0;
    for (bytes, numbers) in dst.as_chunks_mut().0.iter_mut().zip(numbers) {
        block(numbers, bytes);
    }
}

/// [`encode`] with the weights of each block's numbers.
pub(super) fn encode_weighted<const LEN: usize, const BYTES: usize>(
    src: &[f32],
    weights: &[f32],
    dst: &mut [u8],
    block: impl Fn(&[f32; LEN], &[f32; LEN], &mut [u8; BYTES]),
) {
    let blocks = src.as_chunks().0.iter().zip(weights.as_chunks().0);
    for (bytes, (numbers, weights)) in dst.as_chunks_mut().0.iter_mut().zip(blocks) {
        block(numbers, weights, bytes);
    }
}

/// The half at a byte offset.
pub(super) fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Stores a number as a half at a byte offset; returns what it became.
pub(super) fn put_half(block: &mut [u8], at: usize, value: f32) -> f32 {
    let rounded = f16::from_f32(value);
    block[at..at + 2].copy_from_slice(&rounded.to_le_bytes());
    rounded.to_f32()
}

/// `1 / d`, or 0 for a block without a scale.
pub(super) fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The largest magnitude.
pub(super) fn max_abs(x: &[f32]) -> f32 {
    x.iter().fold(0.0f32, |m, v| m.max(v.abs()))
}

/// The number of the largest magnitude, with its sign; the first of equals.
pub(super) fn farthest(x: &[f32]) -> f32 {
    x.iter().fold(0.0f32, |m, v| if v.abs() > m.abs() { *v } else { m })
}

/// The smallest and the largest number, the first of equals: zeros have signs.
pub(super) fn min_max<const N: usize>(x: &[f32; N]) -> (f32, f32) {
    let min = x.iter().fold(x[0], |m, v| if *v < m { *v } else { m });
    (min, x.iter().fold(x[0], |m, v| if *v > m { *v } else { m }))
}

/// The largest number, 0 if none is above it.
pub(super) fn max_positive(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |m, v| if *v > m { *v } else { m })
}
