//! The K formats: super-blocks of 256 numbers, whose groups of 16 or 32 have scales (and
//! minimums) that are small integers times a half of the super-block.
//!
//! | type | group | value of a number with code `q` |
//! |---|---|---|
//! | Q2_K | 16 | `d * scale * q - dmin * min`, all of 2 or 4 bits |
//! | Q3_K | 16 | `d * (scale - 32) * (q - 4)` |
//! | Q4_K, Q5_K | 32 | `d * scale * q - dmin * min`, scales of 6 bits |
//! | Q6_K | 16 | `d * scale * (q - 32)`, scales are signed bytes |
//!
//! The low bits of codes lie in strips: in a half of 128 numbers, byte `l` of 32 holds 2 bits
//! each of numbers `l`, `l + 32`, `l + 64` and `l + 96`, lowest bits first.

mod q2;
mod q3;
mod q45;
mod q6;

pub(super) use q2::Q2_K;
pub(super) use q3::Q3_K;
pub(super) use q6::Q6_K;
pub(super) use q45::{Q4_K, Q5_K};

use super::search::{self, nearest};

/// Numbers in a super-block.
const LEN: usize = 256;

/// The 2-bit code of number `i` in 64 bytes of strips.
fn strip(bytes: &[u8], i: usize) -> u8 {
    bytes[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3
}

/// Stores codes of 2 bits as 64 bytes of strips.
fn put_strips(code: impl Fn(usize) -> u8, bytes: &mut [u8]) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        let first = 128 * (i / 32) + i % 32;
        *byte = (0..4).fold(0, |bits, part| bits | code(first + 32 * part) << (2 * part));
    }
}

/// Codes for a group once its scale and minimum are rounded; those it has stay when the scale
/// came out as zero.
fn round_group<const N: usize>(x: &[f32; N], d: f32, min: f32, n: i32, codes: &mut [u8; N]) {
    if d != 0.0 {
        *codes = x.map(|v| nearest((v + min) / d).clamp(0, n) as u8);
    }
}

/// As [`round_group`] for codes about zero, stored with `n` added.
fn round_signed<const N: usize>(x: &[f32; N], d: f32, n: i32, codes: &mut [u8; N]) {
    if d != 0.0 {
        *codes = x.map(|v| (nearest(v / d).clamp(-n, n - 1) + n) as u8);
    }
}

/// The groups of a super-block with their codes.
fn groups<'a, const N: usize>(
    x: &'a [f32; LEN],
    codes: &'a mut [u8; LEN],
) -> impl Iterator<Item = (&'a [f32; N], &'a mut [u8; N])> {
    x.as_chunks().0.iter().zip(codes.as_chunks_mut().0)
}

/// Weights of all groups of a super-block of `x`, from the importance of its numbers.
fn group_weights<const N: usize>(
    x: &[f32; LEN],
    importance: &[f32; LEN],
    sigma2: f32,
) -> impl Iterator<Item = [f32; N]> {
    let groups = x.as_chunks::<N>().0.iter().zip(importance.as_chunks::<N>().0);
    groups.map(move |(x, importance)| search::with_magnitude(x, importance, sigma2))
}
