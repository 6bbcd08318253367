//! Looks for points, shifts and scales of IQ1 blocks: the inverse of `iq1`.
//!
//! A number is one of three values of its group: -1, 0, 1, shifted by an eighth up or down, times a
//! scale. With the numbers sorted, the best three values are two cuts; all pairs of cuts are tried
//! with each shift and its best scale. Only then the eights that are no points move to one close by
//! (see [`points`](super::points)). The order of f32 operations is that of the format's reference.

use std::sync::LazyLock;

use super::iq1::{M_BYTES, S_BYTES};
use super::points::{Points, odd};
use super::{QK, grid};
use crate::quant::blocks::put_half;
use crate::quant::search;
use half::f16;

/// What the levels stand for, in scales, shifted up and down.
const SHIFTED: [[f32; 3]; 2] = [[-0.875, 0.125, 1.125], [-1.125, -0.125, 0.875]];
/// Numbers that share a scale and a shift in IQ1_S.
const S_GROUP: usize = 32;
/// Numbers that share a scale in IQ1_M; each half has its shift.
const M_GROUP: usize = 16;
/// Groups of smaller numbers are nothing.
const NEGLIGIBLE_S: f32 = 1e-12;
const NEGLIGIBLE_M: f32 = 1e-7;
/// The largest scale of a group.
const MAX_SCALE: i32 = 7;

static POINTS: LazyLock<Points<8, 3>> = LazyLock::new(|| Points::new(grid::iq1_levels(), 3));

/// The best three values for a group.
#[derive(Clone, Copy)]
struct Cut {
    score: f32,
    scale: f32,
    /// How many of the sorted numbers have level 0, and level 0 or 1.
    ends: (usize, usize),
    /// A bit for each eight that is shifted down.
    down: u8,
}

impl Cut {
    const NONE: Self = Self { score: -f32::MAX, scale: 0.0, ends: (0, 0), down: 0 };

    /// Takes a better one: `xl` and `ll` are its sums of w x q and w q q.
    fn offer(&mut self, xl: f32, ll: f32, ends: (usize, usize), down: u8) {
        if ll > 0.0 && xl * xl > self.score * ll {
            let scale = xl / ll;
            *self = Self { score: scale * xl, scale, ends, down };
        }
    }
}

/// A group on points. The default is that of a group without a scale.
#[derive(Clone, Copy, Default)]
struct Fitted {
    scale: f32,
    points: [u16; 4],
    down: u8,
}

/// The values of an eight.
fn values(down: u8, k: usize) -> &'static [f32; 3] {
    &SHIFTED[usize::from(down >> k & 1)]
}

/// Places of the numbers from the smallest to the largest, equals in their order.
fn sorted<const G: usize>(x: &[f32; G]) -> [usize; G] {
    let mut order: [usize; G] = std::array::from_fn(|i| i);
    // Both zeros are equal.
    order.sort_by(|a, b| (x[*a] + 0.0).total_cmp(&(x[*b] + 0.0)));
    order
}

/// All pairs of places between `n` sorted numbers.
fn ends(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..=n).flat_map(move |low| (low..=n).map(move |high| (low, high)))
}

fn cut_s(x: &[f32; S_GROUP], weights: &[f32; S_GROUP], order: &[usize; S_GROUP]) -> Cut {
    // Sums over the numbers before each place.
    let (mut sum_x, mut sum_w) = ([0.0f32; S_GROUP + 1], [0.0f32; S_GROUP + 1]);
    for (j, &i) in order.iter().enumerate() {
        sum_x[j + 1] = sum_x[j] + weights[i] * x[i];
        sum_w[j + 1] = sum_w[j] + weights[i];
    }
    let mut best = Cut::NONE;
    for (low, high) in ends(S_GROUP) {
        let parts = |sum: &[f32]| [sum[low], sum[high] - sum[low], sum[S_GROUP] - sum[high]];
        let (xs, ws) = (parts(&sum_x), parts(&sum_w));
        for (q, down) in SHIFTED.iter().zip([0, 0b1111]) {
            let xl = xs[0] * q[0] + xs[1] * q[1] + xs[2] * q[2];
            let ll = ws[0] * q[0] * q[0] + ws[1] * q[1] * q[1] + ws[2] * q[2] * q[2];
            best.offer(xl, ll, (low, high), down);
        }
    }
    best
}

