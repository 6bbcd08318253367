//! DRY, "don't repeat yourself": against verbatim repetition.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Candidates, Sampler, Token};
use crate::vocab::{self, Vocab};

/// Longest breaker text, in bytes, and longest tail of one, in tokens. Together they bound the
/// search for breakers.
const MAX_BREAKER_BYTES: usize = 40;
const MAX_TAIL_TOKENS: usize = 20;

/// Lowers a token that would go on with a sequence that occurred before, exponentially in the
/// length of that sequence (p-e-w, github.com/oobabooga/text-generation-webui, pull request 5677).
#[derive(Clone)]
pub struct Dry {
    multiplier: f32,
    base: f32,
    allowed_length: i32,
    last_n: usize,
    breakers: Arc<Breakers>,
    /// The last accepted tokens, the latest at the front; at most `last_n`.
    recent: VecDeque<Token>,
}

impl Dry {
    /// A token that makes a repetition `n` tokens longer than `allowed_length` loses
    /// `multiplier * base^n`. Only the last `last_n` tokens count, and none before a breaker.
    /// `multiplier` 0, `base < 1` or `last_n <= 0` turn it off.
    pub fn new(
        multiplier: f32,
        base: f32,
        allowed_length: i32,
        last_n: i32,
        breakers: Breakers,
    ) -> Self {
        Self {
            multiplier,
            base,
            allowed_length,
            last_n: usize::try_from(last_n).unwrap_or(0),
            breakers: Arc::new(breakers),
            recent: VecDeque::new(),
        }
    }

    /// Whether these arguments turn it off, so that breakers need not be looked for.
    pub fn is_off_with(multiplier: f32, base: f32, last_n: i32) -> bool {
        // NaN is off too.
        !(multiplier != 0.0 && base >= 1.0 && last_n > 0)
    }

    fn is_off(&self) -> bool {
        self.last_n == 0 || Self::is_off_with(self.multiplier, self.base, 1)
    }

    /// For each token that would go on with a repetition, the length of the longest one so far.
    fn repetitions(&self, limit: usize) -> FxHashMap<Token, i32> {
        let mut longest = FxHashMap::default();
        let lengths = common_prefixes(&self.recent);
        for (k, length) in lengths.into_iter().enumerate().skip(1) {
            let length = i32::try_from(length.min(limit)).unwrap_or(i32::MAX);
            if length >= self.allowed_length {
                // What followed that earlier occurrence.
                let next = longest.entry(self.recent[k - 1]).or_insert(length);
                *next = length.max(*next);
            }
        }
        longest
    }

    /// What a token loses that makes a repetition of `length` tokens longer.
    fn penalty(&self, length: i32) -> f32 {
        /// Logarithm of the largest f32.
        const LN_MAX: f32 = 88.722_84;
        let mut exponent = length.saturating_sub(self.allowed_length);
        if self.base > 1.000_001 {
            let max = (LN_MAX / self.base.ln()) as i32;
            if max > 0 {
                exponent = exponent.min(max);
            }
        }
        (f64::from(self.multiplier) * f64::from(self.base).powf(f64::from(exponent))) as f32
    }
}

impl Sampler for Dry {
    fn name(&self) -> &CStr {
        if self.is_off() { c"?dry" } else { c"dry" }
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        let allowed = i64::from(self.allowed_length);
        // Lengths fit i64: a deque of tokens is shorter than the address space.
        if self.is_off() || self.recent.len() as i64 <= allowed {
            return;
        }
        let limit = self.breakers.last_break(&self.recent).unwrap_or(self.recent.len());
        if (limit as i64) < allowed {
            return;
        }
        let repetitions = self.repetitions(limit);
        for c in &mut **candidates {
            if let Some(&length) = repetitions.get(&c.id)
                && !self.breakers.breaks_alone(c.id)
            {
                c.logit -= self.penalty(length);
            }
        }
        candidates.mark_unsorted();
    }

    fn accept(&mut self, token: Token) {
        if self.is_off() {
            return;
        }
        if self.recent.len() == self.last_n {
            self.recent.pop_back();
        }
        self.recent.push_front(token);
    }

    fn reset(&mut self) {
        self.recent.clear();
    }
}

/// For every `k`, how many tokens from `k` on equal those from the start (the Z-function, Gusfield
/// 1997, section 1.3): linear in the length. The first entry has no meaning.
fn common_prefixes(tokens: &VecDeque<Token>) -> Vec<usize> {
    let n = tokens.len();
    let mut z = vec![0; n];
    // The stretch known to equal a prefix that reaches furthest.
    let (mut start, mut end) = (0, 0);
    for k in 1..n {
        let mut length = if k < end { z[k - start].min(end - k) } else { 0 };
        while k + length < n && tokens[length] == tokens[k + length] {
            length += 1;
        }
        z[k] = length;
        if k + length > end {
            (start, end) = (k, k + length);
        }
    }
    z
}

