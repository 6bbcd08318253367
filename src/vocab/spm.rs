//! SentencePiece's byte pair encoding (`tokenizer.ggml.model = "llama"`): of all neighbours whose
//! joined text is a token, the pair whose token has the best score is joined first.
//!
//! Spaces are `▁` (U+2581) in the vocabulary. What is no token in the end is spelt in byte tokens
//! (`<0xE4>`). A text of n bytes takes O(n log n) steps; it is cut before spaces where no token
//! reaches across, which changes nothing but keeps the queues as short as words.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::texts::Texts;
use super::{Context, Token, unicode};

/// The character that stands for a space in vocabularies made by SentencePiece.
pub(super) const ESCAPED_SPACE: &[u8] = "▁".as_bytes();

/// The parts of the model that need not be found in the texts each time.
pub(super) struct Spm {
    byte_tokens: Box<[Option<Token>; 256]>,
    /// Bytes of the longest token: longer pairs need not be looked for.
    max_len: usize,
    /// Does any token have a space after this byte?
    before_space: Box<[bool; 256]>,
}

impl Spm {
    /// Over the tokens in `texts`.
    pub(super) fn new(texts: &Texts) -> Self {
        let mut byte_tokens = Box::new([None; 256]);
        for byte in 0..=255u8 {
            let token = texts.find(format!("<0x{byte:02X}>").as_bytes());
            byte_tokens[byte as usize] = token.or_else(|| texts.find(&[byte])).map(|n| n as Token);
        }
        let mut max_len = 0;
        let mut before_space = Box::new([false; 256]);
        let space = memchr::memmem::Finder::new(ESCAPED_SPACE);
        for text in (0..texts.len() as u32).filter_map(|n| texts.get(n)) {
            max_len = max_len.max(text.len());
            for at in space.find_iter(text).filter(|&at| at > 0) {
                before_space[text[at - 1] as usize] = true;
            }
        }
        Self { byte_tokens, max_len, before_space }
    }

    /// Token that stands for a single byte.
    pub(super) fn byte_token(&self, byte: u8) -> Option<Token> {
        self.byte_tokens[byte as usize]
    }

    /// Appends the tokens of `text`, with a space before it if `space_before`. Bytes without a
    /// token become the unknown token.
    pub(super) fn tokenize(
        &self,
        ctx: &Context<'_>,
        text: &[u8],
        space_before: bool,
        out: &mut Vec<Token>,
    ) {
        let text = escape(text, space_before);
        let mut merger =
            Merger { spm: self, ctx, text: &[], symbols: Vec::new(), queue: BinaryHeap::new() };
        let mut rest = &text[..];
        while !rest.is_empty() {
            let (word, others) = rest.split_at(self.word_len(rest));
            merger.run(word);
            for symbol in merger.symbols.iter().filter(|symbol| symbol.len > 0) {
                let text = symbol.text(word);
                match ctx.texts.find(text) {
                    Some(n) => out.push(n as Token),
                    None => {
                        out.extend(text.iter().filter_map(|&b| self.byte_token(b).or(ctx.unk)));
                    }
                }
            }
            rest = others;
        }
    }

    /// Bytes before the first space that no token joins to what is in front of it.
    fn word_len(&self, text: &[u8]) -> usize {
        let mut at = 0;
        while let Some(&lead) = text.get(at) {
            if at > 0
                && text[at..].starts_with(ESCAPED_SPACE)
                && !self.before_space[text[at - 1] as usize]
            {
                return at;
            }
            at += unicode::len_by_lead(lead);
        }
        text.len()
    }
}

/// The text with `▁` for spaces.
pub(super) fn escape(text: &[u8], space_before: bool) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len() + text.len() / 2 + ESCAPED_SPACE.len());
    if space_before {
        escaped.extend_from_slice(ESCAPED_SPACE);
    }
    let mut from = 0;
    for space in memchr::memchr_iter(b' ', text) {
        escaped.extend_from_slice(&text[from..space]);
        escaped.extend_from_slice(ESCAPED_SPACE);
        from = space + 1;
    }
    escaped.extend_from_slice(&text[from..]);
    escaped
}

