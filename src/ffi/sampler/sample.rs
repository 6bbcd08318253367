//! From the outputs of a context to a token.

use core::mem;

use super::chain::CChain;
use super::{candidates, kinds, llama_sampler_accept, llama_sampler_apply};
use crate::ffi::context::{llama_context, with};
use crate::ffi::guard;
use crate::ffi::sampling;
use crate::ffi::types::{LLAMA_TOKEN_NULL, llama_sampler, llama_token};
use crate::log_error;
use crate::sampler::{Candidates, TokenData};

/// Lets a sampler work on candidates in any order; what `read` gives of those it left.
///
/// # Safety
/// `smpl` is a valid sampler that this call alone uses.
pub(in crate::ffi) unsafe fn apply_to<T>(
    smpl: *mut llama_sampler,
    data: &mut [TokenData],
    read: impl FnOnce(&Candidates<'_>) -> T,
) -> Option<T> {
    let mut array = candidates::to_c(&mut Candidates::new(data));
    // SAFETY: smpl is valid; the array describes the data, which nothing else uses.
    unsafe {
        llama_sampler_apply(smpl, &mut array);
        candidates::from_c(&array).map(|left| read(&left))
    }
}

const NAME: &str = "llama_sampler_sample";

/// Chooses a token by the logits of token `idx` of the last batch (of row `idx` from the end when
/// negative) and accepts it. LLAMA_TOKEN_NULL, with nothing accepted, when there are no such
/// logits or the sampler selects none, as a chain without a selecting sampler at its end does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_sample(
    smpl: *mut llama_sampler,
    ctx: *mut llama_context,
    idx: i32,
) -> llama_token {
    guard::call(LLAMA_TOKEN_NULL, NAME, || {
        if smpl.is_null() {
            log_error!("{NAME}: the sampler is NULL");
            return LLAMA_TOKEN_NULL;
        }
        // A chain keeps the buffer from token to token.
        // SAFETY: smpl is valid, and used by this call alone.
        let kept = unsafe { kinds::get_mut::<CChain>(smpl) };
        let mut buffer = kept.map_or(Vec::new(), |chain| mem::take(&mut chain.buffer));
        // SAFETY: smpl is valid; ctx is NULL or valid; this call alone uses both.
        let chosen = unsafe { choose(smpl, ctx, idx, &mut buffer) };
        if let Some(token) = chosen {
            // SAFETY: smpl is valid.
            unsafe { llama_sampler_accept(smpl, token) };
        }
        // SAFETY: smpl is valid, and used by this call alone.
        if let Some(chain) = unsafe { kinds::get_mut::<CChain>(smpl) } {
            chain.buffer = buffer;
        }
        chosen.unwrap_or(LLAMA_TOKEN_NULL)
    })
}

/// The token that a chain inside of the context took, or else that the sampler selects by the
/// logits, which `buffer` is used for. `None` with a line in the log when there is none.
///
/// # Safety
/// `smpl` is valid, `ctx` is NULL or valid, and this call alone uses them.
unsafe fn choose(
    smpl: *mut llama_sampler,
    ctx: *mut llama_context,
    idx: i32,
    buffer: &mut Vec<TokenData>,
) -> Option<llama_token> {
    // A user's sampler may ask the context for things, so it is let go before sampling starts.
    // SAFETY: by contract.
    let taken = unsafe {
        with(ctx, None, NAME, |ctx| {
            let taken = sampling::token(ctx, idx);
            if taken.is_none() {
                let Some(logits) = ctx.inner.outputs().logits_ith(idx) else {
                    log_error!("{NAME}: token {idx} of the last batch has no logits");
                    return None;
                };
                Candidates::from_logits(buffer, logits);
            }
            Some(taken)
        })
    }?;
    if taken.is_some() {
        return taken;
    }
    // SAFETY: by contract.
    let selected = unsafe { apply_to(smpl, buffer, |c| c.selected_token()) }.flatten();
    if selected.is_none() {
        log_error!("{NAME}: the sampler selected no token");
    }
    selected
}
