//! Makers of our samplers. Every one is owned by the caller until it is added to a chain. Arguments
//! that turn a sampler off give one that does nothing, with a `?` before its name; NULL means an
//! error.

use core::ffi::{CStr, c_char};
use core::ptr;

use super::kinds::into_handle;
use crate::ffi::guard;
use crate::ffi::strings::{array, c_str};
use crate::ffi::types::{llama_logit_bias, llama_sampler};
use crate::ffi::vocab::{llama_vocab, vocab_ref};
use crate::log_error;
use crate::sampler::{
    AdaptiveP, Breakers, Dist, Dry, Greedy, Infill, LogitBias, MinP, Mirostat, MirostatV2,
    Penalties, Temp, TempExt, TopK, TopNSigma, TopP, Typical, Xtc,
};

/// Chooses the most likely token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_greedy() -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_init_greedy", || into_handle(Greedy::new()))
}

/// Draws a token by its probability. LLAMA_DEFAULT_SEED takes a random seed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_dist(seed: u32) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_init_dist", || into_handle(Dist::new(seed)))
}

/// Keeps the k best; `k <= 0` turns it off.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_top_k(k: i32) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_init_top_k", || into_handle(TopK::new(k)))
}

/// Keeps the best up to probability p, and at least `min_keep`; `p >= 1` turns it off.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_top_p(p: f32, min_keep: usize) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_init_top_p", || into_handle(TopP::new(p, min_keep)))
}

/// Keeps those with at least p times the best probability, and at least `min_keep`; `p <= 0` turns
/// it off.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_min_p(p: f32, min_keep: usize) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_init_min_p", || into_handle(MinP::new(p, min_keep)))
}

/// Keeps the most typical up to probability p, and at least `min_keep`; `p >= 1` turns it off.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_typical(p: f32, min_keep: usize) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_init_typical", || {
        into_handle(Typical::new(p, min_keep))
    })
}

/// Divides logits by t; `t <= 0` leaves only the best, 1 turns it off.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_temp(t: f32) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_init_temp", || into_handle(Temp::new(t)))
}

/// Divides logits by a temperature between `t - delta` and `t + delta` that rises with the entropy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_temp_ext(
    t: f32,
    delta: f32,
    exponent: f32,
) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_init_temp_ext", || {
        into_handle(TempExt::new(t, delta, exponent))
    })
}

/// With chance p drops all but the last of the tokens with probability t or more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_xtc(
    p: f32,
    t: f32,
    min_keep: usize,
    seed: u32,
) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_init_xtc", || {
        into_handle(Xtc::new(p, t, min_keep, seed))
    })
}

/// Silences what lies more than n standard deviations below the best logit; `n <= 0` turns it off.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_top_n_sigma(n: f32) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_init_top_n_sigma", || {
        into_handle(TopNSigma::new(n))
    })
}

/// Mirostat 1: holds the surprise of the text at tau bits, learning at rate eta; m tokens go into
/// the estimate.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_mirostat(
    n_vocab: i32,
    seed: u32,
    tau: f32,
    eta: f32,
    m: i32,
) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_init_mirostat", || {
        into_handle(Mirostat::new(n_vocab, seed, tau, eta, m))
    })
}

/// Mirostat 2: the same without an estimate.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_mirostat_v2(
    seed: u32,
    tau: f32,
    eta: f32,
) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_init_mirostat_v2", || {
        into_handle(MirostatV2::new(seed, tau, eta))
    })
}

/// Lowers the logits of the last n tokens. `n_vocab` is for sampling on a device, which the host
/// does not need.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_penalties(
    n_vocab: i32,
    penalty_last_n: i32,
    penalty_repeat: f32,
    penalty_freq: f32,
    penalty_present: f32,
) -> *mut llama_sampler {
    let _ = n_vocab;
    guard::call(ptr::null_mut(), "llama_sampler_init_penalties", || {
        into_handle(Penalties::new(penalty_last_n, penalty_repeat, penalty_freq, penalty_present))
    })
}

