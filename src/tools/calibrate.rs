//! Thresholds of the sparse mode `magnitude`, found by running a text (CATS, arXiv 2404.08763).
//!
//! The text is cut into chunks. Three quarters of them go through the model with all neurons, while
//! a histogram of |act(gate)| is taken for each layer; the quantile at the wanted share of silent
//! neurons is the layer's threshold. The last quarter measures what that costs: its perplexity with
//! all neurons and with the thresholds, as llama.cpp measures it (each chunk begins with the
//! vocabulary's first token where it has one, and its second half counts).

use std::sync::Arc;

use crate::engine::{Batch, Context, ContextError, ContextParams, DecodeError, Input};
use crate::model::Model;
use crate::sparse::{BadMagnitude, Magnitude, Mode, Options, Sparse};
use crate::{log_debug, log_info};

/// Most tokens of a chunk.
const CHUNK: usize = 512;
/// Least tokens of a chunk: fewer do not say how the model reads.
const MIN_CHUNK: usize = 32;
/// A text has at least this many chunks; every fourth of them is kept for measuring.
const MIN_CHUNKS: usize = 4;
/// Tokens of a batch: all of their logits are kept, up to a megabyte each.
const BATCH: usize = 64;

/// Why thresholds cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// No share of neurons.
    #[error("target sparsity {0}: expected a share from 0 up to, but not, 1")]
    BadTarget(f32),
    /// Too little text.
    #[error(
        "the text has {found} tokens, at least {needed} are needed (some thousands are better)"
    )]
    TooShort {
        /// Tokens.
        found: usize,
        /// Least tokens.
        needed: usize,
    },
    /// An encoder.
    #[error("the model gives no logits to measure perplexity with")]
    NoLogits,
    /// A model whose networks cannot skip neurons by their gates.
    #[error(transparent)]
    Magnitude(#[from] BadMagnitude),
    /// No context over the model.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A batch that was not computed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Finds thresholds that make `target` of the neurons silent, and measures their cost.
///
/// `model` has a plan with [`Skipping::Small`](crate::plan::Skipping::Small). `tokens` are a text of
/// the kind that the model will read, without special tokens; `bos` begins each chunk. The result
/// depends on nothing else, not on `n_threads`.
pub fn calibrate(
    model: &Arc<Model>,
    bos: Option<i32>,
    tokens: &[i32],
    target: f32,
    n_threads: usize,
) -> Result<Magnitude, CalibrateError> {
    if !(0.0..1.0).contains(&target) {
        return Err(CalibrateError::BadTarget(target));
    }
    let (Some(plan), Some(hp)) = (model.plan(), model.hparams()) else {
        return Err(ContextError::NoWeights.into());
    };
    let none = Magnitude { thresholds: vec![0.0; plan.layers.len()], ..Magnitude::default() };
    none.check(model)?;
    if plan.logits.is_none() || plan.stateless {
        return Err(CalibrateError::NoLogits);
    }
    let len = (tokens.len() / MIN_CHUNKS).min(CHUNK).min(hp.n_ctx_train);
    if len < MIN_CHUNK {
        let needed = MIN_CHUNKS * MIN_CHUNK;
        return Err(CalibrateError::TooShort { found: tokens.len(), needed });
    }
    let chunks: Vec<&[i32]> = tokens.chunks_exact(len).collect();
    let (chosen_by, held_out) = chunks.split_at(chunks.len() - chunks.len() / MIN_CHUNKS);
    let context = |magnitude: &Magnitude| Reader::new(model, bos, magnitude, len, n_threads);

    log_info!("calibrating over {} chunks of {len} tokens", chosen_by.len());
    let mut reader = context(&none)?;
    reader.ctx.observe_gates();
    for chunk in chosen_by {
        reader.read(chunk, |_, _| ())?;
    }
    let gates = reader.ctx.gates().expect("observed from the beginning");
    let of_layer = |layer| gates.quantile(layer, target);
    let thresholds: Vec<f32> = (0..plan.layers.len()).map(of_layer).collect();
    log_debug!("thresholds: {thresholds:?}");
    let mut found = Magnitude { thresholds, target_sparsity: Some(target), ..none.clone() };

    log_info!("measuring over {} other chunks", held_out.len());
    let dense = context(&none)?.perplexity(held_out)?;
    let mut reader = context(&found)?;
    let sparse = reader.perplexity(held_out)?;
    found.sparsity = Some(reader.sparsity());
    (found.perplexity_dense, found.perplexity_sparse) = (Some(dense), Some(sparse));
    log_info!(
        "{:.1} % of the neurons are silent; perplexity {dense:.3} with all neurons, {sparse:.3} \
         without these ({:+.2} %)",
        100.0 * found.sparsity.unwrap_or_default(),
        100.0 * (sparse / dense - 1.0),
    );
    Ok(found)
}

/// Reads chunks, each from an empty cache.
struct Reader {
    ctx: Context,
    bos: Option<i32>,
}

impl Reader {
    fn new(
        model: &Arc<Model>,
        bos: Option<i32>,
        magnitude: &Magnitude,
        len: usize,
        n_threads: usize,
    ) -> Result<Self, ContextError> {
        let options = Options {
            mode: Mode::Magnitude,
            magnitude: Some(magnitude.clone()),
            ..Options::default()
        };
        let params = ContextParams {
            n_ctx: len as u32,
            n_batch: BATCH as u32,
            n_ubatch: BATCH as u32,
            n_threads,
            n_threads_batch: n_threads,
            ..ContextParams::default()
        };
        let sparse = Arc::new(Sparse::new(model.plan(), &options));
        Ok(Self { ctx: Context::new(Arc::clone(model), sparse, params)?, bos })
    }

    /// Reads a chunk and hands over the logits of each of its places.
    fn read(
        &mut self,
        chunk: &[i32],
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<(), DecodeError> {
        let mut chunk = chunk.to_vec();
        if let (Some(first), Some(bos)) = (chunk.first_mut(), self.bos) {
            *first = bos;
        }
        self.ctx.kv_mut().clear(false);
        for (i, part) in chunk.chunks(BATCH).enumerate() {
            // All of them, so that the last layer sees every token too.
            let outputs = vec![true; part.len()];
            let input = Input::Tokens(part);
            self.ctx.decode(&Batch { input, pos: None, seq_ids: None, outputs: Some(&outputs) })?;
            for at in 0..part.len() {
                if let Some(logits) = self.ctx.outputs().logits_ith(at as i32) {
                    each(i * BATCH + at, logits);
                }
            }
        }
        Ok(())
    }

    /// Perplexity of the second halves of chunks.
    fn perplexity(&mut self, chunks: &[&[i32]]) -> Result<f64, DecodeError> {
        let (mut sum, mut n) = (0.0, 0);
        for chunk in chunks {
            self.read(chunk, |at, logits| {
                if let Some(&next) = chunk.get(at + 1).filter(|_| at >= chunk.len() / 2) {
                    sum += surprise(logits, next);
                    n += 1;
                }
            })?;
        }
        Ok((sum / f64::from(n)).exp())
    }

    /// Share of silent neurons in what was read.
    fn sparsity(&self) -> f32 {
        let layers = self.ctx.sparse_stats();
        let fired: u64 = layers.iter().map(|layer| layer.fired).sum();
        let all: u64 = layers.iter().map(|layer| layer.tokens * layer.n_ff as u64).sum();
        1.0 - (fired as f64 / all.max(1) as f64) as f32
    }
}

/// Negative logarithm of a token's probability.
fn surprise(logits: &[f32], token: i32) -> f64 {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    sum.ln() + f64::from(max) - f64::from(logits[token as usize])
}
