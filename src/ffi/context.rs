//! Contexts: making them, asking for their sizes, threads, callbacks.

use core::ffi::c_void;
use core::ptr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::load::{llama_model, model_ref};
use super::offload::mib;
use super::sampling::Sampling;
use super::types::{
    cbool, ggml_abort_callback, ggml_threadpool_t, llama_attention_type, llama_context_params,
    llama_context_type, llama_flash_attn_type, llama_memory_t, llama_pooling_type,
    llama_pooling_type_e, llama_rope_scaling_type,
};
use super::{eval, guard};
use crate::api::{Abort, Context, ContextParams, Pooling, RopeParams, RopeScaling};
use crate::quant::QuantType;
use crate::{log_error, log_info};

/// An inference context.
pub struct llama_context {
    pub(super) inner: Context,
    model: *const llama_model,
    pub(super) sampling: Sampling,
    pub(super) t_load_us: i64,
    /// A call panicked half-way: the state cannot be trusted any more.
    poisoned: bool,
    /// Own numbers of threads while pools of the caller are attached.
    own_threads: Option<(usize, usize)>,
}

/// What a context remembers; the same object, seen as its cache.
pub struct llama_memory_i(());

/// Runs `body` on a context. NULL and a poisoned context give `fallback` and a line in the log;
/// a panic poisons the context.
///
/// # Safety
/// `ctx` is NULL or a context that was not freed and that no other thread uses now.
pub(super) unsafe fn with<T>(
    ctx: *mut llama_context,
    fallback: T,
    name: &str,
    body: impl FnOnce(&mut llama_context) -> T,
) -> T {
    // SAFETY: the caller's promise.
    let Some(ctx) = (unsafe { ctx.as_mut() }) else {
        log_error!("{name}: the context is NULL");
        return fallback;
    };
    if ctx.poisoned {
        log_error!("{name}: the context is unusable after an internal error");
        return fallback;
    }
    match catch_unwind(AssertUnwindSafe(|| body(ctx))) {
        Ok(value) => value,
        Err(payload) => {
            ctx.poisoned = true;
            log_error!("{name}: internal error: {}", guard::message(&*payload));
            fallback
        }
    }
}

/// Asks the program's abort callback.
struct CallAbort {
    callback: unsafe extern "C" fn(data: *mut c_void) -> cbool,
    data: *mut c_void,
}

// SAFETY: the program lets the callback be called from the thread that computes.
unsafe impl Send for CallAbort {}
// SAFETY: as above; only one thread of a run calls it.
unsafe impl Sync for CallAbort {}

impl Abort for CallAbort {
    fn should_abort(&self) -> bool {
        // SAFETY: the program gave the function together with its data.
        unsafe { (self.callback)(self.data) != 0 }
    }
}

fn abort_of(callback: ggml_abort_callback, data: *mut c_void) -> Option<Box<dyn Abort>> {
    callback.map(|callback| Box::new(CallAbort { callback, data }) as Box<dyn Abort>)
}

