//! Looks for points and scales of IQ2 blocks: the inverse of `iq2`. How is in [`points`](super::points).

use std::sync::LazyLock;

use super::iq2::{S_BYTES, XS_BYTES, XXS_BYTES};
use super::points::{Again, How, Points, largest, odd, with_even_signs, with_signs};
use super::{QK, SUB, grid};
use crate::quant::blocks::put_half;
use crate::quant::search;

/// Levels of a coordinate.
const LEVELS: usize = 3;
/// What the largest level stands for, in scales.
const TOP: f32 = (2 * LEVELS - 1) as f32;
/// Numbers that share a scale in IQ2_XXS; in the others [`SUB`] do.
const XXS_GROUP: usize = 32;
/// Groups of smaller numbers are zero in IQ2_S.
const NEGLIGIBLE_S: f32 = 1e-8;

static XXS: LazyLock<Points<8, LEVELS>> = LazyLock::new(|| Points::new(grid::iq2_xxs_levels(), 2));
static XS: LazyLock<Points<8, LEVELS>> = LazyLock::new(|| Points::new(grid::iq2_xs_levels(), 2));
static S: LazyLock<Points<8, LEVELS>> = LazyLock::new(|| Points::new(grid::iq2_s_levels(), 1));

/// Scales of IQ2_XS and IQ2_S.
const HOW: How = How { steps: 9, width: 0.1, again: Again::Off };

/// Calls `block` with each block's numbers, their importances and its bytes.
fn encode<const BYTES: usize>(
    src: &[f32],
    importance: Option<&[f32]>,
    dst: &mut [u8],
    block: impl Fn(&[f32; QK], Option<&[f32; QK]>, &mut [u8; BYTES]),
) {
    let blocks = dst.as_chunks_mut().0.iter_mut().zip(src.as_chunks().0);
    for (i, (out, x)) in blocks.enumerate() {
        block(x, importance.and_then(|w| w.as_chunks().0.get(i)), out);
    }
}

pub(super) fn quantize_xxs(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    encode(src, importance, dst, xxs_block);
}

fn xxs_block(x: &[f32; QK], importance: Option<&[f32; QK]>, out: &mut [u8; XXS_BYTES]) {
    const HOW: How = How { steps: 6, width: 0.1, again: Again::All };
    out.fill(0);
    let sigma2 = search::mean_square(x);
    let mut scales = [0.0f32; QK / XXS_GROUP];
    let mut words = [0u32; QK / XXS_GROUP];
    for (ib, x) in x.as_chunks::<XXS_GROUP>().0.iter().enumerate() {
        let importance = importance.map(|w| &w.as_chunks().0[ib]);
        let weights = weights_or(x, importance, sigma2, 0.0);
        let (magnitudes, signs) = with_even_signs(x, &weights);
        if largest(&magnitudes) < search::NEGLIGIBLE {
            continue;
        }
        let mut levels = [0; XXS_GROUP];
        let start = search::positive(LEVELS as i32 + 1, &magnitudes, &weights, &mut levels);
        let max = start * LEVELS as f32;
        if max <= 0.0 {
            continue;
        }
        levels.fill(0);
        scales[ib] = XXS.fit(&magnitudes, &weights, (start, max), &HOW, &mut levels);
        words[ib] = signs;
        if scales[ib] < 0.0 {
            scales[ib] = -scales[ib];
            words[ib] = !signs & 0x0fff_ffff;
        }
        for (k, eight) in levels.as_chunks().0.iter().enumerate() {
            out[2 + 8 * ib + k] = XXS.index(eight) as u8;
        }
    }
    let max = scales.iter().fold(0.0f32, |m, s| m.max(*s));
    if max == 0.0 {
        return out.fill(0);
    }
    let d = max / 31.0;
    put_half(out, 0, d);
    for (ib, scale) in scales.iter().enumerate() {
        let word = words[ib] | u32::from(odd(1.0 / d, *scale, 15)) << 28;
        out[6 + 8 * ib..][..4].copy_from_slice(&word.to_le_bytes());
    }
}

