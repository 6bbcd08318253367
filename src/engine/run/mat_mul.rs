//! Products of weights and activations.

use std::ops::Range;

use super::rows::rows_per_task;
use super::{Run, Scratch};
use crate::backend::cpu::KernelTable;
use crate::backend::cpu::pool::{ColsMut, Grid, Task, Worker};
use crate::backend::cpu::table::{TiledRows, WeightRows};
use crate::engine::buffers::uses_q8;
use crate::model::Layout;
use crate::plan::{Mat, SlotId};
use crate::quant::{QuantType, tiles};
use crate::util::aligned::AlignedVec;

/// Outputs that a kernel computes together; tasks are multiples of it. With many tokens a task is
/// just these: their decoded weights fit in the L1 cache.
pub(super) const ROWS: usize = 16;
/// Most outputs of a task.
pub(super) const MAX_COLS: usize = 1 << 18;
/// The same of a matrix in tiles.
const TILE_ROWS: usize = KernelTable::TILE_ROWS;

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
        let tiled = mats.iter().any(|mat| self.layout(mat.weight) == Layout::Tiles);
        // Enough tasks to even out what threads get, few enough to hand out cheaply. A product of
        // tiles looks through all activations in every task.
        let cols = match (n, tiled) {
            (0..8, false) => width.div_ceil(8 * worker.n_threads()).next_multiple_of(ROWS),
            (0..8, true) => width.div_ceil(worker.n_threads()).next_multiple_of(TILE_ROWS),
            (_, false) => ROWS,
            (_, true) => TILE_ROWS,
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
                self.product(task, tiles, src, mat, rows, n, &mut y);
            }
            first += mat.n_out;
        }
    }

    /// Outputs `rows` of a matrix for `n` rows of the input.
    #[allow(clippy::too_many_arguments, reason = "one task's share of a step")]
    pub(super) fn product(
        &self,
        task: &Task,
        tiles: &mut AlignedVec<u8>,
        src: SlotId,
        mat: &Mat,
        rows: Range<usize>,
        n: usize,
        y: &mut ColsMut<'_, f32>,
    ) {
        let WeightRows { ty, data, k, n_rows } = self.rows_of(mat.weight);
        let q8 = uses_q8(self.table(), ty, self.runner.reference);
        let of = mat.first_row + rows.start..mat.first_row + rows.end;
        let (table, slot) = (self.table(), self.slot(src));
        let q8_act = || slot.act_q8(task, 0..n);
        let f32_act = || slot.act_f32(task, 0..n);
        match (self.layout(mat.weight), q8) {
            (Layout::Rows, true) => {
                let w = WeightRows { ty, data, k, n_rows };
                table.mul_mat_q8(&w, of, &q8_act(), y, tiles);
            }
            (Layout::Rows, false) => {
                let w = WeightRows { ty, data, k, n_rows };
                table.mul_mat_f32(&w, of, &f32_act(), y, tiles);
            }
            (Layout::Tiles, true) => {
                let w = TiledRows { ty, data, k, n_rows };
                table.mul_mat_tiles_q8(&w, of, &q8_act(), y, tiles);
            }
            (Layout::Tiles, false) => {
                let w = TiledRows { ty, data, k, n_rows };
                table.mul_mat_tiles_f32(&w, of, &f32_act(), y, tiles);
            }
            // Reference mode wants the order of sums that the file's rows have.
            (Layout::Neurons, _) => {
                let data = outputs_of_neurons(ty, data, k, n_rows, of.clone());
                let w = WeightRows { ty, data: &data, k: n_rows, n_rows: of.len() };
                table.mul_mat_f32(&w, 0..of.len(), &f32_act(), y, tiles);
            }
        }
        self.scale_and_bias(mat, rows, n, y);
    }

    /// Applies factors and biases of products that stand side by side.
    pub(super) fn finish_products(&self, worker: &Worker<'_>, mats: &[Mat], slot: SlotId) {
        let (n, width) = (self.n_rows(slot), self.slot(slot).width);
        let grid = Grid { rows: rows_per_task(n, worker), cols: width };
        worker.step(n.div_ceil(grid.rows), |task| {
            let mut tile = self.slot(slot).tile_f32(task, n, grid);
            let (n_rows, mut first) = (tile.rows.len(), 0);
            for mat in mats {
                let mut y = tile.view.narrow(first..first + mat.n_out);
                self.scale_and_bias(mat, 0..mat.n_out, n_rows, &mut y);
                first += mat.n_out;
            }
        });
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

/// Rows `outputs` of a matrix of plain numbers that lies by neurons: `n_ff` rows of `n_embd`.
fn outputs_of_neurons(
    ty: QuantType,
    data: &[u8],
    n_embd: usize,
    n_ff: usize,
    outputs: Range<usize>,
) -> Vec<u8> {
    let size = ty.info().block_bytes;
    let mut out = vec![0; outputs.len() * n_ff * size];
    match size {
        4 => tiles::transpose::<4>(data, n_embd, n_ff, outputs, &mut out),
        _ => tiles::transpose::<2>(data, n_embd, n_ff, outputs, &mut out),
    }
    out
}