/// Converts parameters; an error says which one is not possible.
fn convert(p: &llama_context_params) -> Result<ContextParams, String> {
    let unsupported = |what: &str| Err(format!("{what} is not supported yet"));
    if llama_context_type::try_from(p.ctx_type)
        != Ok(llama_context_type::LLAMA_CONTEXT_TYPE_DEFAULT)
    {
        return unsupported(&format!("context type {}", p.ctx_type));
    }
    let scaling = match llama_rope_scaling_type::try_from(p.rope_scaling_type) {
        Ok(llama_rope_scaling_type::LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED) => None,
        Ok(llama_rope_scaling_type::LLAMA_ROPE_SCALING_TYPE_NONE) => Some(RopeScaling::None),
        Ok(llama_rope_scaling_type::LLAMA_ROPE_SCALING_TYPE_LINEAR) => Some(RopeScaling::Linear),
        Ok(llama_rope_scaling_type::LLAMA_ROPE_SCALING_TYPE_YARN) => Some(RopeScaling::Yarn),
        _ => return unsupported(&format!("rope scaling type {}", p.rope_scaling_type)),
    };
    let pooling = match llama_pooling_type::try_from(p.pooling_type) {
        Ok(llama_pooling_type::LLAMA_POOLING_TYPE_UNSPECIFIED) => None,
        _ => match Pooling::from_id(p.pooling_type) {
            Some(pooling) => Some(pooling),
            None => return Err(format!("pooling type {} does not exist", p.pooling_type)),
        },
    };
    let causal = match llama_attention_type::try_from(p.attention_type) {
        Ok(llama_attention_type::LLAMA_ATTENTION_TYPE_UNSPECIFIED) => None,
        Ok(llama_attention_type::LLAMA_ATTENTION_TYPE_CAUSAL) => Some(true),
        Ok(llama_attention_type::LLAMA_ATTENTION_TYPE_NON_CAUSAL) => Some(false),
        Err(_) => return Err(format!("attention type {} does not exist", p.attention_type)),
    };
    if llama_flash_attn_type::try_from(p.flash_attn_type).is_err() {
        return Err(format!("flash attention type {} does not exist", p.flash_attn_type));
    }
    let cache_type = |name: &str, id: i32| {
        let ty = u32::try_from(id).ok().and_then(QuantType::from_id);
        ty.ok_or_else(|| format!("{name} = {id} is no tensor type"))
    };
    let (type_k, type_v) = (cache_type("type_k", p.type_k)?, cache_type("type_v", p.type_v)?);
    if p.flash_attn_type == llama_flash_attn_type::LLAMA_FLASH_ATTN_TYPE_DISABLED as i32
        && type_v.block_len() > 1
    {
        return Err(format!("a V cache of type {type_v} needs flash attention, which is disabled"));
    }
    let positive = |x: f32| (x > 0.0).then_some(x);
    let not_negative = |x: f32| (x >= 0.0).then_some(x);
    Ok(ContextParams {
        n_ctx: p.n_ctx,
        n_batch: p.n_batch,
        n_ubatch: p.n_ubatch,
        n_seq_max: p.n_seq_max,
        n_threads: n_threads(p.n_threads),
        n_threads_batch: n_threads(p.n_threads_batch),
        type_k,
        type_v,
        kv_unified: p.kv_unified != 0,
        swa_full: p.swa_full != 0,
        embeddings: p.embeddings != 0,
        pooling,
        causal,
        rope: RopeParams {
            scaling,
            freq_base: positive(p.rope_freq_base),
            freq_scale: positive(p.rope_freq_scale),
            yarn_ext_factor: not_negative(p.yarn_ext_factor),
            yarn_attn_factor: not_negative(p.yarn_attn_factor),
            yarn_beta_fast: not_negative(p.yarn_beta_fast),
            yarn_beta_slow: not_negative(p.yarn_beta_slow),
            yarn_orig_ctx: (p.yarn_orig_ctx > 0).then_some(p.yarn_orig_ctx as usize),
        },
        no_perf: p.no_perf != 0,
        offload_kqv: p.offload_kqv != 0,
        ..ContextParams::default()
    })
}

fn n_threads(n: i32) -> usize {
    usize::try_from(n).unwrap_or(0).clamp(1, 512)
}

