//! `kernels/elementwise.cu`

use super::super::{CudaError, Dims, Kernel, Module, Stream, View};
use super::{Arg, check, dim, int, number, optional, rows_bytes, wide};
use crate::tensor::Activation;

/// Blocks beyond which threads take more numbers each.
const MAX_BLOCKS: usize = 4096;

fn run(stream: &Stream, name: &'static str, n: usize, args: &[Arg<'_>]) -> Result<(), CudaError> {
    let blocks = dim(n.div_ceil(256).min(MAX_BLOCKS));
    let dims = Dims { grid: [blocks, 1, 1], block: [256, 1, 1], shared: 0 };
    // SAFETY: the functions below check that their views have `n` numbers, or as many as the kernel
    // reads; a thread touches its own number of each, so results may take the place of operands.
    unsafe { stream.launch(Kernel { module: Module::Elementwise, name }, dims, args) }
}

fn all_have(views: &[View<'_>], n: usize) {
    for view in views {
        check("numbers", *view, n.checked_mul(4));
    }
}

/// What [`activate`] works on, in f32.
#[derive(Clone, Copy, Debug)]
pub struct Activate<'a> {
    /// Rows of `width` numbers, `stride` apart.
    pub gate: View<'a>,
    /// The same.
    pub up: Option<View<'a>>,
    /// Numbers from a row of these to the next.
    pub stride: usize,
    /// Rows.
    pub n: usize,
    /// Numbers of a row.
    pub width: usize,
    /// Rows without gaps; may be an operand where that has none either.
    pub dst: View<'a>,
}

/// `dst = act(gate) * up`, or `act(gate)`.
///
/// # Panics
/// When a view is too short, and for an activation that is gated only without `up`.
pub fn activate(stream: &Stream, act: Activation, a: &Activate<'_>) -> Result<(), CudaError> {
    let Activate { gate, up, stride, n, width, dst } = *a;
    for view in [gate, up.unwrap_or(gate)] {
        check("numbers", view, rows_bytes(n, stride, width));
    }
    let n = n.saturating_mul(width);
    all_have(&[dst], n);
    if n == 0 {
        return Ok(());
    }
    assert!(up.is_some() || !act.is_gated_only(), "{act:?} is gated");
    let args = [
        Arg::View(gate),
        optional(up),
        Arg::View(dst),
        wide(n),
        number(Some(act)),
        int(width),
        int(stride),
    ];
    run(stream, "activate", n, &args)
}

/// `dst = x + y` of f32, where `y` repeats after `period` numbers (a bias, or `n`).
///
/// # Panics
/// When a view is too short, or the period 0.
pub fn add(
    stream: &Stream,
    x: View<'_>,
    y: View<'_>,
    dst: View<'_>,
    n: usize,
    period: usize,
) -> Result<(), CudaError> {
    repeated(stream, "add", x, y, dst, n, period)
}

/// `dst = x * y` of f32, where `y` repeats after `period` numbers.
///
/// # Panics
/// As [`add`].
pub fn multiply(
    stream: &Stream,
    x: View<'_>,
    y: View<'_>,
    dst: View<'_>,
    n: usize,
    period: usize,
) -> Result<(), CudaError> {
    repeated(stream, "multiply", x, y, dst, n, period)
}

fn repeated(
    stream: &Stream,
    name: &'static str,
    x: View<'_>,
    y: View<'_>,
    dst: View<'_>,
    n: usize,
    period: usize,
) -> Result<(), CudaError> {
    assert!(period > 0, "a vector of no numbers");
    all_have(&[x, dst], n);
    all_have(&[y], period.min(n));
    run(stream, name, n, &[Arg::View(x), Arg::View(y), Arg::View(dst), wide(n), wide(period)])
}

/// `dst = x * factor + offset`
///
/// # Panics
/// When a view is too short.
pub fn scale(
    stream: &Stream,
    x: View<'_>,
    dst: View<'_>,
    n: usize,
    factor: f32,
    offset: f32,
) -> Result<(), CudaError> {
    all_have(&[x, dst], n);
    let args = [Arg::View(x), Arg::View(dst), wide(n), Arg::F32(factor), Arg::F32(offset)];
    run(stream, "scale", n, &args)
}

/// `dst += factor * x`
///
/// # Panics
/// When a view is too short.
pub fn accumulate(
    stream: &Stream,
    x: View<'_>,
    dst: View<'_>,
    n: usize,
    factor: f32,
) -> Result<(), CudaError> {
    all_have(&[x, dst], n);
    run(stream, "accumulate", n, &[Arg::View(x), Arg::View(dst), wide(n), Arg::F32(factor)])
}

/// `dst = cap * tanh(x / cap)`; with `cap` 1, tanh.
///
/// # Panics
/// When a view is too short.
pub fn softcap(
    stream: &Stream,
    x: View<'_>,
    dst: View<'_>,
    n: usize,
    cap: f32,
) -> Result<(), CudaError> {
    all_have(&[x, dst], n);
    run(stream, "softcap", n, &[Arg::View(x), Arg::View(dst), wide(n), Arg::F32(cap)])
}

/// Row `i` of `dst` becomes row `ids[i]` of `src`, f32 rows of `width`; ids beyond its `n_src` rows are
/// those of the last.
///
/// # Panics
/// When a view is too short, or `src` has no rows.
pub fn gather(
    stream: &Stream,
    src: View<'_>,
    n_src: usize,
    ids: View<'_>,
    dst: View<'_>,
    n_rows: usize,
    width: usize,
) -> Result<(), CudaError> {
    let n = n_rows.saturating_mul(width);
    assert!(n_src > 0, "rows to gather from");
    all_have(&[src], n_src.saturating_mul(width));
    all_have(&[ids], n_rows);
    all_have(&[dst], n);
    let args = [Arg::View(src), Arg::View(ids), Arg::View(dst), wide(n), int(width), int(n_src)];
    run(stream, "gather", n, &args)
}
