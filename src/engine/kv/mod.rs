//! The KV cache: keys and values of every layer, in cells that sequences share.
//!
//! A unified cache is one stream whose cells belong to any sequences. Otherwise each sequence has
//! a stream of its own. A row of the buffers is `stream * n_cells + cell`. Attention walks a
//! sequence's cells in order of position, so where a token happens to be stored never matters.
//!
//! Layers with a window need not keep what no later token sees. They are a part of their own, with
//! fewer cells, whose oldest tokens make room for new ones (unless the context wants all kept).

mod cells;
mod format;
mod part;
mod restore;
mod rows;
mod save;
pub mod window;

pub use cells::{CellState, Cells, Entry, MAX_SEQS, SeqSet};
pub use format::{TYPES, check as check_types, store_row};
pub use part::KvSizes;
use part::Part;
pub use restore::Restored;
pub use rows::KvRows;

use crate::backend::cpu::KernelTable;
use crate::backend::cuda::{Budget, CudaError, Stream};
use crate::engine::token::Token;
use crate::log_warn;
use crate::model::RopeFreqs;
use crate::plan::{Attention, RopeStyle};
use crate::quant::QuantType;
use crate::util::aligned::OutOfMemory;
use std::sync::Arc;

/// Keys and values of one layer: a row per cell, the heads side by side.
pub struct KvLayer {
    /// Rotated keys.
    pub k: KvRows,
    /// Values.
    pub v: KvRows,
    /// Part of the cache that the layer is in.
    pub part: usize,
}

/// A card that layers' keys and values go to.
pub struct KvCard<'a> {
    /// In whose order the rows are used.
    pub stream: &'a Arc<Stream>,
    /// What they may take.
    pub budget: &'a Arc<Budget>,
    /// Whether a layer's rows go there.
    pub has: &'a dyn Fn(usize) -> bool,
}

/// The cache of a context.
pub struct KvCache {
    ty_k: QuantType,
    ty_v: QuantType,
    n_seq_max: usize,
    /// Cells of the layers that see everything, and those of layers with windows if there are such.
    parts: Vec<Part>,
    /// Layers that have keys and values of their own, and what these are like.
    layers: Vec<KvLayer>,
    specs: Vec<Attention>,
    /// Which one of them each layer sees.
    of: Vec<usize>,
}

impl KvCache {
    /// An empty cache. Layers that the card has no room for stay with the host.
    pub fn new(
        specs: &[Attention],
        (ty_k, ty_v): (QuantType, QuantType),
        sizes: &KvSizes,
        card: Option<&KvCard<'_>>,
    ) -> Result<Self, OutOfMemory> {
        let too_much = OutOfMemory { bytes: usize::MAX };
        let n_streams = if sizes.unified { 1 } else { sizes.n_seq_max };
        sizes.n_ctx_seq.checked_mul(n_streams).ok_or(too_much)?;
        let (mut own, mut of, mut first_of) = (Vec::new(), Vec::new(), Vec::new());
        for (il, spec) in specs.iter().enumerate() {
            let seen = spec.kv_of.map_or(own.len(), |layer| of[layer]);
            of.push(seen);
            if spec.kv_of.is_none() {
                own.push(*spec);
                first_of.push(il);
            }
        }
        let specs = own;
        let (parts, part_of) = Part::all(&specs, sizes);
        let mut card = card;
        let layers = specs.iter().zip(part_of).zip(first_of).map(|((spec, part), il)| {
            let n_rows = parts[part].n_rows();
            let row = |ty: QuantType, width: usize| {
                let bytes = ty.row_bytes(width as u64).and_then(|b| usize::try_from(b).ok());
                bytes.ok_or(OutOfMemory { bytes: usize::MAX })
            };
            let (ld_k, ld_v) = (row(ty_k, spec.n_embd_k())?, row(ty_v, spec.n_embd_v())?);
            if let Some(there) = card.filter(|card| (card.has)(il)) {
                let side = |ld| KvRows::on_card(n_rows, ld, there.stream, there.budget);
                match side(ld_k).and_then(|k| Ok((k, side(ld_v)?))) {
                    Ok((k, v)) => return Ok(KvLayer { k, v, part }),
                    Err(error) => {
                        log_warn!("keys and values from layer {il} on stay in RAM: {error}");
                        card = None;
                    }
                }
            }
            Ok(KvLayer { k: KvRows::new(n_rows, ld_k)?, v: KvRows::new(n_rows, ld_v)?, part })
        });
        let layers = layers.collect::<Result<_, OutOfMemory>>()?;
        Ok(Self { ty_k, ty_v, n_seq_max: sizes.n_seq_max, parts, layers, specs, of })
    }

