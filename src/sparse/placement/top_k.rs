//! PowerInfer's rule: of all layers' groups those that fire most. The optimiser starts from it, so
//! that it is never worse.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Problem;
use super::curve::Curve;

/// Neurons of a group in PowerInfer's solver.
pub(super) const GROUP: usize = 256;

/// The next group of a layer: the one that fired most goes first, of equals that of the lower layer.
struct Next {
    fired: u64,
    layer: usize,
    group: usize,
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        self.fired.cmp(&other.fired).then(other.layer.cmp(&self.layer))
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Next {}

/// How many neurons of each layer the rule makes hot. Layers without counts get none.
pub(super) fn n_hot(problem: &Problem<'_>, curves: &[Curve]) -> Vec<usize> {
    let groups = |(il, curve): (usize, &Curve)| -> Vec<u64> {
        let Some(counts) = problem.layers[il].known() else { return Vec::new() };
        let fired = |ids: &[u32]| ids.iter().map(|&id| u64::from(counts.counts[id as usize])).sum();
        curve.order.chunks(GROUP).map(fired).collect()
    };
    let groups: Vec<Vec<u64>> = curves.iter().enumerate().map(groups).collect();
    let next = |layer: usize, group: usize| {
        groups[layer].get(group).map(|&fired| Next { fired, layer, group })
    };
    let mut heap: BinaryHeap<Next> = (0..groups.len()).filter_map(|il| next(il, 0)).collect();
    let mut n_hot = vec![0; groups.len()];
    let mut left = problem.cap;
    while let Some(Next { layer: il, group, .. }) = heap.pop() {
        let layer = &problem.layers[il];
        let more = GROUP.min(layer.n_ff - n_hot[il]);
        match left.checked_sub(layer.neuron_bytes.saturating_mul(more as u64)) {
            Some(rest) => {
                left = rest;
                n_hot[il] += more;
                heap.extend(next(il, group + 1));
            }
            None => break,
        }
    }
    n_hot
}
