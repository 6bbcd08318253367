//! Penalties for tokens that came before.

use std::collections::VecDeque;
use std::ffi::CStr;

use rustc_hash::FxHashMap;

use super::{Candidates, Sampler, Token};

/// Lowers the logits of tokens among the last n accepted ones: by a factor (Keskar et al. 2019,
/// arXiv 1909.05858), by an amount for each occurrence (frequency), and once (presence).
#[derive(Clone)]
pub struct Penalties {
    last_n: usize,
    repeat: f32,
    frequency: f32,
    presence: f32,
    /// The last accepted tokens, at most `last_n`, and how often each of them is there.
    previous: VecDeque<Token>,
    counts: FxHashMap<Token, u32>,
}

impl Penalties {
    /// `last_n <= 0`, or neutral penalties (`repeat` 1, the others 0), turn it off.
    pub fn new(last_n: i32, repeat: f32, frequency: f32, presence: f32) -> Self {
        Self {
            last_n: usize::try_from(last_n).unwrap_or(0),
            repeat,
            frequency,
            presence,
            previous: VecDeque::new(),
            counts: FxHashMap::default(),
        }
    }

    fn is_off(&self) -> bool {
        self.last_n == 0 || (self.repeat == 1.0 && self.frequency == 0.0 && self.presence == 0.0)
    }
}

impl Sampler for Penalties {
    fn name(&self) -> &CStr {
        if self.is_off() { c"?penalties" } else { c"penalties" }
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if self.is_off() {
            return;
        }
        for c in &mut **candidates {
            let Some(&count) = self.counts.get(&c.id) else { continue };
            // Dividing a negative logit would make the token more likely.
            if c.logit <= 0.0 {
                c.logit *= self.repeat;
            } else {
                c.logit /= self.repeat;
            }
            c.logit -= count as f32 * self.frequency + self.presence;
        }
        candidates.mark_unsorted();
    }

    fn accept(&mut self, token: Token) {
        if self.is_off() {
            return;
        }
        if self.previous.len() == self.last_n
            && let Some(oldest) = self.previous.pop_front()
            && let Some(count) = self.counts.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&oldest);
            }
        }
        self.previous.push_back(token);
        *self.counts.entry(token).or_insert(0) += 1;
    }

    fn reset(&mut self) {
        self.previous.clear();
        self.counts.clear();
    }
}
