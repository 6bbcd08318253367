//! Byte pair encoding: repeatedly joins the neighbouring pair with the lowest rank.
//!
//! Symbols are the vocabulary's texts by number: tokens first, then the few intermediate texts
//! that merges mention but the vocabulary does not have. A pair is then 8 bytes and its rank one
//! look-up away, and a word of n bytes takes O(n log n) steps.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use super::pre::PreTokenizer;
use super::texts::Texts;
use super::{Error, Token, byte_level, unicode};

/// A merge: two neighbours become one symbol.
#[derive(Clone, Copy)]
struct Merge {
    left: u32,
    right: u32,
    joined: u32,
}

/// A byte-level BPE model: the merges by rank, and how text is cut into words.
pub(super) struct Bpe {
    pre: PreTokenizer,
    /// By rank.
    merges: Vec<Merge>,
    /// (left, right) → rank.
    ranks: FxHashMap<(u32, u32), u32>,
    /// Symbol of each byte of text.
    byte_symbols: Box<[u32; 256]>,
    /// Token of each byte *of a token's text*, for symbols that are no tokens.
    raw_bytes: Box<[Option<Token>; 256]>,
    n_tokens: u32,
}

impl Bpe {
    /// Reads the merges (`"left right"`, by rank). `texts` holds the vocabulary's texts and gets
    /// the intermediate ones.
    pub(super) fn new<'a>(
        texts: &mut Texts,
        merges: impl ExactSizeIterator<Item = &'a [u8]>,
        pre: PreTokenizer,
    ) -> Result<Self, Error> {
        let n_tokens = texts.len() as u32;
        let is_token = |n: u32| (n < n_tokens).then_some(n as Token);
        let mut raw_bytes = Box::new([None; 256]);
        for byte in 0..=255u8 {
            raw_bytes[byte as usize] = texts.find(&[byte]).and_then(is_token);
        }
        let mut byte_symbols = Box::new([0; 256]);
        let mut text = Vec::new();
        for byte in 0..=255u8 {
            text.clear();
            byte_level::encode(&[byte], &mut text);
            byte_symbols[byte as usize] = texts.insert(&text)?.0;
        }
        let mut bpe = Self {
            pre,
            merges: Vec::with_capacity(merges.len()),
            ranks: FxHashMap::with_capacity_and_hasher(merges.len(), Default::default()),
            byte_symbols,
            raw_bytes,
            n_tokens,
        };
        let mut joined = n_tokens;
        for merge in merges {
            // The first space after the first byte parts the two; an entry without one says nothing.
            let Some(space) = merge.iter().skip(1).position(|&b| b == b' ') else { continue };
            let (left, right) = (&merge[..space + 1], &merge[space + 2..]);
            text.clear();
            text.extend_from_slice(left);
            text.extend_from_slice(right);
            // Most vocabularies are in the order of their merges.
            let near = [joined, joined.wrapping_add(1)];
            joined = match near.into_iter().find(|&n| texts.get(n) == Some(&text[..])) {
                Some(n) => n,
                None => texts.insert(&text)?.0,
            };
            let (left, right) = (texts.insert(left)?.0, texts.insert(right)?.0);
            bpe.add_merge(Merge { left, right, joined });
        }
        Ok(bpe)
    }

    fn add_merge(&mut self, merge: Merge) {
        let rank = self.merges.len() as u32;
        // Of two equal pairs the first counts.
        if let std::collections::hash_map::Entry::Vacant(entry) =
            self.ranks.entry((merge.left, merge.right))
        {
            entry.insert(rank);
            self.merges.push(merge);
        }
    }

    /// Appends the tokens of `text`, which may be any bytes.
    pub(super) fn tokenize(&self, texts: &Texts, text: &[u8], out: &mut Vec<Token>) {
        let text = unicode::repair(text);
        let mut scratch = Scratch::default();
        self.pre.splitter.split(&text, |word| self.word(texts, word, &mut scratch, out));
    }

    fn word(&self, texts: &Texts, word: &[u8], scratch: &mut Scratch, out: &mut Vec<Token>) {
        if let &[byte] = word {
            return self.push(self.byte_symbols[byte as usize], word, out);
        }
        if self.pre.ignore_merges {
            scratch.encoded.clear();
            byte_level::encode(word, &mut scratch.encoded);
            if let Some(n) = texts.find(&scratch.encoded).filter(|&n| n < self.n_tokens) {
                out.push(n as Token);
                return;
            }
        }
        scratch.start(word.iter().map(|&b| self.byte_symbols[b as usize]));
        for at in 0..word.len() - 1 {
            scratch.offer(self, at as u32);
        }
        while let Some(Reverse(candidate)) = scratch.queue.pop() {
            scratch.merge(self, candidate);
        }
        let mut at = 0;
        while at != NONE {
            let Symbol { id, next, .. } = scratch.symbols[at as usize];
            let end = if next == NONE { word.len() } else { next as usize };
            self.push(id, &word[at as usize..end], out);
            at = next;
        }
    }

    /// Appends a finished symbol: its token, or if it is none the tokens of the single bytes of
    /// its text (bytes without a token vanish).
    fn push(&self, symbol: u32, bytes: &[u8], out: &mut Vec<Token>) {
        if symbol < self.n_tokens {
            out.push(symbol as Token);
            return;
        }
        let mut encoded = Vec::with_capacity(2 * bytes.len());
        byte_level::encode(bytes, &mut encoded);
        out.extend(encoded.iter().filter_map(|&b| self.raw_bytes[b as usize]));
    }

    fn rank(&self, left: u32, right: u32) -> Option<u32> {
        self.ranks.get(&(left, right)).copied()
    }
}

