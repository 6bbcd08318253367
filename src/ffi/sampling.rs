//! Sampling inside of a context: chains that belong to sequences and run after each decode.
//!
//! llama.cpp computes what it can of such a chain on the device. Here the whole chain runs on the
//! host, over the logits and with the state that `llama_sampler_sample` would use, and what it took
//! waits for the program, which accepts it (`llama_sampler_sample` does both).

use core::ptr;

use super::context::{llama_context, with};
use super::sampler;
use super::types::{
    LLAMA_TOKEN_NULL, llama_sampler, llama_sampler_seq_config, llama_seq_id, llama_token,
};
use crate::api::{Batch, Input};
use crate::sampler::{Candidates, TokenData};
use crate::{log_error, log_warn};

/// The chains of a context, and what they left of the last batch.
#[derive(Default)]
pub(super) struct Sampling {
    /// The program owns the chains and keeps them alive while they are attached.
    chains: Vec<(llama_seq_id, *mut llama_sampler)>,
    /// Most outputs of a sequence with a chain in one batch.
    n_outputs_max: u32,
    /// By row of the outputs; empty while no chain is attached.
    rows: Vec<Row>,
    /// All token ids: the candidates of rows that no chain worked on.
    vocabulary: Vec<llama_token>,
}

/// What a chain left of a row of outputs.
#[derive(Default)]
struct Row {
    token: Option<llama_token>,
    ids: Vec<llama_token>,
    logits: Vec<f32>,
    /// Empty when the chain computed none.
    probs: Vec<f32>,
}

impl Row {
    fn new(left: &Candidates<'_>) -> Self {
        let mut probs: Vec<f32> = left.iter().map(|c| c.p).collect();
        if probs.iter().all(|&p| p == 0.0) {
            probs.clear();
        }
        Self {
            token: left.selected_token(),
            ids: left.iter().map(|c| c.id).collect(),
            logits: left.iter().map(|c| c.logit).collect(),
            probs,
        }
    }
}

impl Sampling {
    /// No chains; the parameter of the same name of the context.
    pub(super) fn new(n_outputs_max_per_seq: u32) -> Self {
        Self { n_outputs_max: n_outputs_max_per_seq.max(1), ..Self::default() }
    }

    /// Attaches the chains of a context's parameters.
    ///
    /// # Safety
    /// The array has `n` elements whose samplers are NULL or valid.
    pub(super) unsafe fn attach(
        &mut self,
        configs: *const llama_sampler_seq_config,
        n: usize,
    ) -> Result<(), String> {
        if n > 0 && configs.is_null() {
            return Err(format!("{n} samplers, but the array is NULL"));
        }
        for i in 0..n {
            // SAFETY: by contract.
            let config = unsafe { *configs.add(i) };
            // SAFETY: by contract.
            if !config.sampler.is_null() && unsafe { sampler::chooses(config.sampler) }.is_none() {
                return Err("samplers inside of a context must be chains".into());
            }
            // SAFETY: by contract.
            unsafe { self.set(config.seq_id, config.sampler) };
        }
        Ok(())
    }

    /// Attaches a chain; NULL takes away the one that is there. False: the program samples itself.
    ///
    /// # Safety
    /// `chain` is NULL or a valid sampler.
    unsafe fn set(&mut self, seq: llama_seq_id, chain: *mut llama_sampler) -> bool {
        self.chains.retain(|(s, _)| *s != seq);
        if chain.is_null() {
            return true;
        }
        // SAFETY: by contract.
        let chooses = unsafe { sampler::chooses(chain) };
        if chooses == Some(true) {
            self.chains.push((seq, chain));
        } else {
            log_warn!(
                "the sampler of sequence {seq} is no chain that takes a token in the end: it is not run inside of the context"
            );
        }
        chooses == Some(true)
    }

