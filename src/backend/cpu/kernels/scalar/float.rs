//! Rows of weights as f32, f32 to half, and matrix products with f32 activations: plain loops.

use half::f16;

use crate::backend::cpu::pool::ColsMut;
use crate::quant::{self, QuantType};

/// Decodes one row: `bytes` are whole blocks, `out` has one place for each element.
///
/// The arithmetic is GGUF's and exact to the last bit in every instruction set: `d * q`, plus `m`
/// in a second rounding where the format has a minimum.
pub(crate) type DequantRow = unsafe fn(bytes: &[u8], out: &mut [f32]);

/// Elements between decoded rows in the scratch of a product.
pub(crate) const SCRATCH_PAD: usize = 16;

/// One product `y[token][row] = w[row] . x[token]`, the lengths already checked.
#[derive(Clone, Copy)]
pub(crate) struct MatF32<'a> {
    /// Type of the weights.
    pub(crate) ty: QuantType,
    /// Rows of `row_bytes` bytes.
    pub(crate) w: &'a [u8],
    pub(crate) row_bytes: usize,
    /// Rows of the product.
    pub(crate) n_rows: usize,
    /// Which rows of the weights, `n_rows` of them; without a list the first ones.
    pub(crate) ids: Option<&'a [u32]>,
    /// Elements of a row.
    pub(crate) k: usize,
    /// `n_tokens` rows of `k`.
    pub(crate) x: &'a [f32],
    pub(crate) n_tokens: usize,
}

impl MatF32<'_> {
    /// Bytes of weight row `r` of the product.
    pub(crate) fn row(&self, r: usize) -> &[u8] {
        let r = self.ids.map_or(r, |ids| ids[r] as usize);
        &self.w[r * self.row_bytes..][..self.row_bytes]
    }
}

/// The decoder of a type: the reference codec.
pub(crate) fn dequant(ty: QuantType) -> DequantRow {
    quant::decoder(ty)
}

/// Rounds to half precision, ties to even; overflow is infinity, NaN stays NaN.
pub(crate) fn store_f16(x: &[f32], out: &mut [u16]) {
    for (h, &v) in out.iter_mut().zip(x) {
        *h = f16::from_f32(v).to_bits();
    }
}

/// Decodes each row and multiplies it with every token.
pub(crate) fn mul_mat(m: &MatF32<'_>, y: &mut ColsMut<'_, f32>, scratch: &mut [f32]) {
    let dequant = dequant(m.ty);
    let w = &mut scratch[..m.k];
    for r in 0..m.n_rows {
        // SAFETY: the decoders of `quant` are safe functions behind an unsafe pointer type.
        unsafe { dequant(m.row(r), w) };
        for t in 0..m.n_tokens {
            y.row(t)[r] = dot(w, &m.x[t * m.k..][..m.k]);
        }
    }
}

/// Dot product in 16 lanes, so that a compiler can vectorise it, and one tree at the end.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let (a, a_tail) = a.as_chunks::<16>();
    let (b, b_tail) = b.as_chunks::<16>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..16 {
            lanes[i] += a[i] * b[i];
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(a_tail.iter().zip(b_tail)) {
        *lane += a * b;
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}
