//! Attention over one tile of keys at a time, with an online softmax.
//!
//! A query's keys are walked tile by tile in position order. A long context is cut into chunks at
//! fixed positions; each chunk starts from an empty state and [`KernelTable::attn_merge`] joins
//! them in order.

pub use crate::backend::cpu::kernels::scalar::attn::{AttnState, AttnTile, TILE};

use super::{Isa, KernelTable};
use crate::backend::cpu::kernels::scalar;
#[cfg(target_arch = "x86_64")]
use crate::backend::cpu::kernels::{avx2, avx512};

/// The attention kernels of an instruction set.
pub(super) struct AttnKernels {
    tile: unsafe fn(&AttnTile<'_>, &mut AttnState<'_>),
    /// `total = total * a + part * b`
    blend: unsafe fn(f32, &mut [f32], f32, &[f32]),
    /// `out = acc / l`
    divide: unsafe fn(&[f32], f32, &mut [f32]),
}

impl AttnKernels {
    pub(super) const fn of(isa: Isa) -> Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Vnni => Self {
                tile: avx512::float::attn_tile,
                blend: avx512::float::blend,
                divide: avx512::float::divide,
            },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self {
                tile: avx2::float::attn_tile,
                blend: avx2::float::blend,
                divide: avx2::float::divide,
            },
            _ => Self {
                tile: scalar::attn::attn_tile,
                blend: scalar::attn::blend,
                divide: scalar::attn::divide,
            },
        }
    }
}

impl KernelTable {
    /// Feeds one tile of keys and values to the states of the queries that look at it.
    ///
    /// A query's result depends on its own keys alone: not on the other queries of the call, not
    /// on what the keys outside its valid range hold.
    ///
    /// # Panics
    /// When a slice does not have the length that [`AttnTile`] and [`AttnState`] give.
    pub fn attn_tile(&self, tile: &AttnTile<'_>, st: &mut AttnState<'_>) {
        let n_q = tile.valid.len();
        assert!((1..=TILE).contains(&tile.n_keys), "{} keys in a tile", tile.n_keys);
        assert_eq!(Some(tile.k.len()), tile.n_keys.checked_mul(tile.head_dim_k));
        assert_eq!(Some(tile.v.len()), tile.n_keys.checked_mul(tile.head_dim_v));
        assert_eq!(Some(tile.q.len()), n_q.checked_mul(tile.head_dim_k));
        assert_eq!(Some(st.acc.len()), n_q.checked_mul(tile.head_dim_v));
        assert!(tile.bias.is_empty() || Some(tile.bias.len()) == n_q.checked_mul(TILE));
        assert!(st.m.len() == n_q && st.l.len() == n_q);
        assert!(tile.valid.iter().all(|r| r.is_empty() || usize::from(r.end) <= tile.n_keys));
        // SAFETY: the processor has the table's instruction set, all lengths were just checked.
        unsafe { (self.attn.tile)(tile, st) }
    }

    /// Joins a later chunk's state into the running total of one query: `into` is its greatest
    /// score, its sum and its accumulator. An empty side leaves the other's bits untouched.
    ///
    /// # Panics
    /// When the accumulators differ in length.
    pub fn attn_merge(&self, m: f32, l: f32, acc: &[f32], into: (&mut f32, &mut f32, &mut [f32])) {
        let (m_total, l_total, acc_total) = into;
        assert_eq!(acc.len(), acc_total.len());
        // The sum of a state that has seen a key is at least 1, or NaN.
        if l == 0.0 {
            return;
        }
        if *l_total == 0.0 {
            (*m_total, *l_total) = (m, l);
            acc_total.copy_from_slice(acc);
            return;
        }
        let greatest = m_total.max(m);
        let (a, b) = ((*m_total - greatest).exp(), (m - greatest).exp());
        *m_total = greatest;
        *l_total = *l_total * a + l * b;
        // SAFETY: the processor has the table's instruction set, the lengths are equal.
        unsafe { (self.attn.blend)(a, acc_total, b, acc) }
    }

    /// The attention output of one query: `out = acc / l`, zeros when it saw no key.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn attn_finish(&self, l: f32, acc: &[f32], out: &mut [f32]) {
        assert_eq!(acc.len(), out.len());
        if l == 0.0 {
            out.fill(0.0);
        } else {
            // SAFETY: the processor has the table's instruction set, the lengths are equal.
            unsafe { (self.attn.divide)(acc, l, out) }
        }
    }
}
