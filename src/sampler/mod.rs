//! Choosing the next token from logits.
//!
//! A [`Sampler`] edits a list of [`Candidates`] in place: it reorders, drops or rescales them, and
//! the last one of a [`Chain`] selects. With the same seed and the same logits the token is the one
//! that llama.cpp picks when it is linked with libstdc++, down to the order of equal logits
//! (`sort`), the random numbers (`rng`) and the order of float operations. Golden files made by
//! that library hold it: of single lists (`tests/sampler_golden.rs`), and of 1,000 draws with each of
//! ten seeds (`tests/sampler_draws.rs`).
//!
//! A sampler that its arguments turn off stays in the chain as a no-op and shows it in its name:
//! `?top-k`.
//!
//! # Adding a sampler
//!
//! 1. `<name>.rs` here: a `#[derive(Clone)]` struct, `new`, and `impl Sampler`; one `mod` and one
//!    `pub use` line below.
//! 2. One line in the `kinds!` list of `ffi/sampler/kinds.rs` (its vtable) and one
//!    `llama_sampler_init_<name>` in `ffi/sampler/init.rs`.
//! 3. Cases in `tests/tools/sampler_goldens.py` and `sampler_draws.py`, and a line in the `build`
//!    functions of the two tests.

mod adaptive_p;
mod candidates;
mod chain;
mod dist;
mod dry;
mod grammar;
mod greedy;
mod infill;
mod logit_bias;
mod min_p;
mod mirostat;
mod penalties;
mod rng;
mod sort;
mod temp;
mod top_k;
mod top_n_sigma;
mod top_p;
mod typical;
mod xtc;

use std::ffi::CStr;

pub use crate::vocab::Token;
pub use adaptive_p::AdaptiveP;
pub use candidates::{Candidates, TokenData};
pub use chain::{Chain, Perf};
pub use dist::Dist;
pub use dry::{Breakers, Dry};
pub use grammar::Grammar;
pub use greedy::Greedy;
pub use infill::Infill;
pub use logit_bias::LogitBias;
pub use min_p::MinP;
pub use mirostat::{Mirostat, MirostatV2};
pub use penalties::Penalties;
pub use rng::DEFAULT_SEED;
pub use temp::{Temp, TempExt};
pub use top_k::TopK;
pub use top_n_sigma::TopNSigma;
pub use top_p::TopP;
pub use typical::Typical;
pub use xtc::Xtc;

/// One step of choosing a token.
pub trait Sampler: CloneBox + Send {
    /// The name, as llama.h's users know it; with a leading `?` when turned off by its arguments.
    fn name(&self) -> &CStr;

    /// Edits the candidates, and selects one if this sampler is of that kind. An empty list stays
    /// as it is.
    fn apply(&mut self, candidates: &mut Candidates<'_>);

    /// Takes note of the token that was really chosen.
    fn accept(&mut self, _token: Token) {}

    /// Forgets accepted tokens and starts random numbers over.
    fn reset(&mut self) {}

    /// The seed in use, for samplers whose random numbers select the token.
    fn seed(&self) -> Option<u32> {
        None
    }
}

/// Copies of samplers whose type is not known; every `Sampler` that is `Clone` has it.
pub trait CloneBox {
    /// A copy that goes on from the present state, independent of this one.
    fn clone_box(&self) -> Box<dyn Sampler>;
}

impl<S: Sampler + Clone + 'static> CloneBox for S {
    fn clone_box(&self) -> Box<dyn Sampler> {
        Box::new(self.clone())
    }
}

impl Sampler for Box<dyn Sampler> {
    fn name(&self) -> &CStr {
        (**self).name()
    }
    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        (**self).apply(candidates);
    }
    fn accept(&mut self, token: Token) {
        (**self).accept(token);
    }
    fn reset(&mut self) {
        (**self).reset();
    }
    fn seed(&self) -> Option<u32> {
        (**self).seed()
    }
}

impl Clone for Box<dyn Sampler> {
    fn clone(&self) -> Self {
        (**self).clone_box()
    }
}

/// Applies the sampler to the candidates and accepts what it selected. `None` when it selected
/// nothing, as a chain without a selecting sampler does; nothing is accepted then.
pub fn sample(sampler: &mut dyn Sampler, candidates: &mut Candidates<'_>) -> Option<Token> {
    sampler.apply(candidates);
    let token = candidates.selected_token()?;
    sampler.accept(token);
    Some(token)
}
