//! PLaMo 2's tokenizer (`tokenizer.ggml.model = "plamo2"`): a unigram model that works from the
//! end of the text to its beginning, with an Aho–Corasick automaton over the reversed tokens.
//!
//! A state of the automaton is the longest suffix of any token that the text begins with, seen
//! from where the search stands. The tokens that begin there are the state's own text and those
//! of the shorter states behind it. Characters without a token cost a lot and become byte tokens.

use rustc_hash::FxHashMap;

use super::texts::Texts;
use super::{Error, Token, TokenAttr, pieces, unicode};

/// Scores count in units of 1e-4.
const SCALE: f64 = 1e4;
/// A state that is only a suffix of tokens, or a token that may not be used.
const INVALID: i32 = -20_000_000;
/// The price of a character without a token. A token of just this score is the last that is
/// looked at in a state, the way that llama.cpp's table marks ends: vocabularies are padded with
/// such tokens.
const UNKNOWN: i32 = -10_000_000;

const ROOT: u32 = 0;

/// A suffix of tokens.
struct State {
    score: i32,
    /// The token with this text, if `score` is valid.
    token: Token,
    /// Characters.
    len: u32,
    /// The longest other state that this one's text begins with.
    shorter: u32,
    /// The first of this state and its shorter ones that has a valid score, or the root.
    usable: u32,
}

/// The automaton and the byte tokens.
pub(super) struct Plamo2 {
    states: Vec<State>,
    /// (state, code point before it) → the state of both.
    longer: FxHashMap<(u32, u32), u32>,
    byte_tokens: Box<[Token; 256]>,
}

impl Plamo2 {
    /// Over the tokens in `texts`; `scores` and `attrs` are by token, `scores` empty if all are 0.
    ///
    /// # Errors
    /// A byte has no token.
    pub(super) fn new(texts: &Texts, scores: &[f32], attrs: &[TokenAttr]) -> Result<Self, Error> {
        let mut byte_tokens = [None; 256];
        let root = State { score: UNKNOWN, token: -1, len: 0, shorter: ROOT, usable: ROOT };
        let mut automaton = Self {
            states: vec![root],
            longer: FxHashMap::with_capacity_and_hasher(3 * attrs.len(), Default::default()),
            byte_tokens: Box::new([0; 256]),
        };
        for (n, attr) in (0..).zip(attrs) {
            let text = texts.get(n).unwrap_or_default();
            if attr.any(TokenAttr::BYTE) {
                if let Some(byte) = pieces::hex_byte(text) {
                    byte_tokens[byte as usize] = Some(n as Token);
                }
            // Text is searched by characters: a token that is no such text is never found.
            } else if std::str::from_utf8(text).is_ok() {
                let score = scores.get(n as usize).copied().unwrap_or(0.0);
                automaton.add(text, n as Token, score);
            }
        }
        for (byte, token) in byte_tokens.into_iter().enumerate() {
            let missing = Error::NoByteToken { byte: byte as u8 };
            automaton.byte_tokens[byte] = token.ok_or(missing)?;
        }
        automaton.link();
        Ok(automaton)
    }

    fn add(&mut self, text: &[u8], token: Token, score: f32) {
        let characters: Vec<u32> = unicode::code_points(text).map(|(cp, _)| cp).collect();
        let mut state = ROOT;
        for (&cp, len) in characters.iter().rev().zip(1..) {
            let next = self.states.len() as u32;
            state = *self.longer.entry((state, cp)).or_insert(next);
            if state == next {
                let (shorter, usable) = (ROOT, ROOT);
                self.states.push(State { score: INVALID, token: -1, len, shorter, usable });
            }
        }
        if score.is_finite() {
            let state = &mut self.states[state as usize];
            state.score = (score as f64 * SCALE).round() as i32;
            state.token = token;
        }
    }

    /// Finds the shorter states, short ones first.
    fn link(&mut self) {
        let mut edges: Vec<(u32, u32, u32)> =
            self.longer.iter().map(|(&(from, cp), &to)| (from, cp, to)).collect();
        edges.sort_unstable_by_key(|&(_, _, to)| (self.states[to as usize].len, to));
        for (from, cp, to) in edges {
            let mut via = from;
            let shorter = loop {
                if via == ROOT {
                    break ROOT;
                }
                via = self.states[via as usize].shorter;
                if let Some(&found) = self.longer.get(&(via, cp)) {
                    break found;
                }
            };
            let usable = match self.states[to as usize].score {
                ..=INVALID => self.states[shorter as usize].usable,
                _ => to,
            };
            let state = &mut self.states[to as usize];
            (state.shorter, state.usable) = (shorter, usable);
        }
    }

    /// The state after the character `cp` before `state`.
    fn extend(&self, mut state: u32, cp: u32) -> u32 {
        loop {
            if let Some(&found) = self.longer.get(&(state, cp)) {
                return found;
            }
            if self.states[state as usize].score == UNKNOWN {
                return ROOT; // also for the root itself
            }
            state = self.states[state as usize].shorter;
        }
    }

    /// Appends the tokens of `text`.
    pub(super) fn tokenize(&self, text: &[u8], out: &mut Vec<Token>) {
        let text = unicode::repair(text);
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&text);
        let characters: Vec<u32> = unicode::code_points(text).map(|(cp, _)| cp).collect();
        let mut best = vec![Best { cost: 1 << 60, len: 1, token: -1 }; characters.len() + 1];
        best[characters.len()].cost = 0;
        let mut state = ROOT;
        for (i, &cp) in characters.iter().enumerate().rev() {
            state = self.extend(state, cp);
            best[i] = self.best(state, &best[i..]);
        }
        let mut i = 0;
        while let Some(&cp) = characters.get(i) {
            let Best { token, len, .. } = best[i];
            if token >= 0 {
                out.push(token);
            } else {
                let mut bytes = Vec::with_capacity(4);
                unicode::encode(cp, &mut bytes);
                out.extend(bytes.iter().map(|&byte| self.byte_tokens[byte as usize]));
            }
            i += len as usize;
        }
    }

    /// The cheapest of the tokens that `state` begins with, the longest of equals. `best` holds
    /// what is known of the text from here on.
    fn best(&self, state: u32, best: &[Best]) -> Best {
        let mut champion = best[0];
        let mut at = self.states[state as usize].usable;
        loop {
            let State { score, token, len, shorter, .. } = self.states[at as usize];
            let len = len.max(1);
            let cost = best[len as usize].cost - score as i64;
            if cost < champion.cost {
                champion = Best { cost, len, token };
            }
            if score == UNKNOWN {
                return champion;
            }
            at = self.states[shorter as usize].usable;
        }
    }
}

/// The cheapest way from a place to the end of the text.
#[derive(Clone, Copy)]
struct Best {
    cost: i64,
    /// Characters of the first token.
    len: u32,
    /// It, or -1 for byte tokens.
    token: Token,
}
