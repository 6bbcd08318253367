//! One layer as the optimiser sees it: what its choices take and what they save.

use std::ops::Range;

use super::{Problem, Shares};

/// So many of a layer's neurons are hot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub n_hot: usize,
    /// Of device memory.
    pub bytes: u64,
    /// Of the layer, for one token.
    pub seconds: f64,
}

/// The choices of a layer.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// Its neurons, those that fire most first; of equals the lower id.
    pub order: Vec<u32>,
    /// By ascending number of neurons: none, 1, 2, .. groups up to the balance of the devices, all.
    pub points: Vec<Point>,
}

impl Curve {
    pub fn new(problem: &Problem<'_>, il: usize, shares: &Shares, group: usize) -> Self {
        let layer = &problem.layers[il];
        let order = order(problem, il);
        let load = |ids: &[u32]| ids.iter().map(|&id| shares.load(problem, il, id)).sum::<f64>();
        let loads: Vec<f64> = order.chunks(group).map(load).collect();
        let total: f64 = loads.iter().sum();
        let point = |n_hot, hot, cold| Point {
            n_hot,
            bytes: (n_hot as u64).saturating_mul(layer.neuron_bytes),
            seconds: problem.time(il, n_hot, hot, cold).total(),
        };
        let mut points = vec![point(0, 0.0, total)];
        let mut hot = 0.0;
        // Without the last group, with which the layer is all hot.
        for (i, load) in loads.iter().enumerate().take(loads.len().saturating_sub(1)) {
            hot += load;
            let n_hot = (i + 1) * group;
            let next = point(n_hot, hot, total - hot);
            let time = problem.time(il, n_hot, hot, total - hot);
            if time.gpu > time.cpu {
                // The GPU is the later one from here on. This may still be the better side of the
                // balance; what follows is not.
                points
                    .extend(points.last().filter(|last| next.seconds < last.seconds).map(|_| next));
                break;
            }
            points.push(next);
        }
        if layer.n_ff > 0 {
            points.push(point(layer.n_ff, total, 0.0));
        }
        Self { order, points }
    }

    /// Ids of the hot neurons of a choice, ascending.
    pub fn hot(&self, at: usize) -> Vec<u32> {
        let mut hot = self.order[..self.points[at].n_hot].to_vec();
        hot.sort_unstable();
        hot
    }

    /// The fastest choice with not more hot neurons than this.
    pub fn fastest(&self, n_hot: usize) -> usize {
        let n = self.points.partition_point(|point| point.n_hot <= n_hot);
        first_fastest(&self.points, 0..n)
    }

    /// The lower convex hull of some of the choices.
    pub fn hull(&self, range: Range<usize>) -> Hull {
        let mut hull = Hull { range: range.clone(), at: vec![range.start], gains: Vec::new() };
        for next in range.skip(1) {
            let point = self.points[next];
            // Choices that take more and save nothing are not on it.
            while let Some(&last) = hull.at.last()
                && point.seconds < self.points[last].seconds
            {
                let last = self.points[last];
                let gain = (last.seconds - point.seconds) / (point.bytes - last.bytes) as f64;
                if hull.gains.last().is_some_and(|&before| before < gain) {
                    hull.at.pop();
                    hull.gains.pop();
                    continue;
                }
                hull.at.push(next);
                hull.gains.push(gain);
                break;
            }
        }
        hull
    }
}

/// Choices between which mixtures are best, by ascending bytes and descending time.
#[derive(Clone, Debug)]
pub(super) struct Hull {
    /// The choices that it was made of; the first one is part of it.
    pub range: Range<usize>,
    /// Numbers of points.
    pub at: Vec<usize>,
    /// Seconds per byte that are saved from each to the next, not ascending.
    pub gains: Vec<f64>,
}

/// The first of the points in a range that takes the least time.
pub(super) fn first_fastest(points: &[Point], range: Range<usize>) -> usize {
    let start = range.start;
    range.fold(start, |best, i| if points[i].seconds < points[best].seconds { i } else { best })
}

/// A layer's neurons, those that fire most first.
fn order(problem: &Problem<'_>, il: usize) -> Vec<u32> {
    let layer = &problem.layers[il];
    let ids = 0..layer.n_ff as u32;
    match layer.known() {
        None => ids.collect(),
        Some(counts) => {
            // Plain numbers sort faster than ids by what they stand for.
            let keys = ids
                .map(|id| u64::from(u32::MAX - counts.counts[id as usize]) << 32 | u64::from(id));
            let mut keys: Vec<u64> = keys.collect();
            keys.sort_unstable();
            keys.into_iter().map(|key| key as u32).collect()
        }
    }
}
