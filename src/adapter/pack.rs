//! Several adapters' matrices for products with one input, as two matrices.
//!
//! The rows of all `A` stand one below the other, so that one product makes all hidden numbers; the
//! `B` of a matrix of the model stand side by side, times their factors, with zeros under hidden
//! numbers that are other matrices'.

use rayon::prelude::*;

use super::lora::Pair;
use crate::gguf::TensorData;
use crate::model::{Layout, Weight};
use crate::quant::QuantType;
use crate::tensor::Shape;
use crate::util::aligned::{AlignedVec, OutOfMemory};
use crate::util::bytes;

/// A pair that adds to one of the matrices of a product.
pub(super) struct Part<'a> {
    pub(super) pair: &'a Pair,
    /// Which of the matrices.
    pub(super) mat: usize,
    pub(super) factor: f32,
}

/// Outputs of a matrix of a product.
#[derive(Clone, Copy)]
pub(super) struct Outs {
    /// The first row of the weight.
    pub(super) first: usize,
    pub(super) n: usize,
}

/// Hidden numbers of all parts together.
pub(super) fn rank(parts: &[Part<'_>]) -> usize {
    parts.iter().map(|part| part.pair.rank()).sum()
}

/// Parts, each with its first hidden number.
fn placed<'p, 'a>(parts: &'p [Part<'a>]) -> impl Iterator<Item = (usize, &'p Part<'a>)> {
    parts.iter().scan(0, |next, part| {
        let first = *next;
        *next += part.pair.rank();
        Some((first, part))
    })
}

/// `[n_in, rank, n_expert]`
pub(super) fn a(parts: &[Part<'_>], n_in: usize, n_expert: usize) -> Result<Weight, OutOfMemory> {
    let rank = rank(parts);
    let rows: Vec<(&Pair, usize)> =
        parts.iter().flat_map(|part| (0..part.pair.rank()).map(|k| (part.pair, k))).collect();
    matrix([n_in, rank, n_expert], |row, out| {
        let (pair, k) = rows[row % rank];
        pair.a.row(row / rank * pair.rank() + k, out);
    })
}

/// `[rank, n_vocab]`: rows of `A` that are looked up.
pub(super) fn looked_up_a(parts: &[Part<'_>], n_vocab: usize) -> Result<Weight, OutOfMemory> {
    matrix([rank(parts), n_vocab, 1], |row, out| {
        for (first, part) in placed(parts) {
            part.pair.a.row(row, &mut out[first..][..part.pair.rank()]);
        }
    })
}

/// `[rank, n_out, n_expert]` for the matrix `mat` of the product.
pub(super) fn b(
    parts: &[Part<'_>],
    mat: usize,
    outs: Outs,
    n_expert: usize,
) -> Result<Weight, OutOfMemory> {
    matrix([rank(parts), outs.n, n_expert], |row, out| {
        for (first, part) in placed(parts).filter(|(_, part)| part.mat == mat) {
            let out = &mut out[first..][..part.pair.rank()];
            part.pair.b.row(row / outs.n * part.pair.n_out() + outs.first + row % outs.n, out);
            out.iter_mut().for_each(|x| *x *= part.factor);
        }
    })
}

/// A weight in F32, row by row.
pub(super) fn matrix(
    dims: [usize; 3],
    fill: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<Weight, OutOfMemory> {
    let shape = Shape::new(&dims.map(|d| d as u64));
    let n_bytes = shape.and_then(|s| usize::try_from(s.n_elements().checked_mul(4)?).ok());
    let mut data = AlignedVec::<u8>::try_zeroed(n_bytes.unwrap_or(usize::MAX))?;
    let floats = bytes::cast_mut::<f32>(&mut data).expect("aligned, and whole numbers");
    floats.par_chunks_mut(dims[0].max(1)).enumerate().for_each(|(row, out)| fill(row, out));
    Ok(Weight {
        name: "adapter".into(),
        ty: QuantType::F32,
        shape: shape.expect("as large as the data that is there"),
        layout: Layout::Rows,
        data: Some(TensorData::from_bytes(data)),
    })
}
