//! Weighted sums of listed rows: the down projection of the neurons that fire, where each neuron's
//! weights are a row (`ffn_down_t`).
//!
//! The arithmetic, the same on every instruction set, is written down in
//! [`crate::backend::cpu::kernels`]' module `sum_rows`.

use std::ops::Range;

use super::{Isa, KernelTable, WeightRows};
use crate::backend::cpu::kernels::scalar;
use crate::backend::cpu::kernels::sum_rows::{GROUP, SumKernels, SumRows, SumRowsFn};
#[cfg(target_arch = "x86_64")]
use crate::backend::cpu::kernels::{avx2, avx512};
use crate::quant::QuantType;
use crate::util::aligned::AlignedVec;
use crate::util::bytes;

impl SumKernels {
    pub(super) const fn of(isa: Isa) -> Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::sum_rows::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Vnni => avx512::sum_rows::KERNELS,
            _ => scalar::sum_rows::KERNELS,
        }
    }
}

/// The kernel of a type.
fn kernel(rows: &[(QuantType, SumRowsFn)], ty: QuantType) -> Option<SumRowsFn> {
    rows.iter().find(|row| row.0 == ty).map(|row| row.1)
}

/// Columns of [`GROUP`] rows that are dequantised at a time: 32 KB.
const DEQUANT_COLS: usize = 4 * KernelTable::SUM_COLS;

/// Places of the rows of a group.
const PLACES: [u32; GROUP] = [0, 1, 2, 3, 4, 5, 6, 7];

impl KernelTable {
    /// Columns that a task of [`Self::sum_rows`] is cut into: multiples of this are whole blocks
    /// of every type.
    pub const SUM_COLS: usize = 256;

    /// Whether weights of this type are summed as integers.
    pub fn has_int_sums(&self, ty: QuantType) -> bool {
        kernel(self.sum.rows, ty).is_some()
    }

    /// `y[c] += sum over i of h[i] * w[ids[i]][cols.start + c]`: an element has the same bits
    /// whatever `cols` is. The list is summed in its order, eight entries at a time where the type
    /// is summed as integers ([`Self::has_int_sums`]); ascending lists are the fastest.
    ///
    /// `exact` multiplies dequantised weights in f32, one rounding per row, as other types always
    /// are.
    ///
    /// `scratch` grows to a fixed size; keep one per thread.
    ///
    /// # Panics
    /// When `ids` and `h` differ in length, an id is not below `w.n_rows`, `cols` leaves a row or
    /// does not start and end at a multiple of [`Self::SUM_COLS`] or the end of a row, or `y` is not
    /// as wide as `cols`.
    #[allow(clippy::too_many_arguments, reason = "a matrix, a list, a part of the columns")]
    pub fn sum_rows(
        &self,
        w: &WeightRows<'_>,
        ids: &[u32],
        h: &[f32],
        cols: Range<usize>,
        y: &mut [f32],
        exact: bool,
        scratch: &mut AlignedVec<u8>,
    ) {
        let row_bytes = w.row_bytes();
        assert_eq!(ids.len(), h.len(), "a factor for every listed row");
        assert!(
            ids.iter().all(|&id| (id as usize) < w.n_rows),
            "the list has rows that are not among {}",
            w.n_rows
        );
        let is_edge = |col: usize| col == w.k || (col < w.k && col.is_multiple_of(Self::SUM_COLS));
        assert!(
            cols.start <= cols.end && is_edge(cols.start) && is_edge(cols.end),
            "columns {cols:?} of {}, in parts of {}",
            w.k,
            Self::SUM_COLS
        );
        assert_eq!(y.len(), cols.len(), "a sum for every column");
        if ids.is_empty() || cols.is_empty() {
            return;
        }
        let info = w.ty.info();
        let bytes_of = |n: usize| n / info.block_len * info.block_bytes;
        let first = &w.data[bytes_of(cols.start)..];
        let integers = if exact { None } else { kernel(self.sum.rows, w.ty) };
        if let Some(sum) = integers.or_else(|| kernel(self.sum.plain, w.ty)) {
            let call = SumRows {
                w: first.as_ptr(),
                row_bytes,
                ids,
                h,
                n_cols: cols.len(),
                y: y.as_mut_ptr(),
            };
            // SAFETY: a table is only handed out on a processor that runs it; all ids and columns,
            // which are whole blocks, lie in w, and y has as many columns.
            return unsafe { sum(&call) };
        }
        scratch.ensure(GROUP * DEQUANT_COLS * size_of::<f32>());
        let n_floats = GROUP * DEQUANT_COLS;
        let Some(scratch) = bytes::cast_mut(&mut scratch[..n_floats * size_of::<f32>()]) else {
            unreachable!("scratch is aligned to 64 bytes");
        };
        for (i, y) in y.chunks_mut(DEQUANT_COLS).enumerate() {
            let cols = cols.start + i * DEQUANT_COLS..cols.start + i * DEQUANT_COLS + y.len();
            let bytes = bytes_of(cols.start)..bytes_of(cols.end);
            for (ids, h) in ids.chunks(GROUP).zip(h.chunks(GROUP)) {
                for (&id, row) in ids.iter().zip(scratch.chunks_exact_mut(y.len())) {
                    let bytes = &w.data[id as usize * row_bytes..][bytes.clone()];
                    self.dequant_row(w.ty, bytes, row);
                }
                let decoded = WeightRows {
                    ty: QuantType::F32,
                    data: bytes::as_bytes(&scratch[..ids.len() * y.len()]),
                    k: y.len(),
                    n_rows: ids.len(),
                };
                self.sum_rows(
                    &decoded,
                    &PLACES[..ids.len()],
                    h,
                    0..y.len(),
                    y,
                    true,
                    &mut AlignedVec::new(),
                );
            }
        }
    }
}
