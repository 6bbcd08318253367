//! Networks of experts: which experts compute a row, and their products.
//!
//! Rows are copied once for each of their experts and sorted by expert, so that an expert's
//! matrix meets all of its rows at once. Where a row lands in that order never changes its
//! product, and a token's experts are summed in the order of their rank: results do not depend
//! on what else is in the batch.

mod skipping;

use std::ops::Range;

use super::rows::rows_per_task;
use super::{Run, Scratch as ThreadScratch};
use crate::backend::cpu::pool::{ColsMut, Grid, Shared, Task, Worker};
use crate::backend::cpu::table::WeightRows;
use crate::engine::buffers::uses_q8;
use crate::plan::{ExpertMat, Gating, Plan, Router, SlotId, StepKind};
use crate::util::aligned::{AlignedVec, OutOfMemory, Pod};

/// Shares are not divided by less than this: the smallest normal number of F16.
const LEAST_SUM: f32 = 6.103_515_6e-5;
/// Most outputs of a task: few enough to even out what threads get, enough to go through the
/// list of experts seldom.
const COLS: usize = 64;

/// Outputs of an expert.
#[derive(Clone, Debug)]
enum Outs<'a> {
    Range(Range<usize>),
    /// Ascending.
    List(&'a [u32]),
}

/// Which rows the experts compute, until the next router.
#[derive(Default)]
pub(super) struct Routing {
    /// Experts of each row by rank, `n_used` wide.
    pub(super) experts: Option<Shared<u32>>,
    /// Their shares, likewise.
    shares: Option<Shared<f32>>,
    /// Where each of them is in the sorted order, likewise.
    pub(super) places: Option<Shared<u32>>,
    /// Row of each place of the sorted order.
    sources: Option<Shared<u32>>,
    /// First place of each expert, and the end.
    starts: Option<Shared<u32>>,
}

/// Memory of one thread for routing.
#[derive(Default)]
pub(super) struct Scratch {
    probs: AlignedVec<f32>,
    skipping: skipping::Scratch,
}

impl Routing {
    /// Makes room for `n` rows, if the plan has routers.
    pub(super) fn ensure(&mut self, plan: &Plan, n: usize) -> Result<(), OutOfMemory> {
        let routers = plan.steps.iter().filter_map(|step| match &step.kind {
            StepKind::Route { logits, router } => Some((plan.slot(*logits).width, router.n_used)),
            _ => None,
        });
        // All layers of the architectures that there are have the same numbers.
        let Some((n_expert, n_used)) = routers.max() else { return Ok(()) };
        let wide = |slot: &mut Option<Shared<u32>>, rows: usize, width: usize| {
            if slot.is_none() {
                *slot = Some(Shared::new(0, width)?);
            }
            slot.as_mut().map_or(Ok(()), |s| s.ensure_rows(rows))
        };
        wide(&mut self.experts, n, n_used)?;
        wide(&mut self.places, n, n_used)?;
        wide(&mut self.sources, n * n_used, 1)?;
        wide(&mut self.starts, n_expert + 1, 1)?;
        if self.shares.is_none() {
            self.shares = Some(Shared::new(0, n_used)?);
        }
        self.shares.as_mut().map_or(Ok(()), |s| s.ensure_rows(n))
    }

    /// Bytes of memory.
    pub(super) fn n_bytes(&mut self) -> usize {
        let lists = [&mut self.experts, &mut self.places, &mut self.sources, &mut self.starts];
        let lists: usize = lists.into_iter().flatten().map(Shared::n_bytes).sum();
        lists + self.shares.as_mut().map_or(0, Shared::n_bytes)
    }
}

fn made<T: Pod>(list: &Option<Shared<T>>) -> &Shared<T> {
    list.as_ref().expect("ensure() made the lists of a plan with routers")
}

/// Chooses the experts of one row: ids and shares by rank. Equal scores go to the lower id.
fn choose(
    router: &Router,
    logits: &[f32],
    bias: Option<&[f32]>,
    probs: &mut [f32],
    (ids, shares): (&mut [u32], &mut [f32]),
) {
    match router.gating {
        Gating::Softmax => {
            probs.copy_from_slice(logits);
            softmax(probs);
        }
        Gating::Sigmoid => {
            for (p, x) in probs.iter_mut().zip(logits) {
                *p = 1.0 / (1.0 + (-x).exp());
            }
        }
        Gating::SoftmaxOfBest => probs.copy_from_slice(logits),
    }
    let score = |e: usize| probs[e] + bias.map_or(0.0, |b| b[e]);
    let mut n = 0;
    for e in 0..probs.len() {
        // As long as there is room even NaN is taken.
        let at = ids[..n].partition_point(|&other| score(other as usize) >= score(e));
        if at == ids.len() {
            continue;
        }
        n = (n + 1).min(ids.len());
        ids[at..n].rotate_right(1);
        ids[at] = e as u32;
    }
    for (share, &id) in shares.iter_mut().zip(&*ids) {
        *share = probs[id as usize];
    }
    if router.gating == Gating::SoftmaxOfBest {
        softmax(shares);
    }
    if router.normalized {
        let sum = shares.iter().sum::<f32>().max(LEAST_SUM);
        shares.iter_mut().for_each(|s| *s /= sum);
    }
    shares.iter_mut().for_each(|s| *s *= router.scale);
}

