//! Products of weights and activations.

use std::ops::Range;

use super::{Run, Scratch};
use crate::backend::cpu::pool::{ColsMut, Grid, Task, Worker};
use crate::engine::buffers::uses_q8;
use crate::plan::{Mat, SlotId};
use crate::util::aligned::AlignedVec;

/// Outputs that a kernel computes together; tasks are multiples of it. With many tokens a task is
/// just these: their decoded weights fit in the L1 cache.
pub(super) const ROWS: usize = 16;
/// Most outputs of a task.
pub(super) const MAX_COLS: usize = 1 << 18;

impl Run<'_> {
    pub(super) fn mat_mul(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        src: SlotId,
        mats: &[Mat],
        dst: SlotId,
        add: Option<f32>,
    ) {
        let n = self.n_rows(dst);
        let width = self.slot(dst).width;
        // Enough tasks to even out what threads get, few enough to hand out cheaply.
        let cols = match n {
            0..8 => width.div_ceil(8 * worker.n_threads()).next_multiple_of(ROWS),
            _ => ROWS,
        };
        let grid = Grid { rows: usize::MAX, cols: cols.min(MAX_COLS) };
        let n_tasks = if n == 0 { 0 } else { width.div_ceil(grid.cols) };
        worker.step(n_tasks, |task| {
            let mut tile = self.slot(dst).tile_f32(task, n, grid);
            let cols = tile.cols.clone();
            if let Some(scale) = add {
                scratch.rows.ensure(n * cols.len());
                let product = &mut scratch.rows[..n * cols.len()];
                let mut view = ColsMut::new(product, cols.len(), 0..cols.len());
                self.products(task, &mut scratch.tiles, src, mats, n, cols.clone(), &mut view);
                for (r, x) in product.chunks_exact(cols.len()).enumerate() {
                    self.table().axpy(scale, x, tile.view.row(r));
                }
            } else {
                self.products(task, &mut scratch.tiles, src, mats, n, cols, &mut tile.view);
            }
        });
    }

    /// Outputs `cols` of the matrices side by side, for `n` rows of the input.
    #[allow(clippy::too_many_arguments, reason = "one task's share of a step")]
    fn products(
        &self,
        task: &Task,
        tiles: &mut AlignedVec<u8>,
        src: SlotId,
        mats: &[Mat],
        n: usize,
        cols: Range<usize>,
        out: &mut ColsMut<'_, f32>,
    ) {
        let mut first = 0;
        for mat in mats {
            let part = cols.start.max(first)..cols.end.min(first + mat.n_out);
            if part.start < part.end {
                let rows = part.start - first..part.end - first;
                let mut y = out.narrow(part.start - cols.start..part.end - cols.start);
                let weight = self.rows_of(mat.weight);
                let weight_rows = mat.first_row + rows.start..mat.first_row + rows.end;
                if uses_q8(self.table(), mat.ty, self.runner.reference) {
                    let act = self.slot(src).act_q8(task, 0..n);
                    self.table().mul_mat_q8(&weight, weight_rows, &act, &mut y, tiles);
                } else {
                    let act = self.slot(src).act_f32(task, 0..n);
                    self.table().mul_mat_f32(&weight, weight_rows, &act, &mut y, tiles);
                }
                self.scale_and_bias(mat, rows, n, &mut y);
            }
            first += mat.n_out;
        }
    }

    pub(super) fn scale_and_bias(
        &self,
        mat: &Mat,
        rows: Range<usize>,
        n: usize,
        y: &mut ColsMut<'_, f32>,
    ) {
        let scale = mat.scale.map(|id| self.vector(id)[0]);
        let bias = mat.bias.map(|id| &self.vector(id)[rows]);
        for r in 0..n {
            if let (Some(a), false) = (scale, mat.scale_last) {
                self.table().scale(a, y.row(r));
            }
            if let Some(bias) = bias {
                self.table().add(bias, y.row(r));
            }
            if let (Some(a), true) = (scale, mat.scale_last) {
                self.table().scale(a, y.row(r));
            }
        }
    }
}
