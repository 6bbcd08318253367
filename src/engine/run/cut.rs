//! How the attention of a ubatch is cut up: into blocks of tokens and chunks of positions.

use std::ops::Range;

use crate::backend::cpu::table::attn::TILE;
use crate::engine::kv::{Entry, KvCache, window};
use crate::engine::token::Token;
use crate::plan::{Plan, Window};

/// Positions of a chunk.
const CHUNK: i32 = 256;
/// Most queries of a block, over all heads that share a key head.
const MAX_QUERIES: usize = 64;

/// Tokens of one sequence that are computed together.
#[derive(Debug)]
pub(super) struct Block {
    /// The sequence.
    pub(super) seq: usize,
    /// The tokens: a range of [`Work::order`].
    pub(super) tokens: Range<usize>,
    /// Positions that any of them sees.
    seen: Range<i32>,
    /// Items of the block: consecutive numbers.
    pub(super) items: Range<usize>,
}

impl Block {
    /// The tokens of its sequence that it sees.
    pub(super) fn entries<'e>(&self, all: &'e [Entry]) -> &'e [Entry] {
        let start = all.partition_point(|e| e.pos < self.seen.start);
        let end = all.partition_point(|e| e.pos < self.seen.end);
        &all[start..end.max(start)]
    }
}

/// A block and the chunks of one partial result.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) block: usize,
    pub(super) chunks: Range<i32>,
}

/// What decides how the attention of a layer is cut up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Class {
    n_head_kv: usize,
    /// Query heads that share a key head.
    pub(super) group: usize,
    pub(in crate::engine) window: Option<Window>,
    /// Part of the cache with the layer's cells.
    pub(in crate::engine) part: usize,
}

impl Class {
    /// The classes of a plan's layers, each once, and which one each layer is of.
    pub fn all(plan: &Plan, kv: &KvCache) -> (Vec<Self>, Vec<usize>) {
        let mut classes = Vec::new();
        let of_layers = plan.layers.iter().enumerate().map(|(il, spec)| {
            let class = Self {
                n_head_kv: spec.n_head_kv,
                group: spec.n_head / spec.n_head_kv,
                window: spec.window,
                part: kv.layer(il).part,
            };
            let known = classes.iter().position(|c| *c == class);
            known.unwrap_or_else(|| {
                classes.push(class);
                classes.len() - 1
            })
        });
        let of_layers = of_layers.collect();
        (classes, of_layers)
    }
}

/// How the attention of a ubatch is cut up in layers of one class.
#[derive(Debug, Default)]
pub struct Work {
    /// Tokens of the ubatch by sequence and position.
    order: Vec<usize>,
    pub(super) blocks: Vec<Block>,
    pub(super) items: Vec<Item>,
    /// Tokens of the largest block: rows of an item's partial result.
    pub(super) block_rows: usize,
    /// Block and place in it of each token.
    pub(super) place: Vec<(usize, usize)>,
}

impl Work {
    /// Cuts up a ubatch whose tokens are in the cache already, in place of what was there.
    pub fn set(
        &mut self,
        tokens: &[Token],
        kv: &KvCache,
        class: &Class,
        causal: bool,
        n_threads: usize,
    ) {
        let max_tokens = (MAX_QUERIES / class.group).clamp(1, MAX_QUERIES);
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
                let (seq, first, last) =
                    (tokens[part[0]].seq, tokens[part[0]].pos, tokens[part[part.len() - 1]].pos);
                // Both ends of what tokens see grow with their positions.
                let seen = window::seen(class.window, causal, first).start
                    ..window::seen(class.window, causal, last).end;
                self.blocks.push(Block { seq, tokens: tokens_of_block, seen, items: 0..0 });
            }
        }
        let split = self.blocks.len() * class.n_head_kv < 4 * n_threads;
        for (b, block) in self.blocks.iter_mut().enumerate() {
            let entries = block.entries(kv.entries(class.part, block.seq).0);
            let chunk_of = |entry: Option<&Entry>| entry.map_or(0, |e| e.pos / CHUNK);
            let chunks = chunk_of(entries.first())..chunk_of(entries.last()) + 1;
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
    pub(super) fn tokens(&self, block: &Block) -> &[usize] {
        &self.order[block.tokens.clone()]
    }

    /// Rows of the buffers of partial results.
    pub fn n_partial_rows(&self) -> usize {
        self.items.len() * self.block_rows
    }
}

/// The chunks that have tokens, with these: the gaps of a sequence can be wide.
pub(super) fn full_chunks(
    entries: &[Entry],
    chunks: Range<i32>,
) -> impl Iterator<Item = (i32, &[Entry])> {
    let mut rest = &entries[entries.partition_point(|e| e.pos / CHUNK < chunks.start)..];
    std::iter::from_fn(move || {
        let chunk = rest.first()?.pos / CHUNK;
        let (own, after) = rest.split_at(rest.partition_point(|e| e.pos / CHUNK == chunk));
        rest = after;
        chunks.contains(&chunk).then_some((chunk, own))
    })
}

/// Calls `f` with the tokens of a tile that are worked on together, and the place in the tile of
/// the first of them.
///
/// Without a window that is all of them, one after the other, 32 at most: there are more only if
/// positions were divided or sequences merged. With a window a token's place is that of its
/// position, so that nothing depends on which tokens before it are still kept; only tokens of
/// successive positions go together.
pub(super) fn for_runs(tile: &[Entry], windowed: bool, mut f: impl FnMut(usize, &[Entry])) {
    if windowed {
        for run in tile.chunk_by(|a, b| a.pos + 1 == b.pos) {
            f(run[0].pos as usize % TILE, run);
        }
    } else {
        tile.chunks(TILE).for_each(|run| f(0, run));
    }
}
