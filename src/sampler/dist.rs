//! Sampling from the distribution.

use std::ffi::CStr;

use super::rng::Rng;
use super::{Candidates, Sampler};

/// Selects a token at random, each with its softmax probability.
#[derive(Clone)]
pub struct Dist {
    rng: Rng,
}

impl Dist {
    /// [`DEFAULT_SEED`](super::DEFAULT_SEED) takes a random seed.
    pub fn new(seed: u32) -> Self {
        Self { rng: Rng::new(seed) }
    }
}

impl Sampler for Dist {
    fn name(&self) -> &CStr {
        c"dist"
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if candidates.is_empty() {
            return candidates.select(None);
        }
        // Spent even where there is no choice, so that later tokens do not hang on that.
        let draw = self.rng.uniform_f64();
        if candidates.len() == 1 {
            candidates[0].p = 1.0; // whatever the logit is
            return candidates.select(Some(0));
        }
        let first = candidates[0].logit;
        let max = if candidates.is_sorted() { first } else { candidates.max_logit(first) };
        let mut sum = 0.0f64;
        for c in &mut **candidates {
            c.p = (c.logit - max).exp();
            sum += f64::from(c.p);
        }
        let target = sum * draw;
        let mut selected = None;
        let mut run = 0.0f64;
        for (i, c) in candidates.iter_mut().enumerate() {
            if selected.is_none() {
                run += f64::from(c.p);
                if run >= target {
                    selected = Some(i);
                }
            }
            c.p = (f64::from(c.p) / sum) as f32;
        }
        // NaN logits reach no target.
        candidates.select(selected.or(Some(candidates.len() - 1)));
    }

    fn reset(&mut self) {
        self.rng.reset();
    }

    fn seed(&self) -> Option<u32> {
        Some(self.rng.seed())
    }
}
