//! Q4_K: halves `d` and `dmin`, 12 bytes of scales and minimums, 128 bytes of codes.
//! Q5_K: the same with 32 bytes of fifth bits before the codes.
//!
//! Byte `32 * p + l` of the codes holds number `l` of group `2 * p` in its low half and of group
//! `2 * p + 1` in its high half; bit `g` of fifth byte `l` belongs to number `l` of group `g`.
//! Scales and minimums have 6 bits: those of groups 0 to 3 are the low bits of bytes 0 to 3 and 4
//! to 7; those of groups 4 to 7 have their low four bits in the halves of bytes 8 to 11 and their
//! high two in the top bits of bytes 0 to 3 and 4 to 7.

use super::super::blocks::{
    assert_block, decode, encode, encode_weighted, half, max_positive, put_half,
};
use super::super::search::{self, Affine, Loss, Steps, WEIGHTED_STEPS, nearest};
use super::super::{Codec, QuantType};
use super::{LEN, group_weights, groups, round_group};

const GROUP: usize = 32;
const GROUPS: usize = LEN / GROUP;
const D: usize = 0;
const DMIN: usize = 2;
const SCALES: usize = 4;
/// Codes, and fifth bits before them.
const CODES: usize = SCALES + 12;
const Q4_BYTES: usize = CODES + LEN / 2;
const Q5_BYTES: usize = CODES + LEN / 8 + LEN / 2;
const _: () = assert_block(QuantType::Q4_K, LEN, Q4_BYTES);
const _: () = assert_block(QuantType::Q5_K, LEN, Q5_BYTES);

const Q4_STEPS: Steps = Steps { from: -1.0, by: 0.1, n: 20 };
const Q5_STEPS: Steps = Steps { from: -0.5, by: 0.1, n: 15 };

pub(in super::super) const Q4_K: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; Q4_BYTES], y: &mut [f32; LEN]| {
            each_number(block, y, |g, l| nibble(&block[CODES..], g, l));
        });
    },
    quantize: Some(|src, importance, dst| match importance {
        None => encode(src, dst, |x, block: &mut [u8; Q4_BYTES]| {
            let codes = plain(x, 15, &Q4_STEPS, block);
            put_nibbles(&codes, &mut block[CODES..]);
        }),
        Some(importance) => {
            encode_weighted(src, importance, dst, |x, importance, block: &mut [u8; Q4_BYTES]| {
                let codes = weighted(x, importance, 15, block);
                put_nibbles(&codes, &mut block[CODES..]);
            });
        }
    }),
};

pub(in super::super) const Q5_K: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; Q5_BYTES], y: &mut [f32; LEN]| {
            let (fifth, codes) = block[CODES..].split_at(LEN / 8);
            each_number(block, y, |g, l| nibble(codes, g, l) | (fifth[l] >> g & 1) << 4);
        });
    },
    quantize: Some(|src, importance, dst| match importance {
        None => encode(src, dst, |x, block: &mut [u8; Q5_BYTES]| {
            let codes = plain(x, 31, &Q5_STEPS, block);
            put_five_bits(&codes, &mut block[CODES..]);
        }),
        Some(importance) => {
            encode_weighted(src, importance, dst, |x, importance, block: &mut [u8; Q5_BYTES]| {
                let codes = weighted(x, importance, 31, block);
                put_five_bits(&codes, &mut block[CODES..]);
            });
        }
    }),
};

/// Scales the codes that `code` gives for a group and a number in it.
fn each_number(block: &[u8], y: &mut [f32; LEN], code: impl Fn(usize, usize) -> u8) {
    let (d, dmin) = (half(block, D), half(block, DMIN));
    for (g, y) in y.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(&block[SCALES..CODES], g);
        let (scale, min) = (d * scale, dmin * min);
        for (l, y) in y.iter_mut().enumerate() {
            *y = scale * f32::from(code(g, l)) - min;
        }
    }
}

