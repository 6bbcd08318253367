//! Top-nσ: logits within n standard deviations of the best.

use std::ffi::CStr;

use super::{Candidates, Sampler};

/// Silences the candidates whose logit is more than `n` standard deviations below the highest one
/// (Tang et al. 2024, arXiv 2411.07641). They stay in the list with a logit of minus infinity.
#[derive(Clone)]
pub struct TopNSigma {
    n: f32,
}

impl TopNSigma {
    /// `n <= 0` turns it off.
    pub fn new(n: f32) -> Self {
        Self { n }
    }

    fn is_off(&self) -> bool {
        self.n <= 0.0
    }
}

impl Sampler for TopNSigma {
    fn name(&self) -> &CStr {
        if self.is_off() { c"?top-n-sigma" } else { c"top-n-sigma" }
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if self.is_off() || candidates.len() <= 1 {
            return;
        }
        // What an earlier sampler silenced is no part of the distribution.
        let alive = || candidates.iter().map(|c| c.logit).filter(|&l| l != f32::NEG_INFINITY);
        let count = alive().count();
        if count == 0 {
            return;
        }
        let mean = alive().fold(0.0f32, |sum, l| sum + l) / count as f32;
        let square = |l: f32| f64::from(l - mean) * f64::from(l - mean);
        let sum = alive().fold(0.0f32, |sum, l| (f64::from(sum) + square(l)) as f32);
        let deviation = (sum / count as f32).sqrt();
        let min = candidates.max_logit(candidates[0].logit) - self.n * deviation;
        for c in &mut **candidates {
            if c.logit < min {
                c.logit = f32::NEG_INFINITY;
            }
        }
    }
}
