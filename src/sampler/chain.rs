//! Samplers one after the other.

use std::ffi::CStr;

use super::{Candidates, Sampler, Token, TokenData};
use crate::util::sys::time_us;

/// Time and count of a chain's work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Perf {
    /// Microseconds spent in `apply` and `accept`.
    pub sample_us: i64,
    /// Tokens accepted.
    pub n_sample: i32,
}

/// Samplers that are applied in the order in which they were added. `S` is what the chain owns:
/// boxed samplers in Rust, handles behind the C boundary.
pub struct Chain<S = Box<dyn Sampler>> {
    samplers: Vec<S>,
    no_perf: bool,
    perf: Perf,
    /// Space for [`Candidates::from_logits`], kept here from token to token.
    pub buffer: Vec<TokenData>,
}

impl<S: Sampler> Chain<S> {
    /// An empty chain. `no_perf` leaves the clock alone.
    pub fn new(no_perf: bool) -> Self {
        Self { samplers: Vec::new(), no_perf, perf: Perf::default(), buffer: Vec::new() }
    }

    /// Adds a sampler at the end.
    pub fn push(&mut self, sampler: S) {
        self.samplers.push(sampler);
    }

    /// Takes the sampler at `index` out.
    pub fn remove(&mut self, index: usize) -> Option<S> {
        (index < self.samplers.len()).then(|| self.samplers.remove(index))
    }

    /// The samplers, in order.
    pub fn samplers(&self) -> &[S] {
        &self.samplers
    }

    /// The same, to change.
    pub fn samplers_mut(&mut self) -> &mut [S] {
        &mut self.samplers
    }

    /// Time and count since the start or the last [`Self::perf_reset`].
    pub fn perf(&self) -> Perf {
        self.perf
    }

    /// Sets time and count to zero.
    pub fn perf_reset(&mut self) {
        self.perf = Perf::default();
    }

    fn timed(&mut self, work: impl FnOnce(&mut [S])) {
        let start = (!self.no_perf).then(time_us);
        work(&mut self.samplers);
        if let Some(start) = start {
            self.perf.sample_us += time_us() - start;
        }
    }
}

impl<S: Sampler + Clone> Clone for Chain<S> {
    /// Clones every sampler; time and count start at zero.
    fn clone(&self) -> Self {
        Self { samplers: self.samplers.clone(), ..Self::new(self.no_perf) }
    }
}

impl<S: Sampler + Clone + 'static> Sampler for Chain<S> {
    fn name(&self) -> &CStr {
        c"chain"
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        self.timed(|samplers| samplers.iter_mut().for_each(|s| s.apply(candidates)));
    }

    fn accept(&mut self, token: Token) {
        self.timed(|samplers| samplers.iter_mut().for_each(|s| s.accept(token)));
        self.perf.n_sample = self.perf.n_sample.saturating_add(1);
    }

    fn reset(&mut self) {
        self.samplers.iter_mut().for_each(Sampler::reset);
    }

    /// The seed nearest to the end.
    fn seed(&self) -> Option<u32> {
        self.samplers.iter().rev().find_map(Sampler::seed)
    }
}
