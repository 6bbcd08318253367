//! Mirostat: text of a wanted perplexity (Basu et al. 2020, arXiv 2007.14966), both versions.

use std::ffi::CStr;

use super::rng::Rng;
use super::{Candidates, Sampler};

/// What both versions share: the feedback loop that holds the surprise of the chosen tokens at a
/// target.
#[derive(Clone)]
struct Feedback {
    /// Target surprise, in bits.
    tau: f32,
    /// Learning rate.
    eta: f32,
    /// Present limit of the surprise, in bits.
    mu: f32,
    rng: Rng,
}

impl Feedback {
    fn new(seed: u32, tau: f32, eta: f32) -> Self {
        Self { tau, eta, mu: 2.0 * tau, rng: Rng::new(seed) }
    }

    fn reset(&mut self) {
        self.mu = 2.0 * self.tau;
        self.rng.reset();
    }

    /// Selects from the candidates that the version let through, and learns from the choice.
    fn select(&mut self, candidates: &mut Candidates<'_>) {
        candidates.sort();
        candidates.softmax();
        let selected = self.rng.discrete(candidates.iter().map(|c| c.p));
        candidates.select(Some(selected));
        let surprise = -candidates[selected].p.log2();
        self.mu -= self.eta * (surprise - self.tau);
    }
}

/// Version 1: estimates the Zipf exponent of the distribution and derives a top-k from it.
#[derive(Clone)]
pub struct Mirostat {
    n_vocab: i32,
    m: i32,
    feedback: Feedback,
}

impl Mirostat {
    /// `tau` is the target surprise in bits, `eta` the learning rate, `m` the number of likely
    /// tokens that the estimate looks at (the paper uses 100).
    pub fn new(n_vocab: i32, seed: u32, tau: f32, eta: f32, m: i32) -> Self {
        Self { n_vocab, m, feedback: Feedback::new(seed, tau, eta) }
    }

    /// The k whose truncated Zipf distribution has a surprise of mu.
    fn k(&self, candidates: &Candidates<'_>) -> f32 {
        // m = 0 means all of them: the limit is unsigned.
        let limit = usize::try_from(self.m.wrapping_sub(1)).unwrap_or(usize::MAX);
        let (mut sum_tb, mut sum_tt) = (0.0f32, 0.0f32);
        for (i, pair) in candidates.windows(2).take(limit).enumerate() {
            let t = ((i + 2) as f32 / (i + 1) as f32).ln();
            let b = (pair[0].p / pair[1].p).ln();
            sum_tb += t * b;
            sum_tt += t * t;
        }
        let s_hat = sum_tb / sum_tt;
        let epsilon = s_hat - 1.0;
        let scaled = epsilon * 2.0f32.powf(self.feedback.mu);
        (scaled / (1.0 - (self.n_vocab as f32).powf(-epsilon))).powf(1.0 / s_hat)
    }
}

impl Sampler for Mirostat {
    fn name(&self) -> &CStr {
        c"mirostat"
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if candidates.is_empty() {
            return;
        }
        candidates.sort();
        candidates.softmax();
        let k = self.k(candidates);
        // Out of the range of a C int, NaN included, the original ends with one candidate.
        candidates.keep_top(if k < 2_147_483_648.0 { k as usize } else { 1 });
        self.feedback.select(candidates);
    }

    fn reset(&mut self) {
        self.feedback.reset();
    }

    fn seed(&self) -> Option<u32> {
        Some(self.feedback.rng.seed())
    }
}

/// Version 2: drops the tokens that are more surprising than mu.
#[derive(Clone)]
pub struct MirostatV2 {
    feedback: Feedback,
}

impl MirostatV2 {
    /// `tau` is the target surprise in bits, `eta` the learning rate.
    pub fn new(seed: u32, tau: f32, eta: f32) -> Self {
        Self { feedback: Feedback::new(seed, tau, eta) }
    }
}

impl Sampler for MirostatV2 {
    fn name(&self) -> &CStr {
        c"mirostat-v2"
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if candidates.is_empty() {
            return;
        }
        candidates.sort();
        candidates.softmax();
        let mu = self.feedback.mu;
        let n = candidates.iter().position(|c| -c.p.log2() > mu).unwrap_or(candidates.len());
        candidates.truncate(n.max(1));
        self.feedback.select(candidates);
    }

    fn reset(&mut self) {
        self.feedback.reset();
    }

    fn seed(&self) -> Option<u32> {
        Some(self.feedback.rng.seed())
    }
}
