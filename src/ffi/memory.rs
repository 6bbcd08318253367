//! The memory of a context: its KV cache. NULL is taken for an empty memory.

use core::ffi::c_int;

use super::context::{llama_context, with};
use super::types::{cbool, llama_memory_t, llama_pos, llama_seq_id};
use crate::api::{KvCache, MAX_SEQS};
use crate::log_error;

/// Runs `body` on a cache; NULL gives `fallback`.
///
/// # Safety
/// `mem` is NULL or the memory of a context that was not freed and that no other thread uses now.
unsafe fn with_kv<T: Copy>(
    mem: llama_memory_t,
    fallback: T,
    name: &str,
    body: impl FnOnce(&mut KvCache, usize) -> T,
) -> T {
    if mem.is_null() {
        return fallback;
    }
    let ctx: *mut llama_context = mem.cast();
    // SAFETY: the memory's pointer is its context's; the caller's promise.
    unsafe {
        with(ctx, fallback, name, |c| {
            let n_seq_max = c.inner.sizes().n_seq_max;
            body(c.inner.kv_mut(), n_seq_max)
        })
    }
}

/// A sequence number below `n`, or `None` with a line in the log.
fn seq(id: llama_seq_id, n: usize, name: &str) -> Option<usize> {
    let found = usize::try_from(id).ok().filter(|&s| s < n);
    if found.is_none() {
        log_error!("{name}: there is no sequence {id}, n_seq_max is {n}");
    }
    found
}

/// Positions as a range: negative ends stand for the start and the end.
fn range(p0: llama_pos, p1: llama_pos) -> (i32, i32) {
    (p0.max(0), if p1 < 0 { i32::MAX } else { p1 })
}

/// Forgets everything; with data also zeroes the buffers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_clear(mem: llama_memory_t, data: cbool) {
    // SAFETY: the module's contract.
    unsafe { with_kv(mem, (), "llama_memory_clear", |kv, _| kv.clear(data != 0)) }
}

/// Forgets positions p0 to before p1 of a sequence. Negative: seq_id any, p0 the start, p1 the
/// end. False when a part cannot be removed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_seq_rm(
    mem: llama_memory_t,
    seq_id: llama_seq_id,
    p0: llama_pos,
    p1: llama_pos,
) -> bool {
    const NAME: &str = "llama_memory_seq_rm";
    // SAFETY: the module's contract.
    unsafe {
        with_kv(mem, true, NAME, |kv, n| {
            let one = match seq_id {
                ..0 => None,
                // A number that is no sequence of this context has nothing to forget.
                id if (n..MAX_SEQS).contains(&(id as usize)) => return true,
                id => match seq(id, n, NAME) {
                    Some(s) => Some(s),
                    None => return false,
                },
            };
            let (p0, p1) = range(p0, p1);
            kv.seq_rm(one, p0, p1);
            true
        })
    }
}

/// Lets another sequence share positions p0 to before p1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_seq_cp(
    mem: llama_memory_t,
    seq_id_src: llama_seq_id,
    seq_id_dst: llama_seq_id,
    p0: llama_pos,
    p1: llama_pos,
) {
    const NAME: &str = "llama_memory_seq_cp";
    // SAFETY: the module's contract.
    unsafe {
        with_kv(mem, (), NAME, |kv, n| {
            let (Some(src), Some(dst)) = (seq(seq_id_src, n, NAME), seq(seq_id_dst, n, NAME))
            else {
                return;
            };
            let (p0, p1) = range(p0, p1);
            if src != dst && !kv.seq_cp(src, dst, p0, p1) {
                log_error!("{NAME}: sequence {dst} has no room for all of sequence {src}");
            }
        });
    }
}

/// Forgets all other sequences.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_seq_keep(mem: llama_memory_t, seq_id: llama_seq_id) {
    const NAME: &str = "llama_memory_seq_keep";
    // SAFETY: the module's contract.
    unsafe {
        with_kv(mem, (), NAME, |kv, n| {
            if let Some(s) = seq(seq_id, n, NAME) {
                kv.seq_keep(s);
            }
        });
    }
}

/// Moves positions p0 to before p1 of a sequence by delta.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_seq_add(
    mem: llama_memory_t,
    seq_id: llama_seq_id,
    p0: llama_pos,
    p1: llama_pos,
    delta: llama_pos,
) {
    const NAME: &str = "llama_memory_seq_add";
    // SAFETY: the module's contract.
    unsafe {
        with_kv(mem, (), NAME, |kv, n| {
            let (p0, p1) = range(p0, p1);
            if let (Some(s), true) = (seq(seq_id, n, NAME), delta != 0) {
                kv.seq_add(s, p0, p1, delta);
            }
        });
    }
}

/// Divides positions p0 to before p1 of a sequence by d.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_seq_div(
    mem: llama_memory_t,
    seq_id: llama_seq_id,
    p0: llama_pos,
    p1: llama_pos,
    d: c_int,
) {
    const NAME: &str = "llama_memory_seq_div";
    // SAFETY: the module's contract.
    unsafe {
        with_kv(mem, (), NAME, |kv, n| {
            if d <= 0 {
                log_error!("{NAME}: cannot divide positions by {d}");
                return;
            }
            let (p0, p1) = range(p0, p1);
            if let (Some(s), true) = (seq(seq_id, n, NAME), d > 1) {
                kv.seq_div(s, p0, p1, d);
            }
        });
    }
}

/// Smallest position of a sequence; -1 when it is empty.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_seq_pos_min(
    mem: llama_memory_t,
    seq_id: llama_seq_id,
) -> llama_pos {
    const NAME: &str = "llama_memory_seq_pos_min";
    // SAFETY: the module's contract.
    unsafe { with_kv(mem, -1, NAME, |kv, n| seq(seq_id, n, NAME).map_or(-1, |s| kv.pos_min(s))) }
}

/// Greatest position of a sequence; -1 when it is empty.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_seq_pos_max(
    mem: llama_memory_t,
    seq_id: llama_seq_id,
) -> llama_pos {
    const NAME: &str = "llama_memory_seq_pos_max";
    // SAFETY: the module's contract.
    unsafe { with_kv(mem, -1, NAME, |kv, n| seq(seq_id, n, NAME).map_or(-1, |s| kv.pos_max(s))) }
}

/// Whether positions can be moved: not when layers with a window keep less than the others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_memory_can_shift(mem: llama_memory_t) -> bool {
    // SAFETY: the module's contract.
    unsafe { with_kv(mem, false, "llama_memory_can_shift", |kv, _| kv.can_shift()) }
}
