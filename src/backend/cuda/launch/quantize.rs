//! `kernels/quantize.cu`

use super::super::{Arg, CudaError, Dims, Kernel, Module, Stream, View};
use super::{check, dim, int, rows_bytes};

const THREADS: usize = 256;
/// A thread rounds 4 numbers.
const PER_THREAD: usize = 4;
const BLOCK: usize = 32;

/// Rounds `n` floats, rows of whole blocks of 32, to `codes` (as many signed bytes) and `scales`:
/// for each block the pair of floats `{d, d * sum of its codes}`. The same bits as the CPU's
/// `quantize_q8`.
///
/// # Panics
/// When `n` is not a multiple of 32, or a view is too short.
pub fn quantize_q8(
    stream: &Stream,
    x: View<'_>,
    codes: View<'_>,
    scales: View<'_>,
    n: usize,
) -> Result<(), CudaError> {
    assert!(n.is_multiple_of(BLOCK), "{n} numbers in blocks of {BLOCK}");
    let n_blocks = n / BLOCK;
    check("numbers to quantise", x, rows_bytes(1, n, n));
    check("codes", codes, Some(n));
    check("scales", scales, Some(n_blocks * 2 * size_of::<f32>()));
    let dims = Dims {
        grid: [dim((n / PER_THREAD).div_ceil(THREADS)), 1, 1],
        block: [THREADS as u32, 1, 1],
        shared: 0,
    };
    let args = [Arg::View(x), Arg::View(codes), Arg::View(scales), int(n_blocks)];
    let kernel = Kernel { module: Module::Quantize, name: "quantize_q8" };
    // SAFETY: blocks past the last are left out, and the views hold the others.
    unsafe { stream.launch(kernel, dims, &args) }
}
