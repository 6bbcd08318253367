//! Looks for points and scales of IQ3 blocks: the inverse of `iq3`. How is in [`points`](super::points).

use std::sync::LazyLock;

use super::iq3::{S_BYTES, XXS_BYTES};
use super::points::{Again, How, Points, largest, odd, with_even_signs, with_signs};
use super::{QK, grid};
use crate::quant::blocks::put_half;
use crate::quant::search;

const GROUP: usize = 32;
/// Levels of a coordinate.
const LEVELS: usize = 8;
/// What the largest level stands for, in scales.
const TOP: f32 = (2 * LEVELS - 1) as f32;
/// Groups of smaller numbers are zero in IQ3_XXS.
const NEGLIGIBLE: f32 = 1e-8;

static XXS: LazyLock<Points<4, LEVELS>> = LazyLock::new(|| Points::new(grid::iq3_xxs_levels(), 2));
static S: LazyLock<Points<4, LEVELS>> = LazyLock::new(|| Points::new(grid::iq3_s_levels(), 3));

/// How much the error of each number counts.
fn error_weights(x: &[f32; GROUP], sigma2: f32, importance: Option<&[f32; GROUP]>) -> [f32; GROUP] {
    match importance {
        Some(importance) => search::with_magnitude(x, importance, sigma2),
        None => x.map(|v| v * v),
    }
}

pub(super) fn quantize_s(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    let mut levels = [0; GROUP];
    let blocks = dst.as_chunks_mut::<S_BYTES>().0.iter_mut().zip(src.as_chunks::<QK>().0);
    for (i, (out, x)) in blocks.enumerate() {
        let importance = importance.and_then(|w| w.as_chunks::<QK>().0.get(i));
        s_block(x, importance, &mut levels, out);
    }
}

fn s_block(
    x: &[f32; QK],
    importance: Option<&[f32; QK]>,
    levels: &mut [u8; GROUP],
    out: &mut [u8; S_BYTES],
) {
    const HOW: How = How { steps: 9, width: 0.2, again: Again::AllIfOff };
    out.fill(0);
    let sigma2 = 2.0 * search::mean_square(x);
    let mut scales = [0.0f32; QK / GROUP];
    for (ib, x) in x.as_chunks::<GROUP>().0.iter().enumerate() {
        let importance = importance.map(|w| &w.as_chunks::<GROUP>().0[ib]);
        let weights = error_weights(x, sigma2, importance);
        let (magnitudes, signs) = with_signs(x);
        if !magnitudes.iter().any(|v| *v > 0.0) {
            continue;
        }
        let max = largest(&magnitudes);
        scales[ib] = S.fit(&magnitudes, &weights, (max / TOP, max), &HOW, levels);
        for (k, four) in levels.as_chunks::<4>().0.iter().enumerate() {
            let (point, at) = (S.index(four), 8 * ib + k);
            out[2 + at] = point as u8;
            out[66 + at / 8] |= ((point >> 8) as u8) << (at % 8);
        }
        out[74 + 4 * ib..][..4].copy_from_slice(&signs.to_le_bytes());
    }
    let max = scales.iter().fold(0.0f32, |m, s| m.max(*s));
    if max == 0.0 {
        return out.fill(0);
    }
    let d = max / 31.0;
    // A little more than fits: the reference found that to lose less, here and in IQ3_XXS.
    put_half(out, 0, d * 1.033);
    for (ib, scale) in scales.iter().enumerate() {
        out[106 + ib / 2] |= odd(1.0 / d, *scale, 15) << (4 * (ib % 2));
    }
}

pub(super) fn quantize_xxs(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    let mut levels = [0; GROUP];
    let blocks = dst.as_chunks_mut::<XXS_BYTES>().0.iter_mut().zip(src.as_chunks::<QK>().0);
    for (i, (out, x)) in blocks.enumerate() {
        let importance = importance.and_then(|w| w.as_chunks::<QK>().0.get(i));
        xxs_block(x, importance, &mut levels, out);
    }
}

fn xxs_block(
    x: &[f32; QK],
    importance: Option<&[f32; QK]>,
    levels: &mut [u8; GROUP],
    out: &mut [u8; XXS_BYTES],
) {
    const HOW: How = How { steps: 15, width: 0.2, again: Again::Off };
    out.fill(0);
    let sigma2 = 2.0 * search::mean_square(x);
    let mut scales = [0.0f32; QK / GROUP];
    let mut words = [0u32; QK / GROUP];
    for (ib, x) in x.as_chunks::<GROUP>().0.iter().enumerate() {
        let importance = importance.map(|w| &w.as_chunks::<GROUP>().0[ib]);
        let weights = error_weights(x, sigma2, importance);
        let (magnitudes, signs) = with_even_signs(x, &weights);
        if !magnitudes.iter().any(|v| *v >= NEGLIGIBLE) {
            levels.fill(0);
            continue;
        }
        let max = largest(&magnitudes);
        scales[ib] = XXS.fit(&magnitudes, &weights, (max / TOP, max), &HOW, levels);
        words[ib] = signs;
        if scales[ib] < 0.0 {
            scales[ib] = -scales[ib];
            words[ib] = !signs & 0x0fff_ffff;
        }
        for (k, four) in levels.as_chunks::<4>().0.iter().enumerate() {
            out[2 + 8 * ib + k] = XXS.index(four) as u8;
        }
    }
    let max = scales.iter().fold(0.0f32, |m, s| m.max(*s));
    if max == 0.0 {
        return out.fill(0);
    }
    let d = max / 31.0;
    put_half(out, 0, d * 1.0125);
    for (ib, scale) in scales.iter().enumerate() {
        let word = words[ib] | u32::from(odd(1.0 / d, *scale, 15)) << 28;
        out[66 + 4 * ib..][..4].copy_from_slice(&word.to_le_bytes());
    }
}
