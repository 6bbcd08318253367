//! `kernels/select.cu`

use super::super::{CudaError, Dims, Kernel, Module, Stream, View};
use super::{Arg, check, dim, int};

/// Lists of neurons, one for each token.
#[derive(Clone, Copy, Debug)]
pub struct Select<'a> {
    /// f32 `[n_tokens][n]`
    pub scores: View<'a>,
    /// i32 `[n_tokens][n]`, each list at the beginning of its row, ascending.
    pub ids: View<'a>,
    /// i32 `[n_tokens]`: lengths of the lists.
    pub counts: View<'a>,
    /// Tokens.
    pub n_tokens: usize,
    /// Neurons.
    pub n: usize,
}

/// Those whose score is at least the threshold.
///
/// # Panics
/// When a view is too short.
pub fn select_above(stream: &Stream, a: &Select<'_>, threshold: f32) -> Result<(), CudaError> {
    run(stream, "select_above", a, Some(Arg::F32(threshold)))
}

/// Those whose score is at least this far from zero; NaN is far.
///
/// # Panics
/// When a view is too short.
pub fn select_beyond(stream: &Stream, a: &Select<'_>, least: f32) -> Result<(), CudaError> {
    run(stream, "select_beyond", a, Some(Arg::F32(least)))
}

/// Those whose score is not zero.
///
/// # Panics
/// When a view is too short.
pub fn select_nonzero(stream: &Stream, a: &Select<'_>) -> Result<(), CudaError> {
    run(stream, "select_nonzero", a, None)
}

fn run(
    stream: &Stream,
    name: &'static str,
    a: &Select<'_>,
    more: Option<Arg<'_>>,
) -> Result<(), CudaError> {
    let bytes = a.n_tokens.checked_mul(a.n).and_then(|n| n.checked_mul(4));
    check("scores", a.scores, bytes);
    check("lists", a.ids, bytes);
    check("lengths", a.counts, a.n_tokens.checked_mul(4));
    let mut args = vec![Arg::View(a.scores), Arg::View(a.ids), Arg::View(a.counts), int(a.n)];
    args.extend(more);
    let dims = Dims { grid: [dim(a.n_tokens), 1, 1], block: [1024, 1, 1], shared: 0 };
    // SAFETY: all three have a row for each token, as checked, and lists are not longer than rows.
    unsafe { stream.launch(Kernel { module: Module::Select, name }, dims, &args) }
}
