//! The cells of the layers that keep equally much: everything, or what their windows show.

use super::window::{first_seen, forgets};
use super::{Cells, SeqSet};
use crate::engine::token::Token;
use crate::plan::{Attention, Window};

/// Windowed caches come in steps of this many cells.
const PAD: usize = 256;

/// Sizes of a cache.
#[derive(Clone, Copy, Debug)]
pub struct KvSizes {
    /// Tokens of context of one sequence; of all together when `unified`.
    pub n_ctx_seq: usize,
    /// Most sequences.
    pub n_seq_max: usize,
    /// All sequences share one stream of cells.
    pub unified: bool,
    /// Most tokens that are placed at once.
    pub n_ubatch: usize,
    /// Layers with a window keep all tokens too.
    pub swa_full: bool,
}

/// Cells for some of the layers.
#[derive(Debug)]
pub struct Part {
    /// Cells of a stream.
    pub n_cells: usize,
    /// One for all sequences, or one for each.
    pub streams: Vec<Cells>,
    /// What the layers see; none of them if everything is kept.
    windows: Vec<Window>,
}

impl Part {
    /// Cells for everything, then those of the layers with windows: as many as these need, or as
    /// many as everything needs if that is less or `swa_full` asks for it. The list says which part
    /// each layer is in.
    pub fn all(layers: &[Attention], sizes: &KvSizes) -> (Vec<Self>, Vec<usize>) {
        let mut windows: Vec<Window> = Vec::new();
        let mut longest = 0;
        for (window, n) in layers.iter().filter_map(|layer| forgets(layer.window)) {
            if !windows.contains(&window) {
                windows.push(window);
            }
            longest = longest.max(n);
        }
        // What the next token sees of each sequence, and room for those computed at once.
        let n_seqs = if sizes.unified { sizes.n_seq_max } else { 1 };
        let n_cells = longest.saturating_mul(n_seqs).saturating_add(sizes.n_ubatch);
        let n_cells = n_cells.min(sizes.n_ctx_seq).next_multiple_of(PAD).min(sizes.n_ctx_seq);
        let n_cells = if sizes.swa_full { sizes.n_ctx_seq } else { n_cells };
        let everything = Self::new(sizes.n_ctx_seq, sizes, Vec::new());
        if windows.is_empty() {
            return (vec![everything], vec![0; layers.len()]);
        }
        let of = layers.iter().map(|layer| usize::from(forgets(layer.window).is_some()));
        (vec![everything, Self::new(n_cells, sizes, windows)], of.collect())
    }

    fn new(n_cells: usize, sizes: &KvSizes, windows: Vec<Window>) -> Self {
        let n_streams = if sizes.unified { 1 } else { sizes.n_seq_max };
        let streams = (0..n_streams).map(|_| Cells::new(n_cells, sizes.n_seq_max));
        Self { n_cells, streams: streams.collect(), windows }
    }

    /// Whether it keeps less than everything.
    pub fn forgets(&self) -> bool {
        !self.windows.is_empty()
    }

    /// First position that a token at `pos` sees in any of the layers.
    pub fn first_seen(&self, pos: i32) -> i32 {
        self.windows.iter().map(|&w| first_seen(Some(w), pos)).min().unwrap_or(0)
    }

    /// Rows of the layers' buffers.
    pub fn n_rows(&self) -> usize {
        self.streams.len() * self.n_cells
    }

    /// Which stream a sequence is in.
    pub fn stream_of(&self, seq: usize) -> usize {
        if self.streams.len() == 1 { 0 } else { seq }
    }

    /// The cells that a sequence uses.
    pub fn cells_of(&mut self, seq: usize) -> &mut Cells {
        let stream = self.stream_of(seq);
        &mut self.streams[stream]
    }

