//! Steps that work row by row: embeddings, norms, activations, copies.

use std::ops::Range;

use super::{Run, Scratch};
use crate::backend::cpu::KernelTable;
use crate::backend::cpu::pool::{Grid, Worker};
use crate::engine::batch::Input;
use crate::plan::{Map, Norm, NormKind, RowOf, SlotId, TensorId};
use crate::tensor::Activation;

/// Rows of a task when `n` rows are shared out. Not more than a grid can say.
pub(super) fn rows_per_task(n: usize, worker: &Worker<'_>) -> usize {
    n.div_ceil(4 * worker.n_threads()).clamp(1, 1024)
}

/// Parts of `n` rows of `width` elements; few rows are cut into columns too, in whole blocks of 8-bit
/// activations.
pub(super) fn few_rows_grid(n: usize, width: usize, worker: &Worker<'_>) -> Grid {
    let cols = match n < 2 * worker.n_threads() {
        true => width.div_ceil(2 * worker.n_threads()).next_multiple_of(32).min(width),
        false => width,
    };
    Grid { rows: rows_per_task(n, worker), cols }
}

/// Tasks of a grid over `n` rows of `width` elements.
pub(super) fn n_tasks(n: usize, width: usize, grid: Grid) -> usize {
    n.div_ceil(grid.rows) * width.div_ceil(grid.cols)
}