fn cut_m(x: &[f32; M_GROUP], weights: &[f32; M_GROUP], order: &[usize; M_GROUP]) -> Cut {
    // Sums over the numbers of each half before each place.
    let mut sum_x = [[0.0f32; M_GROUP + 1]; 2];
    let mut sum_w = sum_x;
    for (j, &i) in order.iter().enumerate() {
        for half in 0..2 {
            let is_here = i / (M_GROUP / 2) == half;
            let (w, wx) = if is_here { (weights[i], weights[i] * x[i]) } else { (0.0, 0.0) };
            sum_x[half][j + 1] = sum_x[half][j] + wx;
            sum_w[half][j + 1] = sum_w[half][j] + w;
        }
    }
    let mut best = Cut::NONE;
    for (low, high) in ends(M_GROUP) {
        // With values that differ by one, the sums need no parts.
        let of_half = |half: usize, q: &[f32; 3]| {
            let (x, w) = (&sum_x[half], &sum_w[half]);
            let xl = x[M_GROUP] * q[2] - (x[low] + x[high]);
            let ll = w[M_GROUP] * q[2] * q[2]
                + w[low] * (q[0] * q[0] - q[1] * q[1])
                + w[high] * (q[1] * q[1] - q[2] * q[2]);
            (xl, ll)
        };
        let halves = [0, 1].map(|half| SHIFTED.map(|q| of_half(half, &q)));
        for (first, second) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let ((x0, l0), (x1, l1)) = (halves[0][first], halves[1][second]);
            best.offer(x0 + x1, l0 + l1, (low, high), (first | second << 1) as u8);
        }
    }
    best
}

/// Puts a group that is cut on points.
fn fit<const G: usize>(x: &[f32; G], weights: &[f32; G], order: &[usize; G], cut: &Cut) -> Fitted {
    let mut levels = [0u8; G];
    for (j, &i) in order.iter().enumerate() {
        levels[i] = u8::from(j >= cut.ends.0) + u8::from(j >= cut.ends.1);
    }
    let Cut { mut scale, mut down, .. } = *cut;
    if scale < 0.0 {
        (scale, down) = (-scale, !down);
        levels = levels.map(|level| 2 - level);
    }
    let mut points = [0; 4];
    let mut on_points = true;
    let (mut xl, mut ll) = (0.0f32, 0.0f32);
    let eights = x.as_chunks::<8>().0.iter().zip(weights.as_chunks::<8>().0);
    for (k, ((x, weights), levels)) in eights.zip(levels.as_chunks_mut::<8>().0).enumerate() {
        let q = values(down, k);
        on_points &= POINTS.settle(x, weights, &q.map(|q| scale * q), levels);
        points[k] = POINTS.index(levels);
        add_sums(x, weights, &levels.map(|level| q[usize::from(level)]), (&mut xl, &mut ll));
    }
    if !on_points && xl > 0.0 && ll > 0.0 {
        scale = xl / ll;
    }
    Fitted { scale, points, down }
}

/// Adds w x q and w q q of eight numbers.
fn add_sums(x: &[f32; 8], weights: &[f32; 8], q: &[f32; 8], (xl, ll): (&mut f32, &mut f32)) {
    for i in 0..8 {
        *xl += weights[i] * q[i] * x[i];
        *ll += weights[i] * q[i] * q[i];
    }
}

/// Fits a group, if there is anything in it.
fn group<const G: usize>(
    x: &[f32; G],
    weights: &[f32; G],
    negligible: f32,
    cut: impl Fn(&[f32; G], &[f32; G], &[usize; G]) -> Cut,
) -> Fitted {
    if x.iter().fold(0.0f32, |max, v| max.max(v.abs())) < negligible {
        return Fitted::default();
    }
    let order = sorted(x);
    let cut = cut(x, weights, &order);
    match cut.score == Cut::NONE.score {
        true => Fitted::default(),
        false => fit(x, weights, &order, &cut),
    }
}

