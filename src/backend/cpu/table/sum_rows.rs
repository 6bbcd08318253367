//! Weighted sums of listed rows: the down projection of the neurons that fire, where each neuron's
//! weights are a row (`ffn_down_t`).

use std::ops::Range;

use super::{KernelTable, WeightRows};
use crate::util::aligned::AlignedVec;

impl KernelTable {
    /// Columns that a task of [`Self::sum_rows`] is cut into: multiples of this are whole blocks
    /// of every type.
    pub const SUM_COLS: usize = 256;

    /// `y[c] += sum over i of h[i] * w[ids[i]][cols.start + c]`: element by element in the order of
    /// the list, whatever `cols` is.
    ///
    /// `exact` multiplies dequantised weights in f32, one rounding per row; without it quantised
    /// types are summed as integers.
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
        let _ = (exact, scratch);
        let row_bytes = w.row_bytes();
        assert!(ids.len() == h.len() && cols.end <= w.k && y.len() == cols.len());
        let mut row = vec![0.0; w.k];
        for (&id, &h) in ids.iter().zip(h) {
            self.dequant_row(w.ty, &w.data[id as usize * row_bytes..][..row_bytes], &mut row);
            for (y, w) in y.iter_mut().zip(&row[cols.clone()]) {
                *y = h.mul_add(*w, *y);
            }
        }
    }
}