    /// Number formats of keys and values.
    pub fn types(&self) -> (QuantType, QuantType) {
        (self.ty_k, self.ty_v)
    }

    /// The buffers of what a layer sees.
    pub fn layer(&self, layer: usize) -> &KvLayer {
        &self.layers[self.of[layer]]
    }

    /// Parts of the cache, each with cells of its own.
    pub fn n_parts(&self) -> usize {
        self.parts.len()
    }

    /// Rows of the buffers of a part's layers.
    pub fn n_rows(&self, part: usize) -> usize {
        self.parts[part].n_rows()
    }

    /// Bytes of all buffers.
    pub fn n_bytes(&mut self) -> usize {
        self.layers.iter_mut().map(|l| l.k.n_bytes() + l.v.n_bytes()).sum()
    }

    /// Bytes of those that are on a card.
    pub fn n_bytes_on_card(&self) -> usize {
        let sides = self.layers.iter().flat_map(|layer| [&layer.k, &layer.v]);
        sides.filter_map(KvRows::card).map(|rows| rows.len()).sum()
    }

    /// Bytes of what these layers have of their own.
    pub fn n_bytes_of(&mut self, has: impl Fn(usize) -> bool) -> usize {
        let own = self.layers.iter_mut().enumerate().filter(|(own, _)| {
            let first = self.of.iter().position(|of| of == own);
            first.is_some_and(&has)
        });
        own.map(|(_, layer)| layer.k.n_bytes() + layer.v.n_bytes()).sum()
    }

    /// Before a batch: what was changed in the host's memory goes back to the card.
    pub fn return_to_card(&mut self) -> Result<(), CudaError> {
        let mut sides = self.layers.iter_mut().flat_map(|layer| [&mut layer.k, &mut layer.v]);
        sides.try_for_each(KvRows::return_to_card)
    }

    /// Takes all rows home for good; an error when some are lost.
    pub fn leave_card(&mut self) -> Result<(), CudaError> {
        let mut all = Ok(());
        for layer in &mut self.layers {
            // Each side comes home, also behind one that is lost.
            all = all.and(layer.k.leave_card()).and(layer.v.leave_card());
        }
        all
    }

    /// Which stream a sequence is in.
    pub fn stream_of(&self, seq: usize) -> usize {
        self.parts[0].stream_of(seq)
    }

    /// The cells of a stream that keep everything.
    pub fn stream(&self, stream: usize) -> &Cells {
        &self.parts[0].streams[stream]
    }

    /// Whether all sequences share one stream.
    pub fn is_unified(&self) -> bool {
        self.parts[0].streams.len() == 1
    }

    /// The tokens of a sequence in order of position, and the row of its stream's cell 0.
    pub fn entries(&self, part: usize, seq: usize) -> (&[Entry], usize) {
        let part = &self.parts[part];
        let stream = part.stream_of(seq);
        (part.streams[stream].of(seq), stream * part.n_cells)
    }

    /// Smallest position of a sequence that all layers still have; -1 when there is none.
    pub fn pos_min(&self, seq: usize) -> i32 {
        self.least(seq).pos_min(seq)
    }

    /// Greatest position of a sequence that all layers still have; -1 when there is none.
    pub fn pos_max(&self, seq: usize) -> i32 {
        self.least(seq).pos_max(seq)
    }

    /// The cells of a sequence where the least is kept.
    fn least(&self, seq: usize) -> &Cells {
        let part = &self.parts[self.parts.len() - 1];
        &part.streams[part.stream_of(seq)]
    }

    /// Whether all that a sequence holds can be moved to other positions. As in llama.cpp not
    /// when some layers keep less than others.
    pub fn can_shift(&self) -> bool {
        self.parts.iter().all(|part| part.n_cells == self.parts[0].n_cells)
    }

    /// Checks that there will be cells for a batch that is placed in ubatches of `n_ubatch`: an
    /// error says how many are needed at once and how many there are.
    pub fn check_room(&self, tokens: &[Token], n_ubatch: usize) -> Result<(), (usize, usize)> {
        self.parts.iter().try_for_each(|part| part.check_room(tokens, n_ubatch))
    }

    /// Gives the first `n` of `tokens` cells in the streams of their sequences, the others are
    /// placed later. The buffers' rows go to `rows`, a list for each part. False when there are
    /// too few cells; those that `rows` names are taken then.
    pub fn place(&mut self, tokens: &[Token], n: usize, rows: &mut Vec<Vec<usize>>) -> bool {
        rows.resize_with(self.parts.len(), Vec::new);
        rows.iter_mut().for_each(Vec::clear);
        self.parts.iter_mut().zip(rows).all(|(part, rows)| part.place(tokens, n, rows))
    }