/// How much the error of each number counts.
fn weights_of(x: &[f32; QK], importance: Option<&[f32; QK]>) -> [f32; QK] {
    let sigma2 = 2.0 * search::mean_square(x);
    match importance {
        Some(importance) => search::with_magnitude(x, importance, sigma2),
        None => x.map(|v| v * v),
    }
}

/// The largest scale, if any is above zero.
fn max_scale(groups: &[Fitted]) -> Option<f32> {
    let max = groups.iter().fold(0.0f32, |max, group| max.max(group.scale));
    (max > 0.0).then_some(max)
}

pub(super) fn quantize_s(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    let blocks = dst.as_chunks_mut().0.iter_mut().zip(src.as_chunks().0);
    for (i, (out, x)) in blocks.enumerate() {
        s_block(x, importance.and_then(|w| w.as_chunks().0.get(i)), out);
    }
}

fn s_block(x: &[f32; QK], importance: Option<&[f32; QK]>, out: &mut [u8; S_BYTES]) {
    out.fill(0);
    let weights = weights_of(x, importance);
    let groups: [Fitted; QK / S_GROUP] = std::array::from_fn(|i| {
        group(&x.as_chunks().0[i], &weights.as_chunks().0[i], NEGLIGIBLE_S, cut_s)
    });
    let d = max_scale(&groups).map(|max| max / 15.0);
    // A little more than fits: the reference found that to lose less, here and in IQ1_M.
    put_half(out, 0, d.map_or(0.0, |d| d * 1.125));
    for (i, group) in groups.iter().enumerate() {
        let mut h = 0;
        for (k, point) in group.points.iter().enumerate() {
            out[2 + 4 * i + k] = *point as u8;
            h |= (point >> 8) << (3 * k);
        }
        if let Some(d) = d {
            h |= u16::from(odd(1.0 / d, group.scale, MAX_SCALE)) << 12;
            h |= u16::from(group.down & 1) << 15;
        }
        out[34 + 2 * i..][..2].copy_from_slice(&h.to_le_bytes());
    }
}

pub(super) fn quantize_m(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    let blocks = dst.as_chunks_mut().0.iter_mut().zip(src.as_chunks().0);
    for (i, (out, x)) in blocks.enumerate() {
        m_block(x, importance.and_then(|w| w.as_chunks().0.get(i)), out);
    }
}

fn m_block(x: &[f32; QK], importance: Option<&[f32; QK]>, out: &mut [u8; M_BYTES]) {
    out.fill(0);
    let weights = weights_of(x, importance);
    let groups: [Fitted; QK / M_GROUP] = std::array::from_fn(|i| {
        group(&x.as_chunks().0[i], &weights.as_chunks().0[i], NEGLIGIBLE_M, cut_m)
    });
    for (i, group) in groups.iter().enumerate() {
        let [first, second, ..] = group.points;
        out[2 * i] = first as u8;
        out[2 * i + 1] = second as u8;
        out[32 + i] = (first >> 8) as u8 | ((second >> 8) as u8) << 4;
    }
    let Some(max) = max_scale(&groups) else { return };
    let mut d = max / 15.0;
    let mut scales = [0u16; 4];
    let (mut xl, mut ll) = (0.0f32, 0.0f32);
    for (i, group) in groups.iter().enumerate() {
        let scale = odd(1.0 / (max / 15.0), group.scale, MAX_SCALE);
        scales[i / 4] |= u16::from(scale) << (3 * (i % 4));
        out[32 + i] |= (group.down & 1) << 3 | (group.down >> 1 & 1) << 7;
        for k in 0..2 {
            let (x, weights) = (&x.as_chunks().0[2 * i + k], &weights.as_chunks().0[2 * i + k]);
            let q = values(group.down, k).map(|q| q * f32::from(2 * scale + 1));
            let q = POINTS.levels(group.points[k]).map(|level| q[usize::from(level)]);
            add_sums(x, weights, &q, (&mut xl, &mut ll));
        }
    }
    if ll > 0.0 {
        d = xl / ll;
    }
    let bits = f16::from_f32(d * 1.1125).to_bits();
    for (i, scales) in scales.iter().enumerate() {
        let word = scales | (bits >> (4 * i) & 15) << 12;
        out[48 + 2 * i..][..2].copy_from_slice(&word.to_le_bytes());
    }
}