/// No neighbour; as an `id`: merged into the left neighbour.
const NONE: u32 = u32::MAX;

/// A symbol of the word; it starts at the byte of its index.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    prev: u32,
    next: u32,
}

/// Working memory of one call, reused from word to word.
#[derive(Default)]
struct Scratch {
    symbols: Vec<Symbol>,
    /// Candidates, best first: `rank << 32 | index of the left symbol`. Candidates whose symbols
    /// have changed since are skipped when they come up.
    queue: BinaryHeap<Reverse<u64>>,
    encoded: Vec<u8>,
}

impl Scratch {
    fn start(&mut self, ids: impl Iterator<Item = u32>) {
        self.queue.clear();
        self.symbols.clear();
        self.symbols.extend(ids.zip(0u32..).map(|(id, i)| Symbol {
            id,
            prev: i.wrapping_sub(1),
            next: i + 1,
        }));
        if let Some(last) = self.symbols.last_mut() {
            last.next = NONE;
        }
    }

    /// Queues the pair of the symbol at `left` and the one after it, if it has a rank.
    fn offer(&mut self, bpe: &Bpe, left: u32) {
        let Symbol { id, next, .. } = self.symbols[left as usize];
        if next == NONE {
            return;
        }
        if let Some(rank) = bpe.rank(id, self.symbols[next as usize].id) {
            self.queue.push(Reverse((rank as u64) << 32 | left as u64));
        }
    }

    fn merge(&mut self, bpe: &Bpe, candidate: u64) {
        let merge = bpe.merges[(candidate >> 32) as usize];
        let left = candidate as u32;
        let Symbol { id, prev, next } = self.symbols[left as usize];
        if id != merge.left || next == NONE || self.symbols[next as usize].id != merge.right {
            return; // outdated
        }
        let after = self.symbols[next as usize].next;
        self.symbols[next as usize].id = NONE;
        self.symbols[left as usize] = Symbol { id: merge.joined, prev, next: after };
        if after != NONE {
            self.symbols[after as usize].prev = left;
        }
        if prev != NONE {
            self.offer(bpe, prev);
        }
        self.offer(bpe, left);
    }
}
