//! Searches for the scale (and minimum) of a group of numbers that loses least.
//!
//! A group's codes are small integers. Rounding with the scale that just reaches the largest
//! number is rarely the best choice: these functions try scales around that one, fit each
//! candidate's codes by least squares, and keep the best. The order of every f32 operation
//! decides which candidate wins, so it is that of the format's reference.
//!
//! Weights say how much the error of each number counts.

use super::blocks::{farthest, max_positive, min_max};

/// Groups smaller than this in magnitude are zero.
pub(super) const NEGLIGIBLE: f32 = 1e-15;

/// The nearest integer, ties to even, for magnitudes below 2^22; some integer otherwise.
pub(super) fn nearest(value: f32) -> i32 {
    // Adding 1.5 * 2^23 leaves no bits for the fraction; the integer is in the mantissa.
    let bits = (value + 12_582_912.0).to_bits() as i32;
    (bits & 0x007f_ffff) - 0x0040_0000
}

/// Weights of numbers in a row: their importance times a magnitude that `sigma2`, a mean square,
/// keeps away from zero.
pub(super) fn with_magnitude<const N: usize>(
    x: &[f32; N],
    importance: &[f32; N],
    sigma2: f32,
) -> [f32; N] {
    std::array::from_fn(|i| importance[i] * (sigma2 + x[i] * x[i]).sqrt())
}

/// Mean of the squares, summed first to last.
pub(super) fn mean_square(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, v| sum + v * v) / x.len() as f32
}

/// Sum, first to last.
pub(super) fn sum(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, v| sum + v)
}

/// Codes `-n..n` for `x` about `scale * code`: stores `code + n`, returns the scale.
///
/// The scales tried map the number farthest from zero to between `-n - 0.9` and `-n + 0.9`.
pub(super) fn symmetric<const N: usize>(
    n: i32,
    x: &[f32; N],
    weights: &[f32; N],
    codes: &mut [u8; N],
) -> f32 {
    let far = farthest(x);
    if far.abs() < NEGLIGIBLE {
        codes.fill(0);
        return 0.0;
    }
    let code = |inverse: f32, v: f32| nearest(inverse * v).clamp(-n, n - 1);
    // Least squares for the codes of one scale: the sums of w x l and w l l.
    let fit = |inverse: f32| {
        let (mut xl, mut ll) = (0.0f32, 0.0f32);
        for (v, w) in x.iter().zip(weights) {
            let l = code(inverse, *v) as f32;
            xl += w * v * l;
            ll += w * l * l;
        }
        (xl, ll)
    };
    let mut inverse = -n as f32 / far;
    let (xl, ll) = fit(inverse);
    let mut scale = if ll != 0.0 { xl / ll } else { 0.0 };
    let mut best = scale * xl;
    for step in (-9..=9).filter(|step| *step != 0) {
        let candidate = -(n as f32 + 0.1 * step as f32) / far;
        let (xl, ll) = fit(candidate);
        if ll > 0.0 && xl * xl > best * ll {
            scale = xl / ll;
            best = scale * xl;
            inverse = candidate;
        }
    }
    for (c, v) in codes.iter_mut().zip(x) {
        *c = (n + code(inverse, *v)) as u8;
    }
    scale
}

