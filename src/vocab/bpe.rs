//! Byte pair encoding: repeatedly joins the neighbouring pair with the lowest rank.
//!
//! Symbols are the vocabulary's texts by number: tokens first, then the few intermediate texts
//! that merges mention but the vocabulary does not have. A pair is then 8 bytes and its rank one
//! look-up away, and a word of n bytes takes O(n log n) steps.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use super::pre::{PreTokenizer, Spelling};
use super::texts::Texts;
use super::{Error, Token, byte_level, spm, unicode};

/// A merge: two neighbours become one symbol.
#[derive(Clone, Copy)]
struct Merge {
    left: u32,
    right: u32,
    joined: u32,
}

/// A BPE model: the merges by rank, and how text is cut into words.
pub(super) struct Bpe {
    pre: PreTokenizer,
    /// By rank.
    merges: Vec<Merge>,
    /// (left, right) → rank.
    ranks: FxHashMap<(u32, u32), u32>,
    /// Symbol of each byte of text, where tokens are spelt by bytes.
    byte_symbols: Box<[u32; 256]>,
    /// For symbols that are no tokens: token of each byte of the symbol's spelling.
    byte_tokens: Box<[Option<Token>; 256]>,
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
        let by_byte = pre.spelling == Spelling::ByteLevel;
        let mut byte_tokens = Box::new([None; 256]);
        for byte in 0..=255u8 {
            let found = match by_byte {
                true => texts.find(&[byte]),
                false => texts.find(format!("<0x{byte:02X}>").as_bytes()),
            };
            byte_tokens[byte as usize] = found.and_then(is_token);
        }
        let mut byte_symbols = Box::new([NO_TEXT; 256]);
        let mut text = Vec::new();
        for byte in (0..=255u8).filter(|_| by_byte) {
            text.clear();
            byte_level::encode(&[byte], &mut text);
            byte_symbols[byte as usize] = texts.insert(&text)?.0;
        }
        let mut bpe = Self {
            pre,
            merges: Vec::with_capacity(merges.len()),
            ranks: FxHashMap::with_capacity_and_hasher(merges.len(), Default::default()),
            byte_symbols,
            byte_tokens,
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

    /// Do tokens spell spaces as `▁`?
    pub(super) fn escapes_spaces(&self) -> bool {
        matches!(self.pre.spelling, Spelling::Escaped | Spelling::Gemma4)
    }

    /// Is a BOS put before a text whatever the file says?
    pub(super) fn always_adds_bos(&self) -> bool {
        self.pre.spelling == Spelling::Gemma4
    }

    /// Appends the tokens of `text`, which may be any bytes.
    pub(super) fn tokenize(&self, texts: &Texts, text: &[u8], out: &mut Vec<Token>) {
        let mut text = unicode::repair(text);
        if self.escapes_spaces() {
            text = Cow::Owned(spm::escape(&text, false));
        }
        let mut scratch = Scratch::default();
        self.pre.split(&text, |word| self.word(texts, word, &mut scratch, out));
    }

    fn word(&self, texts: &Texts, word: &[u8], scratch: &mut Scratch, out: &mut Vec<Token>) {
        if let (&[byte], Spelling::ByteLevel) = (word, self.pre.spelling) {
            return self.push(self.byte_symbols[byte as usize], word, out);
        }
        if let Some(token) = self.whole(texts, word, &mut scratch.encoded) {
            return out.push(token);
        }
        scratch.start(|symbols| match self.pre.spelling {
            Spelling::ByteLevel => {
                let ids = word.iter().map(|&b| self.byte_symbols[b as usize]);
                symbols.extend(ids.zip(0u32..).map(|(id, start)| Symbol::new(id, start)));
            }
            _ => {
                let mut start = 0;
                for (_, character) in unicode::code_points(word) {
                    let id = texts.find(character).unwrap_or(NO_TEXT);
                    symbols.push(Symbol::new(id, start));
                    start += character.len() as u32;
                }
            }
        });
        for at in 1..scratch.symbols.len() {
            scratch.offer(self, at as u32 - 1);
        }
        while let Some(Reverse(candidate)) = scratch.queue.pop() {
            scratch.merge(self, candidate);
        }
        let mut at = 0;
        while let Some(&Symbol { id, start, next, .. }) = scratch.symbols.get(at as usize) {
            let end = scratch.symbols.get(next as usize).map_or(word.len(), |s| s.start as usize);
            self.push(id, &word[start as usize..end], out);
            at = next;
        }
    }

    /// The token of a word that needs no merging.
    fn whole(&self, texts: &Texts, word: &[u8], encoded: &mut Vec<u8>) -> Option<Token> {
        let by_byte = self.pre.spelling == Spelling::ByteLevel;
        let line_breaks =
            self.pre.spelling == Spelling::Gemma4 && word.iter().all(|&byte| byte == b'\n');
        if !self.pre.ignore_merges && !line_breaks {
            return None;
        }
        let spelt = match by_byte {
            true => {
                encoded.clear();
                byte_level::encode(word, encoded);
                &encoded[..]
            }
            false => word,
        };
        texts.find(spelt).filter(|&n| n < self.n_tokens).map(|n| n as Token)
    }

    /// Appends a finished symbol: its token, or if it is none the tokens of the single bytes of
    /// its spelling (bytes without a token vanish).
    fn push(&self, symbol: u32, bytes: &[u8], out: &mut Vec<Token>) {
        if symbol < self.n_tokens {
            out.push(symbol as Token);
            return;
        }
        let mut encoded = Vec::new();
        let spelt = match self.pre.spelling {
            Spelling::ByteLevel => {
                byte_level::encode(bytes, &mut encoded);
                &encoded[..]
            }
            _ => bytes,
        };
        out.extend(spelt.iter().filter_map(|&b| self.byte_tokens[b as usize]));
    }

    fn rank(&self, left: u32, right: u32) -> Option<u32> {
        self.ranks.get(&(left, right)).copied()
    }
}

/// No neighbour; as an `id`: merged into the left neighbour.
const NONE: u32 = u32::MAX;
/// Symbol of a character that neither the vocabulary nor the merges have.
const NO_TEXT: u32 = u32::MAX - 1;

/// A symbol of the word.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    /// Where it starts, in bytes of the word.
    start: u32,
    prev: u32,
    next: u32,
}

impl Symbol {
    fn new(id: u32, start: u32) -> Self {
        Self { id, start, prev: NONE, next: NONE }
    }
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
    /// Takes the symbols of a word and links them.
    fn start(&mut self, fill: impl FnOnce(&mut Vec<Symbol>)) {
        self.queue.clear();
        self.symbols.clear();
        fill(&mut self.symbols);
        for (symbol, i) in self.symbols.iter_mut().zip(0u32..) {
            symbol.prev = i.wrapping_sub(1);
            symbol.next = i + 1;
        }
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
        let Symbol { id, start, prev, next } = self.symbols[left as usize];
        if id != merge.left || next == NONE || self.symbols[next as usize].id != merge.right {
            return; // outdated
        }
        let after = self.symbols[next as usize].next;
        self.symbols[next as usize].id = NONE;
        self.symbols[left as usize] = Symbol { id: merge.joined, start, prev, next: after };
        if after != NONE {
            self.symbols[after as usize].prev = left;
        }
        if prev != NONE {
            self.offer(bpe, prev);
        }
        self.offer(bpe, left);
    }
}
