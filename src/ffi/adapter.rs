//! LoRA adapters and control vectors.
//!
//! An adapter belongs to its model, which frees it at its end if the program did not. A context
//! keeps what it needs of its adapters: freeing one that is set changes nothing there.

use core::ffi::c_char;
use core::mem::ManuallyDrop;
use core::ptr;
use std::fs::File;
use std::os::fd::FromRawFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::context::with;
use super::guard;
use super::load::{c_path, llama_model, model_ref};
use super::model_meta::{entries, entry, text};
use super::strings::{array, c_str, text_or_miss};
use super::types::{llama_context, llama_token};
use crate::api::{AdapterError, Lora};
use crate::log_error;

/// A LoRA adapter.
pub struct llama_adapter_lora {
    lora: Arc<Lora>,
    /// The model's list that has it.
    owner: Arc<Owned>,
}

/// Addresses of a model's adapters.
#[derive(Default)]
pub(super) struct Owned(Mutex<Vec<usize>>);

impl Owned {
    fn add(&self, adapter: *mut llama_adapter_lora) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(adapter.addr());
    }

    fn remove(&self, adapter: *mut llama_adapter_lora) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|&address| address != adapter.addr());
    }

    /// Frees all of them.
    ///
    /// # Safety
    /// Nobody uses them any more.
    pub(super) unsafe fn free(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for address in all {
            let adapter = ptr::with_exposed_provenance_mut::<llama_adapter_lora>(address);
            // SAFETY: the list has adapters from Box::into_raw that were not freed.
            drop(unsafe { Box::from_raw(adapter) });
        }
    }
}

/// # Safety
/// `adapter` is NULL or an adapter that was not freed and outlives `'a`.
unsafe fn adapter_ref<'a>(adapter: *const llama_adapter_lora) -> Option<&'a llama_adapter_lora> {
    // SAFETY: the caller's promise; an adapter is never changed.
    unsafe { adapter.as_ref() }
}

/// A handle of the model for what was loaded; NULL, with a line in the log, when nothing was.
fn handle(
    name: &str,
    model: &llama_model,
    loaded: Result<Lora, AdapterError>,
) -> *mut llama_adapter_lora {
    match loaded {
        Ok(lora) => {
            let (lora, owner) = (Arc::new(lora), Arc::clone(&model.adapters));
            let adapter = Box::into_raw(Box::new(llama_adapter_lora { lora, owner }));
            adapter.expose_provenance();
            model.adapters.add(adapter);
            adapter
        }
        Err(error) => {
            log_error!("{name}: {error}");
            ptr::null_mut()
        }
    }
}

/// Loads a LoRA adapter, which lives as long as its model. NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_lora_init(
    model: *mut llama_model,
    path_lora: *const c_char,
) -> *mut llama_adapter_lora {
    const NAME: &str = "llama_adapter_lora_init";
    guard::call(ptr::null_mut(), NAME, || {
        // SAFETY: NULL or a model; NULL or a C string.
        let (model, path) = unsafe { (model_ref(model), c_str(path_lora)) };
        let (Some(model), Some(path)) = (model, path) else {
            log_error!("{NAME}: the model or the path is NULL");
            return ptr::null_mut();
        };
        handle(NAME, model, model.model.lora(c_path(path)))
    })
}

/// Loads a LoRA adapter from an open file, which stays open. NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_lora_init_from_file_ptr(
    model: *mut llama_model,
    file: *mut libc::FILE,
) -> *mut llama_adapter_lora {
    const NAME: &str = "llama_adapter_lora_init_from_file_ptr";
    guard::call(ptr::null_mut(), NAME, || {
        // SAFETY: NULL or a model.
        let model = unsafe { model_ref(model) };
        let (Some(model), false) = (model, file.is_null()) else {
            log_error!("{NAME}: the model or the file is NULL");
            return ptr::null_mut();
        };
        // SAFETY: the caller passes an open stream; the descriptor stays the stream's own.
        let file = ManuallyDrop::new(unsafe { File::from_raw_fd(libc::fileno(file)) });
        match file.try_clone() {
            Ok(file) => handle(NAME, model, model.model.lora_from_file(file, "(open file)")),
            Err(error) => {
                log_error!("{NAME}: the file cannot be used: {error}");
                ptr::null_mut()
            }
        }
    })
}

/// Metadata value of an adapter as text: its length, or -1 and an empty string when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_meta_val_str(
    adapter: *const llama_adapter_lora,
    key: *const c_char,
    buf: *mut c_char,
    buf_size: usize,
) -> i32 {
    guard::call(-1, "llama_adapter_meta_val_str", || {
        // SAFETY: NULL or an adapter; NULL or a C string.
        let (adapter, key) = unsafe { (adapter_ref(adapter), c_str(key)) };
        let found = adapter
            .zip(key)
            .and_then(|(adapter, key)| text(adapter.lora.meta().file_value(key.to_str().ok()?)?));
        // SAFETY: the caller's buffer has buf_size bytes.
        unsafe { text_or_miss(buf, buf_size, found.as_deref()) }
    })
}

