//! Integer mat-mul: quantised weights times activations in 8 bits.
//!
//! The arithmetic, and the promise that an output has the same bits in any company and on every
//! instruction set, is written down in [`crate::backend::cpu::kernels`]' module `int8`.

use std::ops::Range;

use super::weights::SomeRows;
use super::{Isa, KernelTable, WeightRows};
use crate::backend::cpu::kernels::int8::{BLOCK, Int8Kernels, MulMatQ8};
use crate::backend::cpu::kernels::scalar;
#[cfg(target_arch = "x86_64")]
use crate::backend::cpu::kernels::{avx2, avx512};
use crate::backend::cpu::pool::ColsMut;
use crate::quant::QuantType;
use crate::util::aligned::AlignedVec;

/// Activations in 8 bits, from [`KernelTable::quantize_q8`]: `n` rows (tokens) of `k` elements
/// with a scale and two sums of codes for every 32 of them.
#[derive(Clone, Copy)]
pub struct ActQ8<'a> {
    /// Elements of a row, a multiple of 32.
    pub k: usize,
    /// Rows.
    pub n: usize,
    /// Codes, `n * k`.
    pub q: &'a [i8],
    /// Scales of the blocks, `n * k / 32`.
    pub d: &'a [f32],
    /// Sums of the first and of the last 16 codes of each block, `n * k / 32`.
    pub s: &'a [[i16; 2]],
}

impl ActQ8<'_> {
    /// # Panics
    /// When the lengths are not those of `n` rows of `k` elements.
    pub(super) fn assert_whole(&self) {
        let n_blocks = self.k / BLOCK;
        assert!(
            self.n.checked_mul(self.k) == Some(self.q.len())
                && self.d.len() == self.n * n_blocks
                && self.s.len() == self.n * n_blocks,
            "{} tokens of {} elements with {} codes, {} scales, {} sums",
            self.n,
            self.k,
            self.q.len(),
            self.d.len(),
            self.s.len()
        );
    }
}

impl Int8Kernels {
    pub(super) const fn of(isa: Isa) -> Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::int8::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::int8::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => avx512::int8::KERNELS_VNNI,
            _ => scalar::int8::KERNELS,
        }
    }
}

impl KernelTable {
    /// Whether weights of this type have an integer mat-mul.
    pub fn has_int8(&self, ty: QuantType) -> bool {
        self.int8.rows.iter().any(|row| row.0 == ty)
    }

    /// Quantises `x`, whole rows of a multiple of 32 elements, to codes `q` (as many), scales `d`
    /// and sums of codes `s` (one pair per 32 elements). A block with a NaN or an infinity in it gets
    /// the scale NaN.
    ///
    /// # Panics
    /// When the lengths do not fit together.
    pub fn quantize_q8(&self, x: &[f32], q: &mut [i8], d: &mut [f32], s: &mut [[i16; 2]]) {
        let n_blocks = x.len() / BLOCK;
        assert!(
            x.len().is_multiple_of(BLOCK)
                && q.len() == x.len()
                && d.len() == n_blocks
                && s.len() == n_blocks,
            "{} elements quantise to as many codes and a scale and a sum for every {BLOCK}, \
             not to {}, {} and {}",
            x.len(),
            q.len(),
            d.len(),
            s.len()
        );
        // SAFETY: a table is only handed out on a processor that runs it; lengths are checked.
        unsafe {
            (self.int8.quantize)(
                x.as_ptr(),
                n_blocks,
                q.as_mut_ptr(),
                d.as_mut_ptr(),
                s.as_mut_ptr(),
            );
        }
    }

    /// Multiplies rows `rows` of `w` with all of `act`: `y[t][i]` = row `rows.start + i` times
    /// token `t`. An output has the same bits whatever `rows` and `act.n` are. Ranges of a
    /// multiple of 32 rows are the fastest.
    ///
    /// `scratch` grows to a size that depends on `w.ty` and `w.k` only; keep one per thread.
    ///
    /// # Panics
    /// When `w.ty` has no integer kernel ([`Self::has_int8`]) or the sizes do not fit together.
    pub fn mul_mat_q8(
        &self,
        w: &WeightRows<'_>,
        rows: Range<usize>,
        act: &ActQ8<'_>,
        y: &mut ColsMut<'_, f32>,
        scratch: &mut AlignedVec<u8>,
    ) {
        self.mul_mat_q8_of(&w.rows(rows), act, y, scratch);
    }

    /// The product of some rows of a matrix.
    pub(super) fn mul_mat_q8_of(
        &self,
        w: &SomeRows<'_>,
        act: &ActQ8<'_>,
        y: &mut ColsMut<'_, f32>,
        scratch: &mut AlignedVec<u8>,
    ) {
        let Some(&(_, mul_mat)) = self.int8.rows.iter().find(|row| row.0 == w.ty) else {
            panic!("no integer kernel for weights of type {}", w.ty);
        };
        let n_blocks = act.k / BLOCK;
        assert!(
            w.k == act.k && act.k.is_multiple_of(BLOCK),
            "weight rows of {} elements times activations of {}",
            w.k,
            act.k
        );
        act.assert_whole();
        assert!(
            y.n_rows() == act.n && y.width() == w.n_rows,
            "an output of {} x {} for {} tokens x {} rows",
            y.n_rows(),
            y.width(),
            act.n,
            w.n_rows
        );
        if w.n_rows == 0 || act.n == 0 {
            return;
        }
        if n_blocks == 0 {
            (0..act.n).for_each(|t| y.row(t).fill(0.0));
            return;
        }
        scratch.ensure((self.int8.scratch_bytes)(w.ty, n_blocks));
        let (y, ld) = y.as_raw();
        let call = MulMatQ8 {
            ty: w.ty,
            w: w.data.as_ptr(),
            row_bytes: w.row_bytes,
            n_rows: w.n_rows,
            ids: w.ids,
            n_blocks,
            q: act.q.as_ptr(),
            d: act.d.as_ptr(),
            s: act.s.as_ptr(),
            n_tokens: act.n,
            y,
            ld,
            scratch: scratch.as_mut_ptr(),
        };
        // SAFETY: a table is only handed out on a processor that runs it; the sizes of weights,
        // activations, output and scratch were just checked; y and scratch are exclusively ours.
        unsafe { mul_mat(&call) };
    }
}