    /// Frees the cells of these rows.
    pub fn free_rows(&mut self, rows: &[Vec<usize>]) {
        for (part, rows) in self.parts.iter_mut().zip(rows) {
            part.free_rows(rows);
        }
    }

    /// Frees all cells; with `data` the buffers are zeroed too.
    pub fn clear(&mut self, data: bool) {
        self.parts.iter_mut().flat_map(|p| &mut p.streams).for_each(Cells::clear);
        if data {
            for layer in &mut self.layers {
                layer.k.clear();
                layer.v.clear();
            }
        }
    }

    /// Takes positions `p0..p1` out of a sequence, or of all when `seq` is `None`.
    pub fn seq_rm(&mut self, seq: Option<usize>, p0: i32, p1: i32) {
        let seqs = seq.map_or(0..self.n_seq_max, |s| s..s + 1);
        for part in &mut self.parts {
            seqs.clone().for_each(|seq| part.cells_of(seq).seq_rm(seq, p0, p1));
        }
    }

    /// Makes positions `p0..p1` of `src` belong to `dst` too. In one stream the cells are shared;
    /// from one stream to another keys and values are copied, in place of what `dst` has there.
    ///
    /// Returns whether there was room.
    pub fn seq_cp(&mut self, src: usize, dst: usize, p0: i32, p1: i32) -> bool {
        let mut all = true;
        for (i, part) in self.parts.iter_mut().enumerate() {
            if part.stream_of(src) == part.stream_of(dst) {
                part.cells_of(src).seq_cp(src, dst, p0, p1);
                continue;
            }
            all &= part.copy_seq((src, dst), (p0, p1), |from, to| {
                for layer in self.layers.iter_mut().filter(|layer| layer.part == i) {
                    for buffer in [&mut layer.k, &mut layer.v] {
                        let ld = buffer.ld();
                        buffer.bytes().copy_within(from * ld..(from + 1) * ld, to * ld);
                    }
                }
            });
        }
        all
    }

    /// Takes out every other sequence.
    pub fn seq_keep(&mut self, seq: usize) {
        for part in &mut self.parts {
            let stream = part.stream_of(seq);
            for (i, cells) in part.streams.iter_mut().enumerate() {
                if i == stream {
                    cells.seq_keep(seq);
                } else {
                    cells.clear();
                }
            }
        }
    }

    /// Moves positions `p0..p1` of a sequence by `delta`.
    pub fn seq_add(&mut self, seq: usize, p0: i32, p1: i32, delta: i32) {
        for part in &mut self.parts {
            part.cells_of(seq).seq_add(seq, p0, p1, delta);
        }
    }

    /// Divides positions `p0..p1` of a sequence by `d`.
    pub fn seq_div(&mut self, seq: usize, p0: i32, p1: i32, d: i32) {
        for part in &mut self.parts {
            part.cells_of(seq).seq_div(seq, p0, p1, d);
        }
    }

    /// Rotates the keys of all cells that were moved since the last call, by these tables.
    pub fn apply_shifts(&mut self, table: &KernelTable, ropes: &[RopeFreqs]) {
        if !self.parts.iter().flat_map(|p| &p.streams).any(Cells::has_shifts) {
            return;
        }
        // The keys already have the magnitude: this is a pure rotation.
        let turn = |freqs: &RopeFreqs| RopeFreqs { magnitude: 1.0, ..freqs.clone() };
        let ropes: Vec<RopeFreqs> = ropes.iter().map(turn).collect();
        for (i, part) in self.parts.iter_mut().enumerate() {
            let n_cells = part.n_cells;
            for (stream, cells) in part.streams.iter_mut().enumerate() {
                for (cell, delta) in cells.take_shifts() {
                    let row = stream * n_cells + cell as usize;
                    let turn = |freqs: &RopeFreqs| {
                        let mut cos_sin = vec![0.0; freqs.inv_freq.len() * 2];
                        freqs.cos_sin(delta, &mut cos_sin);
                        cos_sin
                    };
                    let cos_sin: Vec<Vec<f32>> = ropes.iter().map(turn).collect();
                    let layers = self.layers.iter_mut().zip(&self.specs);
                    for (layer, spec) in layers.filter(|(layer, _)| layer.part == i) {
                        let Some(rope) = &spec.rope else { continue };
                        let ld = layer.k.ld();
                        let stored = &mut layer.k.bytes()[row * ld..(row + 1) * ld];
                        let mut keys = vec![0.0; spec.n_embd_k()];
                        table.dequant_row(self.ty_k, stored, &mut keys);
                        let cos_sin = &cos_sin[rope.table];
                        rotate(table, rope.style, &mut keys, spec.head_dim_k, cos_sin);
                        store_row(table, self.ty_k, &keys, stored);
                    }
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
