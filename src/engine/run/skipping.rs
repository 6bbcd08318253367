//! Feed-forward networks that skip neurons.
//!
//! With few tokens each token has a list of the neurons that fire for it, ascending and compact.
//! Weights are read once for all tokens that want them: the gate over the union of what was guessed
//! for any of them, up over the union of what fires for any. A product has the same bits whether
//! its row was one of a list or of the whole matrix, so the choice between both is free; when a list
//! is long, all rows are read. With many tokens nearly every neuron fires for one of them: gate and
//! up are whole products.

mod down;
mod lists;
mod observe;

use std::ops::Range;

use lists::Lists;
pub(super) use lists::{Firing, ListScratch};

use super::mat_mul::{MAX_COLS, ROWS};
use super::rows::rows_per_task;
use super::{Run, Scratch};
use crate::backend::cpu::pool::{ColsMut, Grid, Shared, Task, Worker};
use crate::engine::buffers::uses_q8;
use crate::plan::{LowRank, Mat, Predictor, SkippingFfn, SlotId};
use crate::sparse::{Guess, LayerStats, Selector};
use crate::tensor::Activation;
use crate::util::aligned::AlignedVec;

/// Most tokens that have lists.
pub const MAX_TOKENS: usize = 8;

/// The neurons that the processor computes of a network whose hot ones are on a card.
pub(super) struct Cold<'a> {
    /// All of them, ascending.
    pub(super) ids: &'a [u32],
    /// For each token those of them that a predictor named.
    pub(super) lists: Option<&'a [Vec<u32>]>,
}

