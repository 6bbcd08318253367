//! Biases of single tokens.

use std::ffi::CStr;

use super::{Candidates, Sampler, Token};

/// Adds a bias to the logits of given tokens. It stands before the samplers that sort: as in
/// llama.cpp, a list that is marked as sorted stays so, and is then cut as if it were.
#[derive(Clone)]
pub struct LogitBias {
    biases: Vec<(Token, f32)>,
}

impl LogitBias {
    /// An empty list turns it off.
    pub fn new(biases: Vec<(Token, f32)>) -> Self {
        Self { biases }
    }
}

impl Sampler for LogitBias {
    fn name(&self) -> &CStr {
        if self.biases.is_empty() { c"?logit-bias" } else { c"logit-bias" }
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if self.biases.is_empty() {
            return;
        }
        let mut elsewhere = Vec::new();
        for &(token, bias) in &self.biases {
            // A list that no one has reordered holds token i at index i.
            match usize::try_from(token).ok().and_then(|i| candidates.get_mut(i)) {
                Some(c) if c.id == token => c.logit += bias,
                _ => elsewhere.push((token, bias)),
            }
        }
        if elsewhere.is_empty() {
            return;
        }
        for c in &mut **candidates {
            if let Some((_, bias)) = elsewhere.iter().find(|(token, _)| *token == c.id) {
                c.logit += bias;
            }
        }
    }
}
