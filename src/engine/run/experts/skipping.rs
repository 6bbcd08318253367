//! Experts whose gates give zero for many neurons: up is read for those that fire alone.
//!
//! A task has some neurons of every expert, for all tokens: the gate says which of them fire for any
//! of the expert's tokens, up is multiplied by those. A product has the same bits whether its row
//! was one of a list or of the whole matrix, so that it makes no difference which it was.

use std::time::Instant;

use super::{Outs, Run, ThreadScratch, made};
use crate::backend::cpu::pool::{ColsMut, Grid, Worker};
use crate::plan::{ExpertMat, SkippingExperts};
use crate::sparse::LayerStats;
use crate::util::aligned::{AlignedVec, Pod};

/// Neurons of a task: whole blocks of 8-bit activations, enough for rows of a list to be fetched
/// ahead, few enough to even out what threads get.
const NEURONS: usize = 128;

/// Memory of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    /// Activated gates of one row.
    acted: AlignedVec<f32>,
    /// Not zero where a neuron fires for any row.
    any: AlignedVec<f32>,
    /// Which those are, counted from the task's first neuron.
    places: AlignedVec<u32>,
    /// Their numbers.
    ids: AlignedVec<u32>,
    /// Outputs of up.
    up: AlignedVec<f32>,
    /// Gates and outputs of the neurons of a list.
    listed: AlignedVec<f32>,
}

impl Run<'_> {
    pub(in crate::engine::run) fn skipping_experts(
        &self,
        worker: &Worker<'_>,
        scratch: &mut ThreadScratch,
        step: &SkippingExperts,
    ) {
        let start = (worker.index() == 0 && self.runner.stats.detailed()).then(Instant::now);
        self.expert_mat_mul(worker, scratch, step.src, &[step.gate], step.gate_up, false);
        if let Some(added) = &step.adapted_in {
            self.expert_mat_mul(worker, scratch, step.src, &[added.a], added.hidden, false);
            let gate = &added.b[..1];
            self.expert_mat_mul(worker, scratch, added.hidden, gate, step.gate_up, true);
        }
        self.up_of_firing(worker, scratch, step);
        self.expert_mat_mul(worker, scratch, step.acted, &[step.down], step.dst, false);
        if let Some(added) = &step.adapted_out {
            self.expert_mat_mul(worker, scratch, step.acted, &[added.a], added.hidden, false);
            self.expert_mat_mul(worker, scratch, added.hidden, &added.b, step.dst, true);
        }
        let n = self.n_rows(step.acted) / self.plan.slot(step.acted).per_row;
        if worker.index() == 0 {
            let stats = self.runner.stats.layer(step.layer);
            LayerStats::add(&stats.tokens, n);
            if let Some(start) = start {
                LayerStats::add(&stats.nanos, start.elapsed().as_nanos() as usize);
                LayerStats::add(&stats.timed, n);
            }
        }
    }

    /// `act(gate) * up`, zero for neurons that do not fire.
    fn up_of_firing(
        &self,
        worker: &Worker<'_>,
        scratch: &mut ThreadScratch,
        step: &SkippingExperts,
    ) {
        let n = self.n_rows(step.acted);
        let n_ff = step.up.n_out;
        let selector = self.sparse.layer(step.layer).expect("made for this plan");
        let stats = self.runner.stats.layer(step.layer);
        let cols = n_ff.div_ceil(4 * worker.n_threads()).next_multiple_of(32).min(NEURONS);
        let grid = Grid { rows: usize::MAX, cols };
        let n_tasks = if n == 0 { 0 } else { n_ff.div_ceil(cols) };
        worker.step(n_tasks, |task| {
            let starts = made(&self.runner.routing.starts).read(task);
            let mut tile = self.slot(step.acted).tile(task, n, grid);
            let neurons = tile.cols();
            let len = neurons.len();
            let gates = self.slot(step.gate_up).read(task, 0..n);
            let gate = |place: usize| &gates[place * 2 * n_ff..][neurons.clone()];
            let Scratch { acted, any, places, ids, up, listed } = &mut scratch.route.skipping;
            let (acted, any) = (room(acted, len), room(any, len));
            let (places, ids) = (room(places, len), room(ids, len));
            for (expert, rows) in starts.windows(2).enumerate() {
                let rows = rows[0] as usize..rows[1] as usize;
                if rows.is_empty() {
                    continue;
                }
                any.fill(0.0);
                for place in rows.clone() {
                    self.table().activate(step.act.of_gate(), gate(place), None, acted);
                    let fired = any.iter_mut().zip(&*acted).filter(|(_, a)| **a != 0.0);
                    LayerStats::add(&stats.fired, fired.map(|(any, _)| *any = 1.0).count());
                }
                LayerStats::add(&stats.guessed, rows.len() * len);
                let n_firing = self.table().places_nonzero(any, places);
                let places = &places[..n_firing];
                let all = n_firing as f32 >= selector.all_rows_from * len as f32;
                let width = if all { len } else { n_firing };
                let ids = &mut ids[..n_firing];
                for (id, &at) in ids.iter_mut().zip(places) {
                    *id = neurons.start as u32 + at;
                }
                let neurons = match all {
                    true => Outs::Range(neurons.clone()),
                    false => Outs::List(ids),
                };
                let up = room(up, rows.len() * width);
                if width > 0 {
                    let mut y = ColsMut::new(up, width, 0..width);
                    let tiles = &mut scratch.tiles;
                    self.expert_product(
                        task,
                        tiles,
                        step.src,
                        &step.up,
                        expert,
                        neurons.clone(),
                        rows.clone(),
                        &mut y,
                    );
                    if let Some(added) = &step.adapted_in {
                        self.add_expert_product(
                            task,
                            (&mut scratch.tiles, &mut scratch.rows),
                            added.hidden,
                            &added.b[1],
                            expert,
                            neurons,
                            rows.clone(),
                            &mut y,
                        );
                    }
                }
                let of_rows = |mat: &ExpertMat, n| n * self.rows_of(mat.weight).row_bytes();
                let bytes = of_rows(&step.gate, len) + of_rows(&step.up, width);
                let dense = of_rows(&step.gate, len) + of_rows(&step.up, len);
                LayerStats::add(&stats.bytes, bytes);
                LayerStats::add(&stats.dense_bytes, dense);
                if task.index() == 0 {
                    let down = of_rows(&step.down, step.down.n_out);
                    LayerStats::add(&stats.bytes, down);
                    LayerStats::add(&stats.dense_bytes, down);
                }

                for (r, place) in rows.enumerate() {
                    let (gate, up) = (gate(place), &up[r * width..][..width]);
                    tile.put(self.table(), place, acted, |y| {
                        if all {
                            return self.table().activate(step.act, gate, Some(up), y);
                        }
                        let (own, h) = room(listed, 2 * width).split_at_mut(width);
                        own.iter_mut().zip(places).for_each(|(g, &at)| *g = gate[at as usize]);
                        self.table().activate(step.act, own, Some(up), h);
                        y.fill(0.0);
                        places.iter().zip(&*h).for_each(|(&at, h)| y[at as usize] = *h);
                    });
                }
            }
        });
    }
}

/// Room for `n` elements.
fn room<T: Pod>(x: &mut AlignedVec<T>, n: usize) -> &mut [T] {
    x.ensure(n);
    &mut x[..n]
}
