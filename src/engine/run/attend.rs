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

use super::rows::rows_per_task;
use super::{Run, Scratch as ThreadScratch};
use crate::backend::cpu::pool::{Grid, Shared, Task, Worker};
use crate::backend::cpu::table::attn::TILE;
use crate::backend::cpu::table::{AttnState, AttnTile};
use crate::engine::batch::Token;
use crate::engine::kv::{Entry, KvCache, rotate, store_row};
use crate::plan::{Attention, Plan, SlotId};
use crate::util::aligned::{AlignedVec, OutOfMemory};

/// Positions of a chunk.
const CHUNK: i32 = 256;
/// Most queries of a block, over all heads that share a key head.
const MAX_QUERIES: usize = 64;

/// Tokens of one sequence that are computed together.
#[derive(Debug)]
struct Block {
    seq: usize,
    /// The tokens: a range of [`Work::order`].
    tokens: Range<usize>,
    /// Items of the block: consecutive numbers.
    items: Range<usize>,
}

/// A block and the chunks of one partial result.
#[derive(Debug)]
struct Item {
    block: usize,
    chunks: Range<i32>,
}

/// How the attention of a ubatch is cut up; the same for all layers.
#[derive(Debug, Default)]
pub struct Work {
    /// Tokens of the ubatch by sequence and position.
    order: Vec<usize>,
    blocks: Vec<Block>,
    items: Vec<Item>,
    /// Tokens of the largest block: rows of an item's partial result.
    block_rows: usize,
    /// Block and place in it of each token.
    place: Vec<(usize, usize)>,
}

impl Work {
    /// Cuts up a ubatch whose tokens are in the cache already, in place of what was there.
    pub fn set(
        &mut self,
        tokens: &[Token],
        kv: &KvCache,
        spec: &Attention,
        causal: bool,
        n_threads: usize,
    ) {
        let group = spec.n_head / spec.n_head_kv;
        let max_tokens = (MAX_QUERIES / group).clamp(1, MAX_QUERIES);
        self.order.clear();
        self.order.extend(0..tokens.len());
        self.order.sort_unstable_by_key(|&t| (tokens[t].seq, tokens[t].pos, t));
        self.place.clear();
        self.place.resize(tokens.len(), (0, 0));
        self.blocks.clear();
        self.items.clear();
        self.block_rows = 0;
        let mut start = 0;
        for same in self.order.chunk_by(|&a, &b| tokens[a].seq == tokens[b].seq) {
            for part in same.chunks(max_tokens) {
                for (i, &t) in part.iter().enumerate() {
                    self.place[t] = (self.blocks.len(), i);
                }
                let tokens_of_block = start..start + part.len();
                start = tokens_of_block.end;
                self.block_rows = self.block_rows.max(part.len());
                let seq = tokens[part[0]].seq;
                self.blocks.push(Block { seq, tokens: tokens_of_block, items: 0..0 });
            }
        }
        let split = self.blocks.len() * spec.n_head_kv < 4 * n_threads;
        for (b, block) in self.blocks.iter_mut().enumerate() {
            let entries = kv.entries(block.seq).0;
            let last = match causal {
                true => tokens[self.order[block.tokens.end - 1]].pos,
                false => entries.last().map_or(0, |e| e.pos),
            };
            let first = entries.first().map_or(0, |e| e.pos) / CHUNK;
            let chunks = first..last / CHUNK + 1;
            block.items.start = self.items.len();
            if split {
                let full = full_chunks(entries, chunks);
                self.items.extend(full.map(|(c, _)| Item { block: b, chunks: c..c + 1 }));
            } else {
                self.items.push(Item { block: b, chunks });
            }
            block.items.end = self.items.len();
        }
    }

    /// Tokens of a block, in order of position.
    fn tokens(&self, block: &Block) -> &[usize] {
        &self.order[block.tokens.clone()]
    }

    /// Rows of the buffers of partial results.
    pub fn n_partial_rows(&self) -> usize {
        self.items.len() * self.block_rows
    }
}