    /// Forgets the last batch, and refuses one with more outputs of a sequence than its chain may
    /// sample. `all`: every token is an output.
    pub(super) fn begin(&mut self, batch: &Batch<'_>, all: bool) -> Result<(), String> {
        self.rows.clear();
        for &(seq, _) in &self.chains {
            let n = n_outputs(batch, all, seq);
            if n > self.n_outputs_max as usize {
                return Err(format!(
                    "{n} outputs of sequence {seq}, which is sampled inside of the context: \
                     n_outputs_max_per_seq is {}",
                    self.n_outputs_max
                ));
            }
        }
        Ok(())
    }
}

/// Tokens of a sequence whose outputs a batch asks for.
fn n_outputs(batch: &Batch<'_>, all: bool, seq: llama_seq_id) -> usize {
    let n = match (batch.outputs, batch.input) {
        (Some(flags), _) => flags.len(),
        (None, Input::Tokens(ids)) => ids.len(),
        // Without flags the last token is the output, whichever that is.
        (None, Input::Embeddings(_)) => 1,
    };
    let wanted = |i: &usize| all || batch.outputs.map_or(i + 1 == n, |flags| flags[*i]);
    let of_seq = |i: &usize| batch.seq_ids.map_or(seq == 0, |seqs| seqs[*i].contains(&seq));
    (0..n).filter(wanted).filter(of_seq).count()
}

/// Runs the chains over the outputs of the batch that was just decoded.
///
/// # Safety
/// `ctx` is a valid context that this call alone uses.
pub(super) unsafe fn run(ctx: *mut llama_context, name: &str) {
    // SAFETY: by contract, here and below.
    let n_rows = unsafe {
        with(ctx, 0, name, |c| match c.sampling.chains.is_empty() {
            true => 0,
            false => c.inner.outputs().seqs().len(),
        })
    };
    for row in 0..n_rows {
        let mut logits: Vec<TokenData> = Vec::new();
        // SAFETY: as above.
        let chain = unsafe {
            with(ctx, None, name, |c| {
                let seq = llama_seq_id::try_from(*c.inner.outputs().seqs().get(row)?).ok()?;
                Candidates::from_logits(&mut logits, c.inner.outputs().logits_row(row)?);
                c.sampling.chains.iter().find(|(s, _)| *s == seq).map(|&(_, chain)| chain)
            })
        };
        // A user's sampler may ask the context for things, so nothing of it is borrowed here.
        // SAFETY: the program keeps attached chains alive, and this thread alone uses them.
        let left =
            chain.and_then(|chain| unsafe { sampler::apply_to(chain, &mut logits, Row::new) });
        // SAFETY: as above.
        unsafe { with(ctx, (), name, |c| c.sampling.rows.push(left.unwrap_or_default())) };
    }
}

/// What a chain left of output `i`; `None` when no chain worked on it.
fn row(ctx: &mut llama_context, i: i32) -> Option<&mut Row> {
    let row = ctx.inner.outputs().row(i)?;
    ctx.sampling.rows.get_mut(row)
}

/// The token that a chain took of output `i`.
pub(super) fn token(ctx: &mut llama_context, i: i32) -> Option<llama_token> {
    row(ctx, i)?.token
}

/// What `read` gives of [`row`].
///
/// # Safety
/// `ctx` is NULL or a valid context that this call alone uses.
unsafe fn sampled<T>(
    ctx: *mut llama_context,
    name: &str,
    i: i32,
    read: impl FnOnce(&mut Row) -> T,
) -> Option<T> {
    // SAFETY: by contract.
    unsafe { with(ctx, None, name, |c| row(c, i).map(read)) }
}

fn n_vocab(ctx: &llama_context) -> usize {
    ctx.inner.model().hparams().map_or(0, |hp| hp.n_vocab)
}

fn pointer<T>(x: &mut [T]) -> *mut T {
    if x.is_empty() { ptr::null_mut() } else { x.as_mut_ptr() }
}

