//! Min-p: tokens with at least a share of the best one's probability.

use std::ffi::CStr;

use super::{Candidates, Sampler};

/// Keeps the candidates whose probability is at least `p` times that of the most likely one
/// (Nguyen et al. 2024, arXiv 2407.01082).
#[derive(Clone)]
pub struct MinP {
    p: f32,
    min_keep: usize,
}

impl MinP {
    /// At least `min_keep` candidates stay. `p <= 0` turns it off.
    pub fn new(p: f32, min_keep: usize) -> Self {
        Self { p, min_keep }
    }

    fn is_off(&self) -> bool {
        self.p <= 0.0
    }
}

impl Sampler for MinP {
    fn name(&self) -> &CStr {
        if self.is_off() { c"?min-p" } else { c"min-p" }
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if self.is_off() || candidates.is_empty() {
            return;
        }
        if !candidates.is_sorted() {
            // A ratio of probabilities is a difference of logits, so nothing has to be sorted.
            let min = candidates.max_logit(f32::MIN) + self.p.ln();
            let n = candidates.iter().filter(|c| c.logit >= min).count();
            if n > 0 && n >= self.min_keep {
                return candidates.retain(|c| c.logit >= min);
            }
            candidates.sort();
        }
        let min = candidates[0].logit + self.p.ln();
        let ends = |i: &usize| candidates[*i].logit < min && *i >= self.min_keep;
        let n = (1..candidates.len()).find(ends).unwrap_or(candidates.len());
        candidates.truncate(n);
    }
}