pub(super) fn quantize_xs(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    encode(src, importance, dst, xs_block);
}

fn xs_block(x: &[f32; QK], importance: Option<&[f32; QK]>, out: &mut [u8; XS_BYTES]) {
    out.fill(0);
    let sigma2 = search::mean_square(x);
    let mut scales = [0.0f32; QK / SUB];
    for (ib, x) in x.as_chunks::<SUB>().0.iter().enumerate() {
        let importance = importance.map(|w| &w.as_chunks().0[ib]);
        let weights = weights_or(x, importance, sigma2, 0.0);
        let (magnitudes, mut signs) = with_even_signs(x, &weights);
        let max = largest(&magnitudes);
        if max < search::NEGLIGIBLE {
            continue;
        }
        let mut levels = [0; SUB];
        let scale = XS.fit(&magnitudes, &weights, (max / TOP, max), &HOW, &mut levels);
        scales[ib] = scale.abs();
        if scale < 0.0 {
            signs = !signs;
        }
        for (k, eight) in levels.as_chunks().0.iter().enumerate() {
            let word = XS.index(eight) | ((signs >> (7 * k) & 127) as u16) << 9;
            out[2 + 4 * ib + 2 * k..][..2].copy_from_slice(&word.to_le_bytes());
        }
    }
    let max = scales.iter().fold(0.0f32, |m, s| m.max(*s));
    if max == 0.0 {
        return out.fill(0);
    }
    put_half(out, 0, max / 31.0);
    put_scales(&scales, max / 31.0, &mut out[66..]);
}

pub(super) fn quantize_s(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    encode(src, importance, dst, s_block);
}

fn s_block(x: &[f32; QK], importance: Option<&[f32; QK]>, out: &mut [u8; S_BYTES]) {
    out.fill(0);
    let sigma2 = 2.0 * search::mean_square(x);
    let mut scales = [0.0f32; QK / SUB];
    for (ib, x) in x.as_chunks::<SUB>().0.iter().enumerate() {
        let importance = importance.map(|w| &w.as_chunks().0[ib]);
        let weights = weights_or(x, importance, sigma2, 0.25 * sigma2);
        let (magnitudes, mut signs) = with_signs(x);
        let max = largest(&magnitudes);
        if max < NEGLIGIBLE_S {
            continue;
        }
        let mut levels = [0; SUB];
        let scale = S.fit(&magnitudes, &weights, (max / TOP, max), &HOW, &mut levels);
        scales[ib] = scale.abs();
        if scale < 0.0 {
            signs = !signs;
        }
        for (k, eight) in levels.as_chunks().0.iter().enumerate() {
            let (point, at) = (S.index(eight), 2 * ib + k);
            out[2 + at] = point as u8;
            out[34 + at] = (signs >> (8 * k)) as u8;
            out[66 + at / 4] |= ((point >> 8) as u8) << (2 * (at % 4));
        }
    }
    let max = scales.iter().fold(0.0f32, |m, s| m.max(*s));
    if max == 0.0 {
        return;
    }
    // A little less than fits: the reference found that to lose less.
    put_half(out, 0, max / 31.0 * 0.9875);
    put_scales(&scales, max / 31.0, &mut out[74..]);
}

/// How much the error of each number counts: `least` and its square without importances.
fn weights_or<const G: usize>(
    x: &[f32; G],
    importance: Option<&[f32; G]>,
    sigma2: f32,
    least: f32,
) -> [f32; G] {
    match importance {
        Some(importance) => search::with_magnitude(x, importance, sigma2),
        None => x.map(|v| least + v * v),
    }
}

/// Scales in units of `d`, two to a byte.
fn put_scales(scales: &[f32; QK / SUB], d: f32, out: &mut [u8]) {
    for (out, scales) in out.iter_mut().zip(scales.as_chunks::<2>().0) {
        let [low, high] = scales.map(|scale| odd(1.0 / d, scale, 15));
        *out = low | high << 4;
    }
}
