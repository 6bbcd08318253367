//! The way from numbers to points of a grid: what the encoders of IQ1, IQ2 and IQ3 blocks share.
//!
//! A point has `N` levels of 0 to `LEVELS - 1`, and not every combination of levels is a point. Numbers
//! are rounded to levels one by one; where that is no point, the best of the points close to it is
//! taken. What a level stands for is the type's own affair; in IQ2 and IQ3 level `l` is `2 * l + 1`
//! times the scale of the group, which [`Points::fit`] looks for. The order of f32 operations is that
//! of the formats' reference, as in [`search`](crate::quant::search).

use crate::quant::search::nearest;

/// The points of a type and the way to them.
///
/// A few megabytes at most (IQ1's lists of neighbours), made once when a type is first needed.
pub(super) struct Points<const N: usize, const LEVELS: usize> {
    levels: Vec<[u8; N]>,
    /// By the combination of levels: the point, or where its neighbours stand.
    places: Vec<Place>,
}

enum Place {
    Point(u16),
    /// Points at the smallest distances, closest first; never empty.
    Near(Box<[u16]>),
}

/// Which scales [`Points::fit`] tries.
pub(super) struct How {
    /// Scales tried to each side.
    pub steps: i32,
    /// How far apart they are: the magnitude that the largest number becomes, in half levels.
    pub width: f32,
    /// What is rounded again with the best of them.
    pub again: Again,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    All,
    /// All, if the levels of any were no point.
    AllIfOff,
    /// Those whose levels were no point.
    Off,
}

impl<const N: usize, const LEVELS: usize> Points<N, LEVELS> {
    /// With the neighbours at so many different distances.
    pub(super) fn new(levels: Vec<[u8; N]>, n_distances: usize) -> Self {
        let mut points = vec![None; LEVELS.pow(N as u32)];
        for (i, point) in (0u16..).zip(&levels) {
            points[Self::combination(point)] = Some(i);
        }
        let place = |(i, point): (usize, &Option<u16>)| match point {
            Some(point) => Place::Point(*point),
            None => Place::Near(nearest_points(&levels, &Self::levels_of(i), n_distances)),
        };
        let places = points.iter().enumerate().map(place).collect();
        Self { levels, places }
    }

    fn combination(levels: &[u8; N]) -> usize {
        levels.iter().rev().fold(0, |all, level| all * LEVELS + usize::from(*level))
    }

    fn levels_of(combination: usize) -> [u8; N] {
        let mut rest = combination;
        std::array::from_fn(|_| {
            let level = rest % LEVELS;
            rest /= LEVELS;
            level as u8
        })
    }

    /// The levels of a point.
    pub(super) fn levels(&self, point: u16) -> &[u8; N] {
        &self.levels[usize::from(point)]
    }

    /// Moves levels to a point, if they are none: that of the least weighted error when level `l`
    /// stands for `values[l]`. Whether they were.
    pub(super) fn settle(
        &self,
        x: &[f32; N],
        weights: &[f32; N],
        values: &[f32; LEVELS],
        levels: &mut [u8; N],
    ) -> bool {
        let Place::Near(near) = &self.places[Self::combination(levels)] else { return true };
        let mut best = (f32::MAX, near[0]);
        for &point in near {
            let mut error = 0.0f32;
            for (i, level) in self.levels(point).iter().enumerate() {
                let diff = values[usize::from(*level)] - x[i];
                error += weights[i] * diff * diff;
            }
            if error < best.0 {
                best = (error, point);
            }
        }
        *levels = *self.levels(best.1);
        false
    }

    /// The point of these levels.
    pub(super) fn index(&self, levels: &[u8; N]) -> u16 {
        match &self.places[Self::combination(levels)] {
            Place::Point(point) => *point,
            Place::Near(near) => near[0],
        }
    }

    /// Levels of points for numbers about `scale * (2 * level + 1)`; returns the scale.
    ///
    /// `scale` is the one to start with. The scales tried make about `max` the largest level. Where
    /// none is any good, `levels` stay.
    pub(super) fn fit<const G: usize>(
        &self,
        x: &[f32; G],
        weights: &[f32; G],
        (mut scale, max): (f32, f32),
        how: &How,
        levels: &mut [u8; G],
    ) -> f32 {
        let roots = weights.map(f32::sqrt);
        let values = |scale: f32| std::array::from_fn(|l| scale * (2 * l + 1) as f32);
        let round = |inverse: f32| {
            x.map(|v| nearest(0.5 * (inverse * v - 1.0)).clamp(0, LEVELS as i32 - 1) as u8)
        };
        // Least squares for the levels of one scale.
        let sums = |levels: &[u8; G]| {
            let (mut xl, mut ll) = (0.0f32, 0.0f32);
            for i in 0..G {
                let (w, l) = (weights[i], f32::from(2 * levels[i] + 1));
                xl += w * x[i] * l;
                ll += w * l * l;
            }
            (xl, ll)
        };
        let parts = x.as_chunks::<N>().0.iter().zip(roots.as_chunks::<N>().0);
        // A bit for each part whose levels were no point.
        let mut off = if how.again == Again::Off { 0 } else { u32::MAX };
        let mut best = 0.0f32;
        for step in -how.steps..=how.steps {
            let inverse = ((2 * LEVELS - 1) as f32 + step as f32 * how.width) / max;
            let (mut candidate, mut candidate_off) = (round(inverse), 0);
            let values = values(1.0 / inverse);
            let all = candidate.as_chunks_mut::<N>().0.iter_mut().zip(parts.clone());
            for (k, (levels, (x, roots))) in all.enumerate() {
                candidate_off |= u32::from(!self.settle(x, roots, &values, levels)) << k;
            }
            let (xl, ll) = sums(&candidate);
            if ll > 0.0 && xl * xl > best * ll {
                scale = xl / ll;
                best = scale * xl;
                *levels = candidate;
                off = candidate_off;
            }
        }
        if scale > 0.0 && (off != 0 || how.again == Again::All) {
            let rounded = round(1.0 / scale);
            let values = values(scale);
            let all = levels.as_chunks_mut::<N>().0.iter_mut().zip(rounded.as_chunks::<N>().0);
            for (k, ((levels, rounded), (x, roots))) in all.zip(parts).enumerate() {
                if how.again != Again::Off || off >> k & 1 == 1 {
                    *levels = *rounded;
                    self.settle(x, roots, &values, levels);
                }
            }
            let (xl, ll) = sums(levels);
            if ll > 0.0 {
                scale = xl / ll;
            }
        }
        scale
    }
}

