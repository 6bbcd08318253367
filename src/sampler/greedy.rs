//! The most likely token.

use std::ffi::CStr;

use super::{Candidates, Sampler};

/// Selects the highest logit; of equal ones the first in the list.
#[derive(Clone, Default)]
pub struct Greedy;

impl Greedy {
    /// A greedy sampler.
    pub fn new() -> Self {
        Self
    }
}

impl Sampler for Greedy {
    fn name(&self) -> &CStr {
        c"greedy"
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        let mut best = 0;
        for i in 1..candidates.len() {
            if candidates[i].logit > candidates[best].logit {
                best = i;
            }
        }
        candidates.select((!candidates.is_empty()).then_some(best));
    }
}
