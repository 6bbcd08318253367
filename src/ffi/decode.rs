//! Computing batches, and what they give.

use core::ptr;

use super::context::{llama_context, with};
use super::sampling;
use super::types::{llama_batch, llama_perf_context_data, llama_seq_id};
use crate::api::{Batch, DecodeError, Input};
use crate::log_error;
use crate::util::sys::time_us;

/// What a batch that breaks a rule gives.
pub(super) const INVALID: i32 = -1;
/// What a call on no context, or after an internal error, gives.
const FAILED: i32 = -3;

/// Computes a batch in `body`, which gives llama.h's code, and lets the samplers inside of the
/// context choose from its outputs.
///
/// # Safety
/// `ctx` is NULL or a valid context that this call alone uses.
pub(super) unsafe fn compute(
    ctx: *mut llama_context,
    name: &str,
    body: impl FnOnce(&mut llama_context) -> i32,
) -> i32 {
    // SAFETY: by contract.
    unsafe {
        let code = with(ctx, FAILED, name, body);
        if code == 0 {
            sampling::run(ctx, name);
        }
        code
    }
}

/// Decodes and gives llama.h's code; other codes than 0 and 1 are logged when `log` is set.
pub(super) fn decode(ctx: &mut llama_context, batch: &Batch<'_>, name: &str, log: bool) -> i32 {
    if let Err(text) = ctx.sampling.begin(batch, ctx.inner.embeddings()) {
        log_error!("{name}: {text}");
        return INVALID;
    }
    match ctx.inner.decode(batch) {
        Ok(()) => 0,
        Err(error) => {
            if log || !matches!(error, DecodeError::NoSlot { .. }) {
                log_error!("{name}: {error}");
            }
            error.code()
        }
    }
}

/// Computes a batch into the memory. 0: done; 1: no room in the cache; 2: aborted; negative:
/// error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_decode(ctx: *mut llama_context, batch: llama_batch) -> i32 {
    const NAME: &str = "llama_decode";
    // SAFETY: the module's contract, also for the arrays of the batch.
    unsafe { compute(ctx, NAME, |c| classic(&batch, c, NAME)) }
}

/// Computes a batch without a memory, every token an output. For models that have a memory: an
/// error, since none that runs here has an encoder beside its decoder.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_encode(ctx: *mut llama_context, batch: llama_batch) -> i32 {
    const NAME: &str = "llama_encode";
    // SAFETY: the module's contract, also for the arrays of the batch.
    unsafe {
        with(ctx, FAILED, NAME, |c| {
            if c.inner.has_memory() {
                log_error!("{NAME}: the model has no encoder");
                return INVALID;
            }
            classic(&batch, c, NAME)
        })
    }
}

/// Computes a classic batch and gives llama.h's code.
///
/// # Safety
/// The arrays of the batch are NULL or have as many elements as it says.
unsafe fn classic(batch: &llama_batch, ctx: &mut llama_context, name: &str) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { try_classic(batch, ctx, name) }.unwrap_or_else(|text| {
        log_error!("{name}: {text}");
        INVALID
    })
}

/// # Safety
/// As [`classic`].
unsafe fn try_classic(
    batch: &llama_batch,
    ctx: &mut llama_context,
    name: &str,
) -> Result<i32, String> {
    let n = usize::try_from(batch.n_tokens).unwrap_or(0);
    let n_batch = ctx.inner.sizes().n_batch;
    if n == 0 {
        return Err(format!("the batch has {} tokens", batch.n_tokens));
    }
    if n > n_batch {
        return Err(format!("the batch has {n} tokens, n_batch is {n_batch}"));
    }
    // SAFETY: the caller's promise for this and the other arrays.
    let input = unsafe {
        match (batch.token.is_null(), batch.embd.is_null()) {
            (false, true) => Input::Tokens(core::slice::from_raw_parts(batch.token, n)),
            (true, false) => {
                let n_embd = ctx.inner.model().hparams().map_or(0, |hp| hp.n_embd);
                Input::Embeddings(core::slice::from_raw_parts(batch.embd, n * n_embd))
            }
            (true, true) => return Err("the batch has neither tokens nor embeddings".into()),
            (false, false) => return Err("the batch has tokens and embeddings".into()),
        }
    };
    // SAFETY: as above.
    let pos = unsafe { (!batch.pos.is_null()).then(|| core::slice::from_raw_parts(batch.pos, n)) };
    let mut seq_ids: Vec<&[llama_seq_id]> = Vec::new();
    if !batch.seq_id.is_null() {
        for i in 0..n {
            // SAFETY: as above; each list has as many elements as n_seq_id says.
            let ids = unsafe {
                let n_ids = if batch.n_seq_id.is_null() { 1 } else { *batch.n_seq_id.add(i) };
                let list = *batch.seq_id.add(i);
                match usize::try_from(n_ids) {
                    Ok(n_ids @ 1..) if !list.is_null() => {
                        core::slice::from_raw_parts(list, n_ids.min(ctx.inner.sizes().n_seq_max))
                    }
                    _ => return Err(format!("token {i} of the batch is of no sequence")),
                }
            };
            seq_ids.push(ids);
        }
    }
    let outputs: Option<Vec<bool>> = (!batch.logits.is_null()).then(|| {
        // SAFETY: as above.
        let flags = unsafe { core::slice::from_raw_parts(batch.logits, n) };
        flags.iter().map(|&f| f != 0).collect()
    });
    let batch = Batch {
        input,
        pos,
        seq_ids: (!seq_ids.is_empty()).then_some(&seq_ids[..]),
        outputs: outputs.as_deref(),
    };
    Ok(decode(ctx, &batch, name, false))
}

