//! States: what a context remembers, whole or of one sequence, in memory and in files.
//!
//! Sequence -1 stands for all of them, but not in files. Outputs of the last batch and samplers are not part of a
//! state: decode the last token again after restoring one.

use core::ffi::c_char;
use core::ptr;
use std::io::{self, Write};
use std::path::Path;

use super::context::{llama_context, with};
use super::load::c_path;
use super::strings::{array, c_str};
use super::types::{llama_seq_id, llama_state_seq_flags, llama_token};
use crate::api::{PREFIX_BYTES, StateError, StateScope, claimed_len, count_tokens};
use crate::log_error;

// The header defines these.
const PARTIAL_ONLY: llama_state_seq_flags = 1;
const ON_DEVICE: llama_state_seq_flags = 2;

/// The caller's buffer, of which only the first `left` bytes may be written, and none is read.
struct Buffer {
    at: *mut u8,
    left: usize,
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.left);
        // SAFETY: the caller's buffer has `left` bytes at `at` (try_get), and is not ours.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.at, n);
            self.at = self.at.add(n);
        }
        self.left -= n;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sequence's state with flags: its scope, and whether it stays on the device.
fn scope_of(
    seq_id: llama_seq_id,
    flags: llama_state_seq_flags,
) -> Result<(StateScope, bool), String> {
    let has = |flag: u32| flags & flag != 0;
    if has(!(PARTIAL_ONLY | ON_DEVICE)) {
        return Err(format!("flags {flags:#x} are not known"));
    }
    let seq = match usize::try_from(seq_id) {
        Ok(seq) => Some(seq),
        Err(_) if seq_id == -1 => None,
        Err(_) => return Err(format!("there is no sequence {seq_id}")),
    };
    let scope = StateScope { seq, partial: has(PARTIAL_ONLY) };
    Ok((scope, has(ON_DEVICE)))
}

/// A sequence that has a file of its own.
fn file_scope(seq_id: llama_seq_id) -> Result<StateScope, String> {
    let seq = usize::try_from(seq_id).map_err(|_| format!("there is no sequence {seq_id}"))?;
    Ok(StateScope::seq(seq))
}

/// A failure is one line in the log and 0.
fn bytes_or_0(name: &str, result: Result<u64, String>) -> usize {
    match result.map(usize::try_from) {
        Ok(Ok(n_bytes)) => n_bytes,
        Ok(Err(_)) => 0,
        Err(text) => {
            log_error!("{name}: {text}");
            0
        }
    }
}

fn text(error: StateError) -> String {
    error.to_string()
}

fn size(ctx: &mut llama_context, (scope, on_device): (StateScope, bool)) -> Result<u64, String> {
    let ctx = &mut ctx.inner;
    let size = if on_device { ctx.ticket_size(&scope) } else { ctx.state_size(&scope) };
    size.map_err(text)
}

/// Writes a state if it fits.
///
/// # Safety
/// `dst` is NULL or has room for `size` bytes.
unsafe fn get(
    ctx: &mut llama_context,
    dst: *mut u8,
    size: usize,
    (scope, on_device): (StateScope, bool),
) -> Result<u64, String> {
    let needed = self::size(ctx, (scope, on_device))?;
    if dst.is_null() {
        return Err("the buffer is NULL".into());
    }
    if needed > size as u64 {
        return Err(format!("the state has {needed} bytes, the buffer {size}"));
    }
    let mut out = Buffer { at: dst, left: size };
    let written = match on_device {
        true => ctx.inner.keep_state(&scope, &mut out),
        false => ctx.inner.write_state(&scope, &mut out),
    };
    written.map_err(text)
}

