//! The classic batch: arrays that the caller fills. They are allocated with `malloc`, because
//! programs replace and free single arrays themselves.

use core::ffi::c_void;
use core::ptr;

use super::guard;
use super::types::{llama_batch, llama_pos, llama_seq_id, llama_token};
use crate::log_error;
use crate::util::sys;

const EMPTY: llama_batch = llama_batch {
    n_tokens: 0,
    token: ptr::null_mut(),
    embd: ptr::null_mut(),
    pos: ptr::null_mut(),
    n_seq_id: ptr::null_mut(),
    seq_id: ptr::null_mut(),
    logits: ptr::null_mut(),
};

/// A batch around the caller's tokens for sequence 0, continuing where it ends; owns nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_get_one(
    tokens: *mut llama_token,
    n_tokens: i32,
) -> llama_batch {
    llama_batch { n_tokens, token: tokens, ..EMPTY }
}

/// Room for `n` values from the C heap, at least one; NULL when there is none.
fn allocate<T>(n: usize) -> *mut T {
    let Some(bytes) = n.max(1).checked_mul(size_of::<T>()) else { return ptr::null_mut() };
    // SAFETY: malloc with a size that is not zero.
    unsafe { libc::malloc(bytes) }.cast()
}

/// Allocates a batch for n_tokens tokens, or embeddings of width embd when that is not 0, with up
/// to n_seq_max sequences each. The arrays are not initialised. All NULL when memory is short, and
/// when they would not fit into all memory of the machine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_init(n_tokens: i32, embd: i32, n_seq_max: i32) -> llama_batch {
    guard::call(EMPTY, "llama_batch_init", || {
        let batch = try_allocate(n_tokens, embd, n_seq_max);
        batch.unwrap_or_else(|| {
            log_error!(
                "llama_batch_init: cannot allocate {n_tokens} tokens of width {embd} with \
                 {n_seq_max} sequences"
            );
            EMPTY
        })
    })
}

/// Bytes of the arrays of a batch; `None` when no number holds them.
fn n_bytes(n_tokens: usize, width: usize, n_seq: usize) -> Option<usize> {
    /// What the heap takes for a list beside its values.
    const HEAP: usize = 16;
    let list = n_seq.checked_mul(size_of::<llama_seq_id>())?.checked_add(HEAP)?;
    let input = width.max(1).checked_mul(size_of::<f32>())?;
    let other = size_of::<llama_pos>() + size_of::<i32>() + size_of::<*mut llama_seq_id>() + 1;
    n_tokens.checked_mul(list.checked_add(input)?.checked_add(other)?)
}

fn try_allocate(n_tokens: i32, embd: i32, n_seq_max: i32) -> Option<llama_batch> {
    let n = usize::try_from(n_tokens).ok()?;
    let width = usize::try_from(embd).ok()?;
    let n_seq = usize::try_from(n_seq_max).ok()?;
    // The system gives more than it has, and takes the program away when it is used.
    let (_, memory) = sys::host_memory();
    if memory > 0 && n_bytes(n, width, n_seq)? > memory {
        return None;
    }
    let mut batch = llama_batch {
        n_tokens: 0,
        token: if width == 0 { allocate(n) } else { ptr::null_mut() },
        embd: if width > 0 { allocate(n.checked_mul(width)?) } else { ptr::null_mut() },
        pos: allocate(n),
        n_seq_id: allocate(n),
        seq_id: allocate(n.checked_add(1)?),
        logits: allocate(n),
    };
    let input = if width == 0 { batch.token.cast() } else { batch.embd.cast::<c_void>() };
    let arrays = [input, batch.pos.cast(), batch.n_seq_id.cast(), batch.logits.cast()];
    let mut complete = arrays.iter().all(|array| !array.is_null());
    if !batch.seq_id.is_null() {
        let mut filled = 0;
        while complete && filled < n {
            let list: *mut llama_seq_id = allocate(n_seq);
            complete = !list.is_null();
            if complete {
                // SAFETY: seq_id has n + 1 places.
                unsafe { *batch.seq_id.add(filled) = list };
                filled += 1;
            }
        }
        // The end of the list, by which llama_batch_free finds it.
        // SAFETY: as above; filled <= n.
        unsafe { *batch.seq_id.add(filled) = ptr::null_mut() };
    }
    if complete && !batch.seq_id.is_null() {
        return Some(batch);
    }
    // SAFETY: made right here, and its lists end with NULL.
    unsafe { release(&mut batch) };
    None
}

/// Frees a batch that llama_batch_init made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_free(batch: llama_batch) {
    let mut batch = batch;
    // SAFETY: the caller passes a batch of llama_batch_init.
    guard::call((), "llama_batch_free", || unsafe { release(&mut batch) });
}

/// # Safety
/// The arrays are NULL or come from `malloc`, and the list of sequence lists ends with NULL.
unsafe fn release(batch: &mut llama_batch) {
    // SAFETY: the caller's promise; free takes NULL.
    unsafe {
        libc::free(batch.token.cast());
        libc::free(batch.embd.cast());
        libc::free(batch.pos.cast());
        libc::free(batch.n_seq_id.cast());
        if !batch.seq_id.is_null() {
            let mut list = batch.seq_id;
            while !(*list).is_null() {
                libc::free((*list).cast());
                list = list.add(1);
            }
            libc::free(batch.seq_id.cast());
        }
        libc::free(batch.logits.cast());
    }
    *batch = EMPTY;
}
