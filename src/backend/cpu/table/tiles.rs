//! Products with down projections that are laid out as neuron tiles ([`crate::quant::tiles`]).

use std::ops::Range;

use super::{ActF32, ActQ8, Isa, KernelTable, WeightRows};
use crate::backend::cpu::kernels::int8::BLOCK;
use crate::backend::cpu::kernels::scalar;
use crate::backend::cpu::kernels::tiles::{MulMatTiles, TileKernels};
#[cfg(target_arch = "x86_64")]
use crate::backend::cpu::kernels::{avx2, avx512};
use crate::backend::cpu::pool::ColsMut;
use crate::quant::QuantType;
use crate::quant::tiles::{CHUNK, can_tile, unpack_rows};
use crate::util::aligned::{ALIGN, AlignedVec};

impl TileKernels {
    pub(super) const fn of(isa: Isa) -> Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => avx2::tiles::KERNELS, // the same bits
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => avx512::tiles::KERNELS_VNNI,
            _ => scalar::tiles::KERNELS,
        }
    }
}

/// A weight matrix as neuron tiles, without gaps between them.
#[derive(Clone, Copy, Debug)]
pub struct TiledRows<'a> {
    /// Number format of the weights.
    pub ty: QuantType,
    /// The tiles' bytes; needs no alignment.
    pub data: &'a [u8],
    /// Neurons: the K of the product (n_ff).
    pub k: usize,
    /// Outputs of the product (n_embd).
    pub n_rows: usize,
}

impl TiledRows<'_> {
    /// The tiles, exactly.
    ///
    /// # Panics
    /// When the shape has no tiles or `data` does not hold them.
    fn tiles(&self) -> &[u8] {
        assert!(
            can_tile(self.ty, self.k, self.n_rows),
            "{} rows of {} {} elements cannot be tiled",
            self.n_rows,
            self.k,
            self.ty
        );
        let info = self.ty.info();
        let bytes = self.k / info.block_len * info.block_bytes * self.n_rows;
        assert!(self.data.len() >= bytes, "{} of {bytes} bytes of tiles", self.data.len());
        &self.data[..bytes]
    }
}

impl KernelTable {
    /// Outputs that tiles keep together: parts of a tiled product start and end at a multiple.
    pub const TILE_ROWS: usize = CHUNK;

    /// Multiplies outputs `rows` of `w` with all of `act`: `y[t][i]` = output `rows.start + i` for
    /// token `t`, with the same bits as [`Self::mul_mat_q8`] gives for the matrix as rows, as far as
    /// its scales are finite (and but for the sign of zeros).
    ///
    /// Of neurons whose activations are zero nothing is read when there are few tokens: this is the
    /// down projection of sparse layers as well as of dense ones, and text does not depend on which
    /// a layer is. A token's activations are looked through in every call, so cut `rows` into a part
    /// for each thread and no more.
    ///
    /// `scratch` grows to a size that is the same for all matrices; keep one per thread.
    ///
    /// # Panics
    /// When `w` has a shape that has no tiles ([`can_tile`]), `rows` leaves it or does not start and
    /// end at a multiple of [`Self::TILE_ROWS`], or the sizes do not fit together.
    pub fn mul_mat_tiles_q8(
        &self,
        w: &TiledRows<'_>,
        rows: Range<usize>,
        act: &ActQ8<'_>,
        y: &mut ColsMut<'_, f32>,
        scratch: &mut AlignedVec<u8>,
    ) {
        let Some(&(_, mul_mat)) = self.tiles.rows.iter().find(|row| row.0 == w.ty) else {
            panic!("no kernel for tiles of type {}", w.ty);
        };
        let tiles = w.tiles();
        check_rows(w, &rows);
        let n_blocks = w.k / BLOCK;
        assert_eq!(w.k, act.k, "weights and activations differ in length");
        act.assert_whole();
        assert_eq!((y.n_rows(), y.width()), (act.n, rows.len()), "tokens and outputs");
        if rows.is_empty() || act.n == 0 {
            return;
        }
        scratch.ensure(self.tiles.scratch_bytes);
        let call = MulMatTiles {
            ty: w.ty,
            tiles,
            n_embd: w.n_rows,
            rows,
            n_blocks,
            q: act.q,
            d: act.d,
            s: act.s,
            n_tokens: act.n,
        };
        // SAFETY: a table is only handed out on a processor that runs it; the sizes of tiles,
        // activations, output and scratch were just checked.
        unsafe { mul_mat(&call, y, scratch) };
    }

    /// As [`Self::mul_mat_tiles_q8`] with the arithmetic of [`Self::mul_mat_f32`], and the same bits
    /// as that for the matrix as rows. Puts the rows together first: for reference, not for speed.
    ///
    /// # Panics
    /// As [`Self::mul_mat_tiles_q8`].
    pub fn mul_mat_tiles_f32(
        &self,
        w: &TiledRows<'_>,
        rows: Range<usize>,
        act: &ActF32<'_>,
        y: &mut ColsMut<'_, f32>,
        scratch: &mut AlignedVec<u8>,
    ) {
        let tiles = w.tiles();
        check_rows(w, &rows);
        let row_bytes = tiles.len() / w.n_rows;
        let own = (row_bytes * CHUNK).next_multiple_of(ALIGN);
        scratch.ensure(own + Self::f32_scratch_bytes(w.k));
        let (data, scratch) = scratch.split_at_mut(own);
        let data = &mut data[..row_bytes * CHUNK];
        for first in rows.clone().step_by(CHUNK) {
            unpack_rows(w.ty, tiles, w.k, w.n_rows, first..first + CHUNK, data);
            let part = WeightRows { ty: w.ty, data, k: w.k, n_rows: CHUNK };
            let at = first - rows.start;
            let mut y = y.narrow(at..at + CHUNK);
            self.mul_mat_f32_in(&part.rows(0..CHUNK), act, &mut y, scratch);
        }
    }
}

fn check_rows(w: &TiledRows<'_>, rows: &Range<usize>) {
    assert!(
        rows.start <= rows.end
            && rows.end <= w.n_rows
            && rows.start.is_multiple_of(CHUNK)
            && rows.end.is_multiple_of(CHUNK),
        "rows {rows:?} of {}, from one multiple of {CHUNK} to another",
        w.n_rows
    );
}
