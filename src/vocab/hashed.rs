//! The tokenizer of synthetic models (`tokenizer.ggml.model = "test"`): five bytes at a time
//! become one token by a rolling hash. There is no way back: a token's text is its id in hex.

use super::Token;

const CHUNK: usize = 5;

/// The hash, modulo the number of tokens.
pub(super) struct Hashed {
    n_tokens: u32,
}

impl Hashed {
    /// Over `n_tokens` tokens.
    pub(super) fn new(n_tokens: u32) -> Self {
        Self { n_tokens }
    }

    /// Appends the tokens of `text`; none if the vocabulary is empty.
    pub(super) fn tokenize(&self, text: &[u8], out: &mut Vec<Token>) {
        for chunk in text.chunks(CHUNK) {
            let hash = chunk.iter().fold(0u32, |h, &b| h.wrapping_mul(31).wrapping_add(b as u32));
            out.extend(hash.checked_rem(self.n_tokens).map(|token| token as Token));
        }
    }
}
