//! Temperature, fixed or by entropy.

use std::ffi::CStr;

use super::{Candidates, Sampler};

/// Divides every logit by the temperature.
#[derive(Clone)]
pub struct Temp {
    temp: f32,
}

impl Temp {
    /// `temp <= 0` leaves only the highest logit (the others become minus infinity); 1 turns it off.
    pub fn new(temp: f32) -> Self {
        Self { temp }
    }
}

impl Sampler for Temp {
    fn name(&self) -> &CStr {
        if self.temp == 1.0 { c"?temp" } else { c"temp" }
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if self.temp != 1.0 {
            scale(candidates, self.temp);
        }
    }
}

/// Dynamic temperature: between `temp - delta` and `temp + delta`, the higher the more entropy the
/// distribution has (Zhu et al. 2023, arXiv 2309.02772).
#[derive(Clone)]
pub struct TempExt {
    temp: f32,
    delta: f32,
    exponent: f32,
}

impl TempExt {
    /// `delta <= 0` is a plain [`Temp`]; with `temp` 1 it is turned off then.
    pub fn new(temp: f32, delta: f32, exponent: f32) -> Self {
        Self { temp, delta, exponent }
    }

    fn is_off(&self) -> bool {
        self.temp == 1.0 && self.delta <= 0.0
    }

    /// The temperature for sorted candidates with their probabilities.
    fn by_entropy(&self, candidates: &Candidates<'_>) -> f32 {
        let low = if 0.0 < self.temp - self.delta { self.temp - self.delta } else { 0.0 };
        let high = self.temp + self.delta;
        let max_entropy = -(1.0 / candidates.len() as f32).ln();
        let mut entropy = 0.0f32;
        for c in &**candidates {
            if c.p > 0.0 {
                entropy -= c.p * c.p.ln();
            }
        }
        low + (high - low) * (entropy / max_entropy).powf(self.exponent)
    }
}

impl Sampler for TempExt {
    fn name(&self) -> &CStr {
        if self.is_off() { c"?temp-ext" } else { c"temp-ext" }
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if self.is_off() {
            return;
        }
        // Written so that NaN is a plain temperature, as any comparison with it is false.
        if self.delta > 0.0 {
            if candidates.len() <= 1 {
                return;
            }
            candidates.sort();
            candidates.softmax();
            let temp = self.by_entropy(candidates);
            scale(candidates, temp);

            // The new probabilities, in double precision this time.
            let max = f64::from(candidates[0].logit);
            let mut sum = 0.0f64;
            for c in &mut **candidates {
                let p = (f64::from(c.logit) - max).exp();
                c.p = p as f32;
                sum += p;
            }
            for c in &mut **candidates {
                c.p = (f64::from(c.p) / sum) as f32;
            }
        } else {
            scale(candidates, self.temp);
        }
    }
}

/// Divides the logits by `temp`, or silences all but the first highest one when it is not positive.
fn scale(candidates: &mut Candidates<'_>, temp: f32) {
    if temp <= 0.0 {
        let mut best = 0;
        for i in 1..candidates.len() {
            let loser = if candidates[i].logit > candidates[best].logit {
                std::mem::replace(&mut best, i)
            } else {
                i
            };
            candidates[loser].logit = f32::NEG_INFINITY;
        }
    } else {
        for c in &mut **candidates {
            c.logit /= temp;
        }
    }
}
