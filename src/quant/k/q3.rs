//! Q3_K: 32 bytes of third bits, 64 bytes of strips, 12 bytes of scales, half `d`.
//!
//! Bit `s` of third byte `l` belongs to number `32 * s + l`. Scales have 6 bits: the low four of
//! scale `g` are half a byte (`g % 8`, low half first), the high two a quarter (byte
//! `8 + g % 4`).

use super::super::blocks::{
    assert_block, decode, encode, encode_weighted, farthest, half, put_half,
};
use super::super::search::{self, nearest};
use super::super::{Codec, QuantType};
use super::{LEN, group_weights, groups, put_strips, round_signed, strip};

const GROUP: usize = 16;
const GROUPS: usize = LEN / GROUP;
const QS: usize = LEN / 8;
const SCALES: usize = QS + LEN / 4;
const D: usize = SCALES + 12;
const BYTES: usize = D + 2;
const _: () = assert_block(QuantType::Q3_K, LEN, BYTES);

pub(in super::super) const Q3_K: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; BYTES], y: &mut [f32; LEN]| {
            let d = half(block, D);
            for (g, y) in y.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
                let scale = d * scale(&block[SCALES..D], g);
                for (j, y) in y.iter_mut().enumerate() {
                    let i = GROUP * g + j;
                    let high = block[i % 32] >> (i / 32) & 1;
                    let code = strip(&block[QS..SCALES], i) | high << 2;
                    *y = scale * (f32::from(code) - 4.0);
                }
            }
        });
    },
    quantize: Some(|src, importance, dst| match importance {
        None => encode(src, dst, plain),
        Some(importance) => encode_weighted(src, importance, dst, weighted),
    }),
};

fn plain(x: &[f32; LEN], block: &mut [u8; BYTES]) {
    let mut codes = [0u8; LEN];
    let mut scales = [0.0; GROUPS];
    for ((x, codes), scale) in groups::<GROUP>(x, &mut codes).zip(&mut scales) {
        *scale = search::symmetric_by_descent(4, x, codes);
    }
    let max = farthest(&scales);
    if max == 0.0 {
        put_half(block, D, 0.0);
        block[SCALES..D].fill(0);
    } else {
        let inverse = -32.0 / max;
        put_half(block, D, 1.0 / inverse);
        let level = |scale| i32::from(nearest(inverse * scale) as i8).clamp(-32, 31) + 32;
        put_scales(&scales.map(|scale| level(scale) as u8), block);
    }
    finish(x, &mut codes, block);
}

fn weighted(x: &[f32; LEN], importance: &[f32; LEN], block: &mut [u8; BYTES]) {
    let mut codes = [0u8; LEN];
    let (mut scales, mut sums) = ([0.0; GROUPS], [0.0; GROUPS]);
    let weights = group_weights::<GROUP>(x, importance, 2.0 * search::mean_square(x));
    for (g, ((x, codes), weights)) in groups::<GROUP>(x, &mut codes).zip(weights).enumerate() {
        sums[g] = search::sum(&weights);
        scales[g] = search::symmetric(4, x, &weights, codes);
    }
    let mut scale_codes = [0; GROUPS];
    let d = search::symmetric(32, &scales, &sums, &mut scale_codes);
    put_scales(&scale_codes, block);
    put_half(block, D, d);
    finish(x, &mut codes, block);
}

/// Codes for the scales as they are stored.
fn finish(x: &[f32; LEN], codes: &mut [u8; LEN], block: &mut [u8; BYTES]) {
    let d = half(block, D);
    for (g, (x, codes)) in groups::<GROUP>(x, codes).enumerate() {
        round_signed(x, d * scale(&block[SCALES..D], g), 4, codes);
    }
    for (l, byte) in block[..QS].iter_mut().enumerate() {
        *byte = (0..8).fold(0, |bits, s| bits | (codes[32 * s + l] >> 2) << s);
    }
    put_strips(|i| codes[i] & 3, &mut block[QS..SCALES]);
}

/// Scale of group `g`, of -32 to 31.
fn scale(scales: &[u8], g: usize) -> f32 {
    let low = scales[g % 8] >> (4 * (g / 8)) & 15;
    let high = scales[8 + g % 4] >> (2 * (g / 4)) & 3;
    f32::from(low | high << 4) - 32.0
}

/// Stores the scales, 32 added to each.
fn put_scales(scales: &[u8; GROUPS], block: &mut [u8; BYTES]) {
    let (low, high) = block[SCALES..D].split_at_mut(8);
    for (g, byte) in low.iter_mut().enumerate() {
        *byte = scales[g] & 15 | scales[g + 8] << 4;
    }
    for (g, byte) in high.iter_mut().enumerate() {
        *byte = (0..4).fold(0, |bits, s| bits | (scales[g + 4 * s] >> 4) << (2 * s));
    }
}
