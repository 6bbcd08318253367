//! `kernels/sample.cu`

use super::super::{CudaError, Dims, Kernel, Module, Stream, View};
use super::{Arg, check, dim, int, optional};

/// Numbers that a block takes.
const CHUNK: usize = 2048;
/// Most that [`top_k`] gives.
pub const MAX_TOP_K: usize = 64;

/// The largest of each row.
#[derive(Clone, Copy, Debug)]
pub struct TopK<'a> {
    /// f32 `[n_rows][n]`
    pub x: View<'a>,
    /// Rows.
    pub n_rows: usize,
    /// Numbers of a row.
    pub n: usize,
    /// How many of each, at most [`MAX_TOP_K`]; 1 is argmax.
    pub k: usize,
    /// Two parts of scratch, each of [`top_k_scratch`] bytes.
    pub scratch: [View<'a>; 2],
    /// f32 `[n_rows][k]`, descending.
    pub values: View<'a>,
    /// i32 `[n_rows][k]`; of equal numbers the lower id first, and -1 behind the last.
    pub ids: View<'a>,
}

/// Bytes of numbers that a first pass leaves, rounded so that ids can lie behind them.
fn half_scratch(n_rows: usize, n: usize, k: usize) -> Option<usize> {
    let left = n.div_ceil(CHUNK).checked_mul(k)?.checked_mul(n_rows)?.checked_mul(4)?;
    left.checked_next_multiple_of(16)
}

/// Bytes of each of the two scratch views.
pub fn top_k_scratch(n_rows: usize, n: usize, k: usize) -> Option<usize> {
    half_scratch(n_rows, n, k)?.checked_mul(2)
}

/// The `k` largest numbers of each row with their ids. In passes: each leaves `k` of 2048.
///
/// # Panics
/// When a view is too short, or `k` is 0 or more than [`MAX_TOP_K`].
pub fn top_k(stream: &Stream, a: &TopK<'_>) -> Result<(), CudaError> {
    assert!((1..=MAX_TOP_K).contains(&a.k), "the {} largest", a.k);
    check("rows", a.x, a.n_rows.checked_mul(a.n).and_then(|n| n.checked_mul(4)));
    let results = a.n_rows.checked_mul(a.k).and_then(|n| n.checked_mul(4));
    check("values", a.values, results);
    check("ids", a.ids, results);
    for scratch in a.scratch {
        check("scratch", scratch, top_k_scratch(a.n_rows, a.n, a.k));
    }
    let (mut from, mut ids, mut n) = (a.x, None, a.n);
    for pass in 0.. {
        let chunks = n.div_ceil(CHUNK).max(1);
        let (to, to_ids) = if chunks == 1 {
            (a.values, a.ids)
        } else {
            let scratch = a.scratch[pass % 2];
            let half = half_scratch(a.n_rows, a.n, a.k).unwrap_or(0);
            (scratch.slice(0..half), scratch.from(half))
        };
        let args =
            [Arg::View(from), optional(ids), Arg::View(to), Arg::View(to_ids), int(n), int(a.k)];
        let grid = [dim(chunks), dim(a.n_rows), 1];
        let kernel = Kernel { module: Module::Sample, name: "top_k" };
        // SAFETY: rows of `n` are in `from`, and `chunks * k` of each fit where they go, as checked:
        // the first pass leaves the most. It never reads where it writes.
        unsafe { stream.launch(kernel, Dims { grid, block: [256, 1, 1], shared: 0 }, &args) }?;
        if chunks == 1 {
            break;
        }
        (from, ids, n) = (to, Some(to_ids), chunks * a.k);
    }
    Ok(())
}