/// No neighbour.
const NONE: u32 = u32::MAX;

/// A piece of the text, at first one character.
#[derive(Clone, Copy)]
struct Symbol {
    start: u32,
    /// Bytes; 0 once it was merged into its left neighbour.
    len: u32,
    prev: u32,
    next: u32,
}

impl Symbol {
    fn text<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        &text[self.start as usize..(self.start + self.len) as usize]
    }
}

/// A pair that may be merged. The greatest comes first: the best score, then the leftmost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// The score as a number of the same order, see [`ordered`].
    score: u32,
    left: Reverse<u32>,
    /// Bytes of the pair; if the symbols have another length by now, it is outdated.
    len: u32,
}

/// Maps scores to integers in the same order (NaN after all others).
fn ordered(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits(); // no negative zero
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// The merging of one text.
struct Merger<'a> {
    spm: &'a Spm,
    ctx: &'a Context<'a>,
    text: &'a [u8],
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Candidate>,
}

impl<'a> Merger<'a> {
    /// Cuts the text into characters and merges them as far as it goes.
    fn run(&mut self, text: &'a [u8]) {
        self.text = text;
        self.symbols.clear();
        let mut start = 0;
        while let Some(&lead) = text.get(start) {
            let len = unicode::len_by_lead(lead).min(text.len() - start);
            let i = self.symbols.len() as u32;
            let (prev, next) = (i.wrapping_sub(1), i + 1);
            self.symbols.push(Symbol { start: start as u32, len: len as u32, prev, next });
            start += len;
        }
        if let Some(last) = self.symbols.last_mut() {
            last.next = NONE;
        }
        let mut pairs = std::mem::take(&mut self.queue).into_vec(); // empty, but with room
        pairs.extend((0..self.symbols.len() as u32).filter_map(|left| self.candidate(left)));
        self.queue = pairs.into();
        while let Some(candidate) = self.queue.pop() {
            self.merge(candidate);
        }
    }

    /// The pair of the symbol `left` and the one after it, if it makes a token.
    fn candidate(&self, left: u32) -> Option<Candidate> {
        let symbol = self.symbols.get(left as usize)?;
        let next = self.symbols.get(symbol.next as usize)?;
        let len = symbol.len + next.len;
        if len as usize > self.spm.max_len {
            return None;
        }
        let token = self.ctx.texts.find(Symbol { len, ..*symbol }.text(self.text))?;
        let score = ordered(self.ctx.score(token as Token));
        Some(Candidate { score, left: Reverse(left), len })
    }

    fn merge(&mut self, Candidate { left: Reverse(left), len, .. }: Candidate) {
        let symbol = self.symbols[left as usize];
        let Some(&right) = self.symbols.get(symbol.next as usize) else {
            return;
        };
        if symbol.len == 0 || symbol.len + right.len != len {
            return; // outdated
        }
        self.symbols[symbol.next as usize].len = 0;
        self.symbols[left as usize] = Symbol { len, next: right.next, ..symbol };
        if let Some(after) = self.symbols.get_mut(right.next as usize) {
            after.prev = left;
        }
        self.queue.extend(self.candidate(symbol.prev));
        self.queue.extend(self.candidate(left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_keep_their_order_as_integers() {
        let scores = [f32::NEG_INFINITY, -1e30, -2.5, -1.0, -1e-40, 0.0, 1e-40, 3.0, f32::INFINITY];
        assert!(scores.windows(2).all(|pair| ordered(pair[0]) < ordered(pair[1])));
        assert_eq!(ordered(-0.0), ordered(0.0));
    }

    #[test]
    fn spaces_are_escaped() {
        assert_eq!(escape(b" a  b", false), "▁a▁▁b".as_bytes());
        assert_eq!(escape(b"a ", true), "▁a▁".as_bytes());
        assert_eq!(escape(b"", false), b"");
    }
}