/// Token that a chain inside of the context took; LLAMA_TOKEN_NULL when none did.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_sampled_token_ith(
    ctx: *mut llama_context,
    i: i32,
) -> llama_token {
    // SAFETY: the module's contract.
    unsafe { sampled(ctx, "llama_get_sampled_token_ith", i, |row| row.token) }
        .flatten()
        .unwrap_or(LLAMA_TOKEN_NULL)
}

/// Probabilities that a chain inside of the context left; NULL when it computed none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_sampled_probs_ith(ctx: *mut llama_context, i: i32) -> *mut f32 {
    // SAFETY: the module's contract.
    unsafe { sampled(ctx, "llama_get_sampled_probs_ith", i, |row| pointer(&mut row.probs)) }
        .unwrap_or(ptr::null_mut())
}

/// Number of those probabilities.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_sampled_probs_count_ith(ctx: *mut llama_context, i: i32) -> u32 {
    // SAFETY: the module's contract.
    unsafe { sampled(ctx, "llama_get_sampled_probs_count_ith", i, |row| row.probs.len()) }
        .unwrap_or(0) as u32
}

/// Logits that a chain inside of the context left; NULL when none worked on this output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_sampled_logits_ith(ctx: *mut llama_context, i: i32) -> *mut f32 {
    // SAFETY: the module's contract.
    unsafe { sampled(ctx, "llama_get_sampled_logits_ith", i, |row| pointer(&mut row.logits)) }
        .unwrap_or(ptr::null_mut())
}

/// Number of those logits; of the vocabulary's tokens while nothing is sampled in the context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_sampled_logits_count_ith(
    ctx: *mut llama_context,
    i: i32,
) -> u32 {
    const NAME: &str = "llama_get_sampled_logits_count_ith";
    // SAFETY: the module's contract.
    unsafe {
        with(ctx, 0, NAME, |c| {
            if c.sampling.chains.is_empty() {
                return n_vocab(c) as u32;
            }
            row(c, i).map_or(0, |row| row.logits.len() as u32)
        })
    }
}

/// Candidates that a chain inside of the context left; all tokens when none worked on this output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_sampled_candidates_ith(
    ctx: *mut llama_context,
    i: i32,
) -> *mut llama_token {
    const NAME: &str = "llama_get_sampled_candidates_ith";
    // SAFETY: the module's contract.
    unsafe {
        with(ctx, ptr::null_mut(), NAME, |c| {
            if let Some(row) = row(c, i).filter(|row| !row.ids.is_empty()) {
                return row.ids.as_mut_ptr();
            }
            if c.sampling.vocabulary.is_empty() {
                c.sampling.vocabulary = (0..).take(n_vocab(c)).collect();
            }
            pointer(&mut c.sampling.vocabulary)
        })
    }
}

/// Number of those candidates; 0 when no chain worked on this output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_sampled_candidates_count_ith(
    ctx: *mut llama_context,
    i: i32,
) -> u32 {
    // SAFETY: the module's contract.
    unsafe { sampled(ctx, "llama_get_sampled_candidates_count_ith", i, |row| row.ids.len()) }
        .unwrap_or(0) as u32
}

/// Lets a chain sample for a sequence after each decode; NULL ends that. The program goes on owning
/// the chain and keeps it alive. False: this sampler does not run inside of the context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_sampler(
    ctx: *mut llama_context,
    seq_id: llama_seq_id,
    smpl: *mut llama_sampler,
) -> bool {
    const NAME: &str = "llama_set_sampler";
    // SAFETY: the module's contract.
    unsafe {
        with(ctx, false, NAME, |c| {
            let n_seq_max = c.inner.sizes().n_seq_max;
            let exists = usize::try_from(seq_id).is_ok_and(|seq| seq < n_seq_max);
            if !exists && !smpl.is_null() {
                log_error!("{NAME}: sequence {seq_id} of {n_seq_max}");
                return false;
            }
            c.sampling.set(seq_id, smpl)
        })
    }
}
