//! `kernels/mat_mul.cu`

use super::super::{CudaError, Dims, Kernel, Module, Stream};
use super::product::kernel_of;
use super::{MAT_VEC_TOKENS, Product, dim, mat_vec};
use crate::quant::QuantType;

const THREADS: u32 = 256;
/// Rows, and tokens, that a block makes.
const TILE: usize = 64;

/// Multiplies a matrix with any number of tokens: [`mat_vec()`] for few, tiles for more.
///
/// # Panics
/// When the type has no kernel, or a view is too short.
pub fn mat_mul(stream: &Stream, a: &Product<'_>) -> Result<(), CudaError> {
    if a.n_tokens <= MAT_VEC_TOKENS {
        return mat_vec(stream, a);
    }
    a.check();
    let dims = Dims {
        grid: [dim(a.weights.n_rows.div_ceil(TILE)), dim(a.n_tokens.div_ceil(TILE)), 1],
        block: [THREADS, 1, 1],
        shared: 0,
    };
    let name = kernel_of!(a.weights.ty, "mat_mul_", "");
    let kernel = Kernel { module: Module::MatMul, name };
    // SAFETY: a tile's rows and tokens past the last are neither read nor written; `check` has
    // seen that the views hold the others.
    unsafe { stream.launch(kernel, dims, &a.args()) }
}
