//! Rows of weights as f32, f32 to half, and matrix products with f32 activations: plain loops.

use half::{bf16, f16};

use crate::backend::cpu::pool::ColsMut;
use crate::quant::QuantType;

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
    /// `n_rows` rows of `row_bytes` bytes.
    pub(crate) w: &'a [u8],
    pub(crate) row_bytes: usize,
    pub(crate) n_rows: usize,
    /// Elements of a row.
    pub(crate) k: usize,
    /// `n_tokens` rows of `k`.
    pub(crate) x: &'a [f32],
    pub(crate) n_tokens: usize,
}

impl MatF32<'_> {
    /// Bytes of weight row `r`.
    pub(crate) fn row(&self, r: usize) -> &[u8] {
        &self.w[r * self.row_bytes..][..self.row_bytes]
    }
}

/// The decoder of a type, if there is one.
pub(crate) fn dequant(ty: QuantType) -> Option<DequantRow> {
    Some(match ty {
        QuantType::F32 => dequant_f32,
        QuantType::F16 => dequant_f16,
        QuantType::BF16 => dequant_bf16,
        QuantType::Q4_0 => dequant_q4_0,
        QuantType::Q4_1 => dequant_q4_1,
        QuantType::Q8_0 => dequant_q8_0,
        _ => return None,
    })
}

/// Copies a row of f32.
pub(crate) fn dequant_f32(bytes: &[u8], out: &mut [f32]) {
    for (v, b) in out.iter_mut().zip(bytes.as_chunks().0) {
        *v = f32::from_le_bytes(*b);
    }
}

fn dequant_f16(bytes: &[u8], out: &mut [f32]) {
    for (v, b) in out.iter_mut().zip(bytes.as_chunks().0) {
        *v = f16::from_le_bytes(*b).to_f32();
    }
}

fn dequant_bf16(bytes: &[u8], out: &mut [f32]) {
    for (v, b) in out.iter_mut().zip(bytes.as_chunks().0) {
        *v = bf16::from_le_bytes(*b).to_f32();
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn dequant_q4_0(bytes: &[u8], out: &mut [f32]) {
    for (block, v) in bytes.chunks_exact(18).zip(out.chunks_exact_mut(32)) {
        let d = half_at(block, 0);
        for (i, &b) in block[2..].iter().enumerate() {
            v[i] = f32::from(i16::from(b & 15) - 8) * d;
            v[i + 16] = f32::from(i16::from(b >> 4) - 8) * d;
        }
    }
}

fn dequant_q4_1(bytes: &[u8], out: &mut [f32]) {
    for (block, v) in bytes.chunks_exact(20).zip(out.chunks_exact_mut(32)) {
        let (d, m) = (half_at(block, 0), half_at(block, 2));
        for (i, &b) in block[4..].iter().enumerate() {
            v[i] = f32::from(b & 15) * d + m;
            v[i + 16] = f32::from(b >> 4) * d + m;
        }
    }
}

fn dequant_q8_0(bytes: &[u8], out: &mut [f32]) {
    for (block, v) in bytes.chunks_exact(34).zip(out.chunks_exact_mut(32)) {
        let d = half_at(block, 0);
        for (v, &q) in v.iter_mut().zip(&block[2..]) {
            *v = f32::from(q as i8) * d;
        }
    }
}

/// Rounds to half precision, ties to even; overflow is infinity, NaN stays NaN.
pub(crate) fn store_f16(x: &[f32], out: &mut [u16]) {
    for (h, &v) in out.iter_mut().zip(x) {
        *h = f16::from_f32(v).to_bits();
    }
}

/// Decodes each row and multiplies it with every token.
pub(crate) fn mul_mat(m: &MatF32<'_>, y: &mut ColsMut<'_, f32>, scratch: &mut [f32]) {
    let Some(dequant) = dequant(m.ty) else { return };
    let w = &mut scratch[..m.k];
    for r in 0..m.n_rows {
        // SAFETY: the decoders of this file are safe functions behind an unsafe pointer type.
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
