//! Steps of models with several residual streams, and of inputs that each layer has of its own.

use super::rows::{few_rows_grid, n_tasks, rows_per_task};
use super::{Run, Scratch};
use crate::backend::cpu::pool::{Grid, Worker};
use crate::plan::{SlotId, TensorId};
use crate::tensor::Activation;

impl Run<'_> {
    /// `stream[i] += sum over j of coefs[i * n + j] * stream[j]`
    pub(super) fn mix_streams(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        streams: &[SlotId],
        coefs: SlotId,
    ) {
        let (n, width) = (self.n_rows(coefs), self.slot(streams[0]).width);
        let grid = few_rows_grid(n, width, worker);
        scratch.rows.ensure(streams.len() * grid.cols);
        worker.step(n_tasks(n, width, grid), |task| {
            let tiles = streams.iter().map(|&stream| self.slot(stream).tile_f32(task, n, grid));
            let mut tiles: Vec<_> = tiles.collect();
            let (rows, n_cols) = (tiles[0].rows.clone(), tiles[0].cols.len());
            for (r, t) in rows.enumerate() {
                let coefs = self.slot(coefs).read(task, t..t + 1);
                let before = &mut scratch.rows[..streams.len() * n_cols];
                for (before, tile) in before.chunks_exact_mut(n_cols).zip(&mut tiles) {
                    before.copy_from_slice(tile.view.row(r));
                }
                for (tile, coefs) in tiles.iter_mut().zip(coefs.chunks_exact(streams.len())) {
                    for (&coef, before) in coefs.iter().zip(before.chunks_exact(n_cols)) {
                        self.table().axpy(coef, before, tile.view.row(r));
                    }
                }
            }
        });
    }

    /// `stream[i] += (1 + coefs[i]) * (src - stream[active])`
    pub(super) fn correct_streams(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        streams: &[SlotId],
        active: usize,
        src: SlotId,
        coefs: SlotId,
    ) {
        let (n, width) = (self.n_rows(src), self.slot(src).width);
        let grid = few_rows_grid(n, width, worker);
        scratch.rows.ensure(grid.cols);
        worker.step(n_tasks(n, width, grid), |task| {
            let tiles = streams.iter().map(|&stream| self.slot(stream).tile_f32(task, n, grid));
            let mut tiles: Vec<_> = tiles.collect();
            let (rows, cols) = (tiles[0].rows.clone(), tiles[0].cols.clone());
            for (r, t) in rows.enumerate() {
                let coefs = self.slot(coefs).read(task, t..t + 1);
                let change = &mut scratch.rows[..cols.len()];
                change.copy_from_slice(&self.slot(src).read(task, t..t + 1)[cols.clone()]);
                self.table().axpy(-1.0, tiles[active].view.row(r), change);
                for (tile, coef) in tiles.iter_mut().zip(coefs) {
                    self.table().axpy(1.0 + coef, change, tile.view.row(r));
                }
            }
        });
    }

    /// `dst = src * |like| / |src|`, or `dst += …`.
    pub(super) fn rescale(
        &self,
        worker: &Worker<'_>,
        src: SlotId,
        like: SlotId,
        dst: SlotId,
        add: bool,
    ) {
        let n = self.n_rows(dst);
        let grid = Grid { rows: rows_per_task(n, worker), cols: self.slot(dst).width };
        worker.step(n.div_ceil(grid.rows), |task| {
            let mut tile = self.slot(dst).tile_f32(task, n, grid);
            for (r, t) in tile.rows.clone().enumerate() {
                let (x, y) = (self.slot(src).read(task, t..t + 1), tile.view.row(r));
                let factor = length(self.slot(like).read(task, t..t + 1)) / length(x);
                if !add {
                    y.fill(0.0);
                }
                self.table().axpy(factor, x, y);
            }
        });
    }

    /// `dst = src * factors`
    pub(super) fn multiply(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        src: SlotId,
        factors: TensorId,
        dst: SlotId,
    ) {
        let (n, width, factors) = (self.n_rows(dst), self.slot(dst).width, self.vector(factors));
        let grid = few_rows_grid(n, width, worker);
        scratch.rows.ensure(grid.cols);
        worker.step(n_tasks(n, width, grid), |task| {
            let mut tile = self.slot(dst).tile(task, n, grid);
            let cols = tile.cols();
            for (r, t) in tile.rows().enumerate() {
                let x = &self.slot(src).read(task, t..t + 1)[cols.clone()];
                tile.put(self.table(), r, &mut scratch.rows[..cols.len()], |y| {
                    let products = x.iter().zip(&factors[cols.clone()]).map(|(x, f)| x * f);
                    y.iter_mut().zip(products).for_each(|(y, product)| *y = product);
                });
            }
        });
    }

    /// `dst = act(src) * by[first..]`
    #[allow(clippy::too_many_arguments, reason = "the parts of one step")]
    pub(super) fn activate_by(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        src: SlotId,
        act: Activation,
        by: SlotId,
        first: usize,
        dst: SlotId,
    ) {
        let (n, width) = (self.n_rows(dst), self.slot(dst).width);
        let grid = Grid { rows: rows_per_task(n, worker), cols: width };
        scratch.rows.ensure(width);
        worker.step(n.div_ceil(grid.rows), |task| {
            let mut tile = self.slot(dst).tile(task, n, grid);
            for (r, t) in tile.rows().enumerate() {
                let x = self.slot(src).read(task, t..t + 1);
                let by = &self.slot(by).read(task, t..t + 1)[first..first + width];
                tile.put(self.table(), r, &mut scratch.rows[..width], |y| {
                    self.table().activate(act, x, Some(by), y);
                });
            }
        });
    }
}

/// Euclidean length.
fn length(x: &[f32]) -> f32 {
    let sum: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    sum.sqrt() as f32
}
