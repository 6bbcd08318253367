//! Decoding rows of weights, half precision, and products with f32 activations.

use std::ops::Range;

use super::weights::SomeRows;
use super::{Isa, KernelTable, WeightRows};
use crate::backend::cpu::kernels::scalar;
use crate::backend::cpu::kernels::scalar::float::{DequantRow, MatF32, SCRATCH_PAD};
#[cfg(target_arch = "x86_64")]
use crate::backend::cpu::kernels::{avx2, avx512};
use crate::backend::cpu::pool::ColsMut;
use crate::quant::QuantType;
use crate::util::aligned::AlignedVec;

/// The float kernels of an instruction set.
pub(super) struct FloatKernels {
    /// Decoder of a type.
    dequant: fn(QuantType) -> DequantRow,
    store_f16: unsafe fn(&[f32], &mut [u16]),
    mul_mat: unsafe fn(&MatF32<'_>, &mut ColsMut<'_, f32>, &mut [f32]),
}

impl FloatKernels {
    pub(super) const fn of(isa: Isa) -> Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Vnni => Self {
                dequant: avx512::float::dequant,
                store_f16: avx512::float::store_f16,
                mul_mat: avx512::float::mul_mat,
            },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self {
                dequant: avx2::float::dequant,
                store_f16: avx2::float::store_f16,
                mul_mat: avx2::float::mul_mat,
            },
            _ => Self {
                dequant: scalar::float::dequant,
                store_f16: scalar::float::store_f16,
                mul_mat: scalar::float::mul_mat,
            },
        }
    }
}

/// Activations in f32: `n` tokens, `k` numbers each, row-major.
#[derive(Clone, Copy, Debug)]
pub struct ActF32<'a> {
    /// Elements of a token.
    pub k: usize,
    /// Tokens.
    pub n: usize,
    /// `n` x `k`
    pub x: &'a [f32],
}

/// Decoded weights that the product keeps at hand; fits beside the activations in a 1 MB L2.
const SCRATCH_FLOATS: usize = 64 * 1024;

/// Rows that are decoded together: as many as fit, a multiple of the register tile's 4.
fn rows_at_once(k: usize) -> usize {
    (SCRATCH_FLOATS / (k + SCRATCH_PAD)).clamp(4, 32) / 4 * 4
}

impl KernelTable {
    /// Decodes one row of weights or of the KV cache. The same bits in every instruction set.
    ///
    /// # Panics
    /// When `bytes` is not a row of `out.len()` elements.
    pub fn dequant_row(&self, ty: QuantType, bytes: &[u8], out: &mut [f32]) {
        let dequant = (self.float.dequant)(ty);
        assert_eq!(Some(bytes.len()), row_bytes(ty, out.len()), "bytes of {} {ty}", out.len());
        // SAFETY: the processor has the table's instruction set, bytes are whole blocks for out.
        unsafe { dequant(bytes, out) }
    }

    /// Rounds to half precision, ties to even: `out` are IEEE binary16 bits. Too large becomes
    /// infinity, NaN stays NaN.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn store_f16(&self, x: &[f32], out: &mut [u16]) {
        assert_eq!(x.len(), out.len());
        // SAFETY: the processor has the table's instruction set, the lengths are equal.
        unsafe { (self.float.store_f16)(x, out) }
    }

    /// `y[token][row - rows.start] = w[row] . act[token]` for the rows `rows` of `w`, of any type,
    /// with f32 arithmetic.
    ///
    /// Each value is summed in one order, whatever the other rows and tokens of the call are.
    /// `scratch` grows on the first call with a longer row and is not allocated again after that.
    ///
    /// # Panics
    /// When shapes do not fit: `w.k == act.k`, `rows` inside `w`, `y` has `act.n` rows of
    /// `rows.len()`.
    pub fn mul_mat_f32(
        &self,
        w: &WeightRows<'_>,
        rows: Range<usize>,
        act: &ActF32<'_>,
        y: &mut ColsMut<'_, f32>,
        scratch: &mut AlignedVec<u8>,
    ) {
        self.mul_mat_f32_of(&w.rows(rows), act, y, scratch);
    }

    /// The product of some rows of a matrix.
    pub(super) fn mul_mat_f32_of(
        &self,
        w: &SomeRows<'_>,
        act: &ActF32<'_>,
        y: &mut ColsMut<'_, f32>,
        scratch: &mut AlignedVec<u8>,
    ) {
        scratch.ensure(Self::f32_scratch_bytes(w.k));
        self.mul_mat_f32_in(w, act, y, scratch);
    }

    /// Scratch of [`Self::mul_mat_f32`] for rows of `k` elements.
    pub(super) fn f32_scratch_bytes(k: usize) -> usize {
        rows_at_once(k) * (k + SCRATCH_PAD) * size_of::<f32>()
    }

    /// [`Self::mul_mat_f32_of`] with scratch that is large enough and aligned to 64 bytes.
    pub(super) fn mul_mat_f32_in(
        &self,
        w: &SomeRows<'_>,
        act: &ActF32<'_>,
        y: &mut ColsMut<'_, f32>,
        scratch: &mut [u8],
    ) {
        assert_eq!(w.k, act.k, "weights and activations differ in length");
        assert_eq!(Some(act.x.len()), act.n.checked_mul(act.k));
        assert_eq!((y.n_rows(), y.width()), (act.n, w.n_rows));
        let m = MatF32 {
            ty: w.ty,
            w: w.data,
            row_bytes: w.row_bytes,
            n_rows: w.n_rows,
            ids: w.ids,
            k: w.k,
            x: act.x,
            n_tokens: act.n,
        };
        assert!(
            scratch.len() >= Self::f32_scratch_bytes(w.k),
            "{} bytes of scratch",
            scratch.len()
        );
        // SAFETY: every bit pattern is an f32; what is cut off at the ends is not used.
        let (_, scratch, _) = unsafe { scratch.align_to_mut::<f32>() };
        // SAFETY: the processor has the table's instruction set, the shapes were just checked.
        unsafe { (self.float.mul_mat)(&m, y, scratch) }
    }
}

fn row_bytes(ty: QuantType, n: usize) -> Option<usize> {
    usize::try_from(ty.row_bytes(n as u64)?).ok()
}
