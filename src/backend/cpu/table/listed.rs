//! Products of some rows of a matrix, given by a list: the gate and up projections of the neurons
//! that fire; and the making of such lists.

use super::{ActF32, ActQ8, Isa, KernelTable, WeightRows};
use crate::backend::cpu::kernels::scalar;
use crate::backend::cpu::kernels::scalar::places::PlacesFn;
#[cfg(target_arch = "x86_64")]
use crate::backend::cpu::kernels::{avx2, avx512};
use crate::backend::cpu::pool::ColsMut;
use crate::util::aligned::AlignedVec;

/// The kernels of an instruction set that make lists.
pub(super) struct PlaceKernels {
    not_less: PlacesFn,
    not_equal: PlacesFn,
}

impl PlaceKernels {
    pub(super) const fn of(isa: Isa) -> Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Vnni => {
                Self { not_less: avx512::places::not_less, not_equal: avx512::places::not_equal }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                Self { not_less: avx2::places::not_less, not_equal: avx2::places::not_equal }
            }
            _ => Self { not_less: scalar::places::not_less, not_equal: scalar::places::not_equal },
        }
    }
}

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
        self.mul_mat_q8_of(&w.listed(ids), act, y, scratch);
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
        self.mul_mat_f32_of(&w.listed(ids), act, y, scratch);
    }

    /// Writes the places of elements that are not below `threshold` to the front of `places`,
    /// ascending, and returns how many they are. NaN is below nothing, and nothing below NaN: what
    /// cannot be judged is computed. Up to the length of `x` anything may be written behind them.
    ///
    /// # Panics
    /// When `places` is shorter than `x`.
    pub fn places_from(&self, x: &[f32], threshold: f32, places: &mut [u32]) -> usize {
        places_of(self.places.not_less, x, threshold, places)
    }

    /// The same for elements that are not zero.
    ///
    /// # Panics
    /// When `places` is shorter than `x`.
    pub fn places_nonzero(&self, x: &[f32], places: &mut [u32]) -> usize {
        places_of(self.places.not_equal, x, 0.0, places)
    }
}

fn places_of(kernel: PlacesFn, x: &[f32], than: f32, places: &mut [u32]) -> usize {
    assert!(places.len() >= x.len(), "{} places for {} elements", places.len(), x.len());
    // SAFETY: a table is only handed out on a processor that runs it; the lengths are checked.
    unsafe { kernel(x, than, places) }
}
