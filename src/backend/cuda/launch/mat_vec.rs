//! `kernels/mat_vec.cu`, `mat_vec_k.cu` and `mat_vec_plain.cu`

use super::super::{CudaError, Dims, Kernel, Module, Stream};
use super::product::kernel_of;
use super::{Product, dim, int};
use crate::quant::QuantType;

/// The most tokens of a launch.
pub const MAT_VEC_TOKENS: usize = 8;

const THREADS: usize = 128;
/// Rows that a group of lanes works on (`ROWS` of kernels/pi_mat_vec.cuh).
const ROWS: usize = 2;

/// Multiplies a matrix with up to [`MAT_VEC_TOKENS`] tokens. The order of a sum depends on the type
/// and the row's length alone.
///
/// # Panics
/// When there are more tokens, the type has no kernel, or a view is too short.
pub fn mat_vec(stream: &Stream, a: &Product<'_>) -> Result<(), CudaError> {
    assert!(a.n_tokens <= MAT_VEC_TOKENS, "{} tokens", a.n_tokens);
    a.check();
    if a.n_tokens == 0 || a.weights.n_rows == 0 {
        return Ok(());
    }
    let (ty, lanes) = (a.weights.ty, a.weights.lanes());
    let name = match a.n_tokens {
        1 => kernel_of!(ty, "mat_vec_", "_t1"),
        2 => kernel_of!(ty, "mat_vec_", "_t2"),
        3..=4 => kernel_of!(ty, "mat_vec_", "_t4"),
        _ => kernel_of!(ty, "mat_vec_", "_t8"),
    };
    let module = match ty {
        QuantType::F32 | QuantType::F16 | QuantType::BF16 => Module::MatVecPlain,
        QuantType::Q4_K | QuantType::Q5_K | QuantType::Q6_K => Module::MatVecK,
        _ => Module::MatVec,
    };
    let threads = a.weights.n_rows.div_ceil(ROWS) * lanes;
    let dims = Dims {
        grid: [dim(threads.div_ceil(THREADS)), 1, 1],
        block: [THREADS as u32, 1, 1],
        shared: 0,
    };
    let mut args = a.args();
    args.push(int(lanes));
    // SAFETY: groups of lanes past the last row and tokens past the last repeat it and write
    // nothing; `check` has seen that the views hold the others.
    unsafe { stream.launch(Kernel { module, name }, dims, &args) }
}