/// Makes a context over a model; NULL when that fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_init_from_model(
    model: *mut llama_model,
    params: llama_context_params,
) -> *mut llama_context {
    const NAME: &str = "llama_init_from_model";
    guard::call(ptr::null_mut(), NAME, || {
        // SAFETY: the caller passes NULL or a model.
        let Some(handle) = (unsafe { model_ref(model) }) else {
            log_error!("{NAME}: the model is NULL");
            return ptr::null_mut();
        };
        let mut sampling = Sampling::new(params.n_outputs_max_per_seq);
        // SAFETY: the caller's array has n_samplers elements.
        let attached = unsafe { sampling.attach(params.samplers, params.n_samplers) };
        let made = attached
            .and_then(|()| convert(&params))
            .and_then(|params| handle.model.context(params).map_err(|e| e.to_string()))
            .and_then(|mut inner| {
                if let Some(observer) = eval::observer(params.cb_eval, params.cb_eval_user_data) {
                    inner.observe(observer).map_err(|e| e.to_string())?;
                }
                Ok(inner)
            });
        match made {
            Ok(mut inner) => {
                inner.set_abort(abort_of(params.abort_callback, params.abort_callback_data));
                let sizes = *inner.sizes();
                log_info!(
                    "{NAME}: n_ctx = {}, n_ctx_seq = {}, n_batch = {}, n_ubatch = {}, n_seq_max = {}",
                    sizes.n_ctx,
                    sizes.n_ctx_seq,
                    sizes.n_batch,
                    sizes.n_ubatch,
                    sizes.n_seq_max
                );
                if handle.model.card_budget().is_some() {
                    let memory = inner.memory_use();
                    let on_card = memory.card.map_or(0, |card| card.kv);
                    let (there, here) = (mib(on_card), mib(memory.kv));
                    log_info!(
                        "{NAME}: keys and values: {there:.1} MiB on the GPU, {here:.1} MiB in RAM"
                    );
                }
                Box::into_raw(Box::new(llama_context {
                    inner,
                    model,
                    sampling,
                    t_load_us: handle.t_load_us,
                    poisoned: false,
                    own_threads: None,
                }))
            }
            Err(error) => {
                log_error!("{NAME}: {error}");
                ptr::null_mut()
            }
        }
    })
}

/// Makes a context over a model; NULL when that fails.
#[deprecated(note = "use llama_init_from_model instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_new_context_with_model(
    model: *mut llama_model,
    params: llama_context_params,
) -> *mut llama_context {
    // SAFETY: the same contract.
    unsafe { llama_init_from_model(model, params) }
}

/// Frees a context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_free(ctx: *mut llama_context) {
    guard::call((), "llama_free", || {
        if !ctx.is_null() {
            // SAFETY: the caller gives back a context of ours that nobody uses any more.
            drop(unsafe { Box::from_raw(ctx) });
        }
    });
}

/// Context length in tokens, over all sequences.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_ctx(ctx: *const llama_context) -> u32 {
    // SAFETY: the module's contract; nothing is changed.
    unsafe { with(ctx.cast_mut(), 0, "llama_n_ctx", |c| c.inner.sizes().n_ctx as u32) }
}

/// Context length of one sequence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_ctx_seq(ctx: *const llama_context) -> u32 {
    // SAFETY: the module's contract; nothing is changed.
    unsafe { with(ctx.cast_mut(), 0, "llama_n_ctx_seq", |c| c.inner.sizes().n_ctx_seq as u32) }
}

/// Most tokens in a call of llama_decode.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_batch(ctx: *const llama_context) -> u32 {
    // SAFETY: the module's contract; nothing is changed.
    unsafe { with(ctx.cast_mut(), 0, "llama_n_batch", |c| c.inner.sizes().n_batch as u32) }
}

/// Most tokens that are computed at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_ubatch(ctx: *const llama_context) -> u32 {
    // SAFETY: the module's contract; nothing is changed.
    unsafe { with(ctx.cast_mut(), 0, "llama_n_ubatch", |c| c.inner.sizes().n_ubatch as u32) }
}

/// Most sequences.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_seq_max(ctx: *const llama_context) -> u32 {
    // SAFETY: the module's contract; nothing is changed.
    unsafe { with(ctx.cast_mut(), 0, "llama_n_seq_max", |c| c.inner.sizes().n_seq_max as u32) }
}

/// Snapshots of recurrent state that each sequence keeps: none, no recurrent model runs here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_rs_seq(ctx: *const llama_context) -> u32 {
    // SAFETY: the module's contract; nothing is changed.
    unsafe { with(ctx.cast_mut(), 0, "llama_n_rs_seq", |_| 0) }
}

/// The model of a context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_model(ctx: *const llama_context) -> *const llama_model {
    // SAFETY: the module's contract; nothing is changed.
    unsafe { with(ctx.cast_mut(), ptr::null(), "llama_get_model", |c| c.model) }
}

/// The memory of a context; NULL when it has none, as with encoders.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_memory(ctx: *const llama_context) -> llama_memory_t {
    // SAFETY: the module's contract; nothing is changed.
    let has_memory =
        unsafe { with(ctx.cast_mut(), false, "llama_get_memory", |c| c.inner.has_memory()) };
    if has_memory { ctx.cast_mut().cast() } else { ptr::null_mut() }
}