impl Run<'_> {
    /// The network with what adapters add. The part of theirs that is as wide as the input or the
    /// neurons is small, and computed densely.
    fn adapted_ffn(&self, worker: &Worker<'_>, scratch: &mut Scratch, ffn: &SkippingFfn) {
        if let Some(added) = &ffn.adapted_in {
            self.mat_mul(worker, scratch, ffn.src, &[added.a], added.hidden, None);
        }
        self.skipping_ffn(worker, scratch, ffn);
        if let Some(added) = &ffn.adapted_out {
            self.mat_mul(worker, scratch, ffn.acted, &[added.a], added.hidden, None);
            self.mat_mul(worker, scratch, added.hidden, &added.b, ffn.dst, Some(1.0));
        }
    }

    fn skipping_ffn(&self, worker: &Worker<'_>, scratch: &mut Scratch, ffn: &SkippingFfn) {
        let n = self.n_rows(ffn.dst);
        if n == 0 {
            return;
        }
        let selector = self.sparse.layer(ffn.layer).expect("made for this plan");
        let all = selector.all_rows_from <= 0.0 && self.cold.is_none();
        if n > MAX_TOKENS || all || self.runner.readable {
            return self.all_neurons(worker, scratch, ffn, selector);
        }
        let m = self.runner.firing.made();
        // Where `any` has the lists of one token they are its own.
        let any = |own, all| if n == 1 { own } else { all };

        let guess = match (&selector.guess, &ffn.predictor) {
            // A cutoff is of all gates, and lists may have come with the cold neurons.
            _ if ffn.cutoff.is_some() => None,
            _ if self.cold.as_ref().is_some_and(|cold| cold.lists.is_some()) => None,
            (Guess::LowRank { threshold }, Some(predictor)) => {
                self.predict(worker, scratch, ffn, predictor, n);
                self.guess(worker, scratch, ffn, *threshold, n);
                Some(any(&m.guessed, &m.guessed_any))
            }
            (Guess::Sign { alpha }, _) => self.sparse.signs(ffn.layer).map(|planes| {
                self.score_by_signs(worker, scratch, ffn, planes, *alpha, n, &m.first);
                self.guess(worker, scratch, ffn, 0.0, n);
                any(&m.guessed, &m.guessed_any)
            }),
            _ => None,
        };
        let guess = match &self.cold {
            Some(cold) => {
                self.keep_cold(worker, cold, guess.is_some(), n);
                if n > 1 {
                    self.unite(worker, scratch, &m.guessed, &m.guessed_any, n);
                }
                Some(any(&m.guessed, &m.guessed_any))
            }
            None => guess,
        };
        let share = |list: &Lists| list.len(0) as f32 / ffn.n_ff as f32;
        let first = guess.filter(|list| share(list) < selector.all_rows_from);
        self.project(worker, scratch, ffn, ffn.first(), first, n, &m.first);
        self.fire(worker, scratch, ffn, selector, guess.is_some(), first, n);
        if self.check && guess.is_some() && self.cold.is_none() {
            self.check_guesses(worker, scratch, ffn, selector, n);
        }
        if ffn.gate.is_some() {
            if n > 1 {
                self.unite(worker, scratch, &m.fired, &m.fired_any, n);
            }
            let list = any(&m.fired, &m.fired_any);
            let list = Some(list).filter(|list| share(list) < selector.all_rows_from);
            self.project(worker, scratch, ffn, &ffn.up, list, n, &m.up);
            self.finish_gated(worker, scratch, ffn, list, n);
        }
        self.down(worker, scratch, ffn, n);
    }

    /// Lists of the cold neurons of each token: those that were guessed, where something guesses.
    fn keep_cold(&self, worker: &Worker<'_>, cold: &Cold<'_>, guessed: bool, n: usize) {
        let m = self.runner.firing.made();
        worker.step(n, |task| {
            let t = task.index();
            match cold.lists {
                Some(lists) => m.guessed.write(task, |ids| copied(&lists[t], ids)),
                None if guessed => m.guessed.keep(task, cold.ids),
                None => m.guessed.write(task, |ids| copied(cold.ids, ids)),
            }
        });
    }

    /// The cold neurons of a network alone, in place of what is in its `dst`.
    pub(super) fn cold_ffn(&self, worker: &Worker<'_>, ffn: &SkippingFfn) {
        // The factor on the output comes when it is added.
        let alone = SkippingFfn { add: false, scale: 1.0, ..ffn.clone() };
        self.observed_ffn(worker, &mut self.scratch_of(worker), &alone);
    }

    /// The scores of the predictor of each token.
    fn predict(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        ffn: &SkippingFfn,
        p: &Predictor,
        n: usize,
    ) {
        self.mat_mul(worker, scratch, p.src, &[p.fc1], p.hidden, None);
        self.activate(worker, scratch, p.hidden, Activation::Relu, false, p.acted);
        let out = &self.runner.firing.made().first;
        self.project_rows(worker, scratch, p.acted, &p.fc2, None, None, n, out);
        if worker.index() == 0 {
            let bytes = |mat: &Mat| self.rows_of(mat.weight).data.len();
            let stats = self.runner.stats.layer(ffn.layer);
            LayerStats::add(&stats.bytes, bytes(&p.fc1) + bytes(&p.fc2));
        }
    }

    /// Lists of the neurons whose scores are not below the threshold.
    fn guess(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        ffn: &SkippingFfn,
        threshold: f32,
        n: usize,
    ) {
        let m = self.runner.firing.made();
        worker.step(n, |task| {
            let scores = m.first.read_rows(task, task.index()..task.index() + 1);
            m.guessed
                .write(task, |ids| self.table().places_from(&scores[..ffn.n_ff], threshold, ids));
        });
        if n > 1 {
            self.unite(worker, scratch, &m.guessed, &m.guessed_any, n);
        }
    }

    /// The union of the lists of `n` tokens.
    fn unite(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        lists: &Lists,
        all: &Lists,
        n: usize,
    ) {
        worker.step(1, |task| {
            let bits = &mut scratch.lists.bits;
            bits.clear();
            bits.resize(lists.width().div_ceil(64), 0);
            for t in 0..n {
                for &id in lists.read(task, t) {
                    bits[id as usize / 64] |= 1 << (id % 64);
                }
            }
            all.write(task, |ids| {
                let mut n = 0;
                for (i, &word) in bits.iter().enumerate() {
                    let mut word = word;
                    while word != 0 {
                        ids[n] = (i * 64) as u32 + word.trailing_zeros();
                        n += 1;
                        word &= word - 1;
                    }
                }
                n
            });
        });
    }

    /// Outputs of a projection of the network for `n` tokens: of all neurons, or those of a list.
    #[allow(clippy::too_many_arguments, reason = "the parts of one step")]
    fn project(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        ffn: &SkippingFfn,
        mat: &Mat,
        list: Option<&Lists>,
        n: usize,
        out: &Shared<f32>,
    ) {
        self.project_rows(worker, scratch, ffn.src, mat, ffn.adapted(mat), list, n, out);
        if worker.index() == 0 {
            let rows = list.map_or(mat.n_out, |list| list.len(0));
            let bytes = rows * self.rows_of(mat.weight).row_bytes();
            LayerStats::add(&self.runner.stats.layer(ffn.layer).bytes, bytes);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one step")]
    fn project_rows(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        src: SlotId,
        mat: &Mat,
        added: Option<(SlotId, &Mat)>,
        list: Option<&Lists>,
        n: usize,
        out: &Shared<f32>,
    ) {
        let width = list.map_or(mat.n_out, |list| list.len(0));
        let cols = width.div_ceil(8 * worker.n_threads()).next_multiple_of(ROWS).min(MAX_COLS);
        let grid = Grid { rows: usize::MAX, cols: cols.max(ROWS) };
        worker.step(width.div_ceil(grid.cols), |task| {
            let mut tile = out.tile(task, n, grid);
            let part = tile.cols.start..tile.cols.end.min(width);
            let mut y = tile.view.narrow(0..part.len());
            let tiles = &mut scratch.tiles;
            let ids = list.map(|list| &list.read(task, 0)[part.clone()]);
            self.rows_product(task, tiles, src, mat, (part.clone(), ids), n, &mut y);
            if let Some((src, mat)) = added {
                let len = part.len();
                let product = scratch_row(&mut scratch.rows, n * len);
                let mut view = ColsMut::new(product, len, 0..len);
                self.rows_product(task, tiles, src, mat, (part, ids), n, &mut view);
                for (t, x) in product.chunks_exact(len).enumerate() {
                    self.table().add(x, y.row(t));
                }
            }
        });
    }

    /// Outputs of a matrix for `n` tokens: those of a list, or else the rows of a range.
    #[allow(clippy::too_many_arguments, reason = "one task's share of a step")]
    fn rows_product(
        &self,
        task: &Task,
        tiles: &mut AlignedVec<u8>,
        src: SlotId,
        mat: &Mat,
        (rows, ids): (Range<usize>, Option<&[u32]>),
        n: usize,
        y: &mut ColsMut<'_, f32>,
    ) {
        let Some(ids) = ids else {
            return self.product(task, tiles, src, mat, rows, n, y);
        };
        let w = self.rows_of(mat.weight);
        if uses_q8(self.table(), mat.ty, self.runner.reference) {
            let act = self.slot(src).act_q8(task, 0..n);
            self.table().mul_mat_q8_listed(&w, ids, &act, y, tiles);
        } else {
            let act = self.slot(src).act_f32(task, 0..n);
            self.table().mul_mat_f32_listed(&w, ids, &act, y, tiles);
        }
        self.scale_and_bias_listed(mat, ids, n, y);
    }

    fn scale_and_bias_listed(&self, mat: &Mat, ids: &[u32], n: usize, y: &mut ColsMut<'_, f32>) {
        let scale = mat.scale.map_or(1.0, |id| self.vector(id)[0]);
        let bias = mat.bias.map(|id| self.vector(id));
        if mat.scale.is_none() && bias.is_none() {
            return;
        }
        for t in 0..n {
            for (y, &id) in y.row(t).iter_mut().zip(ids) {
                let bias = bias.map_or(0.0, |bias| bias[id as usize]);
                *y = if mat.scale_last { (*y + bias) * scale } else { *y * scale + bias };
            }
        }
    }

    /// What of one token's gates goes on to the activation: the gates, or where they must stand out
    /// what is beyond the cutoff, kept in `room`.
    fn standing_out<'g>(
        &self,
        ffn: &SkippingFfn,
        gates: &'g [f32],
        room: &'g mut AlignedVec<f32>,
    ) -> &'g [f32] {
        let Some(cutoff) = ffn.cutoff else { return gates };
        room.ensure(gates.len());
        let beyond = &mut room[..gates.len()];
        self.table().beyond(cutoff, gates, beyond);
        beyond
    }

    /// Activates outputs of the first projection into `values`, and finds the places of those that
    /// are not silent.
    fn firing(
        &self,
        ffn: &SkippingFfn,
        selector: &Selector,
        first: &[f32],
        lists: &mut ListScratch,
    ) -> usize {
        let ListScratch { places, values, gates, .. } = lists;
        places.ensure(first.len());
        values.ensure(first.len());
        let acted = &mut values[..first.len()];
        let first = self.standing_out(ffn, first, gates);
        self.table().activate(ffn.act.of_gate(), first, None, acted);
        if let Some(gates) = &self.runner.gates {
            gates.add(ffn.layer, acted);
        }
        match selector.least > 0.0 {
            true => places_beyond(acted, selector.least, places),
            false => self.table().places_nonzero(acted, places),
        }
    }

    /// The neurons that fire, by the outputs of the first projection. Without a gate these are
    /// outputs of the neurons already.
    #[allow(clippy::too_many_arguments, reason = "the parts of one step")]
    fn fire(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        ffn: &SkippingFfn,
        selector: &Selector,
        guessed: bool,
        list: Option<&Lists>,
        n: usize,
    ) {
        let m = self.runner.firing.made();
        let stats = self.runner.stats.layer(ffn.layer);
        worker.step(n, |task| {
            let t = task.index();
            let ids = list.map(|list| list.read(task, 0));
            let n_first = ids.map_or(ffn.n_ff, <[u32]>::len);
            let g = &m.first.read_rows(task, t..t + 1)[..n_first];
            let mut n_places = self.firing(ffn, selector, g, &mut scratch.lists);
            let ListScratch { places, values, gates, .. } = &mut scratch.lists;
            let acted = &values[..n_first];
            let g = if ffn.cutoff.is_some() { &gates[..n_first] } else { g };
            let id = |place: u32| ids.map_or(place, |ids| ids[place as usize]);
            let own = guessed.then(|| m.guessed.read(task, t));
            if let Some(own) = own
                && (n > 1 || ids.is_none())
            {
                // What was computed for the others, too.
                let mut own = own.iter().copied().peekable();
                let mut kept = 0;
                for i in 0..n_places {
                    while own.next_if(|&o| o < id(places[i])).is_some() {}
                    places[kept] = places[i];
                    kept += usize::from(own.peek() == Some(&id(places[i])));
                }
                n_places = kept;
            }
            let places = &places[..n_places];
            LayerStats::add(&stats.guessed, own.map_or(ffn.n_ff, <[u32]>::len));
            stats.add_fired(places.iter().map(|&place| id(place)));
            let fill = |out: &mut [u32]| {
                out.iter_mut().zip(places).for_each(|(out, &place)| *out = id(place));
                n_places
            };
            let grid = Grid { rows: 1, cols: m.gate.ld() };
            if ffn.gate.is_some() {
                m.fired.write(task, fill);
                let mut gate = m.gate.tile(task, MAX_TOKENS, grid);
                for (y, &place) in gate.view.row(0).iter_mut().zip(places) {
                    *y = g[place as usize];
                }
            } else {
                m.down.write(task, fill);
                let mut h = m.h.tile(task, MAX_TOKENS, grid);
                let h = &mut h.view.row(0)[..n_places];
                for (y, &place) in h.iter_mut().zip(places) {
                    *y = acted[place as usize];
                }
                let row = scratch_row(&mut scratch.rows, ffn.n_ff);
                self.norm_fired(ffn, places.iter().map(|&place| id(place)), h, row);
                self.spread(task, ffn, scratch_row(&mut scratch.rows, ffn.n_ff), |row| {
                    for (&h, &place) in h.iter().zip(places) {
                        row[id(place) as usize] = h;
                    }
                });
            }
        });
    }

    /// Outputs of the neurons that fire, from gate and up.
    fn finish_gated(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        ffn: &SkippingFfn,
        list: Option<&Lists>,
        n: usize,
    ) {
        let m = self.runner.firing.made();
        let table = self.table();
        worker.step(n, |task| {
            let t = task.index();
            let fired = m.fired.read(task, t);
            let up = m.up.read_rows(task, t..t + 1);
            let gate = &m.gate.read_rows(task, t..t + 1)[..fired.len()];
            let ListScratch { places, values, .. } = &mut scratch.lists;
            values.ensure(2 * fired.len());
            let (own_up, acted) = values[..2 * fired.len()].split_at_mut(fired.len());
            match list.map(|list| list.read(task, 0)) {
                None => own_up.iter_mut().zip(fired).for_each(|(y, &id)| *y = up[id as usize]),
                Some(_) if n == 1 => own_up.copy_from_slice(&up[..fired.len()]),
                Some(all) => {
                    let mut at = 0;
                    for (y, &id) in own_up.iter_mut().zip(fired) {
                        while all[at] < id {
                            at += 1;
                        }
                        *y = up[at];
                    }
                }
            }
            table.activate(ffn.act, gate, Some(own_up), acted);
            let row = scratch_row(&mut scratch.rows, ffn.n_ff);
            self.norm_fired(ffn, fired.iter().copied(), acted, row);
            places.ensure(fired.len());
            let n_places = table.places_nonzero(acted, places);
            let places = &places[..n_places];
            m.down.write(task, |ids| {
                ids.iter_mut().zip(places).for_each(|(id, &at)| *id = fired[at as usize]);
                n_places
            });
            let mut h = m.h.tile(task, MAX_TOKENS, Grid { rows: 1, cols: m.h.ld() });
            for (h, &at) in h.view.row(0).iter_mut().zip(places) {
                *h = acted[at as usize];
            }
            self.spread(task, ffn, scratch_row(&mut scratch.rows, ffn.n_ff), |row| {
                for (&id, &h) in fired.iter().zip(acted.iter()) {
                    row[id as usize] = h;
                }
            });
        });
    }

    /// The network's norm over all neurons, of which those of `ids` have the outputs `h` and the
    /// others zero, which they keep.
    fn norm_fired(
        &self,
        ffn: &SkippingFfn,
        ids: impl Iterator<Item = u32> + Clone,
        h: &mut [f32],
        row: &mut [f32],
    ) {
        let Some(norm) = &ffn.norm else { return };
        row.fill(0.0);
        h.iter().zip(ids.clone()).for_each(|(h, id)| row[id as usize] = *h);
        self.norm_row(norm, row);
        h.iter_mut().zip(ids).for_each(|(h, id)| *h = row[id as usize]);
    }

    /// Writes one token's activated neurons as a row of all, where the way back wants that.
    fn spread(
        &self,
        task: &Task,
        ffn: &SkippingFfn,
        row: &mut [f32],
        set: impl FnOnce(&mut [f32]),
    ) {
        if !self.sums_neurons(ffn) || ffn.adapted_out.is_some() {
            let mut tile = self.slot(ffn.acted).tile(
                task,
                self.n_rows(ffn.dst),
                Grid { rows: 1, cols: ffn.n_ff },
            );
            tile.put(self.table(), 0, row, |y| {
                y.fill(0.0);
                set(y);
            });
        }
    }

    /// The network with all of its neurons: for many tokens, or where nothing is to be skipped.
    fn all_neurons(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        ffn: &SkippingFfn,
        selector: &Selector,
    ) {
        let mats = ffn.inputs();
        if !ffn.fed {
            self.mat_mul(worker, scratch, ffn.src, &mats, ffn.gate_up, None);
        }
        if let Some(LowRank { hidden, b, .. }) = &ffn.adapted_in {
            self.mat_mul(worker, scratch, *hidden, b, ffn.gate_up, Some(1.0));
        }
        self.activate_all(worker, scratch, ffn, selector);
        if worker.index() == 0 {
            let w = |id| self.rows_of(id).data.len();
            let bytes: usize = mats.iter().map(|mat| w(mat.weight)).sum();
            let stats = self.runner.stats.layer(ffn.layer);
            LayerStats::add(&stats.bytes, bytes + w(ffn.down.weight));
        }
        match self.sums_neurons(ffn) {
            false => self.down_by_outputs(worker, scratch, ffn),
            true => self.down_all(worker, scratch, ffn),
        }
    }

    /// Activates whole rows, and sets what counts as silent to zero.
    fn activate_all(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        ffn: &SkippingFfn,
        selector: &Selector,
    ) {
        let n = self.n_rows(ffn.dst);
        let table = self.table();
        let stats = self.runner.stats.layer(ffn.layer);
        let grid = Grid { rows: rows_per_task(n, worker), cols: ffn.n_ff };
        worker.step(n.div_ceil(grid.rows), |task| {
            let mut tile = self.slot(ffn.acted).tile(task, n, grid);
            let x = self.slot(ffn.gate_up).read(task, tile.rows());
            let row = scratch_row(&mut scratch.rows, ffn.n_ff);
            for (r, x) in x.chunks_exact(self.slot(ffn.gate_up).width).enumerate() {
                let (first, up) = x.split_at(ffn.n_ff);
                let n_places = self.firing(ffn, selector, first, &mut scratch.lists);
                let ListScratch { places, values, gates, .. } = &scratch.lists;
                stats.add_fired(places[..n_places].iter().copied());
                let first = if ffn.cutoff.is_some() { &gates[..ffn.n_ff] } else { first };
                tile.put(table, r, row, |y| {
                    table.activate(ffn.act, first, ffn.gate.map(|_| up), y);
                    if selector.least > 0.0 {
                        for (y, a) in y.iter_mut().zip(values.iter()) {
                            *y = if a.abs() < selector.least { 0.0 } else { *y };
                        }
                    }
                    if let Some(norm) = &ffn.norm {
                        self.norm_row(norm, y);
                    }
                });
                LayerStats::add(&stats.guessed, ffn.n_ff);
            }
        });
    }
}

/// Copies a list, and returns its length.
fn copied(from: &[u32], to: &mut [u32]) -> usize {
    to[..from.len()].copy_from_slice(from);
    from.len()
}

/// Room for one row of `n` numbers.
fn scratch_row(rows: &mut AlignedVec<f32>, n: usize) -> &mut [f32] {
    rows.ensure(n);
    &mut rows[..n]
}

/// Places of elements at least this far from zero; NaN is far.
fn places_beyond(x: &[f32], least: f32, places: &mut [u32]) -> usize {
    let mut n = 0;
    for (i, x) in x.iter().enumerate() {
        places[n] = i as u32;
        n += usize::from(x.abs() >= least || x.is_nan());
    }
    n
}
