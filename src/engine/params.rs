//! What a context is made with, and what it makes of it.

use crate::model::{Hparams, Pooling, RopeParams};
use crate::quant::QuantType;

use super::card::{CardModel, CardRequest};
use super::{ContextError, kv::MAX_SEQS};
use std::sync::Arc;

/// A context's wishes. Zero means the default where llama.h says so.
#[derive(Clone, Debug)]
pub struct ContextParams {
    /// Tokens of context; 0 for the model's training length.
    pub n_ctx: u32,
    /// Most tokens of a batch.
    pub n_batch: u32,
    /// Most tokens computed at once.
    pub n_ubatch: u32,
    /// Most sequences.
    pub n_seq_max: u32,
    /// Threads for one token.
    pub n_threads: usize,
    /// Threads for several tokens.
    pub n_threads_batch: usize,
    /// Cache format of keys.
    pub type_k: QuantType,
    /// Cache format of values.
    pub type_v: QuantType,
    /// All sequences share one cache.
    pub kv_unified: bool,
    /// Layers with a window keep all tokens, not only what the window shows: positions can be
    /// moved and taken back as far as one likes.
    pub swa_full: bool,
    /// Give embeddings too.
    pub embeddings: bool,
    /// How embeddings of a sequence are pooled; the model's way when `None`.
    pub pooling: Option<Pooling>,
    /// Whether tokens see only earlier ones; the model's way when `None`.
    pub causal: Option<bool>,
    /// Rotary embedding.
    pub rope: RopeParams,
    /// Do not measure times.
    pub no_perf: bool,
    /// Layers of the model that are on a card, and run there.
    pub card: Option<Arc<CardModel>>,
    /// Where layers would go if the model had its weights.
    pub planned: Option<CardRequest>,
    /// Keys and values of these layers are there too.
    pub offload_kqv: bool,
    /// Dequantised weights, F32 activations and F32 cache: slow, the yardstick of the rest.
    pub reference: bool,
}

impl Default for ContextParams {
    fn default() -> Self {
        Self {
            n_ctx: 512,
            n_batch: 2048,
            n_ubatch: 512,
            n_seq_max: 1,
            n_threads: 4,
            n_threads_batch: 4,
            type_k: QuantType::F16,
            type_v: QuantType::F16,
            kv_unified: false,
            swa_full: true,
            embeddings: false,
            pooling: None,
            causal: None,
            rope: RopeParams::default(),
            no_perf: true,
            card: None,
            planned: None,
            offload_kqv: true,
            reference: reference_from_env(),
        }
    }
}

/// Whether `POWERINFER_REFERENCE` asks for reference mode.
fn reference_from_env() -> bool {
    std::env::var_os("POWERINFER_REFERENCE").is_some_and(|v| !v.is_empty() && v != "0")
}

/// Sizes that a context settled on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Tokens of context over all sequences.
    pub n_ctx: usize,
    /// Tokens of context of one sequence.
    pub n_ctx_seq: usize,
    /// Most tokens of a batch.
    pub n_batch: usize,
    /// Most tokens computed at once.
    pub n_ubatch: usize,
    /// Most sequences.
    pub n_seq_max: usize,
}

/// Contexts come in steps of this many tokens.
const CTX_PAD: usize = 256;

impl ContextParams {
    /// Applies llama.h's rules for sizes.
    pub fn sizes(&self, hp: Option<&Hparams>) -> Result<Sizes, ContextError> {
        let bad = |text: String| Err(ContextError::Invalid(text));
        if self.n_batch == 0 && self.n_ubatch == 0 {
            return bad("n_batch and n_ubatch are both 0".into());
        }
        let n_seq_max = self.n_seq_max.max(1) as usize;
        if n_seq_max > MAX_SEQS {
            return bad(format!("n_seq_max is {n_seq_max}, the most is {MAX_SEQS}"));
        }
        let n_ctx_train = hp.map_or(0, |hp| hp.n_ctx_train);
        let wanted = if self.n_ctx == 0 { n_ctx_train } else { self.n_ctx as usize };
        let n_ctx = wanted.next_multiple_of(CTX_PAD);
        let n_ctx_seq = match self.kv_unified {
            true => n_ctx,
            false => (n_ctx / n_seq_max).next_multiple_of(CTX_PAD).max(CTX_PAD),
        };
        let n_ctx = if self.kv_unified { n_ctx } else { n_ctx_seq * n_seq_max };
        let n_batch = if self.n_batch == 0 { self.n_ubatch } else { self.n_batch } as usize;
        // Without a causal mask a batch is a whole, as long as its caller wants.
        let causal = self.causal.unwrap_or(hp.is_none_or(|hp| hp.causal));
        let n_batch = if causal { n_batch.min(wanted) } else { n_batch };
        let n_ubatch = match self.n_ubatch as usize {
            0 => n_batch,
            n => n.min(n_batch),
        };
        Ok(Sizes { n_ctx, n_ctx_seq, n_batch, n_ubatch, n_seq_max })
    }
}
