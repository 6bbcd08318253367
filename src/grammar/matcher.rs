//! Tokens against a grammar.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::automaton::{Automaton, DEAD, State};
use super::rules::Grammar;
use crate::util::utf8::{Partial, decode};
use crate::vocab::{PieceTrie, Token, Vocab};

/// Masks that are kept: 19 KB each for 150,000 tokens.
const MOST_MASKS: usize = 256;

/// The tokens that can come next, one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask(Vec<u64>);

impl Mask {
    fn new(n_tokens: usize) -> Self {
        Self(vec![0; n_tokens.div_ceil(64)])
    }

    /// Can the token come next? No for what is no token.
    #[inline]
    pub fn has(&self, token: Token) -> bool {
        self.0.get(token as usize / 64).is_some_and(|bits| bits >> (token as usize % 64) & 1 == 1)
    }

    fn insert(&mut self, token: Token) {
        self.0[token as usize / 64] |= 1 << (token as usize % 64);
    }

    fn remove(&mut self, token: Token) {
        self.0[token as usize / 64] &= !(1 << (token as usize % 64));
    }
}

/// A place in the texts of a grammar, moved on by tokens. A clone goes its own way.
///
/// A token that ends generation never goes on with a text; whether it may come is
/// [`Matcher::is_complete`]. Tokens without text are not allowed either.
#[derive(Clone)]
pub struct Matcher {
    automaton: Automaton,
    start: State,
    state: State,
    /// The character that the last token left open.
    open: Partial,
    masks: FxHashMap<(State, Partial), Arc<Mask>>,
    buffer: Vec<u32>,
}

impl Matcher {
    /// At the beginning of a text.
    pub fn new(grammar: Arc<Grammar>) -> Self {
        let (automaton, start) = Automaton::new(grammar);
        Self {
            automaton,
            start,
            state: start,
            open: Partial::default(),
            masks: FxHashMap::default(),
            buffer: Vec::new(),
        }
    }

    /// Back to the beginning of a text.
    pub fn reset(&mut self) {
        (self.state, self.open) = (self.start, Partial::default());
        self.forget();
    }

    /// Can the text end here?
    pub fn is_complete(&self) -> bool {
        self.automaton.is_end(self.state)
    }

    /// Can nothing come any more, not even the end? After a token that was not allowed, and when
    /// the text became too ambiguous to follow ([`Matcher::is_too_ambiguous`]).
    pub fn is_dead(&self) -> bool {
        self.state == DEAD || self.is_too_ambiguous()
    }

    /// Did the grammar's ambiguity need more memory than a grammar may take?
    pub fn is_too_ambiguous(&self) -> bool {
        self.automaton.is_full()
    }

    /// Goes on with a token whose text is `piece`. False when it cannot come here: the matcher is
    /// dead then.
    ///
    /// As in llama.cpp, what cannot be UTF-8 reads as the empty text, and a character left
    /// open at the end is only looked at when it is whole; [`Matcher::allows`] is stricter.
    pub fn accept(&mut self, token: Token, piece: &[u8]) -> bool {
        self.forget();
        let mut text = std::mem::take(&mut self.buffer);
        text.clear();
        self.open = decode(piece, self.open, &mut text).unwrap_or_default();
        let mut after = match text.is_empty() {
            true => self.automaton.waiting(self.state),
            false => self.state,
        };
        for &c in &text {
            after = self.automaton.step(after, c);
            // One text can be as long as a whole conversation.
            self.forget_except(std::slice::from_mut(&mut after));
        }
        if self.automaton.grammar().has_tokens() {
            let by_token = self.automaton.step_token(self.state, token as u32);
            after = self.automaton.either(after, by_token);
        }
        self.buffer = text;
        self.state = after;
        !self.is_dead()
    }

    fn forget(&mut self) {
        self.forget_except(&mut []);
    }

    /// Makes room when it is time to, keeping some states, which get new numbers.
    fn forget_except(&mut self, kept: &mut [State]) {
        if !self.automaton.is_crowded() {
            return;
        }
        let mut states = [&[self.start, self.state], &*kept].concat();
        self.automaton.forget_others(&mut states);
        [self.start, self.state] = [states[0], states[1]];
        kept.copy_from_slice(&states[2..]);
        self.masks.clear();
    }