/// How embeddings are pooled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_pooling_type(ctx: *const llama_context) -> llama_pooling_type_e {
    // SAFETY: the module's contract; nothing is changed.
    unsafe { with(ctx.cast_mut(), -1, "llama_pooling_type", |c| c.inner.pooling() as i32) }
}

/// Sets the numbers of threads for one token and for several, from the next call on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_n_threads(
    ctx: *mut llama_context,
    n_threads: i32,
    n_threads_batch: i32,
) {
    let (single, batch) = (self::n_threads(n_threads), self::n_threads(n_threads_batch));
    // SAFETY: the module's contract.
    unsafe { with(ctx, (), "llama_set_n_threads", |c| c.inner.set_n_threads(single, batch)) }
}

/// Threads for one token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_threads(ctx: *mut llama_context) -> i32 {
    // SAFETY: the module's contract.
    unsafe { with(ctx, -1, "llama_n_threads", |c| c.inner.n_threads().0 as i32) }
}

/// Threads for several tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_n_threads_batch(ctx: *mut llama_context) -> i32 {
    // SAFETY: the module's contract.
    unsafe { with(ctx, -1, "llama_n_threads_batch", |c| c.inner.n_threads().1 as i32) }
}

/// Computes with as many threads as the caller's pools have; NULL for the second means the first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_attach_threadpool(
    ctx: *mut llama_context,
    threadpool: ggml_threadpool_t,
    threadpool_batch: ggml_threadpool_t,
) {
    // SAFETY: the module's contract, and the pools are NULL or of ggml_threadpool_new.
    unsafe {
        with(ctx, (), "llama_attach_threadpool", |c| {
            let Some(single) = threadpool.as_ref() else {
                log_error!("llama_attach_threadpool: the thread pool is NULL");
                return;
            };
            let batch = threadpool_batch.as_ref().unwrap_or(single);
            c.own_threads.get_or_insert(c.inner.n_threads());
            c.inner.set_n_threads(n_threads(single.n_threads()), n_threads(batch.n_threads()));
        });
    }
}

/// Returns to the context's own numbers of threads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_detach_threadpool(ctx: *mut llama_context) {
    // SAFETY: the module's contract.
    unsafe {
        with(ctx, (), "llama_detach_threadpool", |c| {
            if let Some((single, batch)) = c.own_threads.take() {
                c.inner.set_n_threads(single, batch);
            }
        });
    }
}

/// Sets whether embeddings are given too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_embeddings(ctx: *mut llama_context, embeddings: cbool) {
    // SAFETY: the module's contract.
    unsafe { with(ctx, (), "llama_set_embeddings", |c| c.inner.set_embeddings(embeddings != 0)) }
}

/// Sets whether tokens see only earlier ones.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_causal_attn(ctx: *mut llama_context, causal_attn: cbool) {
    // SAFETY: the module's contract.
    unsafe { with(ctx, (), "llama_set_causal_attn", |c| c.inner.set_causal(causal_attn != 0)) }
}

/// Whether tokens see only earlier ones.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_causal_attn(ctx: *const llama_context) -> bool {
    // SAFETY: the module's contract; nothing is changed.
    unsafe { with(ctx.cast_mut(), false, "llama_get_causal_attn", |c| c.inner.causal()) }
}

/// Does nothing: there is no warm-up run that computes differently.
#[deprecated(note = "warm-up needs no mode")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_warmup(_ctx: *mut llama_context, _warmup: cbool) {}

/// Sets who is asked during computation whether to stop; NULL for nobody.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_abort_callback(
    ctx: *mut llama_context,
    abort_callback: ggml_abort_callback,
    abort_callback_data: *mut c_void,
) {
    // SAFETY: the module's contract.
    unsafe {
        with(ctx, (), "llama_set_abort_callback", |c| {
            c.inner.set_abort(abort_of(abort_callback, abort_callback_data));
        });
    }
}

/// Waits for the device: the CPU has always finished.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_synchronize(_ctx: *mut llama_context) {}
