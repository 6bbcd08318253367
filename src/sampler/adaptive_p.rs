//! Adaptive-p: tokens near a wanted probability.

use std::ffi::CStr;

use super::rng::Rng;
use super::{Candidates, Sampler, Token};

/// Selects tokens whose probability is near a target, and moves the target so that the average of
/// the probabilities chosen meets it (github.com/ggml-org/llama.cpp, pull request 17927). Selects,
/// so it stands last in a chain.
pub struct AdaptiveP {
    target: f32,
    decay: f32,
    rng: Rng,
    /// Sums of `p_i * decay^i` and of `decay^i` over the accepted tokens, the latest at i = 0.
    weighted_sum: f32,
    total_weight: f32,
    /// The selected token and its probability before the transform, until it is accepted.
    pending: Option<(Token, f32)>,
}

impl Clone for AdaptiveP {
    /// The average comes along, but as in llama.cpp the random numbers start over.
    fn clone(&self) -> Self {
        let mut rng = self.rng.clone();
        rng.reset();
        Self { rng, ..*self }
    }
}

impl AdaptiveP {
    /// `target` is a probability; a negative one samples from the distribution as it is. `decay`
    /// is held within 0 to 0.99; the average looks back about `1 / (1 - decay)` tokens.
    pub fn new(target: f32, decay: f32, seed: u32) -> Self {
        let mut sampler = Self {
            target,
            decay: decay.clamp(0.0, 0.99),
            rng: Rng::new(seed),
            weighted_sum: 0.0,
            total_weight: 0.0,
            pending: None,
        };
        sampler.start();
        sampler
    }

    /// Starts as if every token so far had met the target.
    fn start(&mut self) {
        self.weighted_sum = self.target / (1.0 - self.decay);
        self.total_weight = 1.0 / (1.0 - self.decay);
        self.pending = None;
    }

    /// The target that brings the average back.
    fn adapted_target(&self) -> f32 {
        let target = self.target.clamp(0.0, 1.0);
        let wanted = match self.total_weight {
            0.0 => target,
            weight => 2.0 * target - self.weighted_sum / weight,
        };
        wanted.clamp(0.0, 1.0)
    }
}

impl Sampler for AdaptiveP {
    fn name(&self) -> &CStr {
        c"adaptive-p"
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        /// Shape of the transform: a parabola at the target that turns into straight flanks.
        const INV_WIDTH: f32 = 1.0 / 0.3;
        const PEAK: f32 = 5.0;
        const SHARPNESS: f32 = 10.0;

        if candidates.is_empty() {
            return;
        }
        candidates.softmax();
        if self.target < 0.0 {
            let selected = self.rng.discrete(candidates.iter().map(|c| c.p));
            return candidates.select(Some(selected));
        }
        let target = self.adapted_target();
        let original: Vec<f32> = candidates.iter().map(|c| c.p).collect();
        for c in &mut **candidates {
            // What an earlier sampler silenced stays silent.
            if c.logit != f32::NEG_INFINITY {
                let distance = ((c.p - target) * INV_WIDTH).abs();
                c.logit = PEAK - SHARPNESS * distance * distance / (1.0 + distance);
            }
        }
        // As in llama.cpp a list that was sorted stays marked so, and its first candidate counts as
        // the maximum here: a bit of rounding hangs on that.
        candidates.softmax();
        let selected = self.rng.discrete(candidates.iter().map(|c| c.p));
        candidates.select(Some(selected));
        self.pending = Some((candidates[selected].id, original[selected]));
    }

    fn accept(&mut self, token: Token) {
        if let Some((selected, p)) = self.pending.take()
            && selected == token
        {
            self.weighted_sum = p + self.decay * self.weighted_sum;
            self.total_weight = 1.0 + self.decay * self.total_weight;
        }
    }

    fn reset(&mut self) {
        self.start();
        self.rng.reset();
    }
}
