//! The KV cache: keys and values of every layer, in cells that sequences share.
//!
//! A unified cache is one stream whose cells belong to any sequences. Otherwise each sequence has
//! a stream of its own. A row of the buffers is `stream * n_ctx_seq + cell`. Attention walks a
//! sequence's cells in order of position, so where a token happens to be stored never matters.

mod cells;

pub use cells::{Cells, Entry, MAX_SEQS, SeqSet};

use crate::backend::cpu::KernelTable;
use crate::backend::cpu::pool::Shared;
use crate::model::RopeFreqs;
use crate::plan::{Attention, RopeStyle};
use crate::quant::QuantType;
use crate::util::aligned::OutOfMemory;
use crate::util::bytes;

/// Keys and values of one layer: a row per cell, the heads side by side.
pub struct KvLayer {
    /// Rotated keys.
    pub k: Shared<u8>,
    /// Values.
    pub v: Shared<u8>,
}

/// The cache of a context.
pub struct KvCache {
    ty_k: QuantType,
    ty_v: QuantType,
    n_ctx_seq: usize,
    n_seq_max: usize,
    streams: Vec<Cells>,
    layers: Vec<KvLayer>,
    specs: Vec<Attention>,
}

impl KvCache {
    /// Number formats that a cache can have.
    pub const TYPES: &[QuantType] = &[QuantType::F32, QuantType::F16];

    /// An empty cache. With `unified` all sequences share `n_ctx_seq` cells, else each has as many.
    pub fn new(
        specs: &[Attention],
        (ty_k, ty_v): (QuantType, QuantType),
        n_ctx_seq: usize,
        n_seq_max: usize,
        unified: bool,
    ) -> Result<Self, OutOfMemory> {
        let n_streams = if unified { 1 } else { n_seq_max };
        let n_rows = n_ctx_seq.checked_mul(n_streams).ok_or(OutOfMemory { bytes: usize::MAX })?;
        let buffer = |ty: QuantType, width: usize| {
            let row = ty.row_bytes(width as u64).and_then(|b| usize::try_from(b).ok());
            Shared::new(n_rows, row.ok_or(OutOfMemory { bytes: usize::MAX })?)
        };
        let layers = specs
            .iter()
            .map(|s| Ok(KvLayer { k: buffer(ty_k, s.n_embd_k())?, v: buffer(ty_v, s.n_embd_v())? }))
            .collect::<Result<_, OutOfMemory>>()?;
        let streams = (0..n_streams).map(|_| Cells::new(n_ctx_seq, n_seq_max)).collect();
        Ok(Self { ty_k, ty_v, n_ctx_seq, n_seq_max, streams, layers, specs: specs.to_vec() })
    }

    /// Number formats of keys and values.
    pub fn types(&self) -> (QuantType, QuantType) {
        (self.ty_k, self.ty_v)
    }

    /// A layer's buffers.
    pub fn layer(&self, layer: usize) -> &KvLayer {
        &self.layers[layer]
    }

    /// Rows of every buffer.
    pub fn n_rows(&self) -> usize {
        self.streams.len() * self.n_ctx_seq
    }

    /// Bytes of all buffers.
    pub fn n_bytes(&mut self) -> usize {
        self.layers.iter_mut().map(|l| l.k.n_bytes() + l.v.n_bytes()).sum()
    }

    /// Which stream a sequence is in.
    pub fn stream_of(&self, seq: usize) -> usize {
        if self.streams.len() == 1 { 0 } else { seq }
    }

    /// A stream's cells.
    pub fn stream(&self, stream: usize) -> &Cells {
        &self.streams[stream]
    }

    /// Whether all sequences share one stream.
    pub fn is_unified(&self) -> bool {
        self.streams.len() == 1
    }

    fn cells_of(&mut self, seq: usize) -> &mut Cells {
        let stream = self.stream_of(seq);
        &mut self.streams[stream]
    }

    /// The tokens of a sequence in order of position, and the row of its stream's cell 0.
    pub fn entries(&self, seq: usize) -> (&[Entry], usize) {
        let stream = self.stream_of(seq);
        (self.streams[stream].of(seq), stream * self.n_ctx_seq)
    }

    /// Gives a token a cell in the stream of its sequences; returns the buffers' row.
    pub fn place(&mut self, pos: i32, seqs: SeqSet) -> Option<usize> {
        let stream = self.stream_of(seqs.iter().next()?);
        let cell = self.streams[stream].place(pos, seqs)?;
        Some(stream * self.n_ctx_seq + cell as usize)
    }

    /// Frees the cells of these rows.
    pub fn free_rows(&mut self, rows: &[usize]) {
        for &row in rows {
            self.streams[row / self.n_ctx_seq].free(&[(row % self.n_ctx_seq) as u32]);
        }
    }

    /// Frees all cells; with `data` the buffers are zeroed too.
    pub fn clear(&mut self, data: bool) {
        self.streams.iter_mut().for_each(Cells::clear);
        if data {
            for layer in &mut self.layers {
                layer.k.get_mut().fill(0);
                layer.v.get_mut().fill(0);
            }
        }
    }