/// Restores the state at the start of a buffer. `size` may be more than there is, as the old form
/// passes it: no more is looked at than the state says it has.
///
/// # Safety
/// `src` is NULL or has `size` bytes, or as many as its state says it has if these are fewer.
unsafe fn set(
    ctx: &mut llama_context,
    src: *const u8,
    size: usize,
    (scope, on_device): (StateScope, bool),
) -> Result<u64, String> {
    if src.is_null() {
        return Err("the buffer is NULL".into());
    }
    // SAFETY: the caller's promise; every state has a prefix.
    let prefix = unsafe { array(src, size.min(PREFIX_BYTES)) };
    let claimed = usize::try_from(claimed_len(prefix).map_err(text)?).unwrap_or(usize::MAX);
    // SAFETY: the caller's promise; no slice is longer than isize::MAX.
    let state = unsafe { array(src, size.min(claimed).min(isize::MAX as usize)) };
    let read = match on_device {
        true => ctx.inner.restore_kept(&scope, state),
        false => ctx.inner.read_state(&scope, state),
    };
    read.map_err(text)
}

/// # Safety
/// `path` is NULL or a C string.
unsafe fn path_of<'a>(path: *const c_char) -> Result<&'a Path, String> {
    // SAFETY: the caller's promise.
    let path = unsafe { c_str(path) }.ok_or("the path is NULL")?;
    Ok(c_path(path))
}

/// Writes a state and tokens to a file and returns how many bytes that has.
///
/// # Safety
/// `path` is NULL or a C string; `tokens` is NULL or has `n_tokens` tokens.
unsafe fn save(
    ctx: &mut llama_context,
    path: *const c_char,
    scope: StateScope,
    tokens: *const llama_token,
    n_tokens: usize,
) -> Result<u64, String> {
    if tokens.is_null() && n_tokens > 0 {
        return Err(format!("{n_tokens} tokens at NULL"));
    }
    // SAFETY: the caller's promises.
    let (path, tokens) = unsafe { (path_of(path)?, array(tokens, n_tokens)) };
    let written = ctx.inner.save_state(&scope, path, tokens);
    written.map_err(|error| format!("'{}': {error}", path.display()))
}

/// Restores a state from a file, gives its tokens, and returns how many bytes the file has. On
/// failure nothing is given.
///
/// # Safety
/// `path` is NULL or a C string; `tokens` is NULL or has room for `capacity` tokens; `n_tokens` is
/// NULL or a number.
unsafe fn load(
    ctx: &mut llama_context,
    path: *const c_char,
    scope: StateScope,
    tokens: *mut llama_token,
    capacity: usize,
    n_tokens: *mut usize,
) -> Result<u64, String> {
    // SAFETY: the caller's promise.
    let path = unsafe { path_of(path) }?;
    let capacity = if tokens.is_null() { 0 } else { capacity };
    let loaded = ctx.inner.load_state(&scope, path, capacity);
    let loaded = loaded.map_err(|error| format!("'{}': {error}", path.display()))?;
    // SAFETY: there are at most `capacity` tokens; the caller's promises.
    unsafe {
        ptr::copy_nonoverlapping(loaded.tokens.as_ptr(), tokens, loaded.tokens.len());
        if let Some(n) = n_tokens.as_mut() {
            *n = loaded.tokens.len();
        }
    }
    Ok(loaded.n_bytes)
}

const ALL: (StateScope, bool) = (StateScope::ALL, false);

/// Bytes that llama_state_get_data would write now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_state_get_size(ctx: *mut llama_context) -> usize {
    const NAME: &str = "llama_state_get_size";
    // SAFETY: the module's contract.
    unsafe { with(ctx, 0, NAME, |c| bytes_or_0(NAME, size(c, ALL))) }
}

/// Old name of llama_state_get_size.
#[deprecated(note = "use llama_state_get_size instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_get_state_size(ctx: *mut llama_context) -> usize {
    // SAFETY: the same contract.
    unsafe { llama_state_get_size(ctx) }
}

/// Copies the state into a buffer; returns the bytes written, 0 on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_state_get_data(
    ctx: *mut llama_context,
    dst: *mut u8,
    size: usize,
) -> usize {
    const NAME: &str = "llama_state_get_data";
    // SAFETY: the module's contract, also for the buffer.
    unsafe { with(ctx, 0, NAME, |c| bytes_or_0(NAME, get(c, dst, size, ALL))) }
}

/// Old form of llama_state_get_data that trusts the buffer.
#[deprecated(note = "use llama_state_get_data instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_copy_state_data(ctx: *mut llama_context, dst: *mut u8) -> usize {
    // SAFETY: the same contract; the caller says that the buffer is large enough.
    unsafe { llama_state_get_data(ctx, dst, usize::MAX) }
}