/// The pointer of a slice; NULL for an empty one.
fn pointer(x: &mut [f32]) -> *mut f32 {
    if x.is_empty() { ptr::null_mut() } else { x.as_mut_ptr() }
}

/// Logits of the last batch, a row for each token whose output was asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_logits(ctx: *mut llama_context) -> *mut f32 {
    // SAFETY: the module's contract.
    unsafe {
        with(ctx, ptr::null_mut(), "llama_get_logits", |c| pointer(c.inner.outputs().logits()))
    }
}

/// Logits of token i of the last batch, or of row i from the end when negative; NULL when there
/// are none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_logits_ith(ctx: *mut llama_context, i: i32) -> *mut f32 {
    const NAME: &str = "llama_get_logits_ith";
    // SAFETY: the module's contract.
    unsafe {
        with(ctx, ptr::null_mut(), NAME, |c| match c.inner.outputs().logits_ith(i) {
            Some(row) => pointer(row),
            None => {
                log_error!("{NAME}: token {i} of the last batch has no logits");
                ptr::null_mut()
            }
        })
    }
}

/// Embeddings of the last batch, a row per token; NULL unless they were asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_embeddings(ctx: *mut llama_context) -> *mut f32 {
    // SAFETY: the module's contract.
    unsafe {
        with(ctx, ptr::null_mut(), "llama_get_embeddings", |c| {
            pointer(c.inner.outputs().embeddings())
        })
    }
}

/// Embedding of token i of the last batch, or of row i from the end when negative; NULL when
/// there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_embeddings_ith(ctx: *mut llama_context, i: i32) -> *mut f32 {
    const NAME: &str = "llama_get_embeddings_ith";
    // SAFETY: the module's contract.
    unsafe {
        with(ctx, ptr::null_mut(), NAME, |c| match c.inner.outputs().embeddings_ith(i) {
            Some(row) => pointer(row),
            None => {
                log_error!("{NAME}: token {i} of the last batch has no embedding");
                ptr::null_mut()
            }
        })
    }
}

/// Pooled embedding of a sequence of the last batch; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_embeddings_seq(
    ctx: *mut llama_context,
    seq_id: llama_seq_id,
) -> *mut f32 {
    // SAFETY: the module's contract.
    unsafe {
        with(ctx, ptr::null_mut(), "llama_get_embeddings_seq", |c| {
            let seq = usize::try_from(seq_id).unwrap_or(usize::MAX);
            c.inner.outputs().embeddings_seq(seq).map_or(ptr::null_mut(), pointer)
        })
    }
}

const NO_PERF: llama_perf_context_data = llama_perf_context_data {
    t_start_ms: 0.0,
    t_load_ms: 0.0,
    t_p_eval_ms: 0.0,
    t_eval_ms: 0.0,
    n_p_eval: 0,
    n_eval: 0,
    n_reused: 0,
};

/// Times and counts of a context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_perf_context(ctx: *const llama_context) -> llama_perf_context_data {
    if ctx.is_null() {
        return NO_PERF;
    }
    // SAFETY: the module's contract; nothing is changed.
    unsafe {
        with(ctx.cast_mut(), NO_PERF, "llama_perf_context", |c| {
            let perf = c.inner.perf();
            llama_perf_context_data {
                t_start_ms: perf.t_start_ms,
                t_load_ms: c.t_load_us as f64 / 1000.0,
                t_p_eval_ms: perf.t_p_eval_ms,
                t_eval_ms: perf.t_eval_ms,
                n_p_eval: perf.n_p_eval.max(1),
                n_eval: perf.n_eval.max(1),
                n_reused: 0,
            }
        })
    }
}

/// Logs times and counts of a context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_perf_context_print(ctx: *const llama_context) {
    // SAFETY: the same contract.
    let p = unsafe { llama_perf_context(ctx) };
    let line = |what: &str, ms: f64, n: i32| {
        let (n, per_token) = (f64::from(n), ms / f64::from(n));
        let speed = if ms > 0.0 { 1000.0 * n / ms } else { 0.0 };
        crate::log_info!(
            "llama_perf_context_print: {what:>16} time = {ms:10.2} ms / {n:5.0} tokens \
             ({per_token:8.2} ms per token, {speed:8.2} tokens per second)"
        );
    };
    crate::log_info!("llama_perf_context_print: {:>16} time = {:10.2} ms", "load", p.t_load_ms);
    line("prompt eval", p.t_p_eval_ms, p.n_p_eval);
    line("eval", p.t_eval_ms, p.n_eval);
    let total = time_us() as f64 / 1000.0 - p.t_start_ms;
    let n = p.n_p_eval + p.n_eval;
    crate::log_info!(
        "llama_perf_context_print: {:>16} time = {total:10.2} ms / {n:5} tokens",
        "total"
    );
}

/// Begins counting anew.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_perf_context_reset(ctx: *mut llama_context) {
    // SAFETY: the module's contract.
    unsafe { with(ctx, (), "llama_perf_context_reset", |c| c.inner.reset_perf()) }
}