    /// Whether there will be a cell for every token that is placed in ubatches of `n_ubatch`;
    /// else how many a stream needs at once and how many it has for them.
    pub fn check_room(&self, tokens: &[Token], n_ubatch: usize) -> Result<(), (usize, usize)> {
        for (stream, cells) in self.streams.iter().enumerate() {
            let own = |t: &&Token| self.stream_of(t.seq) == stream;
            let needed = tokens.iter().filter(own).count();
            if needed <= cells.n_free() {
                continue;
            }
            if self.windows.is_empty() {
                return Err((needed, cells.n_free()));
            }
            for at in (0..tokens.len()).step_by(n_ubatch.max(1)) {
                let (before, rest) = tokens.split_at(at);
                let first = self.first_needed(cells, before, rest);
                let is_needed = |pos: i32, seqs: &SeqSet| seqs.iter().any(|seq| pos >= first[seq]);
                let kept = cells.used().filter(|(pos, seqs)| is_needed(*pos, seqs)).count()
                    + before.iter().filter(own).filter(|t| is_needed(t.pos, &t.seqs)).count();
                let needed = rest.iter().take(n_ubatch).filter(own).count();
                let free = self.n_cells.saturating_sub(kept);
                if needed > free {
                    return Err((needed, free));
                }
            }
        }
        Ok(())
    }

    /// For each sequence the first position that is still needed once `before` was placed and
    /// `rest` is to come.
    pub fn first_needed(&self, cells: &Cells, before: &[Token], rest: &[Token]) -> Vec<i32> {
        let mut next: Vec<i32> = (0..cells.n_seqs()).map(|s| cells.pos_max(s) + 1).collect();
        for token in before {
            token.seqs.iter().for_each(|s| next[s] = next[s].max(token.pos + 1));
        }
        for token in rest.iter().rev() {
            token.seqs.iter().for_each(|s| next[s] = next[s].min(token.pos));
        }
        next.into_iter().map(|pos| self.first_seen(pos)).collect()
    }

    /// Gives the first `n` of `tokens` cells and appends their rows; the others come later.
    /// Forgets tokens that none of them will see when there is no room, the oldest first: what is
    /// kept longest can be returned to. False when there is no room even so.
    pub fn place(&mut self, tokens: &[Token], n: usize, rows: &mut Vec<usize>) -> bool {
        for stream in 0..self.streams.len() {
            let own = |t: &&Token| self.stream_of(t.seq) == stream;
            let needed = tokens[..n].iter().filter(own).count();
            if !self.windows.is_empty() && needed > self.streams[stream].n_free() {
                let first = self.first_needed(&self.streams[stream], &[], tokens);
                self.streams[stream].make_room(needed, &first);
            }
        }
        tokens[..n].iter().all(|token| {
            let stream = self.stream_of(token.seq);
            let cell = self.streams[stream].place(token.pos, token.seqs);
            rows.extend(cell.map(|cell| stream * self.n_cells + cell as usize));
            cell.is_some()
        })
    }

    /// Frees the cells of these rows.
    pub fn free_rows(&mut self, rows: &[usize]) {
        for &row in rows {
            self.streams[row / self.n_cells].free(&[(row % self.n_cells) as u32]);
        }
    }

    /// Gives `dst` copies of the positions `p0..p1` of `src`, which is in another stream, in place
    /// of what it has there; calls `copy` with the rows. False when there is no room for all.
    pub fn copy_seq(
        &mut self,
        (src, dst): (usize, usize),
        (p0, p1): (i32, i32),
        mut copy: impl FnMut(usize, usize),
    ) -> bool {
        let (from, to) = (self.stream_of(src), self.stream_of(dst));
        self.streams[to].seq_rm(dst, p0, p1);
        let chosen = self.streams[from].of(src).iter().copied();
        let chosen: Vec<_> = chosen.filter(|e| (p0..p1).contains(&e.pos)).collect();
        if let (Some(last), false) = (chosen.last(), self.windows.is_empty()) {
            let seqs = SeqSet::one(dst);
            let last = Token { pos: last.pos, seqs, seq: dst, output: false };
            let first = self.first_needed(&self.streams[to], &[last], &[]);
            self.streams[to].make_room(chosen.len(), &first);
        }
        chosen.into_iter().all(|entry| {
            let Some(cell) = self.streams[to].place(entry.pos, SeqSet::one(dst)) else {
                return false;
            };
            let pending = self.streams[from].pending_shift(entry.cell);
            self.streams[to].set_pending_shift(cell, pending);
            copy(from * self.n_cells + entry.cell as usize, to * self.n_cells + cell as usize);
            true
        })
    }
}
