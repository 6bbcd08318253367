//! What kernels need to know of a ubatch: rows of the cache, what each token sees, rotations. All of
//! it goes to the card in one copy.

use std::ops::Range;
use std::sync::Arc;

use super::slots::grow;
use crate::backend::cuda::{Budget, Buffer, CudaError, Stream, View};
use crate::engine::kv::{KvCache, window};
use crate::engine::run::{Class, Ubatch, alibi_slope};
use crate::engine::token::Token;
use crate::model::RopeFreqs;
use crate::plan::{Attention, Plan};
use crate::util::bytes;

/// Bytes `start..end` of the lists.
type At = Range<usize>;

/// What tokens see in layers of one class.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Rows of the cache, `i32`: those of each sequence in order of position.
    rows: At,
    /// Positions of the same.
    pos: At,
    /// For each token the first and the last but one of what it sees in the list, two `i32`.
    ranges: At,
    /// Most that one of the tokens sees.
    pub most: usize,
}

/// The lists of a ubatch, on the host and on the card.
#[derive(Default)]
pub struct Lists {
    /// Numbers of 4 bytes.
    words: Vec<u32>,
    card: Option<Buffer>,
    /// For each part of the cache the row of each token.
    kv_rows: Vec<At>,
    /// Tokens whose output is wanted.
    outputs: At,
    /// Positions of the tokens.
    pos: At,
    /// For each table of rotations cosines and sines of each token.
    cos_sin: Vec<At>,
    seen: Vec<Seen>,
    /// Penalties of distance of each query head, by heads and the greatest of them.
    slopes: Vec<((usize, u32), At)>,
}

/// What the lists are made of.
pub struct Content<'a> {
    /// Says which slopes layers have.
    pub plan: &'a Plan,
    /// Tokens in order.
    pub tokens: &'a [Token],
    /// The rest of the ubatch.
    pub ubatch: &'a Ubatch,
    /// Has their cells.
    pub kv: &'a KvCache,
    /// What layers see alike.
    pub classes: &'a [Class],
    /// Whether later tokens are hidden.
    pub causal: bool,
    /// Frequencies of each table.
    pub ropes: &'a [RopeFreqs],
}

impl Lists {
    /// Makes the lists and sends them.
    pub fn set(
        &mut self,
        content: &Content<'_>,
        stream: &Arc<Stream>,
        budget: &Arc<Budget>,
    ) -> Result<(), CudaError> {
        let Content { plan, tokens, ubatch, kv, classes, causal, ropes } = *content;
        self.words.clear();
        let ints = |list: &[usize]| list.iter().map(|&x| x as u32).collect::<Vec<_>>();
        self.kv_rows = ubatch.kv_rows.iter().map(|rows| self.put(ints(rows))).collect();
        self.outputs = self.put(ints(&ubatch.outputs));
        self.pos = self.put(ubatch.pos.iter().map(|pos| pos.cast_unsigned()));
        self.cos_sin.clear();
        let mut table = Vec::new();
        for freqs in ropes {
            let len = freqs.inv_freq.len() * 2;
            table.clear();
            table.resize(len * tokens.len(), 0.0f32);
            for (row, token) in table.chunks_exact_mut(len.max(1)).zip(tokens) {
                freqs.cos_sin(token.pos, row);
            }
            let at = self.put(table.iter().map(|x| x.to_bits()));
            self.cos_sin.push(at);
        }
        self.seen = classes.iter().map(|class| self.see(class, tokens, kv, causal)).collect();

        self.slopes.clear();
        for spec in plan.layers.iter().filter(|spec| spec.max_alibi_bias > 0.0) {
            let key = slope_key(spec);
            if !self.slopes.iter().any(|(known, _)| *known == key) {
                let slope = |head| alibi_slope(spec.max_alibi_bias, spec.n_head, head).to_bits();
                let at = self.put((0..spec.n_head).map(slope));
                self.slopes.push((key, at));
            }
        }

        let n_bytes = self.words.len() * 4;
        // They grow with the context: in few steps.
        grow(&mut self.card, n_bytes.next_power_of_two(), stream, budget)?;
        match &self.card {
            Some(card) => {
                stream.upload(card.view().slice(0..n_bytes), bytes::as_bytes(&self.words))
            }
            None => Ok(()),
        }
    }

    /// Appends a list that begins where kernels' operands may.
    fn put(&mut self, list: impl IntoIterator<Item = u32>) -> At {
        self.words.resize(self.words.len().next_multiple_of(4), 0);
        let start = self.words.len();
        self.words.extend(list);
        start * 4..self.words.len() * 4
    }

    fn see(&mut self, class: &Class, tokens: &[Token], kv: &KvCache, causal: bool) -> Seen {
        let mut seqs: Vec<usize> = tokens.iter().map(|token| token.seq).collect();
        seqs.sort_unstable();
        seqs.dedup();
        let mut first_of = Vec::with_capacity(seqs.len());
        let (mut rows, mut pos) = (Vec::new(), Vec::new());
        for &seq in &seqs {
            let (entries, row0) = kv.entries(class.part, seq);
            first_of.push(rows.len());
            rows.extend(entries.iter().map(|e| (row0 + e.cell as usize) as u32));
            pos.extend(entries.iter().map(|e| e.pos.cast_unsigned()));
        }
        let mut most = 0;
        let ranges: Vec<u32> = tokens
            .iter()
            .flat_map(|token| {
                let (entries, _) = kv.entries(class.part, token.seq);
                let seen = window::seen(class.window, causal, token.pos);
                let start = entries.partition_point(|e| e.pos < seen.start);
                let end = entries.partition_point(|e| e.pos < seen.end).max(start);
                most = most.max(end - start);
                let first = seqs.binary_search(&token.seq).map_or(0, |i| first_of[i]);
                [(first + start) as u32, (first + end) as u32]
            })
            .collect();
        Seen { rows: self.put(rows), pos: self.put(pos), ranges: self.put(ranges), most }
    }

    fn view(&self, at: &At) -> Option<View<'_>> {
        Some(self.card.as_ref()?.view().slice(at.clone()))
    }

    /// Row of each token in a part of the cache.
    pub fn kv_rows(&self, part: usize) -> Option<View<'_>> {
        self.view(self.kv_rows.get(part)?)
    }

    /// Tokens whose output is wanted.
    pub fn outputs(&self) -> Option<View<'_>> {
        self.view(&self.outputs)
    }

    /// Position of each token.
    pub fn pos(&self) -> Option<View<'_>> {
        self.view(&self.pos)
    }

    /// Cosines and sines of each token by a table.
    pub fn cos_sin(&self, table: usize) -> Option<View<'_>> {
        self.view(self.cos_sin.get(table)?)
    }

    /// Penalties of distance of a layer's query heads; `None` where there are none.
    pub fn slopes(&self, spec: &Attention) -> Option<View<'_>> {
        let (_, at) = self.slopes.iter().find(|(key, _)| *key == slope_key(spec))?;
        self.view(at)
    }

    /// What tokens see in layers of a class: rows, positions, ranges; and most of them.
    pub fn seen(&self, class: usize) -> Option<([View<'_>; 3], usize)> {
        let seen = self.seen.get(class)?;
        let view = |at| self.view(at);
        Some(([view(&seen.rows)?, view(&seen.pos)?, view(&seen.ranges)?], seen.most))
    }
}

fn slope_key(spec: &Attention) -> (usize, u32) {
    (spec.n_head, spec.max_alibi_bias.to_bits())
}
