//! Top-k: only the k most likely tokens.

use std::ffi::CStr;

use super::{Candidates, Sampler};

/// Keeps the k highest logits, sorted (Holtzman et al. 2019, arXiv 1904.09751, section 3.3).
#[derive(Clone)]
pub struct TopK {
    k: usize,
}

impl TopK {
    /// `k <= 0` turns it off.
    pub fn new(k: i32) -> Self {
        Self { k: usize::try_from(k).unwrap_or(0) }
    }
}

impl Sampler for TopK {
    fn name(&self) -> &CStr {
        if self.k == 0 { c"?top-k" } else { c"top-k" }
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if self.k > 0 {
            candidates.keep_top(self.k);
        }
    }
}
