//! Products of some rows of a matrix, given by a list: the gate and up projections of the neurons
//! that fire; and the making of such lists.

use super::{ActF32, ActQ8, KernelTable, WeightRows};
use crate::backend::cpu::pool::ColsMut;
use crate::util::aligned::AlignedVec;

impl KernelTable {
    /// `y[t][i]` = row `ids[i]` of `w` times token `t`: the same bits as [`Self::mul_mat_q8`] gives
    /// for that row. Ascending lists are the fastest.
    ///
    /// # Panics
    /// As [`Self::mul_mat_q8`]; when an id is not below `w.n_rows`.
    pub fn mul_mat_q8_listed(
        &self,
        w: &WeightRows<'_>,
        ids: &[u32],
        act: &ActQ8<'_>,
        y: &mut ColsMut<'_, f32>,
        scratch: &mut AlignedVec<u8>,
    ) {
        for (i, &id) in ids.iter().enumerate() {
            let (id, mut y) = (id as usize, y.narrow(i..i + 1));
            self.mul_mat_q8(w, id..id + 1, act, &mut y, scratch);
        }
    }

    /// As [`Self::mul_mat_q8_listed`] with the arithmetic of [`Self::mul_mat_f32`], for weights of
    /// any type.
    ///
    /// # Panics
    /// As [`Self::mul_mat_f32`]; when an id is not below `w.n_rows`.
    pub fn mul_mat_f32_listed(
        &self,
        w: &WeightRows<'_>,
        ids: &[u32],
        act: &ActF32<'_>,
        y: &mut ColsMut<'_, f32>,
        scratch: &mut AlignedVec<u8>,
    ) {
        for (i, &id) in ids.iter().enumerate() {
            let (id, mut y) = (id as usize, y.narrow(i..i + 1));
            self.mul_mat_f32(w, id..id + 1, act, &mut y, scratch);
        }
    }

    /// Writes the places of elements that are not below `threshold` to the front of `places`,
    /// ascending, and returns how many they are. NaN is below nothing: what cannot be judged is
    /// computed.
    ///
    /// # Panics
    /// When `places` is shorter than `x`.
    pub fn places_from(&self, x: &[f32], threshold: f32, places: &mut [u32]) -> usize {
        places_where(x, places, |x| x >= threshold || x.is_nan())
    }

    /// The same for elements that are not zero.
    ///
    /// # Panics
    /// When `places` is shorter than `x`.
    pub fn places_nonzero(&self, x: &[f32], places: &mut [u32]) -> usize {
        places_where(x, places, |x| x != 0.0)
    }
}

fn places_where(x: &[f32], places: &mut [u32], is_in: impl Fn(f32) -> bool) -> usize {
    assert!(places.len() >= x.len());
    let mut n = 0;
    for (i, &x) in x.iter().enumerate() {
        places[n] = i as u32;
        n += usize::from(is_in(x));
    }
    n
}