impl Run<'_> {
    /// Cosines and sines for each token's position.
    pub(super) fn rope_tables(&self, worker: &Worker<'_>) {
        let pos = &self.ubatch.pos;
        for (freqs, table) in self.runner.ropes.iter().zip(&self.runner.cos_sin) {
            let grid = Grid { rows: rows_per_task(pos.len(), worker), cols: table.ld() };
            worker.step(pos.len().div_ceil(grid.rows), |task| {
                let mut tile = table.tile(task, pos.len(), grid);
                for (r, t) in tile.rows.clone().enumerate() {
                    freqs.cos_sin(pos[t], tile.view.row(r));
                }
            });
        }
    }

    /// Calls `change` for every row of a slot that has them in f32 only, with the row's number.
    fn change_rows(
        &self,
        worker: &Worker<'_>,
        slot: SlotId,
        mut change: impl FnMut(usize, &mut [f32]),
    ) {
        let n = self.n_rows(slot);
        let grid = Grid { rows: rows_per_task(n, worker), cols: self.slot(slot).width };
        worker.step(n.div_ceil(grid.rows), |task| {
            let mut tile = self.slot(slot).tile_f32(task, n, grid);
            for (r, t) in tile.rows.clone().enumerate() {
                change(t, tile.view.row(r));
            }
        });
    }

    pub(super) fn embed(
        &self,
        worker: &Worker<'_>,
        weight: TensorId,
        dst: SlotId,
        scale: f32,
        input_scale: Option<f32>,
    ) {
        let weight = self.rows_of(weight);
        let row_bytes = weight.row_bytes();
        self.change_rows(worker, dst, |t, out| {
            let scale = match self.input {
                Input::Tokens(ids) => {
                    let row = &weight.data[ids[t] as usize * row_bytes..][..row_bytes];
                    self.table().dequant_row(weight.ty, row, out);
                    scale
                }
                Input::Embeddings(x) => {
                    let Some(scale) = input_scale else { return out.fill(0.0) };
                    out.copy_from_slice(&x[t * out.len()..][..out.len()]);
                    scale
                }
            };
            if scale != 1.0 {
                self.table().scale(scale, out);
            }
        });
    }

    pub(super) fn add_row(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        table: TensorId,
        row: RowOf,
        scale: f32,
        dst: SlotId,
    ) {
        let table = self.rows_of(table);
        let row_bytes = table.row_bytes();
        let width = self.slot(dst).width;
        scratch.rows.ensure(width);
        let summand = &mut scratch.rows[..width];
        self.change_rows(worker, dst, |t, out| {
            let at = match row {
                RowOf::Token => match self.input {
                    Input::Tokens(ids) => ids[t] as usize,
                    Input::Embeddings(_) => 0,
                },
                // Batches with positions beyond the table were refused.
                RowOf::Position(offset) => self.ubatch.pos[t] as usize + offset,
                RowOf::Fixed(row) => row,
            };
            self.table().dequant_row(table.ty, &table.data[at * row_bytes..][..row_bytes], summand);
            match scale {
                1.0 => self.table().add(summand, out),
                scale => self.table().axpy(scale, summand, out),
            }
        });
    }

    /// The weights of a norm.
    fn norm_vectors(&self, norm: &Norm) -> (Option<&[f32]>, Option<&[f32]>) {
        (norm.weight.map(|id| self.vector(id)), norm.bias.map(|id| self.vector(id)))
    }

    pub(super) fn norm(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        src: SlotId,
        norm: &Norm,
        dst: SlotId,
        add: bool,
    ) {
        let n = self.n_rows(dst);
        let width = self.slot(dst).width;
        let (weight, bias) = self.norm_vectors(norm);
        scratch.rows.ensure(width);
        let grid = Grid { rows: rows_per_task(n, worker), cols: width };
        worker.step(n.div_ceil(grid.rows), |task| {
            let rows = grid.rows * task.index()..(grid.rows * (task.index() + 1)).min(n);
            let x = self.slot(src).read(task, rows).chunks_exact(width).enumerate();
            if add {
                let mut tile = self.slot(dst).tile_f32(task, n, grid);
                let y = &mut scratch.rows[..width];
                for (r, x) in x {
                    normalize(self.table(), norm, x, weight, bias, y);
                    self.table().add(y, tile.view.row(r));
                }
            } else {
                let mut tile = self.slot(dst).tile(task, n, grid);
                for (r, x) in x {
                    tile.put(self.table(), r, &mut scratch.rows[..width], |y| {
                        normalize(self.table(), norm, x, weight, bias, y);
                    });
                }
            }
        });
    }

    /// One row through a norm, in place.
    pub(super) fn norm_row(&self, norm: &Norm, y: &mut [f32]) {
        let (weight, bias) = self.norm_vectors(norm);
        match norm.kind {
            NormKind::Rms => self.table().rms_norm_in_place(weight, norm.eps, y),
            NormKind::Layer => self.table().layer_norm_in_place(weight, bias, norm.eps, y),
        }
    }

    pub(super) fn norm_heads(
        &self,
        worker: &Worker<'_>,
        slot: SlotId,
        cols: Range<usize>,
        head_dim: usize,
        norm: &Norm,
    ) {
        let (weight, bias) = self.norm_vectors(norm);
        // Of weights as wide as all heads together each head has its own part.
        let own = |w: Option<&'_ [f32]>, head: usize| -> Option<Range<usize>> {
            w.map(|w| if w.len() > head_dim { head * head_dim } else { 0 })
                .map(|first| first..first + head_dim)
        };
        self.change_rows(worker, slot, |_, row| {
            for (head, y) in row[cols.clone()].chunks_exact_mut(head_dim).enumerate() {
                let weight = own(weight, head).zip(weight).map(|(part, w)| &w[part]);
                let bias = own(bias, head).zip(bias).map(|(part, b)| &b[part]);
                match norm.kind {
                    NormKind::Rms => self.table().rms_norm_in_place(weight, norm.eps, y),
                    NormKind::Layer => {
                        self.table().layer_norm_in_place(weight, bias, norm.eps, y);
                    }
                }
            }
        });
    }

    pub(super) fn activate(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        src: SlotId,
        act: Activation,
        gated: bool,
        dst: SlotId,
    ) {
        let n = self.n_rows(dst);
        let width = self.slot(dst).width;
        let grid = few_rows_grid(n, width, worker);
        scratch.rows.ensure(grid.cols);
        worker.step(n_tasks(n, width, grid), |task| {
            let mut tile = self.slot(dst).tile(task, n, grid);
            let cols = tile.cols();
            let x = self.slot(src).read(task, tile.rows());
            for (r, x) in x.chunks_exact(self.slot(src).width).enumerate() {
                let (gate, up) = x.split_at(width);
                let up = gated.then(|| &up[cols.clone()]);
                tile.put(self.table(), r, &mut scratch.rows[..cols.len()], |y| {
                    self.table().activate(act, &gate[cols.clone()], up, y);
                });
            }
        });
    }

    pub(super) fn map(&self, worker: &Worker<'_>, slot: SlotId, map: Map) {
        self.change_rows(worker, slot, |_, x| match map {
            Map::Scale(factor) => self.table().scale(factor, x),
            Map::SoftCap(cap) => self.table().soft_cap(cap, x),
            Map::Tanh(factor) => {
                self.table().scale(factor, x);
                self.table().soft_cap(1.0, x);
            }
        });
    }

    /// Leaves of the gates of `[gate | up]` what is beyond the cutoff.
    pub(super) fn cut_gates(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        slot: SlotId,
        cutoff: f32,
    ) {
        let n_ff = self.slot(slot).width / 2;
        scratch.rows.ensure(n_ff);
        let before = &mut scratch.rows[..n_ff];
        self.change_rows(worker, slot, |_, row| {
            let gates = &mut row[..n_ff];
            before.copy_from_slice(gates);
            self.table().beyond(cutoff, before, gates);
        });
    }

    pub(super) fn add(&self, worker: &Worker<'_>, src: SlotId, gate: SlotId, dst: SlotId) {
        let n = self.n_rows(dst);
        let grid = Grid { rows: rows_per_task(n, worker), cols: self.slot(dst).width };
        worker.step(n.div_ceil(grid.rows), |task| {
            let mut tile = self.slot(dst).tile_f32(task, n, grid);
            for (r, t) in tile.rows.clone().enumerate() {
                let factor = 1.0 / (1.0 + (-self.slot(gate).read(task, t..t + 1)[0]).exp());
                self.table().axpy(factor, self.slot(src).read(task, t..t + 1), tile.view.row(r));
            }
        });
    }

    /// `dst += scale * src`
    pub(super) fn accumulate(&self, worker: &Worker<'_>, src: SlotId, scale: f32, dst: SlotId) {
        let n = self.n_rows(dst);
        let grid = Grid { rows: rows_per_task(n, worker), cols: self.slot(dst).width };
        worker.step(n.div_ceil(grid.rows), |task| {
            let mut tile = self.slot(dst).tile_f32(task, n, grid);
            for (r, t) in tile.rows.clone().enumerate() {
                self.table().axpy(scale, self.slot(src).read(task, t..t + 1), tile.view.row(r));
            }
        });
    }

    pub(super) fn copy(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        src: SlotId,
        dst: SlotId,
    ) {
        let n = self.n_rows(dst);
        let width = self.slot(dst).width;
        let same_rows = self.plan.slot(src).rows == self.plan.slot(dst).rows;
        scratch.rows.ensure(width);
        let grid = Grid { rows: rows_per_task(n, worker), cols: width };
        worker.step(n.div_ceil(grid.rows), |task| {
            let mut tile = self.slot(dst).tile(task, n, grid);
            for (r, i) in tile.rows().enumerate() {
                let from = if same_rows { i } else { self.ubatch.outputs[i] };
                let row = &mut scratch.rows[..width];
                tile.copy(self.table(), r, row, self.slot(src), task, from);
            }
        });
    }
}

/// One row or head through a norm.
fn normalize(
    table: &KernelTable,
    norm: &Norm,
    x: &[f32],
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    match norm.kind {
        NormKind::Rms => table.rms_norm(x, weight, norm.eps, y),
        NormKind::Layer => table.layer_norm(x, weight, bias, norm.eps, y),
    }
}
