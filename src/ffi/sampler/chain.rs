//! Chains, and their counters.

use core::ptr;

use super::handle::Handle;
use super::kinds::{self, Kind};
use crate::ffi::guard;
use crate::ffi::types::{
    llama_perf_sampler_data, llama_sampler, llama_sampler_chain_params, llama_sampler_i,
};
use crate::sampler::Chain;
use crate::{log_error, log_info};

/// A chain as C holds it.
pub(super) type CChain = Chain<Handle>;

impl Kind for CChain {
    fn table() -> &'static llama_sampler_i {
        static TABLE: llama_sampler_i = kinds::table::<CChain>();
        &TABLE
    }

    fn is_whole(&self) -> bool {
        self.samplers().iter().all(|link| !link.as_ptr().is_null())
    }

    /// Link by link: the samplers stay the same ones, for C may hold pointers to them.
    fn copy_state(&mut self, from: &Self) {
        let (to, from) = (self.samplers(), from.samplers());
        if to.len() != from.len() {
            return log_error!("llama_sampler_copy: {} into {} samplers", from.len(), to.len());
        }
        for (to, from) in to.iter().zip(from) {
            // SAFETY: both chains own valid samplers, and a sampler has one owner.
            unsafe { super::llama_sampler_copy(from.as_ptr(), to.as_ptr()) };
        }
    }
}

/// Whether the last sampler of a chain takes a token, as all users' samplers are believed to;
/// `None` for anything but a chain.
///
/// # Safety
/// `smpl` is NULL or a valid sampler, which nothing changes during the call.
pub(in crate::ffi) unsafe fn chooses(smpl: *const llama_sampler) -> Option<bool> {
    // SAFETY: by contract, and a chain's samplers are valid.
    unsafe {
        let links = kinds::get::<CChain>(smpl)?.samplers();
        Some(links.last().is_some_and(|last| kinds::chooses(last.as_ptr())))
    }
}

/// Makes an empty chain.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_chain_init(
    params: llama_sampler_chain_params,
) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_chain_init", || {
        kinds::into_handle(CChain::new(params.no_perf != 0))
    })
}

/// Adds a sampler at the end of a chain, which now owns it. What cannot be added (NULL, the chain
/// itself, a sampler that is in it already) is not, and stays with the caller.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_chain_add(
    chain: *mut llama_sampler,
    smpl: *mut llama_sampler,
) {
    guard::call((), "llama_sampler_chain_add", || {
        // SAFETY: chain is NULL or valid, and used by this call alone.
        let Some(links) = (unsafe { kinds::get_mut::<CChain>(chain) }) else {
            return log_error!("llama_sampler_chain_add: not a chain");
        };
        let known = links.samplers().iter().any(|link| link.as_ptr() == smpl);
        if smpl.is_null() || smpl == chain || known {
            return log_error!("llama_sampler_chain_add: NULL, the chain itself or added before");
        }
        // SAFETY: a valid sampler, which the caller gives away.
        links.push(unsafe { Handle::new(smpl) });
    });
}

/// The i-th sampler, which the chain goes on owning; -1 is the chain itself. NULL when there is
/// none, or when this is no chain.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_chain_get(
    chain: *mut llama_sampler,
    i: i32,
) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_chain_get", || {
        // SAFETY: chain is NULL or valid.
        let Some(links) = (unsafe { kinds::get::<CChain>(chain) }) else {
            return ptr::null_mut();
        };
        if i == -1 {
            return chain;
        }
        let link = usize::try_from(i).ok().and_then(|i| links.samplers().get(i));
        link.map_or(ptr::null_mut(), Handle::as_ptr)
    })
}

/// Number of samplers in a chain; 0 for anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_chain_n(chain: *const llama_sampler) -> i32 {
    guard::call(0, "llama_sampler_chain_n", || {
        // SAFETY: chain is NULL or valid.
        let n = unsafe { kinds::get::<CChain>(chain) }.map_or(0, |links| links.samplers().len());
        i32::try_from(n).unwrap_or(i32::MAX)
    })
}

/// Takes the i-th sampler out of a chain and gives it to the caller; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_chain_remove(
    chain: *mut llama_sampler,
    i: i32,
) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "llama_sampler_chain_remove", || {
        // SAFETY: chain is NULL or valid, and used by this call alone.
        let links = unsafe { kinds::get_mut::<CChain>(chain) };
        let link = links.zip(usize::try_from(i).ok()).and_then(|(links, i)| links.remove(i));
        link.map_or(ptr::null_mut(), Handle::into_raw)
    })
}

/// Time (milliseconds) that a chain took, and the tokens that it accepted. Zeros for anything that
/// is no chain.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_perf_sampler(
    chain: *const llama_sampler,
) -> llama_perf_sampler_data {
    let none = llama_perf_sampler_data { t_sample_ms: 0.0, n_sample: 0 };
    guard::call(none, "llama_perf_sampler", || {
        // SAFETY: chain is NULL or valid.
        let Some(links) = (unsafe { kinds::get::<CChain>(chain) }) else {
            log_error!("llama_perf_sampler: not a chain");
            return none;
        };
        let perf = links.perf();
        // Exact below 2^53 microseconds, 285 years.
        let t_sample_ms = perf.sample_us as f64 / 1000.0;
        llama_perf_sampler_data { t_sample_ms, n_sample: perf.n_sample }
    })
}

/// Logs what [`llama_perf_sampler`] returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_perf_sampler_print(chain: *const llama_sampler) {
    // SAFETY: chain is NULL or valid.
    let perf = unsafe { llama_perf_sampler(chain) };
    guard::call((), "llama_perf_sampler_print", || {
        let (ms, n) = (perf.t_sample_ms, perf.n_sample);
        log_info!("llama_perf_sampler_print:    samplers time = {ms:10.2} ms / {n:5} runs");
    });
}

/// Sets time and count to zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_perf_sampler_reset(chain: *mut llama_sampler) {
    guard::call((), "llama_perf_sampler_reset", || {
        // SAFETY: chain is NULL or valid, and used by this call alone.
        match unsafe { kinds::get_mut::<CChain>(chain) } {
            Some(links) => links.perf_reset(),
            None => log_error!("llama_perf_sampler_reset: not a chain"),
        }
    });
}
