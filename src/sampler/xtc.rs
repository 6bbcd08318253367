//! XTC, "exclude top choices".

use std::ffi::CStr;

use super::rng::Rng;
use super::{Candidates, Sampler};

/// With a certain chance drops all but the least likely of the tokens above a threshold, for less
/// predictable text (github.com/oobabooga/text-generation-webui, pull request 6335).
#[derive(Clone)]
pub struct Xtc {
    chance: f32,
    threshold: f32,
    min_keep: usize,
    rng: Rng,
}

impl Xtc {
    /// `chance <= 0` or `threshold > 0.5` turns it off.
    pub fn new(chance: f32, threshold: f32, min_keep: usize, seed: u32) -> Self {
        Self { chance, threshold, min_keep, rng: Rng::new(seed) }
    }

    fn is_off(&self) -> bool {
        self.chance <= 0.0 || self.threshold > 0.5
    }
}

impl Sampler for Xtc {
    fn name(&self) -> &CStr {
        if self.is_off() { c"?xtc" } else { c"xtc" }
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if self.is_off() || candidates.len() < 2 || self.rng.uniform_f32() > self.chance {
            return;
        }
        candidates.sort();
        candidates.softmax();
        let above = candidates.iter().take_while(|c| c.p >= self.threshold).count();
        let dropped = above.saturating_sub(1);
        if dropped > 0 && candidates.len() - dropped >= self.min_keep {
            candidates.skip(dropped);
        }
    }

    fn reset(&mut self) {
        self.rng.reset();
    }
}
