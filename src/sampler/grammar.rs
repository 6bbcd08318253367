//! Grammar: only tokens that go on with a text of a language.

use std::ffi::CStr;
use std::ops::Deref;
use std::sync::Arc;

use super::{Candidates, Sampler, Token};
use crate::grammar::{self, Matcher, Trigger, Triggers};
use crate::vocab::Vocab;

/// With fewer candidates than one in this many tokens each is tried on its own.
const FEW: usize = 32;

/// Sets the logits of tokens that the grammar does not allow to minus infinity. Tokens that end
/// generation are allowed where the text can end.
///
/// A lazy grammar does nothing until a trigger comes, which is the beginning of its text. A token
/// that was not allowed and is accepted all the same leaves nothing but the end of generation.
///
/// `V` is how it holds the vocabulary.
#[derive(Clone)]
pub struct Grammar<V = Arc<Vocab>> {
    /// Without a grammar everything is allowed.
    active: Option<Active<V>>,
}

#[derive(Clone)]
struct Active<V> {
    vocab: V,
    matcher: Matcher,
    trigger: Option<Trigger>,
    is_waiting: bool,
    is_dead: bool,
}

impl<V: Deref<Target = Vocab>> Grammar<V> {
    /// From the beginning of the text on; with `triggers`, from one of these.
    pub fn new(vocab: V, grammar: Arc<grammar::Grammar>, triggers: Option<Triggers>) -> Self {
        let trigger = triggers.map(|triggers| Trigger::new(Arc::new(triggers)));
        let is_waiting = trigger.is_some();
        let matcher = Matcher::new(grammar);
        Self { active: Some(Active { vocab, matcher, trigger, is_waiting, is_dead: false }) }
    }

    /// Allows everything.
    pub fn none() -> Self {
        Self { active: None }
    }
}

impl<V: Deref<Target = Vocab>> Active<V> {
    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if self.is_waiting {
            return;
        }
        if self.is_dead {
            let others = candidates.iter_mut().filter(|c| !self.vocab.is_eog(c.id));
            return others.for_each(|c| c.logit = f32::NEG_INFINITY);
        }
        let n_tokens = self.vocab.piece_trie().n_tokens();
        let mask = (candidates.len() >= n_tokens / FEW).then(|| self.matcher.allowed(&self.vocab));
        let may_end = self.matcher.is_complete();
        for c in &mut **candidates {
            let is_allowed = match &mask {
                Some(mask) => mask.has(c.id),
                None => self.matcher.allows(&self.vocab, c.id),
            };
            // Few tokens end generation; the others need not be asked whether they do.
            let may_come = is_allowed || may_end && self.vocab.is_eog(c.id);
            if !may_come {
                c.logit = f32::NEG_INFINITY;
            }
        }
        if self.matcher.is_too_ambiguous() {
            self.die("the text is too ambiguous to follow");
            self.apply(candidates);
        }
    }

    fn accept(&mut self, token: Token) {
        if self.is_dead {
            return;
        }
        let Some(piece) = self.vocab.token_to_piece(token, 0, true) else {
            return self.die(&format!("{token} is no token"));
        };
        let piece = piece.to_vec();
        if let Some(trigger) = self.trigger.as_mut().filter(|_| self.is_waiting) {
            if let Some(tokens) = trigger.accept(token, &piece) {
                trigger.reset();
                self.is_waiting = false;
                tokens.iter().for_each(|(token, piece)| self.go_on(*token, piece));
            }
        } else if !self.vocab.is_eog(token) {
            self.go_on(token, &piece);
        } else if !self.matcher.is_complete() {
            self.die("the text was ended where it cannot end");
        }
    }

    fn go_on(&mut self, token: Token, piece: &[u8]) {
        if self.is_dead || self.matcher.accept(token, piece) {
            return;
        }
        match self.matcher.is_too_ambiguous() {
            true => self.die("the text is too ambiguous to follow"),
            false => {
                let piece = String::from_utf8_lossy(piece);
                self.die(&format!("token {token} ('{}') cannot come here", piece.escape_debug()));
            }
        }
    }

    fn die(&mut self, why: &str) {
        self.is_dead = true;
        crate::log_error!("grammar: {why}; from now on only the end of generation is allowed");
    }
}

impl<V: Deref<Target = Vocab> + Clone + Send + 'static> Sampler for Grammar<V> {
    fn name(&self) -> &CStr {
        c"grammar"
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if let Some(active) = &mut self.active {
            active.apply(candidates);
        }
    }

    fn accept(&mut self, token: Token) {
        if let Some(active) = &mut self.active {
            active.accept(token);
        }
    }

    fn reset(&mut self) {
        if let Some(active) = &mut self.active {
            active.matcher.reset();
            active.trigger.iter_mut().for_each(Trigger::reset);
            active.is_waiting = active.trigger.is_some();
            active.is_dead = false;
        }
    }
}
