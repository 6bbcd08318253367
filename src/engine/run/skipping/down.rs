//! The way back: from neurons to the residual stream.

use std::ops::Range;

use super::super::{Run, Scratch};
use crate::backend::cpu::KernelTable;
use crate::backend::cpu::pool::{Grid, Worker};
use crate::model::Layout;
use crate::plan::{DownRows, SkippingFfn};
use crate::quant::tiles;
use crate::sparse::LayerStats;

/// Rows and columns of a task with many tokens: its weights stay in the L2 cache from token to
/// token.
const TILE: Grid = Grid { rows: 64, cols: KernelTable::SUM_COLS };

impl Run<'_> {
    /// The way back from the lists of `n` tokens.
    pub(super) fn down(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        ffn: &SkippingFfn,
        n: usize,
    ) {
        let m = self.runner.firing.made();
        if worker.index() == 0 {
            let w = self.rows_of(ffn.down.weight);
            // Tokens may share some.
            let neurons = (0..n).map(|t| m.down.len(t)).sum::<usize>().min(ffn.n_ff);
            let bytes = match self.layout(ffn.down.weight) {
                Layout::Tiles => tiles::bytes_of(w.ty, ffn.n_ff, w.n_rows, neurons),
                _ if ffn.down.rows == DownRows::Neurons => neurons * w.row_bytes(),
                _ => w.data.len(),
            };
            LayerStats::add(&self.runner.stats.layer(ffn.layer).bytes, bytes);
        }
        match self.sums_neurons(ffn) {
            false => self.down_by_outputs(worker, scratch, ffn),
            true => {
                let width = self.slot(ffn.dst).width;
                let cols = width.div_ceil(worker.n_threads());
                let grid =
                    Grid { rows: usize::MAX, cols: cols.next_multiple_of(KernelTable::SUM_COLS) };
                worker.step(width.div_ceil(grid.cols), |task| {
                    let mut tile = self.slot(ffn.dst).tile_f32(task, n, grid);
                    for t in 0..n {
                        let ids = m.down.read(task, t);
                        let h = &m.h.read_rows(task, t..t + 1)[..ids.len()];
                        let cols = tile.cols.clone();
                        self.add_neurons(scratch, ffn, ids, h, cols, tile.view.row(t));
                    }
                });
            }
        }
    }

    /// Whether the way back sums neurons one by one. Those that the file has by outputs are summed
    /// as such in reference mode.
    pub(super) fn sums_neurons(&self, ffn: &SkippingFfn) -> bool {
        let file_has = self.layout(ffn.down.weight) == Layout::Rows;
        ffn.down.rows == DownRows::Neurons && (file_has || !self.runner.reference)
    }

    pub(super) fn down_by_outputs(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        ffn: &SkippingFfn,
    ) {
        let mat = ffn.down.mat(self.slot(ffn.dst).width);
        self.mat_mul(worker, scratch, ffn.acted, &[mat], ffn.dst, ffn.add.then_some(ffn.scale));
    }

    /// Adds the neurons `ids` with outputs `h` to some columns of a token's row of the stream.
    fn add_neurons(
        &self,
        scratch: &mut Scratch,
        ffn: &SkippingFfn,
        ids: &[u32],
        h: &[f32],
        cols: Range<usize>,
        y: &mut [f32],
    ) {
        let w = self.rows_of(ffn.down.weight);
        scratch.rows.ensure(cols.len());
        let sum = &mut scratch.rows[..cols.len()];
        sum.fill(0.0);
        let reference = self.runner.reference;
        self.table().sum_rows(&w, ids, h, cols.clone(), sum, reference, &mut scratch.tiles);
        let scale = ffn.down.scale.map(|scale| self.vector(scale)[0]);
        if let (Some(scale), false) = (scale, ffn.down.scale_last) {
            self.table().scale(scale, sum);
        }
        if let Some(bias) = ffn.down.bias {
            self.table().add(&self.vector(bias)[cols], sum);
        }
        if let (Some(scale), true) = (scale, ffn.down.scale_last) {
            self.table().scale(scale, sum);
        }
        if !ffn.add {
            y.fill(0.0);
        }
        self.table().axpy(ffn.scale, sum, y);
    }

    /// The way back of many tokens, neuron by neuron.
    pub(super) fn down_all(&self, worker: &Worker<'_>, scratch: &mut Scratch, ffn: &SkippingFfn) {
        let n = self.n_rows(ffn.dst);
        let width = self.slot(ffn.dst).width;
        let n_tasks = n.div_ceil(TILE.rows) * width.div_ceil(TILE.cols);
        worker.step(n_tasks, |task| {
            let mut tile = self.slot(ffn.dst).tile_f32(task, n, TILE);
            let (rows, cols) = (tile.rows.clone(), tile.cols.clone());
            let acted = self.slot(ffn.acted).read(task, rows);
            let mut places = std::mem::take(&mut scratch.lists.places);
            let mut values = std::mem::take(&mut scratch.lists.values);
            places.ensure(ffn.n_ff);
            values.ensure(ffn.n_ff);
            for (r, acted) in acted.chunks_exact(ffn.n_ff).enumerate() {
                let ids_len = self.table().places_nonzero(acted, &mut places);
                let ids = &places[..ids_len];
                let h = &mut values[..ids_len];
                h.iter_mut().zip(ids).for_each(|(h, &id)| *h = acted[id as usize]);
                self.add_neurons(scratch, ffn, ids, h, cols.clone(), tile.view.row(r));
            }
            (scratch.lists.places, scratch.lists.values) = (places, values);
        });
    }
}
