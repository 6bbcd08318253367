//! Looks for points and scales of IQ3 blocks: the inverse of `iq3`.
//!
//! A point has four levels of 0 to 7, and a level `l` stands for `2 * l + 1` times the scale of 32
//! numbers. Not every combination of levels is a point. For each scale that is tried, four levels are
//! rounded to one by one; where that is no point, the best of the points close to it is taken. The
//! order of f32 operations is that of the format's reference, as in [`search`].

use std::sync::LazyLock;

use half::f16;

use super::iq3::{S_BYTES, XXS_BYTES};
use super::{QK, grid};
use crate::quant::search::{self, nearest};

const GROUP: usize = 32;
/// Levels of a coordinate.
const LEVELS: i32 = 8;
/// Combinations of four levels.
const COMBINATIONS: usize = 1 << 12;
/// Groups of smaller numbers are zero in IQ3_XXS.
const NEGLIGIBLE: f32 = 1e-8;

/// The points of a type and the way to them.
struct Points {
    levels: Vec<[u8; 4]>,
    /// By the combination of levels: the point, or where its neighbours stand.
    places: Vec<Place>,
}

enum Place {
    Point(u16),
    /// Points at the smallest distances, closest first; never empty.
    Near(Box<[u16]>),
}

static XXS: LazyLock<Points> = LazyLock::new(|| Points::new(grid::iq3_xxs_levels(), 2));
static S: LazyLock<Points> = LazyLock::new(|| Points::new(grid::iq3_s_levels(), 3));

fn combination(levels: &[u8]) -> usize {
    levels.iter().enumerate().fold(0, |all, (i, l)| all | usize::from(*l) << (3 * i))
}

impl Points {
    /// With the neighbours at so many different distances.
    fn new(levels: Vec<[u8; 4]>, n_distances: usize) -> Self {
        let mut points = vec![None; COMBINATIONS];
        for (i, point) in (0u16..).zip(&levels) {
            points[combination(point)] = Some(i);
        }
        let place = |(i, point): (usize, &Option<u16>)| {
            if let Some(point) = point {
                return Place::Point(*point);
            }
            let distance = |point: &[u8; 4]| -> i32 {
                let diff = |k: usize| i32::from(point[k]) - (i >> (3 * k) & 7) as i32;
                (0..4).map(|k| diff(k) * diff(k)).sum()
            };
            let mut near: Vec<_> = (0u16..).zip(&levels).map(|(n, p)| (distance(p), n)).collect();
            near.sort_unstable();
            let mut distances: Vec<_> = near.iter().map(|(distance, _)| *distance).collect();
            distances.dedup();
            let farthest = distances[n_distances.min(distances.len()) - 1];
            let near = near.into_iter().take_while(|(distance, _)| *distance <= farthest);
            Place::Near(near.map(|(_, point)| point).collect())
        };
        let places = points.iter().enumerate().map(place).collect();
        Self { levels, places }
    }

    /// Moves four levels to a point, if they are none: that of the least weighted error. Whether
    /// they were.
    fn settle(&self, x: &[f32], weights: &[f32], scale: f32, levels: &mut [u8]) -> bool {
        let Place::Near(near) = &self.places[combination(levels)] else { return true };
        let mut best = (f32::MAX, near[0]);
        for &point in near {
            let mut error = 0.0f32;
            for (i, level) in self.levels[usize::from(point)].iter().enumerate() {
                let diff = scale * f32::from(2 * level + 1) - x[i];
                error += weights[i] * diff * diff;
            }
            if error < best.0 {
                best = (error, point);
            }
        }
        levels.copy_from_slice(&self.levels[usize::from(best.1)]);
        false
    }

    /// The point of four levels.
    fn index(&self, levels: &[u8]) -> u16 {
        match &self.places[combination(levels)] {
            Place::Point(point) => *point,
            Place::Near(near) => near[0],
        }
    }

    /// Levels for numbers of which the largest is `max`; returns the scale.
    fn fit(
        &self,
        x: &[f32; GROUP],
        weights: &[f32; GROUP],
        how: &How,
        levels: &mut [u8; GROUP],
    ) -> f32 {
        let max = x.iter().fold(x[0], |m, v| if *v > m { *v } else { m });
        let roots = weights.map(f32::sqrt);
        let round =
            |inverse: f32| x.map(|v| nearest(0.5 * (inverse * v - 1.0)).clamp(0, LEVELS - 1) as u8);
        // Least squares for the levels of one scale.
        let sums = |levels: &[u8; GROUP]| {
            let (mut xl, mut ll) = (0.0f32, 0.0f32);
            for i in 0..GROUP {
                let (w, l) = (weights[i], f32::from(2 * levels[i] + 1));
                xl += w * x[i] * l;
                ll += w * l * l;
            }
            (xl, ll)
        };
        let top = (2 * LEVELS - 1) as f32;
        let mut scale = max / top;
        let mut best = 0.0f32;
        let mut on_points = [how.settled; GROUP / 4];
        for step in -how.steps..=how.steps {
            let inverse = (top + step as f32 * 0.2) / max;
            let mut candidate = round(inverse);
            let mut settled = [true; GROUP / 4];
            for (k, four) in candidate.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let at = 4 * k..4 * k + 4;
                settled[k] = self.settle(&x[at.clone()], &roots[at], 1.0 / inverse, four);
            }
            let (xl, ll) = sums(&candidate);
            if ll > 0.0 && xl * xl > best * ll {
                scale = xl / ll;
                best = scale * xl;
                *levels = candidate;
                on_points = settled;
            }
        }
        if on_points.contains(&false) && scale > 0.0 {
            let rounded = round(1.0 / scale);
            for (k, four) in levels.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                if how.settled && on_points[k] {
                    continue;
                }
                let at = 4 * k..4 * k + 4;
                four.copy_from_slice(&rounded[at.clone()]);
                self.settle(&x[at.clone()], &roots[at], scale, four);
            }
            let (xl, ll) = sums(levels);
            if ll > 0.0 {
                scale = xl / ll;
            }
        }
        scale
    }
}

