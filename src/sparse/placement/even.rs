//! Where counts say nothing: the same share of every layer.

use super::Problem;

/// The first neurons of each layer, in whole groups: as large a share of all as the cap allows.
pub(super) fn split(problem: &Problem<'_>, group: usize) -> Vec<Vec<u32>> {
    fill(problem, vec![Vec::new(); problem.layers.len()], group)
}

/// The same with the neurons that are not hot yet: what the cap leaves over is shared out, to each
/// layer by how many they are, from the first on; then one group more for layers from the first on
/// while it lasts.
pub(super) fn fill(problem: &Problem<'_>, hot: Vec<Vec<u32>>, group: usize) -> Vec<Vec<u32>> {
    let bytes = |il: usize, n: usize| problem.layers[il].neuron_bytes * n as u64;
    let used: u64 = hot.iter().enumerate().map(|(il, hot)| bytes(il, hot.len())).sum();
    let n_cold: Vec<usize> =
        problem.layers.iter().zip(&hot).map(|(layer, hot)| layer.n_ff - hot.len()).collect();
    let all: u64 = n_cold.iter().enumerate().map(|(il, &n)| bytes(il, n)).sum();
    let mut left = problem.cap.saturating_sub(used);
    let share = |n: usize| match all <= left {
        true => n,
        // Rounded down in each layer: the sum is within what is left.
        false => (n as u128 * u128::from(left) / u128::from(all)) as usize / group * group,
    };
    let mut n_more: Vec<usize> = n_cold.iter().map(|&n| share(n)).collect();
    left -= n_more.iter().enumerate().map(|(il, &n)| bytes(il, n)).sum::<u64>();
    for (il, n) in n_more.iter_mut().enumerate() {
        let more = group.min(n_cold[il] - *n);
        if bytes(il, more) <= left {
            left -= bytes(il, more);
            *n += more;
        }
    }
    let layers = problem.layers.iter().zip(hot).zip(n_more);
    layers.map(|((layer, hot), n)| with_more(layer.n_ff, hot, n)).collect()
}

/// Ascending ids with the first `n` that are missing.
fn with_more(n_ff: usize, hot: Vec<u32>, mut n: usize) -> Vec<u32> {
    let mut is_hot = vec![false; n_ff];
    hot.iter().for_each(|&id| is_hot[id as usize] = true);
    let ids = (0..n_ff as u32).zip(is_hot);
    let taken = ids.filter(|&(_, hot)| {
        let more = !hot && n > 0;
        n -= usize::from(more);
        hot || more
    });
    taken.map(|(id, _)| id).collect()
}
