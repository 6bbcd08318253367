//! Samplers: `llama_sampler_*` over `crate::sampler`.
//!
//! A `llama_sampler` is public, `{iface, ctx}`, and C programs make their own. So there are two
//! kinds behind one pointer: ours, whose `iface` is one of the static tables of [`kinds`] and whose
//! `ctx` is the Rust sampler in a box, and user-made ones, known only by their functions. The
//! address of the table tells them apart, and says what the box holds.
//!
//! Who owns a sampler: the caller, until `llama_sampler_chain_add` gives it to a chain;
//! `llama_sampler_chain_remove` gives it back. A sampler is used by one thread at a time, and not
//! from within its own functions.
//!
//! No table has device functions (`backend_*`), so sampling always runs on the host.

mod candidates;
mod chain;
mod grammar;
mod handle;
mod init;
mod kinds;
mod sample;

use core::ffi::{CStr, c_char};
use core::ptr;

pub use chain::*;
pub use grammar::*;
pub use init::*;
pub use sample::*;

use super::guard;
use super::types::{
    LLAMA_DEFAULT_SEED, llama_sampler, llama_sampler_context_t, llama_sampler_i, llama_token,
    llama_token_data_array,
};
use crate::log_error;

/// Name of a sampler that has no name of its own.
const NO_NAME: &CStr = c"(null)";

/// The functions of a sampler; `None` for NULL, and for a sampler without a table.
///
/// # Safety
/// `smpl` is NULL or a valid sampler.
unsafe fn iface(smpl: *const llama_sampler) -> Option<llama_sampler_i> {
    // SAFETY: both pointers are NULL or valid by the contract of this function.
    unsafe { smpl.as_ref()?.iface.as_ref().copied() }
}

/// Makes a sampler with the caller's functions. Both pointers must live as long as the sampler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_init(
    iface: *mut llama_sampler_i,
    ctx: llama_sampler_context_t,
) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_init", || {
        Box::into_raw(Box::new(llama_sampler { iface, ctx }))
    })
}

/// The sampler's name; "(null)" when it has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_name(smpl: *const llama_sampler) -> *const c_char {
    guard::call(NO_NAME.as_ptr(), "llama_sampler_name", || {
        // SAFETY: smpl is NULL or valid, and its functions are called with itself.
        let name = unsafe { iface(smpl).and_then(|i| i.name).map(|name| name(smpl)) };
        name.filter(|name| !name.is_null()).unwrap_or(NO_NAME.as_ptr())
    })
}

/// Tells the sampler which token was chosen. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_accept(smpl: *mut llama_sampler, token: llama_token) {
    guard::call((), "llama_sampler_accept", || {
        // SAFETY: smpl is NULL or valid, and its functions are called with itself.
        unsafe {
            if let Some(accept) = iface(smpl).and_then(|i| i.accept) {
                accept(smpl, token);
            }
        }
    });
}

/// Lets the sampler work on candidates: it may reorder, shorten and rescale the array in place,
/// and a selecting one sets `selected`. NULL is allowed for both.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_apply(
    smpl: *mut llama_sampler,
    cur_p: *mut llama_token_data_array,
) {
    if smpl.is_null() || cur_p.is_null() {
        return;
    }
    guard::call((), "llama_sampler_apply", || {
        // SAFETY: smpl is valid, its functions are called with itself, and cur_p is valid.
        unsafe {
            match iface(smpl).and_then(|i| i.apply) {
                Some(apply) => apply(smpl, cur_p),
                None => log_error!("llama_sampler_apply: the sampler has no apply function"),
            }
        }
    });
}

/// Returns the sampler to its start. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_reset(smpl: *mut llama_sampler) {
    guard::call((), "llama_sampler_reset", || {
        // SAFETY: smpl is NULL or valid, and its functions are called with itself.
        unsafe {
            if let Some(reset) = iface(smpl).and_then(|i| i.reset) {
                reset(smpl);
            }
        }
    });
}

/// An independent copy with the present state. NULL for NULL, and for a user-made sampler that has
/// data but no `clone` function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_clone(smpl: *const llama_sampler) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_clone", || {
        // SAFETY: smpl is NULL or valid.
        let Some(sampler) = (unsafe { smpl.as_ref() }) else { return ptr::null_mut() };
        // SAFETY: smpl is valid, and its functions are called with itself.
        match unsafe { iface(smpl).and_then(|i| i.clone) } {
            // SAFETY: as above.
            Some(clone) => unsafe { clone(smpl) },
            // SAFETY: the functions need no data, so two samplers can share them.
            None if sampler.ctx.is_null() => unsafe {
                llama_sampler_init(sampler.iface, ptr::null_mut())
            },
            None => {
                log_error!("llama_sampler_clone: the sampler has data but no clone function");
                ptr::null_mut()
            }
        }
    })
}

/// Copies the state of `src` into `dst`, which must be of the same kind with the same arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_copy(src: *const llama_sampler, dst: *mut llama_sampler) {
    if src.is_null() || dst.is_null() || ptr::eq(src, dst) {
        return;
    }
    // SAFETY: both samplers are valid and distinct.
    guard::call((), "llama_sampler_copy", || unsafe {
        if (*src).iface != (*dst).iface {
            return log_error!("llama_sampler_copy: the samplers are of different kinds");
        }
        let functions = iface(src);
        if let Some(copy_state) = functions.and_then(|i| i.copy_state) {
            copy_state(src, dst);
        } else if functions.is_some_and(|i| i.clone.is_some()) {
            // Without a function for it: the data of a clone, and the old data goes with the rest.
            let copy = llama_sampler_clone(src);
            if let Some(copy) = copy.as_mut() {
                core::mem::swap(&mut copy.ctx, &mut (*dst).ctx);
            }
            llama_sampler_free(copy);
        } else if !(*src).ctx.is_null() {
            log_error!("llama_sampler_copy: the sampler has neither copy_state nor clone");
        }
    });
}

/// Frees a sampler that no chain owns. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_free(smpl: *mut llama_sampler) {
    if smpl.is_null() {
        return;
    }
    // SAFETY: smpl is valid and not used after this; every sampler comes from llama_sampler_init.
    guard::call((), "llama_sampler_free", || unsafe {
        if let Some(free) = iface(smpl).and_then(|i| i.free) {
            free(smpl);
        }
        drop(Box::from_raw(smpl));
    });
}

/// The seed that selects tokens: of a dist or mirostat sampler, or the last one in a chain;
/// LLAMA_DEFAULT_SEED when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_get_seed(smpl: *const llama_sampler) -> u32 {
    guard::call(LLAMA_DEFAULT_SEED, "llama_sampler_get_seed", || {
        // SAFETY: smpl is NULL or valid.
        unsafe { kinds::builtin(smpl) }.and_then(|s| s.seed()).unwrap_or(LLAMA_DEFAULT_SEED)
    })
}
