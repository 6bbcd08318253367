//! Steps that work row by row: embeddings, norms, activations, copies.

use super::{Run, Scratch};
use crate::backend::cpu::pool::{Grid, Worker};
use crate::engine::batch::Input;
use crate::plan::{SlotId, TensorId};
use crate::tensor::Activation;

/// Rows of a task when `n` rows are shared out. Not more than a grid can say.
pub(super) fn rows_per_task(n: usize, worker: &Worker<'_>) -> usize {
    n.div_ceil(4 * worker.n_threads()).clamp(1, 1024)
}

impl Run<'_> {
    /// Cosines and sines for each token's position.
    pub(super) fn rope_table(&self, worker: &Worker<'_>) {
        let (table, pos) = (&self.runner.cos_sin, &self.ubatch.pos);
        if table.ld() == 0 {
            return;
        }
        let grid = Grid { rows: rows_per_task(pos.len(), worker), cols: table.ld() };
        worker.step(pos.len().div_ceil(grid.rows), |task| {
            let mut tile = table.tile(task, pos.len(), grid);
            for (r, t) in tile.rows.clone().enumerate() {
                self.runner.freqs.cos_sin(pos[t], tile.view.row(r));
            }
        });
    }

    pub(super) fn embed(&self, worker: &Worker<'_>, weight: TensorId, dst: SlotId) {
        let n = self.n_rows(dst);
        let width = self.slot(dst).width;
        let grid = Grid { rows: rows_per_task(n, worker), cols: width };
        let weight = self.rows_of(weight);
        let row_bytes = weight.row_bytes();
        worker.step(n.div_ceil(grid.rows), |task| {
            let mut tile = self.slot(dst).tile_f32(task, n, grid);
            for (r, t) in tile.rows.clone().enumerate() {
                let out = tile.view.row(r);
                match self.input {
                    Input::Tokens(ids) => {
                        let row = &weight.data[ids[t] as usize * row_bytes..][..row_bytes];
                        self.table().dequant_row(weight.ty, row, out);
                    }
                    Input::Embeddings(x) => out.copy_from_slice(&x[t * width..][..width]),
                }
            }
        });
    }

    pub(super) fn rms_norm(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        src: SlotId,
        weight: TensorId,
        eps: f32,
        dst: SlotId,
    ) {
        let n = self.n_rows(dst);
        let width = self.slot(dst).width;
        let weight = self.vector(weight);
        scratch.rows.ensure(width);
        let grid = Grid { rows: rows_per_task(n, worker), cols: width };
        worker.step(n.div_ceil(grid.rows), |task| {
            let mut tile = self.slot(dst).tile(task, n, grid);
            let x = self.slot(src).read(task, tile.rows());
            for (r, x) in x.chunks_exact(width).enumerate() {
                tile.put(self.table(), r, &mut scratch.rows[..width], |y| {
                    self.table().rms_norm(x, Some(weight), eps, y);
                });
            }
        });
    }

    pub(super) fn silu_mul(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        src: SlotId,
        dst: SlotId,
    ) {
        let n = self.n_rows(dst);
        let width = self.slot(dst).width;
        // Few rows are cut into columns, in whole blocks of 8-bit activations.
        let cols = match n < 2 * worker.n_threads() {
            true => width.div_ceil(2 * worker.n_threads()).next_multiple_of(32).min(width),
            false => width,
        };
        let grid = Grid { rows: rows_per_task(n, worker), cols };
        let n_tasks = n.div_ceil(grid.rows) * width.div_ceil(cols);
        scratch.rows.ensure(cols);
        worker.step(n_tasks, |task| {
            let mut tile = self.slot(dst).tile(task, n, grid);
            let cols = tile.cols();
            let x = self.slot(src).read(task, tile.rows());
            for (r, x) in x.chunks_exact(2 * width).enumerate() {
                let (gate, up) = x.split_at(width);
                tile.put(self.table(), r, &mut scratch.rows[..cols.len()], |y| {
                    let (gate, up) = (&gate[cols.clone()], &up[cols.clone()]);
                    self.table().activate(Activation::Silu, gate, Some(up), y);
                });
            }
        });
    }

    pub(super) fn select(&self, worker: &Worker<'_>, src: SlotId, dst: SlotId) {
        let outputs = &self.ubatch.outputs;
        let n = outputs.len();
        let width = self.slot(dst).width;
        let grid = Grid { rows: rows_per_task(n, worker), cols: width };
        worker.step(n.div_ceil(grid.rows), |task| {
            let mut tile = self.slot(dst).tile(task, n, grid);
            for (r, i) in tile.rows().enumerate() {
                tile.copy(r, self.slot(src), task, outputs[i]);
            }
        });
    }
}