/// Lowers tokens that would go on with a repetition of more than `dry_allowed_length` tokens, by
/// `dry_multiplier * dry_base^excess`. The texts in `seq_breakers` end a repetition. A multiplier
/// of 0, a base below 1 or `dry_penalty_last_n <= 0` turn it off. NULL when there are breakers but
/// no vocabulary to find them in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_dry(
    vocab: *const llama_vocab,
    dry_multiplier: f32,
    dry_base: f32,
    dry_allowed_length: i32,
    dry_penalty_last_n: i32,
    seq_breakers: *mut *const c_char,
    num_breakers: usize,
) -> *mut llama_sampler {
    const NAME: &str = "llama_sampler_init_dry";
    guard::call(ptr::null_mut(), NAME, || {
        let make = |breakers| {
            let (allowed, last_n) = (dry_allowed_length, dry_penalty_last_n);
            into_handle(Dry::new(dry_multiplier, dry_base, allowed, last_n, breakers))
        };
        if Dry::is_off_with(dry_multiplier, dry_base, dry_penalty_last_n) {
            return make(Breakers::default());
        }
        // SAFETY: NULL or num_breakers texts, each NULL or terminated.
        let texts: Vec<&[u8]> = unsafe { array(seq_breakers, num_breakers) }
            .iter()
            .map(|text| unsafe { c_str(*text) }.map_or(&[][..], CStr::to_bytes))
            .collect();
        // SAFETY: NULL or a vocabulary whose model lives during this call.
        let found = match unsafe { vocab_ref(vocab) } {
            _ if texts.is_empty() => Ok(Breakers::default()),
            Some(vocab) => Breakers::find(vocab, &texts).map_err(|error| error.to_string()),
            None => Err("the vocabulary is NULL".to_owned()),
        };
        found.map_or_else(
            |error| {
                log_error!("{NAME}: {error}");
                ptr::null_mut()
            },
            make,
        )
    })
}

/// Chooses what fills a gap in a text; to be used after top-k and top-p. The model must live as
/// long as the sampler. NULL without a vocabulary.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_infill(
    vocab: *const llama_vocab,
) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_init_infill", || {
        // SAFETY: NULL or a vocabulary whose model outlives the sampler.
        match unsafe { vocab_ref::<'static>(vocab) } {
            Some(vocab) => into_handle(Infill::new(vocab)),
            None => {
                log_error!("llama_sampler_init_infill: the vocabulary is NULL");
                ptr::null_mut()
            }
        }
    })
}

/// Chooses tokens whose probability is near a target.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_adaptive_p(
    target: f32,
    decay: f32,
    seed: u32,
) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_init_adaptive_p", || {
        into_handle(AdaptiveP::new(target, decay, seed))
    })
}

/// Adds to the logits of given tokens; an empty list turns it off. NULL for a list without memory.
/// `n_vocab` is for sampling on a device, which the host does not need.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_logit_bias(
    n_vocab: i32,
    n_logit_bias: i32,
    logit_bias: *const llama_logit_bias,
) -> *mut llama_sampler {
    let _ = n_vocab;
    guard::call(ptr::null_mut(), "llama_sampler_init_logit_bias", || {
        let n = usize::try_from(n_logit_bias).unwrap_or(0);
        if n > 0 && (logit_bias.is_null() || !logit_bias.is_aligned()) {
            log_error!("llama_sampler_init_logit_bias: {n} biases at {logit_bias:?}");
            return ptr::null_mut();
        }
        let biases = match n {
            0 => Vec::new(),
            // SAFETY: not NULL, aligned, and valid for n entries by the function's contract.
            n => unsafe { core::slice::from_raw_parts(logit_bias, n) }
                .iter()
                .map(|entry| (entry.token, entry.bias))
                .collect(),
        };
        into_handle(LogitBias::new(biases))
    })
}
