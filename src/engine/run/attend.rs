//! Attention: stores a ubatch's keys and values, then every query walks its sequence.
//!
//! The walk is in order of position, in tiles of 32 and chunks of 256 positions counted from 0.
//! Each chunk starts from an empty state; the states are merged in order. So a result depends on
//! the sequence's own tokens alone, and chunks can be computed by different threads.
//!
//! Tokens of one sequence are grouped into blocks, whose queries share the decoded tiles. An item
//! is a block and the chunks that it walks: all of them, or one per item when there are too few
//! blocks to keep the threads busy. Its partial states go to `partials`; a second step merges
//! and writes the results.

use std::ops::Range;

use super::cut::{Block, Class, Work, for_runs, full_chunks};
use super::rows::rows_per_task;
use super::{Run, Scratch as ThreadScratch};
use crate::backend::cpu::pool::{Grid, Shared, Task, Worker};
use crate::backend::cpu::table::attn::TILE;
use crate::backend::cpu::table::{AttnState, AttnTile};
use crate::engine::kv::{Entry, rotate, store_row, window};
use crate::plan::{Attention, Plan, Rope, SlotId, Temperature};
use crate::util::aligned::{AlignedVec, OutOfMemory};

/// Elements of a token's partial state for the heads that share one key head:
/// accumulators, greatest scores, sums.
fn state_len(spec: &Attention) -> usize {
    spec.n_head / spec.n_head_kv * (spec.head_dim_v + 2)
}

/// Elements of a token's partial state for all heads: a row of the buffer of partial results.
pub(super) fn partial_len(spec: &Attention) -> usize {
    spec.n_head_kv * state_len(spec)
}

/// Buffers for partial results, one per distinct row size of the plan's layers.
pub(super) fn partials(plan: &Plan) -> Result<Vec<Shared<f32>>, OutOfMemory> {
    let mut widths: Vec<usize> = plan.layers.iter().map(partial_len).collect();
    widths.sort_unstable();
    widths.dedup();
    widths.into_iter().map(|w| Shared::new(0, w)).collect()
}

/// Memory of one thread for attention.
#[derive(Default)]
pub(super) struct Scratch {
    /// Decoded keys and values of a tile.
    k: AlignedVec<f32>,
    v: AlignedVec<f32>,
    /// Rotated queries of a block.
    q: AlignedVec<f32>,
    valid: Vec<Range<u8>>,
    /// Summands on scores, see [`AttnTile::bias`].
    bias: AlignedVec<f32>,
    chunk: State,
    total: State,
}

/// States of the queries of a block.
#[derive(Default)]
struct State {
    m: AlignedVec<f32>,
    l: AlignedVec<f32>,
    acc: AlignedVec<f32>,
}

impl State {
    fn reset(&mut self, n_q: usize, head_dim: usize) {
        self.m.ensure(n_q);
        self.l.ensure(n_q);
        self.acc.ensure(n_q * head_dim);
        self.m[..n_q].fill(f32::NEG_INFINITY);
        self.l[..n_q].fill(0.0);
        self.acc[..n_q * head_dim].fill(0.0);
    }
}

/// Slope of a head's penalty on distance (ALiBi, arXiv 2108.12409): a geometric series from
/// `2^(-max_bias / n)` down to `2^-max_bias` for the first `n` heads, a power of two; the others'
/// lie between those, every second one of the series for `2 n` heads.
pub fn alibi_slope(max_bias: f32, n_head: usize, head: usize) -> f32 {
    let n = (n_head + 1).next_power_of_two() / 2;
    let exponent = match head < n {
        true => (head + 1) as f32 / n as f32,
        false => (2 * (head - n) + 1) as f32 / (2 * n) as f32,
    };
    (-max_bias * exponent).exp2()
}

/// The factor on the queries of a token.
fn temperature(t: &Temperature, pos: i32) -> f32 {
    let steps = ((f64::from(pos) + f64::from(t.offset)) / f64::from(t.length)).floor();
    (1.0 + f64::from(t.scale) * (1.0 + steps).ln()) as f32
}