    /// Takes positions `p0..p1` out of a sequence, or of all when `seq` is `None`.
    pub fn seq_rm(&mut self, seq: Option<usize>, p0: i32, p1: i32) {
        let seqs = seq.map_or(0..self.n_seq_max, |s| s..s + 1);
        for seq in seqs {
            self.cells_of(seq).seq_rm(seq, p0, p1);
        }
    }

    /// Makes positions `p0..p1` of `src` belong to `dst` too. In one stream the cells are shared;
    /// from one stream to another keys and values are copied, in place of what `dst` has there.
    ///
    /// Returns whether there was room.
    pub fn seq_cp(&mut self, src: usize, dst: usize, p0: i32, p1: i32) -> bool {
        let (from, to) = (self.stream_of(src), self.stream_of(dst));
        if from == to {
            self.streams[from].seq_cp(src, dst, p0, p1);
            return true;
        }
        self.streams[to].seq_rm(dst, p0, p1);
        let chosen = self.streams[from].of(src).iter().copied();
        for entry in chosen.filter(|e| (p0..p1).contains(&e.pos)).collect::<Vec<_>>() {
            let Some(cell) = self.streams[to].place(entry.pos, SeqSet::one(dst)) else {
                return false;
            };
            let pending = self.streams[from].pending_shift(entry.cell);
            self.streams[to].set_pending_shift(cell, pending);
            let old = from * self.n_ctx_seq + entry.cell as usize;
            let new = to * self.n_ctx_seq + cell as usize;
            for layer in &mut self.layers {
                for buffer in [&mut layer.k, &mut layer.v] {
                    let ld = buffer.ld();
                    buffer.get_mut().copy_within(old * ld..(old + 1) * ld, new * ld);
                }
            }
        }
        true
    }

    /// Takes out every other sequence.
    pub fn seq_keep(&mut self, seq: usize) {
        let stream = self.stream_of(seq);
        for (i, cells) in self.streams.iter_mut().enumerate() {
            if i == stream {
                cells.seq_keep(seq);
            } else {
                cells.clear();
            }
        }
    }

    /// Moves positions `p0..p1` of a sequence by `delta`.
    pub fn seq_add(&mut self, seq: usize, p0: i32, p1: i32, delta: i32) {
        self.cells_of(seq).seq_add(seq, p0, p1, delta);
    }

    /// Divides positions `p0..p1` of a sequence by `d`.
    pub fn seq_div(&mut self, seq: usize, p0: i32, p1: i32, d: i32) {
        self.cells_of(seq).seq_div(seq, p0, p1, d);
    }

    /// Rotates the keys of all cells that were moved since the last call, by these tables.
    pub fn apply_shifts(&mut self, table: &KernelTable, ropes: &[RopeFreqs]) {
        if !self.streams.iter().any(Cells::has_shifts) {
            return;
        }
        // The keys already have the magnitude: this is a pure rotation.
        let turn = |freqs: &RopeFreqs| RopeFreqs { magnitude: 1.0, ..freqs.clone() };
        let ropes: Vec<RopeFreqs> = ropes.iter().map(turn).collect();
        for (stream, cells) in self.streams.iter_mut().enumerate() {
            for (cell, delta) in cells.take_shifts() {
                let row = stream * self.n_ctx_seq + cell as usize;
                let turn = |freqs: &RopeFreqs| {
                    let mut cos_sin = vec![0.0; freqs.inv_freq.len() * 2];
                    freqs.cos_sin(delta, &mut cos_sin);
                    cos_sin
                };
                let cos_sin: Vec<Vec<f32>> = ropes.iter().map(turn).collect();
                for (layer, spec) in self.layers.iter_mut().zip(&self.specs) {
                    let Some(rope) = &spec.rope else { continue };
                    let ld = layer.k.ld();
                    let stored = &mut layer.k.get_mut()[row * ld..(row + 1) * ld];
                    let mut keys = vec![0.0; spec.n_embd_k()];
                    table.dequant_row(self.ty_k, stored, &mut keys);
                    rotate(table, rope.style, &mut keys, spec.head_dim_k, &cos_sin[rope.table]);
                    store_row(table, self.ty_k, &keys, stored);
                }
            }
        }
    }
}

/// Rotates the heads of one token in place.
pub fn rotate(
    table: &KernelTable,
    style: RopeStyle,
    heads: &mut [f32],
    head_dim: usize,
    cos_sin: &[f32],
) {
    match style {
        RopeStyle::Norm => table.rope_norm(heads, head_dim, cos_sin),
        RopeStyle::Neox => table.rope_neox(heads, head_dim, cos_sin),
    }
}

/// Converts numbers to a cache's format.
///
/// # Panics
/// When the format is none of [`KvCache::TYPES`] or `out` has another size.
pub fn store_row(table: &KernelTable, ty: QuantType, x: &[f32], out: &mut [u8]) {
    match ty {
        QuantType::F32 => out.copy_from_slice(bytes::as_bytes(x)),
        QuantType::F16 => table.store_f16(x, bytes::cast_mut(out).expect("rows are even bytes")),
        other => panic!("a cache of type {other} was refused when it was made"),
    }
}
