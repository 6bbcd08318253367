//! Locally typical sampling: tokens about as surprising as expected.

use std::ffi::CStr;

use super::{Candidates, Sampler, TokenData, sort};

/// Keeps the candidates whose surprise is nearest to the entropy, until their probabilities exceed
/// `p` (Meister et al. 2022, arXiv 2202.00666).
#[derive(Clone)]
pub struct Typical {
    p: f32,
    min_keep: usize,
}

impl Typical {
    /// At least `min_keep` candidates stay. `p >= 1` turns it off.
    pub fn new(p: f32, min_keep: usize) -> Self {
        Self { p, min_keep }
    }

    fn is_off(&self) -> bool {
        self.p >= 1.0
    }
}

impl Sampler for Typical {
    fn name(&self) -> &CStr {
        if self.is_off() { c"?typical" } else { c"typical" }
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if self.is_off() || candidates.is_empty() {
            return;
        }
        candidates.sort();
        candidates.softmax();
        let mut entropy = 0.0f32;
        for c in &**candidates {
            entropy += -c.p * c.p.ln();
        }
        // How far each one's surprise is from the expected, nearest first.
        let mut by_shift: Vec<(f32, TokenData)> =
            candidates.iter().map(|c| ((-c.p.ln() - entropy).abs(), *c)).collect();
        sort::sort(&mut by_shift, |a, b| a.0 < b.0);

        let mut sum = 0.0f32;
        let mut n = by_shift.len();
        for (i, (_, c)) in by_shift.iter().enumerate() {
            sum += c.p;
            if sum > self.p && i + 1 >= self.min_keep {
                n = i + 1;
                break;
            }
        }
        for (slot, (_, c)) in candidates.iter_mut().zip(&by_shift[..n]) {
            *slot = *c;
        }
        candidates.truncate(n);
        candidates.mark_unsorted();
    }
}