impl Run<'_> {
    /// Rotates this ubatch's keys and stores keys and values.
    pub(super) fn store_kv(
        &self,
        worker: &Worker<'_>,
        scratch: &mut ThreadScratch,
        layer: usize,
        qkv: SlotId,
    ) {
        let spec = &self.plan.layers[layer];
        let (kv, n) = (self.kv.layer(layer), self.ubatch.n_tokens());
        let n_rows = self.kv.n_rows(kv.part);
        let (ty_k, ty_v) = self.kv.types();
        let (dk, dv) = (spec.head_dim_k, spec.head_dim_v);
        let all = |cols: usize| Grid { rows: usize::MAX, cols };
        scratch.rows.ensure(dk);
        worker.step(spec.n_head_kv, |task| {
            let head = task.index();
            let mut k = kv.k.host().tile(task, n_rows, all(kv.k.ld() / spec.n_head_kv));
            let mut v = kv.v.host().tile(task, n_rows, all(kv.v.ld() / spec.n_head_kv));
            let rows = self.slot(qkv).read(task, 0..n);
            let width = self.slot(qkv).width;
            for (t, row) in rows.chunks_exact(width).enumerate() {
                let (_, row) = row.split_at(spec.n_embd_q());
                let (keys, values) = row.split_at(spec.n_embd_k());
                let key = &mut scratch.rows[..dk];
                key.copy_from_slice(&keys[head * dk..][..dk]);
                self.rotate(task, spec, t, key);
                let at = self.ubatch.kv_rows[kv.part][t];
                store_row(self.table(), ty_k, key, k.view.row(at));
                store_row(self.table(), ty_v, &values[head * dv..][..dv], v.view.row(at));
            }
        });
    }

    /// Rotates heads of token `t` in place, if the layer rotates.
    fn rotate(&self, task: &Task, spec: &Attention, t: usize, heads: &mut [f32]) {
        let Some(rope) = &spec.rope else { return };
        let cos_sin = self.runner.cos_sin[rope.table].read_rows(task, t..t + 1);
        rotate(self.table(), rope.style, heads, spec.head_dim_k, cos_sin);
    }

    /// Rotates heads in some columns of a buffer.
    pub(super) fn rotate_heads(
        &self,
        worker: &Worker<'_>,
        slot: SlotId,
        cols: Range<usize>,
        head_dim: usize,
        rope: &Rope,
    ) {
        let (n, width) = (self.n_rows(slot), self.slot(slot).width);
        let grid = Grid { rows: rows_per_task(n, worker), cols: width };
        worker.step(n.div_ceil(grid.rows), |task| {
            let mut tile = self.slot(slot).tile_f32(task, n, grid);
            for (r, t) in tile.rows.clone().enumerate() {
                let cos_sin = self.runner.cos_sin[rope.table].read_rows(task, t..t + 1);
                let heads = &mut tile.view.row(r)[cols.clone()];
                rotate(self.table(), rope.style, heads, head_dim, cos_sin);
            }
        });
    }

    /// How a layer's attention is cut up.
    fn work(&self, layer: usize) -> (&Class, &Work) {
        let class = self.runner.class_of[layer];
        (&self.runner.classes[class], &self.ubatch.works[class])
    }

    /// Attention of every token of the ubatch.
    pub(super) fn attend(
        &self,
        worker: &Worker<'_>,
        scratch: &mut ThreadScratch,
        layer: usize,
        qkv: SlotId,
        dst: SlotId,
    ) {
        let spec = &self.plan.layers[layer];
        let work = self.work(layer).1;
        let partials = self.runner.partials.iter().find(|p| p.ld() == partial_len(spec));
        let partials = partials.expect("partials() made a buffer for every layer");
        let grid = Grid { rows: work.block_rows, cols: state_len(spec) };
        worker.step(work.items.len() * spec.n_head_kv, |task| {
            let mut tile = partials.tile(task, work.n_partial_rows(), grid);
            let item = &work.items[task.index() / spec.n_head_kv];
            let head_kv = task.index() % spec.n_head_kv;
            let block = &work.blocks[item.block];
            let a = &mut scratch.attend;
            self.queries(task, layer, block, head_kv, qkv, a);
            self.walk_chunks(task, layer, block, head_kv, item.chunks.clone(), a);
            let group = spec.n_head / spec.n_head_kv;
            for i in 0..block.tokens.len() {
                let (acc, ml) = tile.view.row(i).split_at_mut(group * spec.head_dim_v);
                let q = i * group..(i + 1) * group;
                let values = q.start * spec.head_dim_v..q.end * spec.head_dim_v;
                acc.copy_from_slice(&a.total.acc[values]);
                ml[..group].copy_from_slice(&a.total.m[q.clone()]);
                ml[group..].copy_from_slice(&a.total.l[q]);
            }
        });
        self.merge(worker, scratch, layer, partials, dst);
    }

    /// Rotated queries of a block, token by token, the heads of the group side by side.
    fn queries(
        &self,
        task: &Task,
        layer: usize,
        block: &Block,
        head_kv: usize,
        qkv: SlotId,
        a: &mut Scratch,
    ) {
        let spec = &self.plan.layers[layer];
        let len = spec.n_head / spec.n_head_kv * spec.head_dim_k;
        a.q.ensure(block.tokens.len() * len);
        for (q, &t) in a.q.chunks_exact_mut(len).zip(self.work(layer).1.tokens(block)) {
            let row = self.slot(qkv).read(task, t..t + 1);
            q.copy_from_slice(&row[head_kv * len..][..len]);
            self.rotate(task, spec, t, q);
            if let Some(by_pos) = &spec.temperature {
                self.table().scale(temperature(by_pos, self.ubatch.pos[t]), q);
            }
        }
    }

    /// Walks chunks in order; the merged state of each query ends up in `a.total`.
    fn walk_chunks(
        &self,
        task: &Task,
        layer: usize,
        block: &Block,
        head_kv: usize,
        chunks: Range<i32>,
        a: &mut Scratch,
    ) {
        let spec = &self.plan.layers[layer];
        let class = self.work(layer).0;
        let n_q = block.tokens.len() * class.group;
        let dv = spec.head_dim_v;
        let (entries, row0) = self.kv.entries(class.part, block.seq);
        a.total.reset(n_q, dv);
        for (_, entries) in full_chunks(block.entries(entries), chunks) {
            a.chunk.reset(n_q, dv);
            let tile_of = |e: &Entry| e.pos / TILE as i32;
            for tile in entries.chunk_by(|a, b| tile_of(a) == tile_of(b)) {
                for_runs(tile, class.window.is_some(), |place, entries| {
                    self.gather(task, layer, head_kv, place, entries, row0, a);
                    self.feed(layer, block, head_kv, place, entries, a);
                });
            }
            for q in 0..n_q {
                let (c, t) = (&a.chunk, &mut a.total);
                let acc = q * dv..(q + 1) * dv;
                let into = (&mut t.m[q], &mut t.l[q], &mut t.acc[acc.clone()]);
                self.table().attn_merge(c.m[q], c.l[q], &c.acc[acc], into);
            }
        }
    }

    /// Decodes the keys and values of one head at these cells, from a place in the tile on.
    #[allow(clippy::too_many_arguments, reason = "where from and where to")]
    fn gather(
        &self,
        task: &Task,
        layer: usize,
        head_kv: usize,
        place: usize,
        entries: &[Entry],
        row0: usize,
        a: &mut Scratch,
    ) {
        let spec = &self.plan.layers[layer];
        let kv = self.kv.layer(layer);
        let (ty_k, ty_v) = self.kv.types();
        let sides = [
            (kv.k.host(), ty_k, spec.head_dim_k, &mut a.k),
            (kv.v.host(), ty_v, spec.head_dim_v, &mut a.v),
        ];
        for (buffer, ty, head_dim, out) in sides {
            out.ensure(TILE * head_dim);
            let data = buffer.read(task);
            let (ld, len) = (buffer.ld(), buffer.ld() / spec.n_head_kv);
            for (entry, out) in entries.iter().zip(out.chunks_exact_mut(head_dim).skip(place)) {
                let at = (row0 + entry.cell as usize) * ld + head_kv * len;
                self.table().dequant_row(ty, &data[at..at + len], out);
            }
        }
    }

    /// Feeds a decoded tile, which has these tokens from a place on, to the chunk's states.
    fn feed(
        &self,
        layer: usize,
        block: &Block,
        head_kv: usize,
        place: usize,
        entries: &[Entry],
        a: &mut Scratch,
    ) {
        let spec = &self.plan.layers[layer];
        let (class, work) = self.work(layer);
        a.valid.clear();
        for &t in work.tokens(block) {
            let seen = window::seen(class.window, self.causal, self.ubatch.pos[t]);
            let start = place + entries.partition_point(|e| e.pos < seen.start);
            let end = place + entries.partition_point(|e| e.pos < seen.end);
            a.valid.extend(std::iter::repeat_n(start as u8..end as u8, class.group));
        }
        // Tokens are in order of position: those that see nothing are at both ends.
        let Some(first) = a.valid.iter().position(|v| !v.is_empty()) else { return };
        let last = a.valid.iter().rposition(|v| !v.is_empty()).unwrap_or(first);
        let q = first..last + 1;
        let n_keys = place + entries.len();
        let biased = spec.max_alibi_bias > 0.0;
        if biased {
            self.alibi(layer, block, head_kv, place, entries, a);
        }
        let (dk, dv) = (spec.head_dim_k, spec.head_dim_v);
        let tile = AttnTile {
            head_dim_k: dk,
            head_dim_v: dv,
            n_keys,
            k: &a.k[..n_keys * dk],
            v: &a.v[..n_keys * dv],
            q: &a.q[q.start * dk..q.end * dk],
            valid: &a.valid[q.clone()],
            scale: spec.scale,
            softcap: spec.softcap,
            bias: if biased { &a.bias[q.start * TILE..q.end * TILE] } else { &[] },
        };
        let mut state = AttnState {
            m: &mut a.chunk.m[q.clone()],
            l: &mut a.chunk.l[q.clone()],
            acc: &mut a.chunk.acc[q.start * dv..q.end * dv],
        };
        self.table().attn_tile(&tile, &mut state);
    }

    /// The penalties of each query of a block on the keys of a tile.
    fn alibi(
        &self,
        layer: usize,
        block: &Block,
        head_kv: usize,
        place: usize,
        entries: &[Entry],
        a: &mut Scratch,
    ) {
        let spec = &self.plan.layers[layer];
        let (class, work) = self.work(layer);
        a.bias.ensure(block.tokens.len() * class.group * TILE);
        let mut rows = a.bias.chunks_exact_mut(TILE);
        for &t in work.tokens(block) {
            let heads = head_kv * class.group..(head_kv + 1) * class.group;
            for (head, row) in heads.zip(rows.by_ref()) {
                let slope = alibi_slope(spec.max_alibi_bias, spec.n_head, head);
                for (bias, entry) in row[place..].iter_mut().zip(entries) {
                    *bias = -slope * entry.pos.abs_diff(self.ubatch.pos[t]) as f32;
                }
            }
        }
    }

    /// Merges each token's partial states in order of position and writes its row of `dst`.
    fn merge(
        &self,
        worker: &Worker<'_>,
        scratch: &mut ThreadScratch,
        layer: usize,
        partials: &Shared<f32>,
        dst: SlotId,
    ) {
        let spec = &self.plan.layers[layer];
        let (n, work) = (self.ubatch.n_tokens(), self.work(layer).1);
        let sinks = spec.sinks.map(|id| self.vector(id));
        let (width, dv) = (self.slot(dst).width, spec.head_dim_v);
        let group = spec.n_head / spec.n_head_kv;
        let grid = Grid { rows: rows_per_task(n, worker), cols: width };
        let ThreadScratch { rows, attend, .. } = scratch;
        rows.ensure(width);
        worker.step(n.div_ceil(grid.rows), |task| {
            let states = partials.read(task);
            let mut tile = self.slot(dst).tile(task, n, grid);
            for (r, t) in tile.rows().enumerate() {
                let (block, i) = work.place[t];
                let items = work.blocks[block].items.clone();
                tile.put(self.table(), r, &mut rows[..width], |out| {
                    for (head, out) in out.chunks_exact_mut(dv).enumerate() {
                        let (head_kv, h) = (head / group, head % group);
                        let Scratch { chunk, total, .. } = &mut *attend;
                        chunk.reset(1, dv);
                        total.reset(1, dv);
                        for item in items.clone() {
                            let row = (item * work.block_rows + i) * partials.ld();
                            let state = &states[row + head_kv * state_len(spec)..];
                            let (acc, ml) = state.split_at(group * dv);
                            let into = (&mut total.m[0], &mut total.l[0], &mut total.acc[..dv]);
                            let acc = &acc[h * dv..][..dv];
                            self.table().attn_merge(ml[h], ml[group + h], acc, into);
                        }
                        if let Some(sinks) = sinks {
                            // A key with this score whose value is zero.
                            let into = (&mut total.m[0], &mut total.l[0], &mut total.acc[..dv]);
                            self.table().attn_merge(sinks[head], 1.0, &chunk.acc[..dv], into);
                        }
                        self.table().attn_finish(total.l[0], &total.acc[..dv], out);
                    }
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alibi_slopes_are_those_of_the_paper() {
        let slopes = |n: usize| (0..n).map(|h| alibi_slope(8.0, n, h)).collect::<Vec<_>>();
        assert_eq!(slopes(8), (1..9).map(|i| 0.5f32.powi(i)).collect::<Vec<_>>());
        assert_eq!(slopes(1), [1.0 / 256.0]);
        // Section 3 and its code: for 12 heads those of 8, then every second one of 16.
        assert_eq!(slopes(12)[..8], slopes(8));
        let between: Vec<f32> = [0.5, 1.5, 2.5, 3.5].map(|e: f32| (-e).exp2()).to_vec();
        assert_eq!(slopes(12)[8..], between);
    }

    #[test]
    fn temperature_rises_in_steps() {
        let t = Temperature { scale: 0.1, length: 8192.0, offset: 1.0 };
        assert_eq!(temperature(&t, 0), 1.0);
        assert_eq!(temperature(&t, 8190), 1.0);
        assert_eq!(temperature(&t, 8191), (1.0 + f64::from(0.1f32) * 2f64.ln()) as f32);
        assert_eq!(temperature(&t, 99_999), (1.0 + f64::from(0.1f32) * 13f64.ln()) as f32);
    }
}