/// Restores a state; returns the bytes read, 0 on failure. On failure the context is as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_state_set_data(
    ctx: *mut llama_context,
    src: *const u8,
    size: usize,
) -> usize {
    const NAME: &str = "llama_state_set_data";
    // SAFETY: the module's contract, also for the buffer.
    unsafe { with(ctx, 0, NAME, |c| bytes_or_0(NAME, set(c, src, size, ALL))) }
}

/// Old form of llama_state_set_data that trusts the buffer.
#[deprecated(note = "use llama_state_set_data instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_state_data(ctx: *mut llama_context, src: *const u8) -> usize {
    // SAFETY: the same contract; the caller says that a whole state is there.
    unsafe { llama_state_set_data(ctx, src, usize::MAX) }
}

/// Restores state and tokens from a file; false on failure, and then everything is as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_state_load_file(
    ctx: *mut llama_context,
    path_session: *const c_char,
    tokens_out: *mut llama_token,
    n_token_capacity: usize,
    n_token_count_out: *mut usize,
) -> bool {
    const NAME: &str = "llama_state_load_file";
    let (path, n_out) = (path_session, n_token_count_out);
    // SAFETY: the module's contract, also for the arrays.
    unsafe {
        with(ctx, false, NAME, |c| {
            let loaded = load(c, path, StateScope::ALL, tokens_out, n_token_capacity, n_out);
            bytes_or_0(NAME, loaded) > 0
        })
    }
}

/// Old name of llama_state_load_file.
#[deprecated(note = "use llama_state_load_file instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_load_session_file(
    ctx: *mut llama_context,
    path_session: *const c_char,
    tokens_out: *mut llama_token,
    n_token_capacity: usize,
    n_token_count_out: *mut usize,
) -> bool {
    let (path, n_out) = (path_session, n_token_count_out);
    // SAFETY: the same contract.
    unsafe { llama_state_load_file(ctx, path, tokens_out, n_token_capacity, n_out) }
}

/// Writes state and tokens to a file; false on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_state_save_file(
    ctx: *mut llama_context,
    path_session: *const c_char,
    tokens: *const llama_token,
    n_token_count: usize,
) -> bool {
    const NAME: &str = "llama_state_save_file";
    // SAFETY: the module's contract, also for the array.
    unsafe {
        with(ctx, false, NAME, |c| {
            let saved = save(c, path_session, StateScope::ALL, tokens, n_token_count);
            bytes_or_0(NAME, saved) > 0
        })
    }
}

/// Old name of llama_state_save_file.
#[deprecated(note = "use llama_state_save_file instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_save_session_file(
    ctx: *mut llama_context,
    path_session: *const c_char,
    tokens: *const llama_token,
    n_token_count: usize,
) -> bool {
    // SAFETY: the same contract.
    unsafe { llama_state_save_file(ctx, path_session, tokens, n_token_count) }
}

/// Bytes that llama_state_seq_get_data would write now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_state_seq_get_size(
    ctx: *mut llama_context,
    seq_id: llama_seq_id,
) -> usize {
    // SAFETY: the same contract.
    unsafe { llama_state_seq_get_size_ext(ctx, seq_id, 0) }
}

/// Copies the state of one sequence into a buffer; returns the bytes written, 0 on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_state_seq_get_data(
    ctx: *mut llama_context,
    dst: *mut u8,
    size: usize,
    seq_id: llama_seq_id,
) -> usize {
    // SAFETY: the same contract.
    unsafe { llama_state_seq_get_data_ext(ctx, dst, size, seq_id, 0) }
}

/// Restores the state of one sequence, in place of what the sequence has; returns the bytes read,
/// 0 on failure. On failure the context is as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_state_seq_set_data(
    ctx: *mut llama_context,
    src: *const u8,
    size: usize,
    dest_seq_id: llama_seq_id,
) -> usize {
    // SAFETY: the same contract.
    unsafe { llama_state_seq_set_data_ext(ctx, src, size, dest_seq_id, 0) }
}