/// The chunks that have tokens, with these: the gaps of a sequence can be wide.
fn full_chunks(entries: &[Entry], chunks: Range<i32>) -> impl Iterator<Item = (i32, &[Entry])> {
    let mut rest = &entries[entries.partition_point(|e| e.pos / CHUNK < chunks.start)..];
    std::iter::from_fn(move || {
        let chunk = rest.first()?.pos / CHUNK;
        let (own, after) = rest.split_at(rest.partition_point(|e| e.pos / CHUNK == chunk));
        rest = after;
        chunks.contains(&chunk).then_some((chunk, own))
    })
}

/// Elements of a token's partial state for the heads that share one key head:
/// accumulators, greatest scores, sums.
fn state_len(spec: &Attention) -> usize {
    spec.n_head / spec.n_head_kv * (spec.head_dim_v + 2)
}

/// Buffers for partial results, one per distinct row size of the plan's layers.
pub(super) fn partials(plan: &Plan) -> Result<Vec<Shared<f32>>, OutOfMemory> {
    let mut widths: Vec<usize> = plan.layers.iter().map(|s| s.n_head_kv * state_len(s)).collect();
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
        let (ty_k, ty_v) = self.kv.types();
        let (dk, dv) = (spec.head_dim_k, spec.head_dim_v);
        let all = |cols: usize| Grid { rows: usize::MAX, cols };
        scratch.rows.ensure(dk);
        worker.step(spec.n_head_kv, |task| {
            let head = task.index();
            let mut k = kv.k.tile(task, self.kv.n_rows(), all(kv.k.ld() / spec.n_head_kv));
            let mut v = kv.v.tile(task, self.kv.n_rows(), all(kv.v.ld() / spec.n_head_kv));
            let rows = self.slot(qkv).read(task, 0..n);
            let width = self.slot(qkv).width;
            for (t, row) in rows.chunks_exact(width).enumerate() {
                let (_, row) = row.split_at(spec.n_embd_q());
                let (keys, values) = row.split_at(spec.n_embd_k());
                let key = &mut scratch.rows[..dk];
                key.copy_from_slice(&keys[head * dk..][..dk]);
                self.rotate(task, spec, t, key);
                let at = self.ubatch.kv_rows[t];
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
        let work = &self.ubatch.work;
        let width = spec.n_head_kv * state_len(spec);
        let partials = self.runner.partials.iter().find(|p| p.ld() == width);
        let partials = partials.expect("partials() made a buffer for every layer");
        let grid = Grid { rows: work.block_rows, cols: state_len(spec) };
        worker.step(work.items.len() * spec.n_head_kv, |task| {
            let mut tile = partials.tile(task, work.n_partial_rows(), grid);
            let item = &work.items[task.index() / spec.n_head_kv];
            let head_kv = task.index() % spec.n_head_kv;
            let block = &work.blocks[item.block];
            let a = &mut scratch.attend;
            self.queries(task, spec, block, head_kv, qkv, a);
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
        self.merge(worker, scratch, spec, partials, dst);
    }

    /// Rotated queries of a block, token by token, the heads of the group side by side.
    fn queries(
        &self,
        task: &Task,
        spec: &Attention,
        block: &Block,
        head_kv: usize,
        qkv: SlotId,
        a: &mut Scratch,
    ) {
        let len = spec.n_head / spec.n_head_kv * spec.head_dim_k;
        a.q.ensure(block.tokens.len() * len);
        for (q, &t) in a.q.chunks_exact_mut(len).zip(self.ubatch.work.tokens(block)) {
            let row = self.slot(qkv).read(task, t..t + 1);
            q.copy_from_slice(&row[head_kv * len..][..len]);
            self.rotate(task, spec, t, q);
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
        let n_q = block.tokens.len() * (spec.n_head / spec.n_head_kv);
        let dv = spec.head_dim_v;
        let (entries, row0) = self.kv.entries(block.seq);
        a.total.reset(n_q, dv);
        for (_, entries) in full_chunks(entries, chunks) {
            a.chunk.reset(n_q, dv);
            let tile_of = |e: &Entry| e.pos / TILE as i32;
            for tile in entries.chunk_by(|a, b| tile_of(a) == tile_of(b)) {
                // More than a tile's worth only if positions were divided or sequences merged.
                for entries in tile.chunks(TILE) {
                    self.gather(task, layer, head_kv, entries, row0, a);
                    self.feed(spec, block, entries, a);
                }
            }
            for q in 0..n_q {
                let (c, t) = (&a.chunk, &mut a.total);
                let acc = q * dv..(q + 1) * dv;
                let into = (&mut t.m[q], &mut t.l[q], &mut t.acc[acc.clone()]);
                self.table().attn_merge(c.m[q], c.l[q], &c.acc[acc], into);
            }
        }
    }

    /// Decodes the keys and values of one head at these cells.
    fn gather(
        &self,
        task: &Task,
        layer: usize,
        head_kv: usize,
        entries: &[Entry],
        row0: usize,
        a: &mut Scratch,
    ) {
        let spec = &self.plan.layers[layer];
        let kv = self.kv.layer(layer);
        let (ty_k, ty_v) = self.kv.types();
        let sides =
            [(&kv.k, ty_k, spec.head_dim_k, &mut a.k), (&kv.v, ty_v, spec.head_dim_v, &mut a.v)];
        for (buffer, ty, head_dim, out) in sides {
            out.ensure(TILE * head_dim);
            let data = buffer.read(task);
            let (ld, len) = (buffer.ld(), buffer.ld() / spec.n_head_kv);
            for (entry, out) in entries.iter().zip(out.chunks_exact_mut(head_dim)) {
                let at = (row0 + entry.cell as usize) * ld + head_kv * len;
                self.table().dequant_row(ty, &data[at..at + len], out);
            }
        }
    }

    /// Feeds a decoded tile to the chunk's states.
    fn feed(&self, spec: &Attention, block: &Block, entries: &[Entry], a: &mut Scratch) {
        let group = spec.n_head / spec.n_head_kv;
        let n_q = block.tokens.len() * group;
        a.valid.clear();
        for &t in self.ubatch.work.tokens(block) {
            let n = match self.causal {
                true => entries.partition_point(|e| e.pos <= self.ubatch.pos[t]),
                false => entries.len(),
            };
            a.valid.extend(std::iter::repeat_n(0..n as u8, group));
        }
        // Tokens are in order of position: those that see nothing come first.
        let blind = a.valid.iter().take_while(|v| v.is_empty()).count();
        if blind == n_q {
            return;
        }
        let (dk, dv) = (spec.head_dim_k, spec.head_dim_v);
        let tile = AttnTile {
            head_dim_k: dk,
            head_dim_v: dv,
            n_keys: entries.len(),
            k: &a.k[..entries.len() * dk],
            v: &a.v[..entries.len() * dv],
            q: &a.q[blind * dk..n_q * dk],
            valid: &a.valid[blind..],
            scale: spec.scale,
            softcap: 0.0,
        };
        let mut state = AttnState {
            m: &mut a.chunk.m[blind..n_q],
            l: &mut a.chunk.l[blind..n_q],
            acc: &mut a.chunk.acc[blind * dv..n_q * dv],
        };
        self.table().attn_tile(&tile, &mut state);
    }

    /// Merges each token's partial states in order of position and writes its row of `dst`.
    fn merge(
        &self,
        worker: &Worker<'_>,
        scratch: &mut ThreadScratch,
        spec: &Attention,
        partials: &Shared<f32>,
        dst: SlotId,
    ) {
        let (n, work) = (self.ubatch.n_tokens(), &self.ubatch.work);
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
                        attend.total.reset(1, dv);
                        let total = &mut attend.total;
                        for item in items.clone() {
                            let row = (item * work.block_rows + i) * partials.ld();
                            let state = &states[row + head_kv * state_len(spec)..];
                            let (acc, ml) = state.split_at(group * dv);
                            let into = (&mut total.m[0], &mut total.l[0], &mut total.acc[..dv]);
                            let acc = &acc[h * dv..][..dv];
                            self.table().attn_merge(ml[h], ml[group + h], acc, into);
                        }
                        self.table().attn_finish(total.l[0], &total.acc[..dv], out);
                    }
                });
            }
        });
    }
}
