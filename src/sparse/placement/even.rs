//! Without counts: the same share of every layer.

use super::Problem;

/// The first neurons of each layer, in whole groups: as large a share of all as the cap allows, and
/// one group more for layers from the first on while it lasts.
pub(super) fn split(problem: &Problem<'_>, group: usize) -> Vec<Vec<u32>> {
    let bytes = |il: usize, n: usize| problem.layers[il].neuron_bytes.saturating_mul(n as u64);
    let all = (0..problem.layers.len())
        .fold(0u128, |sum, il| sum + u128::from(bytes(il, problem.layers[il].n_ff)));
    let cap = u128::from(problem.cap);
    let share = |n_ff: usize| match all <= cap {
        true => n_ff,
        // Rounded down in each layer: the sum is within the cap.
        false => (n_ff as u128 * cap / all) as usize / group * group,
    };
    let mut n_hot: Vec<usize> = problem.layers.iter().map(|layer| share(layer.n_ff)).collect();
    let used: u64 = n_hot.iter().enumerate().map(|(il, &n)| bytes(il, n)).sum();
    let mut left = problem.cap - used;
    for (il, n) in n_hot.iter_mut().enumerate() {
        let more = group.min(problem.layers[il].n_ff - *n);
        if bytes(il, more) <= left {
            left -= bytes(il, more);
            *n += more;
        }
    }
    n_hot.into_iter().map(|n| (0..n as u32).collect()).collect()
}