/// Fills in everything but the codes, which are returned: `0..=n`.
fn plain(x: &[f32; LEN], n: i32, steps: &Steps, block: &mut [u8]) -> [u8; LEN] {
    let mut codes = [0u8; LEN];
    let (mut scales, mut mins) = ([0.0; GROUPS], [0.0; GROUPS]);
    for (g, (x, codes)) in groups::<GROUP>(x, &mut codes).enumerate() {
        let mean = search::mean_square(x).sqrt();
        let weights = x.map(|v| mean + v.abs());
        let fit = search::affine(n, x, &weights, steps, Loss::Square, codes);
        (scales[g], mins[g]) = (fit.scale, fit.min);
    }
    let (max_scale, max_min) = (max_positive(&scales), max_positive(&mins));
    let levels = |values: [f32; GROUPS], max: f32| {
        let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
        values.map(|v| (nearest(inverse * v) as u8).min(63))
    };
    put_scales(&levels(scales, max_scale), &levels(mins, max_min), block);
    let d = put_half(block, D, max_scale / 63.0);
    let dmin = put_half(block, DMIN, max_min / 63.0);
    finish(x, n, d, dmin, &mut codes, block);
    codes
}

/// As [`plain`], with weights.
fn weighted(x: &[f32; LEN], importance: &[f32; LEN], n: i32, block: &mut [u8]) -> [u8; LEN] {
    let mut codes = [0u8; LEN];
    let (mut scales, mut mins, mut sums) = ([0.0; GROUPS], [0.0; GROUPS], [0.0; GROUPS]);
    let weights = group_weights::<GROUP>(x, importance, 2.0 * search::mean_square(x));
    for (g, ((x, codes), weights)) in groups::<GROUP>(x, &mut codes).zip(weights).enumerate() {
        let Affine { scale, min } =
            search::affine(n, x, &weights, &WEIGHTED_STEPS, Loss::Square, codes);
        (scales[g], mins[g], sums[g]) = (scale, min, search::sum(&weights));
    }
    let (mut scale_codes, mut min_codes) = ([0; GROUPS], [0; GROUPS]);
    let d = search::positive(63, &scales, &sums, &mut scale_codes);
    let dmin = search::positive(63, &mins, &sums, &mut min_codes);
    if n == 31 {
        // Only Q5_K's reference keeps codes that wrapped around to 6 bits.
        scale_codes = scale_codes.map(|code: u8| code.min(63));
        min_codes = min_codes.map(|code: u8| code.min(63));
    }
    put_scales(&scale_codes, &min_codes, block);
    let d = put_half(block, D, d);
    let dmin = put_half(block, DMIN, dmin);
    finish(x, n, d, dmin, &mut codes, block);
    codes
}

/// Codes for the scales as they are stored.
fn finish(x: &[f32; LEN], n: i32, d: f32, dmin: f32, codes: &mut [u8; LEN], block: &[u8]) {
    for (g, (x, codes)) in groups::<GROUP>(x, codes).enumerate() {
        let (scale, min) = scale_and_min(&block[SCALES..CODES], g);
        round_group(x, d * scale, dmin * min, n, codes);
    }
}

/// The 6-bit scale and minimum of group `g`.
fn scale_and_min(s: &[u8], g: usize) -> (f32, f32) {
    let (scale, min) = if g < 4 {
        (s[g] & 63, s[g + 4] & 63)
    } else {
        let top = |byte: u8| byte >> 6 << 4;
        (s[g + 4] & 15 | top(s[g - 4]), s[g + 4] >> 4 | top(s[g]))
    };
    (f32::from(scale), f32::from(min))
}

fn put_scales(scales: &[u8; GROUPS], mins: &[u8; GROUPS], block: &mut [u8]) {
    let s = &mut block[SCALES..CODES];
    for g in 0..4 {
        s[g] = scales[g] | scales[g + 4] >> 4 << 6;
        s[g + 4] = mins[g] | mins[g + 4] >> 4 << 6;
        s[g + 8] = scales[g + 4] & 15 | mins[g + 4] << 4;
    }
}

fn nibble(codes: &[u8], g: usize, l: usize) -> u8 {
    codes[GROUP * (g / 2) + l] >> (4 * (g % 2)) & 15
}

fn put_nibbles(codes: &[u8; LEN], bytes: &mut [u8]) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        let (pair, l) = (i / GROUP, i % GROUP);
        let first = 2 * GROUP * pair + l;
        *byte = codes[first] & 15 | codes[first + GROUP] << 4;
    }
}

fn put_five_bits(codes: &[u8; LEN], bytes: &mut [u8]) {
    let (fifth, low) = bytes.split_at_mut(LEN / 8);
    for (l, byte) in fifth.iter_mut().enumerate() {
        *byte = (0..GROUPS).fold(0, |bits, g| bits | (codes[GROUP * g + l] >> 4) << g);
    }
    put_nibbles(codes, low);
}
