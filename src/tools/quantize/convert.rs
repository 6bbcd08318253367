//! Rows of one type to rows of another.

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::QuantizeError;
use super::plan::Target;
use crate::quant::{self, QuantType};

/// Bytes of new rows that are converted together, and of copied ones that are checked together.
const SLAB: usize = 64 << 20;
/// Numbers that a thread takes at a time: many rows are short.
const PIECE: usize = 32 * 512;

/// Takes some of a tensor's new bytes, in order.
type Put<'a> = dyn FnMut(&[u8]) -> Result<(), QuantizeError> + 'a;

/// Converts on threads of its own.
pub(super) struct Converter {
    pool: ThreadPool,
    slab: usize,
}

/// Where the new bytes of a row come from.
struct Rows<'a> {
    from: QuantType,
    to: QuantType,
    n_cols: usize,
    row_bytes: (usize, usize),
    /// Rows that share importances.
    rows_per_expert: usize,
    importance: Option<&'a [f32]>,
}

/// Data that are no finite numbers: which, and what is wrong.
struct Bad(&'static str, quant::Error);

impl Converter {
    /// `slab`: most bytes in memory at once, 0 for what is good.
    pub(super) fn new(n_threads: usize, slab: usize) -> Result<Self, QuantizeError> {
        let name = |i| format!("quantize-{i}");
        let pool = ThreadPoolBuilder::new().num_threads(n_threads).thread_name(name).build();
        let pool = pool.map_err(|error| QuantizeError::Threads { n: n_threads, error })?;
        let slab = if slab == 0 { SLAB } else { slab.min(SLAB) };
        Ok(Self { pool, slab })
    }

    /// Gives `put` the bytes that the data of a tensor become.
    pub(super) fn convert(
        &self,
        target: &Target,
        data: &[u8],
        put: &mut Put<'_>,
    ) -> Result<(), QuantizeError> {
        let bad =
            |Bad(what, error)| QuantizeError::BadData { tensor: target.name.clone(), what, error };
        if data.is_empty() {
            return put(data);
        }
        let [n_cols, rows_per_expert, ..] = target.source.shape.ne().map(|n| n as usize);
        let n_rows = target.source.shape.n_rows() as usize;
        let row_bytes = (data.len() / n_rows, target.n_bytes as usize / n_rows);
        if target.ty == target.source.ty {
            let slab = (self.slab / row_bytes.0).max(1) * row_bytes.0;
            for bytes in data.chunks(slab) {
                let checked = self.pool.install(|| self.check(target.ty, bytes));
                checked.map_err(|error| bad(Bad("the file", error)))?;
                put(bytes)?;
            }
            return Ok(());
        }
        let importance = target.importance.as_deref();
        let (from, to) = (target.source.ty, target.ty);
        let rows = Rows { from, to, n_cols, row_bytes, rows_per_expert, importance };
        let slab = (self.slab / (row_bytes.0 + row_bytes.1)).clamp(1, n_rows);
        let mut new = vec![0; slab * row_bytes.1];
        for (i, old) in data.chunks(slab * row_bytes.0).enumerate() {
            let new = &mut new[..old.len() / row_bytes.0 * row_bytes.1];
            self.pool.install(|| rows.convert(i * slab, old, new)).map_err(bad)?;
            put(new)?;
        }
        Ok(())
    }

    fn check(&self, ty: QuantType, bytes: &[u8]) -> Result<(), quant::Error> {
        let piece = (1 << 20) / ty.info().block_bytes * ty.info().block_bytes;
        bytes.par_chunks(piece).try_for_each(|piece| quant::validate(ty, piece))
    }
}

impl Rows<'_> {
    /// Converts whole rows, of which the first is the tensor's row `first`.
    fn convert(&self, first: usize, old: &[u8], new: &mut [u8]) -> Result<(), Bad> {
        let n = PIECE.div_ceil(self.n_cols);
        let (old_row, new_row) = self.row_bytes;
        let pieces = new.par_chunks_mut(n * new_row).zip(old.par_chunks(n * old_row));
        pieces.enumerate().try_for_each_init(
            || vec![0.0; self.n_cols],
            |numbers, (i, (new, old))| {
                quant::validate(self.from, old).map_err(|error| Bad("the file", error))?;
                let rows = new.chunks_exact_mut(new_row).zip(old.chunks_exact(old_row));
                for (row, (new, old)) in (first + i * n..).zip(rows) {
                    self.convert_row(row, old, numbers, new)
                        .map_err(|error| Bad("the new type", error))?;
                }
                quant::validate(self.to, new).map_err(|error| Bad("the new type", error))
            },
        )
    }

    fn convert_row(
        &self,
        row: usize,
        old: &[u8],
        numbers: &mut [f32],
        new: &mut [u8],
    ) -> Result<(), quant::Error> {
        quant::dequantize_row(self.from, old, numbers)?;
        let start = row / self.rows_per_expert * self.n_cols;
        let importance = self.importance.and_then(|all| all.get(start..start + self.n_cols));
        quant::quantize_row(self.to, numbers, importance, new)
    }
}