    /// Can the token come next? For one token it is quicker than [`Matcher::allowed`].
    pub fn allows(&mut self, vocab: &Vocab, token: Token) -> bool {
        if let Some(mask) = self.masks.get(&(self.state, self.open)) {
            return mask.has(token);
        }
        if self.is_dead() || vocab.is_eog(token) {
            return false;
        }
        let piece = vocab.token_to_piece(token, 0, true).unwrap_or_default();
        let mut text = std::mem::take(&mut self.buffer);
        let allows = self.allows_piece(token, piece, &mut text);
        self.buffer = text;
        allows && !self.is_dead()
    }

    fn allows_piece(&mut self, token: Token, piece: &[u8], text: &mut Vec<u32>) -> bool {
        text.clear();
        if piece.first().is_none_or(|&byte| byte == 0) {
            return false;
        }
        let Some(open) = decode(piece, self.open, text) else { return false };
        let mut state = self.state;
        // A character 0 ends the text.
        for &c in text.iter().take_while(|&&c| c != 0) {
            if self.automaton.grammar().has_tokens() {
                let takes = |wanted| match wanted {
                    Ok(wanted) => wanted == token as u32,
                    Err(unwanted) => unwanted != token as u32,
                };
                if self.automaton.tokens(state).any(takes) {
                    return true;
                }
            }
            state = self.automaton.step(state, c);
            if state == DEAD {
                return false;
            }
        }
        !open.is_open() || self.automaton.may_step(state, open)
    }

    /// The tokens that can come next, for all at once. Kept for when the same place comes again.
    pub fn allowed(&mut self, vocab: &Vocab) -> Arc<Mask> {
        self.forget();
        if let Some(mask) = self.masks.get(&(self.state, self.open)) {
            return Arc::clone(mask);
        }
        let trie = vocab.piece_trie();
        let mut mask = Mask::new(trie.n_tokens());
        if !self.is_dead() {
            let apart = if self.open.is_open() {
                trie.continuing()
            } else {
                self.walk(trie, &mut mask);
                trie.long()
            };
            for &token in apart.iter().filter(|&&token| self.allows(vocab, token)) {
                mask.insert(token);
            }
        }
        let mask = Arc::new(if self.is_dead() { Mask::default() } else { mask });
        if self.masks.len() >= MOST_MASKS {
            self.masks.clear();
        }
        self.masks.insert((self.state, self.open), Arc::clone(&mask));
        mask
    }

    /// Goes through the tree of all tokens, with a state for each prefix.
    fn walk(&mut self, trie: &PieceTrie, mask: &mut Mask) {
        let has_tokens = self.automaton.grammar().has_tokens();
        let nodes = trie.nodes();
        let mut path = vec![self.state];
        let mut at = 0;
        while let Some(node) = nodes.get(at) {
            let depth = node.depth as usize;
            let state = match depth {
                0 => self.state,
                _ => self.automaton.step(path[depth - 1], node.code_point),
            };
            if state == DEAD {
                at = node.end as usize;
                continue;
            }
            let tokens_end = trie.tokens_end(at);
            trie.order()[node.tokens as usize..node.open_tokens as usize]
                .iter()
                .for_each(|&token| mask.insert(token));
            if node.open_tokens < tokens_end {
                for &(rank, open) in trie.open(node.open_tokens, tokens_end) {
                    if self.automaton.may_step(state, open) {
                        mask.insert(trie.order()[rank as usize]);
                    }
                }
            }
            if has_tokens {
                self.take_tokens(trie, at, state, mask);
            }
            path.truncate(depth);
            path.push(state);
            if self.automaton.is_crowded() {
                self.forget_except(&mut path);
            }
            at += 1;
        }
    }

    /// Adds the tokens below a node that the state matches as such. They need not be at the root:
    /// llama.cpp allows a token that starts with the character before its own element.
    fn take_tokens(&self, trie: &PieceTrie, node: usize, state: State, mask: &mut Mask) {
        let below = trie.tokens_end(node)..trie.subtree_end(node);
        for wanted in self.automaton.tokens(state) {
            match wanted {
                Ok(token) => {
                    if trie.rank(token).is_some_and(|rank| below.contains(&rank)) {
                        mask.insert(token as Token);
                    }
                }
                Err(unwanted) => {
                    let had = mask.has(unwanted as Token);
                    let all = below.start as usize..below.end as usize;
                    trie.order()[all].iter().for_each(|&token| mask.insert(token));
                    if !had && trie.rank(unwanted).is_some() {
                        mask.remove(unwanted as Token);
                    }
                }
            }
        }
    }
}
