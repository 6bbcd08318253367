//! Infill: choosing what fills a gap in a text.

use std::ffi::CStr;
use std::ops::Deref;
use std::sync::Arc;

use super::{Candidates, Sampler};
use crate::vocab::Vocab;

/// For fill-in-the-middle, after top-k and top-p: prefers to end when ending is likely enough,
/// merges tokens of which one is the beginning of another, and drops the unlikely rest
/// (github.com/ggml-org/llama.cpp, pull request 9896).
///
/// `V` is how it holds the vocabulary.
#[derive(Clone)]
pub struct Infill<V = Arc<Vocab>> {
    vocab: V,
}

impl<V: Deref<Target = Vocab>> Infill<V> {
    /// The vocabulary says which tokens end a text.
    pub fn new(vocab: V) -> Self {
        Self { vocab }
    }

    /// Moves the probability of each token to one that begins with it, or that it begins with,
    /// whichever of the two is more likely.
    fn merge_prefixes(&self, candidates: &mut Candidates<'_>) {
        let piece = |id| self.vocab.token_to_piece(id, 0, false).unwrap_or_default();
        for i in 0..candidates.len() {
            for j in 0..candidates.len() {
                let (a, b) = (candidates[i], candidates[j]);
                if a.logit == f32::NEG_INFINITY {
                    break;
                }
                if i == j || b.logit == f32::NEG_INFINITY {
                    continue;
                }
                let (prefix, word) = (piece(a.id), piece(b.id));
                if !prefix.is_empty() && word.starts_with(prefix) {
                    let (to, from) = if b.p > a.p { (j, i) } else { (i, j) };
                    candidates[to].p += candidates[from].p;
                    candidates[from].p = 0.0;
                    candidates[from].logit = f32::NEG_INFINITY;
                }
            }
        }
    }

    /// Leaves one candidate, the token that ends a turn or a text.
    fn end(&self, candidates: &mut Candidates<'_>) {
        let ids = self.vocab.special_ids();
        match ids.eot.or(ids.eos) {
            Some(end) => {
                candidates.truncate(1);
                candidates[0].id = end;
                candidates[0].logit = 1.0;
            }
            None => crate::log_error!("infill: the vocabulary has no token to end with"),
        }
    }
}

impl<V: Deref<Target = Vocab> + Clone + Send + 'static> Sampler for Infill<V> {
    fn name(&self) -> &CStr {
        c"infill"
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if candidates.is_empty() {
            return;
        }
        candidates.sort();
        candidates.softmax();
        let is_eog = |id| self.vocab.is_eog(id);

        let (mut p_text, mut p_eog) = (0.0f32, 0.0f32);
        for c in &**candidates {
            *(if is_eog(c.id) { &mut p_eog } else { &mut p_text }) += c.p;
        }
        if 3.0 * p_eog * candidates.len() as f32 > p_text {
            candidates.retain(|c| is_eog(c.id));
            return normalize(candidates);
        }

        self.merge_prefixes(candidates);
        let is_likely = |p: f32| p >= 0.2;
        let n_text = candidates.iter().filter(|c| is_likely(c.p) && !is_eog(c.id)).count();
        if n_text == 0 {
            return self.end(candidates);
        }
        candidates.retain(|c| is_likely(c.p) || is_eog(c.id));
        normalize(candidates);
        let least = (1.0 / (n_text as f64 + 1.0)) as f32;
        candidates.retain(|c| c.p >= least || is_eog(c.id));
        normalize(candidates);
    }
}

/// Makes the probabilities sum to one.
fn normalize(candidates: &mut Candidates<'_>) {
    let sum = candidates.iter().fold(0.0f32, |sum, c| sum + c.p);
    for c in &mut **candidates {
        c.p /= sum;
    }
}
