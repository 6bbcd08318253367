//! Q2_K: 16 bytes of scale (low half) and minimum (high half), 64 bytes of strips, halves `d`
//! and `dmin`.

use super::super::blocks::{
    assert_block, decode, encode, encode_weighted, half, max_positive, put_half,
};
use super::super::search::{self, Affine, Loss, Steps, WEIGHTED_STEPS, nearest};
use super::super::{Codec, QuantType};
use super::{LEN, group_weights, groups, put_strips, round_group, strip};

const GROUP: usize = 16;
const GROUPS: usize = LEN / GROUP;
const QS: usize = GROUPS;
const D: usize = QS + LEN / 4;
const DMIN: usize = D + 2;
const BYTES: usize = DMIN + 2;
const _: () = assert_block(QuantType::Q2_K, LEN, BYTES);

const STEPS: Steps = Steps { from: -0.5, by: 0.1, n: 15 };

pub(in super::super) const Q2_K: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; BYTES], y: &mut [f32; LEN]| {
            let (d, dmin) = (half(block, D), half(block, DMIN));
            for (g, y) in y.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
                let scale = d * f32::from(block[g] & 15);
                let min = dmin * f32::from(block[g] >> 4);
                for (i, y) in y.iter_mut().enumerate() {
                    *y = scale * f32::from(strip(&block[QS..D], GROUP * g + i)) - min;
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
    let (mut scales, mut mins) = ([0.0; GROUPS], [0.0; GROUPS]);
    for (g, (x, codes)) in groups::<GROUP>(x, &mut codes).enumerate() {
        let weights = x.map(f32::abs);
        let fit = search::affine(3, x, &weights, &STEPS, Loss::Absolute, codes);
        (scales[g], mins[g]) = (fit.scale, fit.min);
    }
    let (max_scale, max_min) = (max_positive(&scales), max_positive(&mins));
    let level = |value: f32, max: f32| if max > 0.0 { nearest(15.0 / max * value) } else { 0 };
    for g in 0..GROUPS {
        block[g] = level(scales[g], max_scale) as u8 | (level(mins[g], max_min) << 4) as u8;
    }
    let d = put_half(block, D, max_scale / 15.0);
    let dmin = put_half(block, DMIN, max_min / 15.0);
    finish(x, d, dmin, &mut codes, block);
}

fn weighted(x: &[f32; LEN], importance: &[f32; LEN], block: &mut [u8; BYTES]) {
    let mut codes = [0u8; LEN];
    let (mut scales, mut mins, mut sums) = ([0.0; GROUPS], [0.0; GROUPS], [0.0; GROUPS]);
    let weights = group_weights::<GROUP>(x, importance, search::mean_square(x));
    for (g, ((x, codes), weights)) in groups::<GROUP>(x, &mut codes).zip(weights).enumerate() {
        let Affine { scale, min } =
            search::affine(3, x, &weights, &WEIGHTED_STEPS, Loss::Square, codes);
        (scales[g], mins[g], sums[g]) = (scale, min, search::sum(&weights));
    }
    let (mut scale_codes, mut min_codes) = ([0; GROUPS], [0; GROUPS]);
    let d = search::positive(15, &scales, &sums, &mut scale_codes);
    let dmin = search::positive(15, &mins, &sums, &mut min_codes);
    for g in 0..GROUPS {
        block[g] = scale_codes[g] | min_codes[g] << 4;
    }
    let d = put_half(block, D, d);
    let dmin = put_half(block, DMIN, dmin);
    finish(x, d, dmin, &mut codes, block);
}

/// Codes for the scales as they are stored.
fn finish(x: &[f32; LEN], d: f32, dmin: f32, codes: &mut [u8; LEN], block: &mut [u8; BYTES]) {
    for (g, (x, codes)) in groups::<GROUP>(x, codes).enumerate() {
        let scale = d * f32::from(block[g] & 15);
        round_group(x, scale, dmin * f32::from(block[g] >> 4), 3, codes);
    }
    put_strips(|i| codes[i], &mut block[QS..D]);
}