fn softmax(x: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in &mut *x {
        *x = (*x - max).exp();
        sum += *x;
    }
    x.iter_mut().for_each(|x| *x /= sum);
}

impl Run<'_> {
    pub(super) fn route(
        &self,
        worker: &Worker<'_>,
        scratch: &mut ThreadScratch,
        logits: SlotId,
        router: &Router,
    ) {
        let n = self.n_rows(logits);
        let (n_expert, n_used) = (self.slot(logits).width, router.n_used);
        let routing = &self.runner.routing;
        let bias = router.bias.map(|id| self.vector(id));
        let probs = &mut scratch.route.probs;
        probs.ensure(n_expert);
        let grid = Grid { rows: rows_per_task(n, worker), cols: n_used };
        worker.step(n.div_ceil(grid.rows), |task| {
            let mut experts = made(&routing.experts).tile(task, n, grid);
            let mut shares = made(&routing.shares).tile(task, n, grid);
            for (r, t) in experts.rows.clone().enumerate() {
                let logits = self.slot(logits).read(task, t..t + 1);
                let out = (experts.view.row(r), shares.view.row(r));
                choose(router, logits, bias, &mut probs[..n_expert], out);
            }
        });
        // Sorted by expert, then by row: a counting sort, too short to share out.
        worker.step(usize::from(n > 0), |task| {
            let all = |cols| Grid { rows: usize::MAX, cols };
            let experts = &made(&routing.experts).read(task)[..n * n_used];
            let mut places = made(&routing.places).tile(task, n, all(n_used));
            let mut sources = made(&routing.sources).tile(task, n * n_used, all(1));
            let mut starts = made(&routing.starts).tile(task, n_expert + 1, all(1));
            (0..=n_expert).for_each(|e| starts.view.row(e)[0] = 0);
            for &e in experts {
                starts.view.row(e as usize + 1)[0] += 1;
            }
            for e in 0..n_expert {
                let start = starts.view.row(e)[0];
                starts.view.row(e + 1)[0] += start;
            }
            for (i, &e) in experts.iter().enumerate() {
                let next = &mut starts.view.row(e as usize)[0];
                let place = *next;
                *next += 1;
                places.view.row(i / n_used)[i % n_used] = place;
                sources.view.row(place as usize)[0] = (i / n_used) as u32;
            }
            // Each start has moved to the next expert's.
            for e in (0..n_expert).rev() {
                let start = if e == 0 { 0 } else { starts.view.row(e - 1)[0] };
                starts.view.row(e)[0] = start;
            }
        });
    }

    pub(super) fn scatter_to_experts(
        &self,
        worker: &Worker<'_>,
        scratch: &mut ThreadScratch,
        src: SlotId,
        dst: SlotId,
    ) {
        let n = self.n_rows(dst);
        let width = self.slot(dst).width;
        scratch.rows.ensure(width);
        let grid = Grid { rows: rows_per_task(n, worker), cols: width };
        worker.step(n.div_ceil(grid.rows), |task| {
            let sources = made(&self.runner.routing.sources).read(task);
            let mut tile = self.slot(dst).tile(task, n, grid);
            for (r, place) in tile.rows().enumerate() {
                let (row, from) = (&mut scratch.rows[..width], sources[place] as usize);
                tile.copy(self.table(), r, row, self.slot(src), task, from);
            }
        });
    }

    pub(super) fn expert_mat_mul(
        &self,
        worker: &Worker<'_>,
        scratch: &mut ThreadScratch,
        src: SlotId,
        mats: &[ExpertMat],
        dst: SlotId,
        add: bool,
    ) {
        let n = self.n_rows(dst);
        let width = mats.iter().map(|mat| mat.n_out).sum::<usize>();
        let cols = width.div_ceil(8 * worker.n_threads()).next_multiple_of(16).min(COLS);
        let grid = Grid { rows: usize::MAX, cols };
        let n_tasks = if n == 0 { 0 } else { width.div_ceil(cols) };
        worker.step(n_tasks, |task| {
            let starts = made(&self.runner.routing.starts).read(task);
            let mut tile = self.slot(dst).tile_f32(task, n, grid);
            let cols = tile.cols.clone();
            let mut first = 0;
            for mat in mats {
                let part = cols.start.max(first)..cols.end.min(first + mat.n_out);
                if part.start < part.end {
                    let outs = part.start - first..part.end - first;
                    let at = part.start - cols.start..part.end - cols.start;
                    for (expert, places) in starts.windows(2).enumerate() {
                        let places = places[0] as usize..places[1] as usize;
                        if places.is_empty() {
                            continue;
                        }
                        let mut y = tile.view.narrow_rows(places.clone(), at.clone());
                        let outs = Outs::Range(outs.clone());
                        if add {
                            let scratch = (&mut scratch.tiles, &mut scratch.rows);
                            self.add_expert_product(
                                task, scratch, src, mat, expert, outs, places, &mut y,
                            );
                            continue;
                        }
                        let tiles = &mut scratch.tiles;
                        self.expert_product(task, tiles, src, mat, expert, outs, places, &mut y);
                    }
                }
                first += mat.n_out;
            }
        });
    }

    /// Adds some outputs of an expert for its rows `places`.
    #[allow(clippy::too_many_arguments, reason = "one task's share of a step")]
    fn add_expert_product(
        &self,
        task: &Task,
        (tiles, rows): (&mut AlignedVec<u8>, &mut AlignedVec<f32>),
        src: SlotId,
        mat: &ExpertMat,
        expert: usize,
        outs: Outs<'_>,
        places: Range<usize>,
        y: &mut ColsMut<'_, f32>,
    ) {
        let width = y.width();
        rows.ensure(places.len() * width);
        let product = &mut rows[..places.len() * width];
        let mut view = ColsMut::new(product, width, 0..width);
        self.expert_product(task, tiles, src, mat, expert, outs, places, &mut view);
        for (r, x) in product.chunks_exact(width).enumerate() {
            self.table().add(x, y.row(r));
        }
    }

    /// Some outputs of an expert for its rows `places`.
    #[allow(clippy::too_many_arguments, reason = "one task's share of a step")]
    fn expert_product(
        &self,
        task: &Task,
        tiles: &mut AlignedVec<u8>,
        src: SlotId,
        mat: &ExpertMat,
        expert: usize,
        outs: Outs<'_>,
        places: Range<usize>,
        y: &mut ColsMut<'_, f32>,
    ) {
        let all = self.rows_of(mat.weight);
        let n_bytes = mat.n_out * all.row_bytes();
        let data = &all.data[expert * n_bytes..][..n_bytes];
        let w = WeightRows { data, n_rows: mat.n_out, ..all };
        let (table, src) = (self.table(), self.slot(src));
        if uses_q8(table, mat.ty, self.runner.reference) {
            let act = src.act_q8(task, places);
            match outs.clone() {
                Outs::Range(rows) => table.mul_mat_q8(&w, rows, &act, y, tiles),
                Outs::List(ids) => table.mul_mat_q8_listed(&w, ids, &act, y, tiles),
            }
        } else {
            let act = src.act_f32(task, places);
            match outs.clone() {
                Outs::Range(rows) => table.mul_mat_f32(&w, rows, &act, y, tiles),
                Outs::List(ids) => table.mul_mat_f32_listed(&w, ids, &act, y, tiles),
            }
        }
        let scale = mat.scale.map(|id| self.vector(id)[expert]);
        let bias = mat.bias.map(|id| &self.vector(id)[expert * mat.n_out..][..mat.n_out]);
        for r in 0..y.n_rows() {
            let y = y.row(r);
            if let Some(scale) = scale {
                table.scale(scale, y);
            }
            match (bias, &outs) {
                (Some(bias), Outs::Range(outs)) => table.add(&bias[outs.clone()], y),
                (Some(bias), Outs::List(ids)) => {
                    y.iter_mut().zip(*ids).for_each(|(y, &id)| *y += bias[id as usize]);
                }
                (None, _) => {}
            }
        }
    }

    pub(super) fn sum_experts(&self, worker: &Worker<'_>, src: SlotId, scale: f32, dst: SlotId) {
        let n = self.n_rows(dst);
        let width = self.slot(dst).width;
        let routing = &self.runner.routing;
        let n_used = made(&routing.places).ld();
        let grid = Grid { rows: rows_per_task(n, worker), cols: width };
        worker.step(n.div_ceil(grid.rows), |task| {
            let mut tile = self.slot(dst).tile_f32(task, n, grid);
            for (r, t) in tile.rows.clone().enumerate() {
                let places = made(&routing.places).read_rows(task, t..t + 1);
                let shares = made(&routing.shares).read_rows(task, t..t + 1);
                debug_assert_eq!(places.len(), n_used);
                for (&place, share) in places.iter().zip(shares) {
                    let place = place as usize;
                    let x = self.slot(src).read(task, place..place + 1);
                    self.table().axpy(scale * share, x, tile.view.row(r));
                }
            }
        });
    }
}
