//! Not there yet: samplers.

use core::ffi::c_char;

use super::unimplemented;
use crate::ffi::types::{llama_sampler, llama_vocab};

/// Penalises repeated sequences.
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
    unimplemented("llama_sampler_init_dry", core::ptr::null_mut())
}

/// Sampler for fill-in-the-middle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init_infill(
    vocab: *const llama_vocab,
) -> *mut llama_sampler {
    unimplemented("llama_sampler_init_infill", core::ptr::null_mut())
}
