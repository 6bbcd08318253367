//! The batch that grows token by token.

use core::ptr;

use super::context::{llama_context, with};
use super::decode::{INVALID, compute, decode};
use super::guard;
use super::types::{
    cbool, llama_embd, llama_pos, llama_process_type, llama_process_type_e, llama_seq_id,
    llama_token,
};
use crate::api::{Batch, Input};
use crate::log_error;

/// The batch is full.
const FULL: i32 = -1;
/// The token or its embedding is invalid.
const BAD_TOKEN: i32 = -2;
/// There is no such sequence.
const BAD_SEQ: i32 = -3;

/// A batch that grows token by token.
pub struct llama_batch_ext {
    entries: Vec<Entry>,
    n_max: usize,
    n_vocab: usize,
    n_embd: usize,
    n_seq_max: usize,
}

#[derive(Default)]
struct Entry {
    token: Option<llama_token>,
    embd: Vec<f32>,
    /// 0 until it is set.
    pos: llama_pos,
    /// Ascending, without repetition.
    seqs: Vec<llama_seq_id>,
    output: bool,
}

impl llama_batch_ext {
    fn is_seq(&self, id: llama_seq_id) -> bool {
        usize::try_from(id).is_ok_and(|s| s < self.n_seq_max)
    }

    /// Adds an entry that `fill` completes; one that it cannot complete is not kept.
    fn add(&mut self, seq_id: llama_seq_id, fill: impl FnOnce(&Self, &mut Entry) -> bool) -> i32 {
        if self.entries.len() >= self.n_max {
            return FULL;
        }
        if !self.is_seq(seq_id) {
            return BAD_SEQ;
        }
        let mut entry = Entry { seqs: vec![seq_id], ..Entry::default() };
        if !fill(self, &mut entry) {
            return BAD_TOKEN;
        }
        self.entries.push(entry);
        (self.entries.len() - 1) as i32
    }

    fn entry(&mut self, idx: i32) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(idx).ok()?)
    }

    /// The numbers of an embedding of the right size.
    ///
    /// # Safety
    /// `embd.data` is NULL or has the numbers that `embd` says.
    unsafe fn embedding(&self, embd: &llama_embd) -> Option<Vec<f32>> {
        let n = embd.n_rows.checked_mul(embd.n_embd)?;
        if embd.data.is_null() || n != self.n_embd {
            let (rows, width, want) = (embd.n_rows, embd.n_embd, self.n_embd);
            log_error!("llama_batch_ext: an embedding of {rows} x {width}, expected {want}");
            return None;
        }
        // SAFETY: the caller's promise.
        Some(unsafe { core::slice::from_raw_parts(embd.data, n) }.to_vec())
    }
}

/// Runs `body` on a batch; NULL gives `fallback`.
///
/// # Safety
/// `batch` is NULL or a batch that was not freed and that no other thread uses now.
unsafe fn with_batch<T: Copy>(
    batch: *mut llama_batch_ext,
    fallback: T,
    name: &str,
    body: impl FnOnce(&mut llama_batch_ext) -> T,
) -> T {
    guard::call(fallback, name, || {
        // SAFETY: the caller's promise.
        match unsafe { batch.as_mut() } {
            Some(batch) => body(batch),
            None => {
                log_error!("{name}: the batch is NULL");
                fallback
            }
        }
    })
}

/// Makes an empty batch for a context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_init(ctx: *mut llama_context) -> *mut llama_batch_ext {
    // SAFETY: the module's contract.
    unsafe {
        with(ctx, ptr::null_mut(), "llama_batch_ext_init", |c| {
            let (sizes, hp) = (c.inner.sizes(), c.inner.model().hparams());
            Box::into_raw(Box::new(llama_batch_ext {
                entries: Vec::new(),
                n_max: sizes.n_batch,
                n_vocab: hp.map_or(0, |hp| hp.n_vocab),
                n_embd: hp.map_or(0, |hp| hp.n_embd),
                n_seq_max: sizes.n_seq_max,
            }))
        })
    }
}

/// Frees a batch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_free(batch: *mut llama_batch_ext) {
    guard::call((), "llama_batch_ext_free", || {
        if !batch.is_null() {
            // SAFETY: the caller gives back a batch of ours.
            drop(unsafe { Box::from_raw(batch) });
        }
    });
}

/// Takes all tokens out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_clear(batch: *mut llama_batch_ext) {
    // SAFETY: the module's contract.
    unsafe { with_batch(batch, (), "llama_batch_ext_clear", |b| b.entries.clear()) }
}

/// Adds an entry without content; returns its index, or -1: full, -3: no such sequence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_add(
    batch: *mut llama_batch_ext,
    seq_id: llama_seq_id,
) -> i32 {
    // SAFETY: the module's contract.
    unsafe { with_batch(batch, FULL, "llama_batch_ext_add", |b| b.add(seq_id, |_, _| true)) }
}

/// Adds a token; returns its index, or -1: full, -2: no such token, -3: no such sequence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_add_token(
    batch: *mut llama_batch_ext,
    seq_id: llama_seq_id,
    id: llama_token,
) -> i32 {
    // SAFETY: the module's contract.
    unsafe {
        with_batch(batch, FULL, "llama_batch_ext_add_token", |b| {
            b.add(seq_id, |b, entry| {
                entry.token = Some(id);
                usize::try_from(id).is_ok_and(|id| id < b.n_vocab)
            })
        })
    }
}

