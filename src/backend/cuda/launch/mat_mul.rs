//! `kernels/mat_mul.cu`, `mat_mul_k.cu` and `mat_mul_plain.cu`, and which kernels a product takes.

use super::super::{CudaError, Dims, Kernel, Module, Stream};
use super::product::kernel_of;
use super::{MAT_VEC_TOKENS, Product, dim, mat_vec};
use crate::quant::QuantType;

const THREADS: u32 = 256;
/// Rows that a block makes (`ROWS` of kernels/pi_mat_mul.cuh).
const ROWS: usize = 128;

/// Tokens of a tile, for more than [`MAT_VEC_TOKENS`]. A tile costs the same however many of its
/// tokens there are; and to decode its weights costs as much as to multiply them with some ten.
fn tile_tokens(n_tokens: usize) -> usize {
    if n_tokens <= 32 { 32 } else { 64 }
}

/// Multiplies a matrix with any number of tokens. From 9 tokens on, what comes out for one does not
/// depend on how many there are.
///
/// # Panics
/// When the type has no kernel, rows have no numbers, or a view is too short.
pub fn mat_mul(stream: &Stream, a: &Product<'_>) -> Result<(), CudaError> {
    if a.n_tokens <= MAT_VEC_TOKENS {
        return mat_vec(stream, a); // which reads weights once, and does not wait for tiles
    }
    a.check();
    assert!(a.weights.k > 0, "rows of no numbers");
    if a.weights.n_rows == 0 {
        return Ok(());
    }
    let ty = a.weights.ty;
    let tokens = tile_tokens(a.n_tokens);
    let name = match tokens {
        32 => kernel_of!(ty, "mat_mul_", "_t32"),
        _ => kernel_of!(ty, "mat_mul_", "_t64"),
    };
    let module = match ty {
        QuantType::F32 | QuantType::F16 | QuantType::BF16 => Module::MatMulPlain,
        QuantType::Q4_K | QuantType::Q5_K | QuantType::Q6_K => Module::MatMulK,
        _ => Module::MatMul,
    };
    let dims = Dims {
        grid: [dim(a.weights.n_rows.div_ceil(ROWS)), dim(a.n_tokens.div_ceil(tokens)), 1],
        block: [THREADS, 1, 1],
        shared: 0,
    };
    // SAFETY: rows and tokens past the last repeat it and are not written; past a row's last number
    // nothing is read but its padding. `check` has seen that the views hold the others.
    unsafe { stream.launch(Kernel { module, name }, dims, &a.args()) }
}