/// Where the two types differ.
struct How {
    /// Scales tried to each side.
    steps: i32,
    /// Levels that were points stay when the others are rounded again at the end.
    settled: bool,
}

/// How much the error of each number counts.
fn error_weights(x: &[f32; GROUP], sigma2: f32, importance: Option<&[f32; GROUP]>) -> [f32; GROUP] {
    match importance {
        Some(importance) => search::with_magnitude(x, importance, sigma2),
        None => x.map(|v| v * v),
    }
}

/// The 4 bits of a scale in units of `d`, of which the value is odd.
fn odd(inverse_d: f32, scale: f32) -> u8 {
    nearest(0.5 * (inverse_d * scale - 1.0)).clamp(0, 15) as u8
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
    out.fill(0);
    let sigma2 = 2.0 * search::mean_square(x);
    let mut scales = [0.0f32; QK / GROUP];
    for (ib, x) in x.as_chunks::<GROUP>().0.iter().enumerate() {
        let importance = importance.map(|w| &w.as_chunks::<GROUP>().0[ib]);
        let weights = error_weights(x, sigma2, importance);
        let magnitudes = x.map(|v| if v >= 0.0 { v } else { -v });
        if !magnitudes.iter().any(|v| *v > 0.0) {
            continue;
        }
        scales[ib] = S.fit(&magnitudes, &weights, &How { steps: 9, settled: false }, levels);
        for (k, four) in levels.as_chunks::<4>().0.iter().enumerate() {
            let (point, at) = (S.index(four), 8 * ib + k);
            out[2 + at] = point as u8;
            out[66 + at / 8] |= ((point >> 8) as u8) << (at % 8);
        }
        for (i, v) in x.iter().enumerate() {
            let negative = *v < 0.0;
            out[74 + 4 * ib + i / 8] |= u8::from(negative) << (i % 8);
        }
    }
    let max = scales.iter().fold(0.0f32, |m, s| m.max(*s));
    if max == 0.0 {
        return out.fill(0);
    }
    let d = max / 31.0;
    // A little more than fits: the reference found that to lose less, here and in IQ3_XXS.
    out[..2].copy_from_slice(&f16::from_f32(d * 1.033).to_le_bytes());
    for (ib, scale) in scales.iter().enumerate() {
        out[106 + ib / 2] |= odd(1.0 / d, *scale) << (4 * (ib % 2));
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
        scales[ib] = XXS.fit(&magnitudes, &weights, &How { steps: 15, settled: true }, levels);
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
    out[..2].copy_from_slice(&f16::from_f32(d * 1.0125).to_le_bytes());
    for (ib, scale) in scales.iter().enumerate() {
        let word = words[ib] | u32::from(odd(1.0 / d, *scale)) << 28;
        out[66 + 4 * ib..][..4].copy_from_slice(&word.to_le_bytes());
    }
}

/// Magnitudes and 7 bits of signs for every 8 numbers. Where an odd number of them is negative, the
/// one whose error counts least gets the wrong sign, and its magnitude is negative.
fn with_even_signs(x: &[f32; GROUP], weights: &[f32; GROUP]) -> ([f32; GROUP], u32) {
    let mut magnitudes = [0.0; GROUP];
    let mut all = 0;
    let eights = x.as_chunks::<8>().0.iter().zip(weights.as_chunks::<8>().0);
    for (k, (x, weights)) in eights.enumerate() {
        let magnitudes = &mut magnitudes[8 * k..8 * k + 8];
        let mut signs = 0u32;
        for (i, v) in x.iter().enumerate() {
            let negative = *v < 0.0;
            magnitudes[i] = if negative { -v } else { *v };
            signs |= u32::from(negative) << i;
        }
        if !signs.count_ones().is_multiple_of(2) {
            let cost = |i: usize| weights[i] * x[i] * x[i];
            let least = (1..8).fold(0, |least, i| if cost(i) < cost(least) { i } else { least });
            magnitudes[least] = -magnitudes[least];
            signs ^= 1 << least;
        }
        all |= (signs & 127) << (7 * k);
    }
    (magnitudes, all)
}