/// Texts that end a repetition, as the token sequences in which they can occur: the head is a token
/// that contains the text or its beginning, a tail the tokens of the rest of it.
#[derive(Default)]
pub struct Breakers {
    tails: FxHashMap<Token, Vec<Vec<Token>>>,
}

impl Breakers {
    /// Looks for the texts in the pieces of all tokens. Texts of more than 40 bytes are cut there,
    /// empty ones are left out, each with a line in the log.
    pub fn find(vocab: &Vocab, texts: &[&[u8]]) -> Result<Self, vocab::Error> {
        for text in texts {
            if text.is_empty() {
                crate::log_warn!("dry: an empty sequence breaker is left out");
            } else if text.len() > MAX_BREAKER_BYTES {
                crate::log_warn!("dry: a sequence breaker is cut to {MAX_BREAKER_BYTES} bytes");
            }
        }
        let cut = |text: &&'_ [u8]| text.len().min(MAX_BREAKER_BYTES);
        let texts: Vec<&[u8]> =
            texts.iter().filter(|text| !text.is_empty()).map(|text| &text[..cut(text)]).collect();
        let mut found = Self::default();
        if texts.is_empty() {
            return Ok(found);
        }
        for head in (0..).take(vocab.n_tokens()) {
            let word = vocab.detokenize(&[head], false, true);
            for text in &texts {
                found.add(vocab, head, &word, text)?;
            }
        }
        Ok(found)
    }

    fn add(
        &mut self,
        vocab: &Vocab,
        head: Token,
        word: &[u8],
        text: &[u8],
    ) -> Result<(), vocab::Error> {
        if word.windows(text.len()).any(|part| part == text) {
            self.insert(head, Vec::new());
            return Ok(());
        }
        // Ends of the word that are a beginning of the text.
        for overlap in 1..text.len().min(word.len() + 1) {
            if word.ends_with(&text[..overlap]) {
                let mut tail = vocab.tokenize(&text[overlap..], false, false)?;
                tail.truncate(MAX_TAIL_TOKENS);
                self.insert(head, tail);
            }
        }
        Ok(())
    }

    fn insert(&mut self, head: Token, tail: Vec<Token>) {
        let tails = self.tails.entry(head).or_default();
        if !tails.contains(&tail) {
            tails.push(tail);
        }
    }

    /// How many tokens came after the latest breaker; `recent` has the latest token first.
    fn last_break(&self, recent: &VecDeque<Token>) -> Option<usize> {
        recent.iter().enumerate().find_map(|(i, head)| {
            let follows = |tail: &&Vec<Token>| {
                tail.len() <= i && tail.iter().enumerate().all(|(k, t)| *t == recent[i - k - 1])
            };
            let tails = self.tails.get(head)?.iter().filter(follows);
            Some(i - tails.map(Vec::len).max()?)
        })
    }

    /// Whether the token is a breaker, or contains one.
    fn breaks_alone(&self, token: Token) -> bool {
        self.tails.get(&token).is_some_and(|tails| tails.iter().any(Vec::is_empty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breakers(list: &[(Token, &[Token])]) -> Breakers {
        let mut found = Breakers::default();
        list.iter().for_each(|(head, tail)| found.insert(*head, tail.to_vec()));
        found
    }

    fn latest_first(tokens: &[Token]) -> VecDeque<Token> {
        tokens.iter().rev().copied().collect()
    }

    #[test]
    fn z_function_is_the_naive_one() {
        let mut state = 1u32;
        for n in 0..60 {
            let tokens: VecDeque<Token> = (0..n)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 31) as Token
                })
                .collect();
            let naive = |k: usize| (k..n).take_while(|i| tokens[*i] == tokens[i - k]).count();
            let z = common_prefixes(&tokens);
            assert!((1..n).all(|k| z[k] == naive(k)), "{tokens:?}: {z:?}");
        }
    }

    #[test]
    fn the_token_that_would_repeat_is_lowered() {
        let mut dry = Dry::new(0.8, 1.75, 2, 64, Breakers::default());
        [1, 2, 3, 9, 1, 2, 3].into_iter().for_each(|token| dry.accept(token));
        let mut buffer = Vec::new();
        let mut list = Candidates::from_logits(&mut buffer, &[0.0; 10]);
        dry.apply(&mut list);
        // 1 2 3 occurred before and 9 came next: one more than the two that are allowed.
        assert_eq!(list[9].logit, -0.8 * 1.75);
        assert!(list[..9].iter().all(|c| c.logit == 0.0));
    }

    #[test]
    fn a_breaker_limits_what_counts_as_repeated() {
        let found = breakers(&[(7, &[]), (5, &[6, 4])]);
        assert_eq!(found.last_break(&latest_first(&[1, 7, 2, 3])), Some(2));
        assert_eq!(found.last_break(&latest_first(&[1, 5, 6, 4, 3])), Some(1));
        assert_eq!(found.last_break(&latest_first(&[1, 5, 6, 3, 3])), None);
        assert_eq!(found.last_break(&latest_first(&[5, 6])), None);
        assert!(found.breaks_alone(7) && !found.breaks_alone(5));
    }
}