/// Number of metadata entries of an adapter, arrays not counted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_meta_count(adapter: *const llama_adapter_lora) -> i32 {
    // SAFETY: NULL or an adapter.
    let n = unsafe { adapter_ref(adapter) }.map_or(0, |a| entries(a.lora.meta()).count());
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// Name of the i-th metadata entry: its length, or -1 and an empty string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_meta_key_by_index(
    adapter: *const llama_adapter_lora,
    i: i32,
    buf: *mut c_char,
    buf_size: usize,
) -> i32 {
    guard::call(-1, "llama_adapter_meta_key_by_index", || {
        // SAFETY: NULL or an adapter.
        let adapter = unsafe { adapter_ref(adapter) };
        let key = adapter.and_then(|adapter| entry(adapter.lora.meta(), i)).map(|e| e.0);
        // SAFETY: the caller's buffer has buf_size bytes.
        unsafe { text_or_miss(buf, buf_size, key.map(str::as_bytes)) }
    })
}

/// Value of the i-th metadata entry as text: its length, or -1 and an empty string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_meta_val_str_by_index(
    adapter: *const llama_adapter_lora,
    i: i32,
    buf: *mut c_char,
    buf_size: usize,
) -> i32 {
    guard::call(-1, "llama_adapter_meta_val_str_by_index", || {
        // SAFETY: NULL or an adapter.
        let adapter = unsafe { adapter_ref(adapter) };
        let entry = adapter.and_then(|adapter| entry(adapter.lora.meta(), i));
        let value = entry.and_then(|(_, value)| text(value));
        // SAFETY: the caller's buffer has buf_size bytes.
        unsafe { text_or_miss(buf, buf_size, value.as_deref()) }
    })
}

/// Frees an adapter before its model is freed. Contexts that it is set in keep it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_lora_free(adapter: *mut llama_adapter_lora) {
    guard::call((), "llama_adapter_lora_free", || {
        if !adapter.is_null() {
            // SAFETY: the caller gives back an adapter whose model is still there.
            let owned = unsafe { Box::from_raw(adapter) };
            owned.owner.remove(adapter);
        }
    });
}

/// Number of tokens that switch an activated LoRA on; 0 for an ordinary one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_get_alora_n_invocation_tokens(
    adapter: *const llama_adapter_lora,
) -> u64 {
    // SAFETY: NULL or an adapter.
    unsafe { adapter_ref(adapter) }.map_or(0, |a| a.lora.invocation_tokens().len() as u64)
}

/// Tokens that switch an activated LoRA on; NULL for an ordinary one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_adapter_get_alora_invocation_tokens(
    adapter: *const llama_adapter_lora,
) -> *const llama_token {
    // SAFETY: NULL or an adapter.
    let tokens = unsafe { adapter_ref(adapter) }.map(|a| a.lora.invocation_tokens());
    tokens.filter(|tokens| !tokens.is_empty()).map_or(ptr::null(), <[i32]>::as_ptr)
}

/// Replaces the adapters of a context, each with its scale; 0 on success, -1 on failure. Those with
/// scale 0 do not count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_adapters_lora(
    ctx: *mut llama_context,
    adapters: *mut *mut llama_adapter_lora,
    n_adapters: usize,
    scales: *mut f32,
) -> i32 {
    const NAME: &str = "llama_set_adapters_lora";
    // No list of pointers is longer.
    const MOST: usize = isize::MAX as usize / size_of::<usize>();
    // SAFETY: NULL or a context of the caller's.
    unsafe {
        with(ctx, -1, NAME, |ctx| {
            if n_adapters > 0 && (adapters.is_null() || scales.is_null()) || n_adapters > MOST {
                log_error!("{NAME}: {n_adapters} adapters, but no lists of adapters and scales");
                return -1;
            }
            let (adapters, scales) = (array(adapters, n_adapters), array(scales, n_adapters));
            let mut loras = Vec::new();
            for (&adapter, &scale) in adapters.iter().zip(scales).filter(|(_, s)| **s != 0.0) {
                let Some(adapter) = adapter_ref(adapter) else {
                    log_error!("{NAME}: an adapter is NULL");
                    return -1;
                };
                loras.push((Arc::clone(&adapter.lora), scale));
            }
            done(NAME, ctx.inner.set_loras(&loras))
        })
    }
}

/// Adds a control vector to layers il_start to il_end; NULL data removes it. 0 on success, -1 on
/// failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_set_adapter_cvec(
    ctx: *mut llama_context,
    data: *const f32,
    len: usize,
    n_embd: i32,
    il_start: i32,
    il_end: i32,
) -> i32 {
    const NAME: &str = "llama_set_adapter_cvec";
    const MOST: usize = isize::MAX as usize / size_of::<f32>();
    // SAFETY: NULL or a context of the caller's.
    unsafe {
        with(ctx, -1, NAME, |ctx| {
            if data.is_null() {
                return done(NAME, ctx.inner.clear_control_vector());
            }
            let expected = ctx.inner.model().hparams().map_or(0, |hp| hp.n_embd);
            if usize::try_from(n_embd) != Ok(expected) || len > MOST {
                log_error!("{NAME}: n_embd is {n_embd}, {expected} in the model; len is {len}");
                return -1;
            }
            done(NAME, ctx.inner.set_control_vector(array(data, len), il_start, il_end))
        })
    }
}

/// 0, or -1 and a line in the log.
fn done(name: &str, result: Result<(), AdapterError>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            log_error!("{name}: {error}");
            -1
        }
    }
}