/// As [`symmetric`], by changing single codes for as long as that helps, five rounds at most.
pub(super) fn symmetric_by_descent<const N: usize>(
    n: i32,
    x: &[f32; N],
    codes: &mut [u8; N],
) -> f32 {
    let far = farthest(x);
    if far.abs() < NEGLIGIBLE {
        codes.fill(0);
        return 0.0;
    }
    let inverse = -n as f32 / far;
    let mut levels = x.map(|v| nearest(inverse * v).clamp(-n, n - 1));
    let (mut xl, mut ll) = (0.0f32, 0.0f32);
    for (v, level) in x.iter().zip(levels) {
        let (w, l) = (v * v, level as f32);
        xl += w * v * l;
        ll += w * l * l;
    }
    for _ in 0..5 {
        let mut changed = false;
        for (v, level) in x.iter().zip(&mut levels) {
            let (w, l) = (v * v, *level as f32);
            // The sums without this number, then with another code for it.
            let mut new_xl = xl - w * v * l;
            if new_xl > 0.0 {
                let mut new_ll = ll - w * l * l;
                let new = nearest(v * new_ll / new_xl).clamp(-n, n - 1);
                if new != *level {
                    new_xl += w * v * new as f32;
                    new_ll += w * new as f32 * new as f32;
                    if new_ll > 0.0 && new_xl * new_xl * ll > xl * xl * new_ll {
                        (*level, xl, ll) = (new, new_xl, new_ll);
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    for (c, level) in codes.iter_mut().zip(levels) {
        *c = (n + level) as u8;
    }
    if ll > 0.0 { xl / ll } else { 0.0 }
}

/// Which scales [`affine`] tries: the one that reaches the largest number with code
/// `max + from`, `max + from + by`, … in `n` steps after the first.
pub(super) struct Steps {
    pub from: f32,
    pub by: f32,
    pub n: u32,
}

/// The steps of all formats when numbers are weighted.
pub(super) const WEIGHTED_STEPS: Steps = Steps { from: -0.9, by: 0.05, n: 36 };

/// What an error counts in [`affine`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    Absolute,
    Square,
}

/// A scale and an offset below or at zero, given as its magnitude.
#[derive(Clone, Copy, Default)]
pub(super) struct Affine {
    pub scale: f32,
    pub min: f32,
}

/// Codes `0..=n` for `x` about `scale * code - min`.
pub(super) fn affine<const N: usize>(
    n: i32,
    x: &[f32; N],
    weights: &[f32; N],
    steps: &Steps,
    loss: Loss,
    codes: &mut [u8; N],
) -> Affine {
    let (mut min, max) = min_max(x);
    let (mut sum_w, mut sum_x) = (0.0f32, 0.0f32);
    for (v, w) in x.iter().zip(weights) {
        sum_w += w;
        sum_x += w * v;
    }
    if min > 0.0 {
        min = 0.0;
    }
    if max <= min {
        codes.fill(0);
        return Affine { scale: 0.0, min: -min };
    }
    let error_of = |scale: f32, min: f32, codes: &[u8; N]| {
        let mut error = 0.0f32;
        for i in 0..N {
            let diff = scale * f32::from(codes[i]) + min - x[i];
            let cost = if loss == Loss::Absolute { diff.abs() } else { diff * diff };
            error += weights[i] * cost;
        }
        error
    };
    let round = |inverse: f32, min: f32| x.map(|v| nearest(inverse * (v - min)).clamp(0, n) as u8);
    let inverse = n as f32 / (max - min);
    let mut scale = 1.0 / inverse;
    *codes = round(inverse, min);
    let mut best = error_of(scale, min, codes);
    for step in 0..=steps.n {
        let inverse = (steps.from + steps.by * step as f32 + n as f32) / (max - min);
        let candidate = round(inverse, min);
        let (mut sum_l, mut sum_ll, mut sum_xl) = (0.0f32, 0.0f32, 0.0f32);
        for i in 0..N {
            let (w, l) = (weights[i], f32::from(candidate[i]));
            sum_l += w * l;
            sum_ll += w * l * l;
            sum_xl += w * l * x[i];
        }
        let det = sum_w * sum_ll - sum_l * sum_l;
        if det > 0.0 {
            let mut new_scale = (sum_w * sum_xl - sum_x * sum_l) / det;
            let mut new_min = (sum_ll * sum_x - sum_l * sum_xl) / det;
            if new_min > 0.0 {
                new_min = 0.0;
                new_scale = sum_xl / sum_ll;
            }
            let error = error_of(new_scale, new_min, &candidate);
            if error < best {
                (best, scale, min) = (error, new_scale, new_min);
                *codes = candidate;
            }
        }
    }
    Affine { scale, min: -min }
}

/// Codes `0..=n` for numbers that are not negative, about `scale * code`; returns the scale.
///
/// A number that is negative after all (the scale of a group whose weights are nearly all zero)
/// gets a code that wraps around, as in the reference.
pub(super) fn positive<const N: usize>(
    n: i32,
    x: &[f32; N],
    weights: &[f32; N],
    codes: &mut [u8; N],
) -> f32 {
    let max = max_positive(x);
    if max < NEGLIGIBLE {
        codes.fill(0);
        return 0.0;
    }
    let code = |inverse: f32, v: f32| nearest(inverse * v).min(n);
    let error_of = |inverse: f32, codes: [f32; N]| {
        let scale = 1.0 / inverse;
        let mut error = 0.0f32;
        for i in 0..N {
            let diff = x[i] - scale * codes[i];
            error += weights[i] * diff * diff;
        }
        error
    };
    let mut inverse = n as f32 / max;
    let mut best = error_of(inverse, x.map(|v| f32::from(nearest(inverse * v) as u8)));
    for step in (-4..=4).filter(|step| *step != 0) {
        let candidate = (0.1 * step as f32 + n as f32) / max;
        let error = error_of(candidate, x.map(|v| code(candidate, v) as f32));
        if error < best {
            (best, inverse) = (error, candidate);
        }
    }
    let (mut xl, mut ll) = (0.0f32, 0.0f32);
    for i in 0..N {
        let level = code(inverse, x[i]);
        let (w, l) = (weights[i], level as f32);
        xl += w * x[i] * l;
        ll += w * l * l;
        codes[i] = level as u8;
    }
    for _ in 0..5 {
        let mut changed = false;
        for i in 0..N {
            let (w, l) = (weights[i], f32::from(codes[i]));
            // The sums without this number, then with another code for it.
            let mut new_xl = xl - w * x[i] * l;
            let mut new_ll = ll - w * l * l;
            if new_xl > 0.0 && new_ll > 0.0 {
                let new = nearest(x[i] * new_ll / new_xl).min(n);
                if new != i32::from(codes[i]) {
                    new_xl += w * x[i] * new as f32;
                    new_ll += w * new as f32 * new as f32;
                    if new_xl * new_xl * ll > xl * xl * new_ll {
                        codes[i] = new as u8;
                        (xl, ll) = (new_xl, new_ll);
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    if ll > 0.0 { xl / ll } else { 0.0 }
}