/// Adds an embedding; returns its index, or -1: full, -2: wrong size, -3: no such sequence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_add_embd(
    batch: *mut llama_batch_ext,
    seq_id: llama_seq_id,
    embd: llama_embd,
) -> i32 {
    // SAFETY: the module's contract.
    unsafe {
        with_batch(batch, FULL, "llama_batch_ext_add_embd", |b| {
            b.add(seq_id, |b, entry| {
                // SAFETY: the caller's embedding.
                b.embedding(&embd).map(|x| entry.embd = x).is_some()
            })
        })
    }
}

/// Makes an entry belong to another sequence too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_add_seq(
    batch: *mut llama_batch_ext,
    idx: i32,
    seq_id: llama_seq_id,
) -> bool {
    // SAFETY: the module's contract.
    unsafe {
        with_batch(batch, false, "llama_batch_ext_add_seq", |b| {
            let known = b.is_seq(seq_id);
            let Some(entry) = b.entry(idx).filter(|_| known) else { return false };
            if let Err(at) = entry.seqs.binary_search(&seq_id) {
                entry.seqs.insert(at, seq_id);
            }
            true
        })
    }
}

/// Sets the embedding of an entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_set_embd_token(
    batch: *mut llama_batch_ext,
    idx: i32,
    embd: llama_embd,
) -> bool {
    // SAFETY: the module's contract, also for the embedding.
    unsafe {
        with_batch(batch, false, "llama_batch_ext_set_embd_token", |b| {
            if b.entry(idx).is_none() {
                return false;
            }
            let Some(x) = b.embedding(&embd) else { return false };
            b.entry(idx).map(|entry| entry.embd = x).is_some()
        })
    }
}

/// Sets the state embedding of an entry: no architecture here has one, so false.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_set_embd_state(
    _batch: *mut llama_batch_ext,
    _idx: i32,
    _embd: llama_embd,
) -> bool {
    false
}

fn set_output(batch: &mut llama_batch_ext, idx: i32, value: cbool) -> bool {
    batch.entry(idx).map(|entry| entry.output = value != 0).is_some()
}

/// Sets whether an entry's embedding is wanted; the same as its logits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_set_output_embd(
    batch: *mut llama_batch_ext,
    idx: i32,
    value: cbool,
) -> bool {
    // SAFETY: the module's contract.
    unsafe {
        with_batch(batch, false, "llama_batch_ext_set_output_embd", |b| set_output(b, idx, value))
    }
}

/// Sets whether an entry's logits are wanted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_set_output_logits(
    batch: *mut llama_batch_ext,
    idx: i32,
    value: cbool,
) -> bool {
    // SAFETY: the module's contract.
    unsafe {
        with_batch(batch, false, "llama_batch_ext_set_output_logits", |b| set_output(b, idx, value))
    }
}

/// Sets the position of an entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_batch_ext_set_pos(
    batch: *mut llama_batch_ext,
    idx: i32,
    pos: *const llama_pos,
) -> bool {
    // SAFETY: the module's contract; pos is NULL or points to a position.
    unsafe {
        with_batch(batch, false, "llama_batch_ext_set_pos", |b| {
            match (b.entry(idx), pos.as_ref()) {
                (Some(entry), Some(&pos)) => {
                    entry.pos = pos;
                    true
                }
                _ => false,
            }
        })
    }
}

/// Computes a batch; the codes are those of llama_decode.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_process(
    ctx: *mut llama_context,
    r#type: llama_process_type_e,
    batch: *mut llama_batch_ext,
) -> i32 {
    const NAME: &str = "llama_process";
    // SAFETY: the module's contract.
    unsafe {
        compute(ctx, NAME, |c| {
            let Some(batch) = batch.as_ref() else {
                log_error!("{NAME}: the batch is NULL");
                return INVALID;
            };
            let encodes = match llama_process_type::try_from(r#type) {
                Ok(llama_process_type::LLAMA_PROCESS_TYPE_DECODE) => false,
                Ok(llama_process_type::LLAMA_PROCESS_TYPE_ENCODE) => true,
                Err(_) => {
                    log_error!("{NAME}: there is no type {type}");
                    return INVALID;
                }
            };
            if encodes && c.inner.has_memory() {
                log_error!("{NAME}: the model has no encoder");
                return INVALID;
            }
            process(c, batch).unwrap_or_else(|text| {
                log_error!("{NAME}: {text}");
                INVALID
            })
        })
    }
}

fn process(ctx: &mut llama_context, batch: &llama_batch_ext) -> Result<i32, String> {
    let entries = &batch.entries;
    let pos: Vec<llama_pos> = entries.iter().map(|e| e.pos).collect();
    let seq_ids: Vec<&[llama_seq_id]> = entries.iter().map(|e| &e.seqs[..]).collect();
    let outputs: Vec<bool> = entries.iter().map(|e| e.output).collect();
    let ids: Vec<llama_token> = entries.iter().filter_map(|e| e.token).collect();
    let embd: Vec<f32> = entries.iter().flat_map(|e| e.embd.iter().copied()).collect();
    let input = match (ids.len() == entries.len(), embd.len() == entries.len() * batch.n_embd) {
        (true, _) if embd.is_empty() => Input::Tokens(&ids),
        (_, true) if ids.is_empty() => Input::Embeddings(&embd),
        _ => return Err("the entries are neither all tokens nor all embeddings".into()),
    };
    let batch = Batch { input, pos: Some(&pos), seq_ids: Some(&seq_ids), outputs: Some(&outputs) };
    Ok(decode(ctx, &batch, "llama_process", false))
}