/// Writes one sequence and its tokens to a file; returns the bytes written, 0 on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_state_seq_save_file(
    ctx: *mut llama_context,
    filepath: *const c_char,
    seq_id: llama_seq_id,
    tokens: *const llama_token,
    n_token_count: usize,
) -> usize {
    const NAME: &str = "llama_state_seq_save_file";
    // SAFETY: the module's contract, also for the array.
    unsafe {
        with(ctx, 0, NAME, |c| {
            let saved = file_scope(seq_id)
                .and_then(|scope| save(c, filepath, scope, tokens, n_token_count));
            bytes_or_0(NAME, saved)
        })
    }
}

/// Restores one sequence from a file; returns the bytes read, 0 on failure. Without a place for
/// tokens it only tells how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_state_seq_load_file(
    ctx: *mut llama_context,
    filepath: *const c_char,
    dest_seq_id: llama_seq_id,
    tokens_out: *mut llama_token,
    n_token_capacity: usize,
    n_token_count_out: *mut usize,
) -> usize {
    const NAME: &str = "llama_state_seq_load_file";
    let n_out = n_token_count_out;
    // SAFETY: the module's contract, also for the arrays.
    unsafe {
        with(ctx, 0, NAME, |c| {
            let loaded = match tokens_out.is_null() {
                true => count(filepath, n_out),
                false => file_scope(dest_seq_id).and_then(|scope| {
                    load(c, filepath, scope, tokens_out, n_token_capacity, n_out)
                }),
            };
            bytes_or_0(NAME, loaded)
        })
    }
}

/// Gives the number of tokens in a file and returns how many bytes were read for that.
///
/// # Safety
/// `path` is NULL or a C string; `n_tokens` is NULL or a number.
unsafe fn count(path: *const c_char, n_tokens: *mut usize) -> Result<u64, String> {
    // SAFETY: the caller's promise.
    let path = unsafe { path_of(path) }?;
    let counted = count_tokens(path);
    let (n, n_bytes) = counted.map_err(|error| format!("'{}': {error}", path.display()))?;
    // SAFETY: the caller's promise.
    if let Some(n_tokens) = unsafe { n_tokens.as_mut() } {
        *n_tokens = n;
    }
    Ok(n_bytes)
}

/// llama_state_seq_get_size with flags.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_state_seq_get_size_ext(
    ctx: *mut llama_context,
    seq_id: llama_seq_id,
    flags: llama_state_seq_flags,
) -> usize {
    const NAME: &str = "llama_state_seq_get_size";
    // SAFETY: the module's contract.
    unsafe {
        with(ctx, 0, NAME, |c| {
            bytes_or_0(NAME, scope_of(seq_id, flags).and_then(|what| size(c, what)))
        })
    }
}

/// llama_state_seq_get_data with flags. PARTIAL_ONLY: only what the layers with a window keep,
/// where they keep less than the others. ON_DEVICE: the state stays with the context, which has
/// one for each sequence, and the buffer gets what restores it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_state_seq_get_data_ext(
    ctx: *mut llama_context,
    dst: *mut u8,
    size: usize,
    seq_id: llama_seq_id,
    flags: llama_state_seq_flags,
) -> usize {
    const NAME: &str = "llama_state_seq_get_data";
    // SAFETY: the module's contract, also for the buffer.
    unsafe {
        with(ctx, 0, NAME, |c| {
            bytes_or_0(NAME, scope_of(seq_id, flags).and_then(|what| get(c, dst, size, what)))
        })
    }
}

/// llama_state_seq_set_data with the flags that the state was taken with.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_state_seq_set_data_ext(
    ctx: *mut llama_context,
    src: *const u8,
    size: usize,
    dest_seq_id: llama_seq_id,
    flags: llama_state_seq_flags,
) -> usize {
    const NAME: &str = "llama_state_seq_set_data";
    // SAFETY: the module's contract, also for the buffer.
    unsafe {
        with(ctx, 0, NAME, |c| {
            bytes_or_0(NAME, scope_of(dest_seq_id, flags).and_then(|what| set(c, src, size, what)))
        })
    }
}