/// The points at the smallest distances from these levels, closest first.
fn nearest_points<const N: usize>(
    points: &[[u8; N]],
    levels: &[u8; N],
    n_distances: usize,
) -> Box<[u16]> {
    let distance = |point: &[u8; N]| -> u8 {
        point.iter().zip(levels).map(|(a, b)| a.abs_diff(*b).pow(2)).sum()
    };
    let distances: Vec<u8> = points.iter().map(distance).collect();
    let mut there = [false; 256];
    for distance in &distances {
        there[usize::from(*distance)] = true;
    }
    let mut smallest = (0u8..).zip(there).filter(|(_, there)| *there).map(|(distance, _)| distance);
    let mut near = Vec::new();
    for distance in smallest.by_ref().take(n_distances) {
        let at = (0u16..).zip(&distances).filter(|(_, d)| **d == distance);
        near.extend(at.map(|(point, _)| point));
    }
    near.into()
}

/// The largest number.
pub(super) fn largest<const G: usize>(x: &[f32; G]) -> f32 {
    x.iter().fold(x[0], |max, v| if *v > max { *v } else { max })
}

/// The bits of a scale in units of `d`, of which the value is odd: 0 to `max`.
pub(super) fn odd(inverse_d: f32, scale: f32, max: i32) -> u8 {
    nearest(0.5 * (inverse_d * scale - 1.0)).clamp(0, max) as u8
}

/// Magnitudes, and a bit for each negative number.
pub(super) fn with_signs<const G: usize>(x: &[f32; G]) -> ([f32; G], u32) {
    let negative = |(i, v): (usize, &f32)| u32::from(*v < 0.0) << i;
    let signs = x.iter().enumerate().map(negative).sum();
    (x.map(|v| if v < 0.0 { -v } else { v }), signs)
}

/// Magnitudes and 7 bits of signs for every 8 numbers. Where an odd number of them is negative, the
/// one whose error counts least gets the wrong sign, and its magnitude is negative.
pub(super) fn with_even_signs<const G: usize>(x: &[f32; G], weights: &[f32; G]) -> ([f32; G], u32) {
    let mut magnitudes = [0.0; G];
    let mut all = 0;
    let eights = x.as_chunks::<8>().0.iter().zip(weights.as_chunks::<8>().0);
    for (k, (x, weights)) in eights.enumerate() {
        let (mut positive, mut signs) = with_signs(x);
        if !signs.count_ones().is_multiple_of(2) {
            let cost = |i: usize| weights[i] * x[i] * x[i];
            let least = (1..8).fold(0, |least, i| if cost(i) < cost(least) { i } else { least });
            positive[least] = -positive[least];
            signs ^= 1 << least;
        }
        magnitudes[8 * k..][..8].copy_from_slice(&positive);
        all |= (signs & 127) << (7 * k);
    }
    (magnitudes, all)
}

#[cfg(test)]
mod tests {
    use super::super::grid;
    use super::*;

    /// Every combination of levels leads to a point, and no point is closer than the first of the
    /// neighbours; the lists stay small.
    #[test]
    fn neighbours_are_the_closest_points() {
        fn check<const N: usize, const LEVELS: usize>(levels: Vec<[u8; N]>, n_distances: usize) {
            let points = Points::<N, LEVELS>::new(levels.clone(), n_distances);
            let mut n_bytes = 0;
            for (i, place) in points.places.iter().enumerate().step_by(7) {
                let wanted = Points::<N, LEVELS>::levels_of(i);
                assert_eq!(Points::<N, LEVELS>::combination(&wanted), i);
                let distance = |point: &[u8; N]| -> i32 {
                    (0..N).map(|k| (i32::from(point[k]) - i32::from(wanted[k])).pow(2)).sum()
                };
                let all = levels.iter().map(distance);
                match place {
                    Place::Point(point) => assert_eq!(points.levels(*point), &wanted),
                    Place::Near(near) => {
                        let near: Vec<_> =
                            near.iter().map(|p| distance(points.levels(*p))).collect();
                        n_bytes += 2 * near.len();
                        assert!(near.is_sorted());
                        let mut different = near.clone();
                        different.dedup();
                        assert_eq!(different.len(), n_distances);
                        let last = near[near.len() - 1];
                        assert_eq!(all.filter(|d| *d <= last).count(), near.len());
                    }
                }
            }
            assert!(7 * n_bytes < 8 << 20, "{n_bytes}");
        }
        check::<8, 3>(grid::iq2_xxs_levels(), 2);
        check::<8, 3>(grid::iq2_xs_levels(), 2);
        check::<8, 3>(grid::iq2_s_levels(), 1);
        check::<8, 3>(grid::iq1_levels(), 3);
        check::<4, 8>(grid::iq3_xxs_levels(), 2);
        check::<4, 8>(grid::iq3_s_levels(), 3);
    }
}
