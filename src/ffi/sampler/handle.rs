//! A sampler of C, ours or user-made, as a link of a chain.

use core::ffi::CStr;
use core::ptr;

use super::{candidates, iface, kinds};
use crate::ffi::types::llama_sampler;
use crate::sampler::{Candidates, Sampler, Token};

/// Owns a `llama_sampler` and frees it.
pub(super) struct Handle(*mut llama_sampler);

// SAFETY: llama.h's contract is that a sampler is used by one thread at a time, not by which one.
unsafe impl Send for Handle {}

impl Handle {
    /// Takes ownership.
    ///
    /// # Safety
    /// `smpl` is a valid sampler that nothing else owns.
    pub(super) unsafe fn new(smpl: *mut llama_sampler) -> Self {
        Self(smpl)
    }

    /// The pointer, which the handle goes on owning.
    pub(super) fn as_ptr(&self) -> *mut llama_sampler {
        self.0
    }

    /// Gives the sampler back to C.
    pub(super) fn into_raw(mut self) -> *mut llama_sampler {
        core::mem::replace(&mut self.0, ptr::null_mut())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: NULL, or a sampler that only this handle owns.
        unsafe { super::llama_sampler_free(self.0) };
    }
}

impl Clone for Handle {
    /// Holds NULL when the sampler cannot be copied.
    fn clone(&self) -> Self {
        // SAFETY: the sampler is valid; a clone belongs to who asks for it.
        unsafe { Self(super::llama_sampler_clone(self.0)) }
    }
}

impl Sampler for Handle {
    fn name(&self) -> &CStr {
        // SAFETY: the sampler is valid, and its name lives as long as it.
        unsafe { CStr::from_ptr(super::llama_sampler_name(self.0)) }
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>) {
        // SAFETY: the sampler is valid.
        if unsafe { iface(self.0) }.is_none_or(|i| i.apply.is_none()) {
            return; // a chain passes over a sampler that only takes note of tokens
        }
        let mut array = candidates::to_c(candidates);
        // SAFETY: the array describes exclusive memory; a user's function may put other memory
        // in its place, which then is theirs to keep alive while the chain works.
        unsafe {
            super::llama_sampler_apply(self.0, &mut array);
            if let Some(edited) = candidates::from_c(&array) {
                *candidates = edited;
            }
        }
    }

    fn accept(&mut self, token: Token) {
        // SAFETY: the sampler is valid.
        unsafe { super::llama_sampler_accept(self.0, token) };
    }

    fn reset(&mut self) {
        // SAFETY: the sampler is valid.
        unsafe { super::llama_sampler_reset(self.0) };
    }

    fn seed(&self) -> Option<u32> {
        // SAFETY: the sampler is valid.
        unsafe { kinds::builtin(self.0) }?.seed()
    }
}
