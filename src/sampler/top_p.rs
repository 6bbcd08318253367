//! Top-p, or nucleus: the likely tokens that together reach a probability.

use std::ffi::CStr;

use super::candidates::bucket_sort_top;
use super::{Candidates, Sampler, TokenData};

/// Keeps the shortest sorted prefix whose probabilities sum to at least `p`
/// (Holtzman et al. 2019, arXiv 1904.09751).
#[derive(Clone)]
pub struct TopP {
    p: f32,
    min_keep: usize,
    top: Vec<TokenData>,
}

impl TopP {
    /// At least `min_keep` candidates stay. `p >= 1` turns it off.
    pub fn new(p: f32, min_keep: usize) -> Self {
        Self { p, min_keep, top: Vec::new() }
    }

    fn is_off(&self) -> bool {
        self.p >= 1.0
    }

    /// Length of the nucleus of a list in descending order, or `None` if the list ends before.
    fn nucleus(&self, sorted: &[TokenData]) -> Option<usize> {
        let mut sum = 0.0;
        sorted.iter().enumerate().find_map(|(i, c)| {
            sum += c.p;
            (sum >= self.p && i + 1 >= self.min_keep).then_some(i + 1)
        })
    }
}

impl Sampler for TopP {
    fn name(&self) -> &CStr {
        if self.is_off() { c"?top-p" } else { c"top-p" }
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        /// Longer lists are sorted only as far as the nucleus is likely to reach.
        const SHORT: usize = 1024;
        const LIKELY: usize = 256;

        if self.is_off() || candidates.is_empty() {
            return;
        }
        candidates.softmax();
        if !candidates.is_sorted() && candidates.len() > SHORT {
            let mut top = std::mem::take(&mut self.top);
            bucket_sort_top(candidates, LIKELY, &mut top);
            let mut n = self.nucleus(&top[..LIKELY]);
            if n.is_none() {
                bucket_sort_top(candidates, candidates.len(), &mut top);
                n = self.nucleus(&top);
            }
            let n = n.unwrap_or(top.len());
            candidates[..n].copy_from_slice(&top[..n]);
            candidates.keep_sorted_prefix(n);
            self.top = top;
        } else {
            candidates.sort();
            let n = self.nucleus(candidates).unwrap_or(candidates.len());
            candidates.truncate(n);
        }
    }
}
