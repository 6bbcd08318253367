//! Thread pools that a program makes. The engine has threads of its own: a pool here is the
//! wish for a number of threads, which a context follows when the pool is attached.

use core::ffi::c_int;
use core::ptr;

use crate::ffi::guard;
use crate::ffi::types::{GGML_MAX_N_THREADS, ggml_sched_priority, ggml_threadpool_params};
use crate::log_error;

/// A thread pool as a program sees it.
pub struct ggml_threadpool {
    params: ggml_threadpool_params,
}

impl ggml_threadpool {
    /// Threads that computing on this pool uses.
    pub(crate) fn n_threads(&self) -> i32 {
        self.params.n_threads
    }
}

fn default_params(n_threads: c_int) -> ggml_threadpool_params {
    ggml_threadpool_params {
        cpumask: [0; GGML_MAX_N_THREADS],
        n_threads,
        prio: ggml_sched_priority::GGML_SCHED_PRIO_NORMAL as c_int,
        poll: 50,
        strict_cpu: 0,
        paused: 0,
    }
}

/// Default settings for n_threads threads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_threadpool_params_default(
    n_threads: c_int,
) -> ggml_threadpool_params {
    default_params(n_threads)
}

/// Writes default settings for n_threads threads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_threadpool_params_init(
    p: *mut ggml_threadpool_params,
    n_threads: c_int,
) {
    if !p.is_null() {
        // SAFETY: the caller gives room for the settings, initialised or not.
        unsafe { p.write(default_params(n_threads)) };
    }
}

/// Whether two settings are the same; `paused` does not count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_threadpool_params_match(
    p0: *const ggml_threadpool_params,
    p1: *const ggml_threadpool_params,
) -> bool {
    // SAFETY: NULL or settings.
    let (Some(a), Some(b)) = (unsafe { (p0.as_ref(), p1.as_ref()) }) else { return false };
    let same_mask = a.cpumask.iter().zip(&b.cpumask).all(|(x, y)| (*x != 0) == (*y != 0));
    same_mask
        && a.n_threads == b.n_threads
        && a.prio == b.prio
        && a.poll == b.poll
        && (a.strict_cpu != 0) == (b.strict_cpu != 0)
}

/// Makes a thread pool; NULL when the number of threads is not 1 to 512.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_threadpool_new(
    params: *mut ggml_threadpool_params,
) -> *mut ggml_threadpool {
    guard::call(ptr::null_mut(), "ggml_threadpool_new", || {
        // SAFETY: NULL or settings.
        let Some(params) = (unsafe { params.as_ref() }) else { return ptr::null_mut() };
        if !(1..=GGML_MAX_N_THREADS as i32).contains(&params.n_threads) {
            log_error!("ggml_threadpool_new: {} threads, expected 1 to 512", params.n_threads);
            return ptr::null_mut();
        }
        Box::into_raw(Box::new(ggml_threadpool { params: *params }))
    })
}

/// Frees a thread pool, which no context may be attached to. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_threadpool_free(threadpool: *mut ggml_threadpool) {
    guard::call((), "ggml_threadpool_free", || {
        if !threadpool.is_null() {
            // SAFETY: a pool of ggml_threadpool_new, freed once.
            drop(unsafe { Box::from_raw(threadpool) });
        }
    });
}
