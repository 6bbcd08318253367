//! The cache as bytes: its cells and their rows.
//!
//! | what | numbers |
//! |---|---|
//! | formats of keys and values | u32 each |
//! | number of layers | u32 |
//! | for each its list of cells ([`NO_LIST`] if it is not in it), heads, sizes, window | see [`LayerFacts`] |
//! | number of lists of cells | u32 |
//! | for each list the number of cells | u32 |
//! | for each cell | position i32, shift i32; of several sequences: how many, which, u32 each |
//! | for each layer that is in it | keys of its cells, values of its cells |
//!
//! A list is what a part of the cache holds, in ascending order of cells: where two tokens of a
//! sequence have one position, their order counts. A pending shift stays pending, so that a
//! restored context computes what the saved one would have. A state of one sequence has what a
//! window hides from its last token left out.

use std::io;

use super::{CellState, KvCache, SeqSet};
use crate::engine::StateError;
use crate::engine::state::StateScope;
use crate::engine::state::wire::{In, Out};
use crate::plan::{Attention, Window};

/// List number of a layer that is not part of a state.
pub(super) const NO_LIST: u32 = u32::MAX;

/// What must be equal for a layer's rows to mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LayerFacts {
    n_head_kv: u32,
    head_dim_k: u32,
    head_dim_v: u32,
    window: (u32, u64),
}

impl LayerFacts {
    pub fn of(spec: &Attention) -> Self {
        let window = match spec.window {
            None => (0, 0),
            Some(Window::Sliding(n)) => (1, n),
            Some(Window::Chunked(n)) => (2, n),
            Some(Window::Symmetric(n)) => (3, n),
        };
        Self {
            n_head_kv: spec.n_head_kv as u32,
            head_dim_k: spec.head_dim_k as u32,
            head_dim_v: spec.head_dim_v as u32,
            window: (window.0, window.1 as u64),
        }
    }

    fn put(&self, out: &mut Out<'_>) -> io::Result<()> {
        for x in [self.n_head_kv, self.head_dim_k, self.head_dim_v, self.window.0] {
            out.u32(x)?;
        }
        out.u64(self.window.1)
    }

    pub fn get(src: &mut In<'_>) -> Result<Self, StateError> {
        let (n_head_kv, head_dim_k, head_dim_v) = (src.u32()?, src.u32()?, src.u32()?);
        Ok(Self { n_head_kv, head_dim_k, head_dim_v, window: (src.u32()?, src.u64()?) })
    }
}

/// A cell that is saved, and its row in the buffers.
struct Saved {
    row: usize,
    state: CellState,
}

impl KvCache {
    /// Parts that a state of this scope is of.
    pub(super) fn parts_of(&self, scope: &StateScope) -> std::ops::Range<usize> {
        let last = self.parts.len() - 1;
        if scope.partial { last..last + 1 } else { 0..last + 1 }
    }

    /// Writes the cells of a scope and their rows.
    pub fn write_state(&mut self, scope: &StateScope, out: &mut Out<'_>) -> io::Result<()> {
        let parts = self.parts_of(scope);
        out.u32(self.ty_k as u32)?;
        out.u32(self.ty_v as u32)?;
        out.u32(self.layers.len() as u32)?;
        for (layer, spec) in self.layers.iter().zip(&self.specs) {
            let list = parts.contains(&layer.part).then(|| layer.part - parts.start);
            out.u32(list.map_or(NO_LIST, |list| list as u32))?;
            LayerFacts::of(spec).put(out)?;
        }
        let lists: Vec<Vec<Saved>> =
            parts.clone().map(|part| self.saved(part, scope.seq)).collect();
        out.u32(lists.len() as u32)?;
        for list in &lists {
            out.u32(list.len() as u32)?;
            for Saved { state, .. } in list {
                out.i32(state.pos)?;
                out.i32(state.shift)?;
                if scope.seq.is_none() {
                    put_seqs(&state.seqs, out)?;
                }
            }
        }
        for layer in self.layers.iter_mut().filter(|layer| parts.contains(&layer.part)) {
            let list = &lists[layer.part - parts.start];
            for buffer in [&mut layer.k, &mut layer.v] {
                let ld = buffer.ld();
                let rows = buffer.bytes();
                for run in list.chunk_by(|a, b| a.row + 1 == b.row) {
                    out.bytes(&rows[run[0].row * ld..(run[0].row + run.len()) * ld])?;
                }
            }
        }
        Ok(())
    }

    /// What a state has of a part: all cells, or those of a sequence that its last token sees.
    fn saved(&self, part: usize, seq: Option<usize>) -> Vec<Saved> {
        let part = &self.parts[part];
        let Some(seq) = seq else {
            let streams = part.streams.iter().enumerate();
            let all = streams.flat_map(|(stream, cells)| {
                let first = stream * part.n_cells;
                cells.states().map(move |(cell, state)| Saved { row: first + cell as usize, state })
            });
            return all.collect();
        };
        let stream = part.stream_of(seq);
        let cells = &part.streams[stream];
        let first_seen = part.first_seen(cells.pos_max(seq));
        let mut seen: Vec<u32> =
            cells.of(seq).iter().filter(|e| e.pos >= first_seen).map(|e| e.cell).collect();
        seen.sort_unstable();
        let of_one = |cell| CellState { seqs: SeqSet::one(seq), ..cells.state(cell) };
        let saved =
            |cell| Saved { row: stream * part.n_cells + cell as usize, state: of_one(cell) };
        seen.into_iter().map(saved).collect()
    }
}

fn put_seqs(seqs: &SeqSet, out: &mut Out<'_>) -> io::Result<()> {
    out.u32(seqs.len() as u32)?;
    seqs.iter().try_for_each(|seq| out.u32(seq as u32))
}
